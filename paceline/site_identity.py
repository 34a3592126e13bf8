"""The certificate authority of a site: its folders, the certificates of its own parts, its mosquitto and its enrolment service. Wiring.

Everything lies in `<data>/secrets`: `authority/` (the book and the root keys), `servers/` (broker and enrolment service) and `clients/`
(our own processes). The box of the site enrols as any node does, without a code being typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.enrolment import EnrolmentCode, Grant, read_enrolment_code
from broker.errors import ConfigError
from broker.mosquitto import MosquittoSettings, TlsSettings
from broker.watch import Watch
from gateway.identity import asked_key, keep_grant, load_identity, make_request
from gateway.setup_credential import IDENTITY_FOLDER
from paceline.ca_authority import Authority
from paceline.ca_revocation import BrokerPlace
from paceline.ca_rules import CaRules
from paceline.enrol_counts import of_enrolment
from paceline.enrol_service import EnrolDesk, EnrolService
from paceline.mosquitto_keeper import MosquittoKeeper, find_mosquitto, run_as
from paceline.site import Site, central_platform

LOOPBACK: Final = ("localhost", "127.0.0.1")
EVERYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - addresses to listen on


def open_authority(site: Site) -> Authority:
    """The authority of this site, made at first use. ConfigError when its central broker goes by passwords."""
    if not site.settings.central.by_certificate:
        raise ConfigError(
            "central: this broker goes by passwords, so there is no authority",
            cure='set central.kind = "mosquitto", or central.certificates = true for one that is not started by us',
        )
    rules = CaRules.model_validate({name: getattr(site.settings.identity, name) for name in CaRules.model_fields})
    return Authority.open(site.secrets / "authority", rules)


def server_names(site: Site) -> tuple[str, ...]:
    """Host names and addresses by which broker and enrolment service are reached, the one that is told to nodes first."""
    identity, central = site.settings.identity, site.settings.central
    bound = [host for host in (identity.host, central.host) if host not in EVERYWHERE]
    return tuple(dict.fromkeys([*identity.names, *(host for host in bound if host not in LOOPBACK), *LOOPBACK]))


def server_file(site: Site, name: str) -> Path:
    """Key and chain of the server `central` or `enrol`."""
    return site.secrets / "servers" / f"{name}.pem"


def keep_fresh(site: Site, authority: Authority) -> None:
    """See that servers and our own processes have certificates that are not due for renewal."""
    for name in ("central", "enrol"):
        authority.keep_server(server_file(site, name), server_names(site))
    for user in central_platform(site.settings):
        authority.keep_client(site.client_file(user), user)


def prepare(site: Site) -> None:
    """Make what is missing: the authority, certificates, and the identity of the site's own box."""
    with open_authority(site) as authority:
        keep_fresh(site, authority)
        folder = site.gateway_dir / IDENTITY_FOLDER
        if load_identity(folder) is None:
            code = new_code(site, authority, site.box_user)
            key = asked_key(folder)
            kept = authority.enrol(code.code, make_request(key, site.box_user))
            host, port = broker_told(site)
            grant = Grant(
                certificate=authority.chain(kept),
                roots=authority.roots(),
                host=host,
                port=port,
                not_before_s=kept.not_before_s,
                not_after_s=kept.not_after_s,
                time_s=authority.now_s(),
            )
            keep_grant(folder, key, grant, code)


def new_code(site: Site, authority: Authority, name: str) -> EnrolmentCode:
    """Add a node and give the line that enrols it."""
    code, root, _ = authority.add_node(name)
    tenant, _, node = name.partition("/")
    line = EnrolmentCode(server_names(site)[0], site.settings.identity.port, tenant, node, code, root)
    return read_enrolment_code(line.text)


def broker_told(site: Site) -> tuple[str, int]:
    """Host and port of the central broker as nodes are told."""
    return server_names(site)[0], site.settings.central.port


def broker_place(site: Site) -> BrokerPlace:
    """The central broker as we reach it."""
    return BrokerPlace(site.settings.central.link_host, site.settings.central.port)


def mosquitto_settings(site: Site) -> MosquittoSettings:
    """The central mosquitto: TLS, everybody by certificate, what is retained and queued kept over a restart."""
    central = site.settings.central
    with open_authority(site) as authority:
        pem = server_file(site, "central")
        tls = TlsSettings(
            certfile=pem,
            keyfile=pem,
            cafile=authority.roots_file,
            crlfile=authority.revoked_file,
            require_client_certificate=True,
            certificate_is_identity=True,
        )
    directory = (site.data / "central").absolute()
    return MosquittoSettings(
        directory=directory,
        host=central.host,
        port=central.port,
        tls=tls,
        run_as=run_as(),
        platform_users=central_platform(site.settings),
        persistence_directory=directory,
    )


async def run_mosquitto(site: Site) -> None:
    """The central mosquitto, until cancelled."""
    program = find_mosquitto(Path(site.settings.central.program) if site.settings.central.program else None)
    await MosquittoKeeper(mosquitto_settings(site), program).run()


async def run_enrolment(site: Site, watch: Watch) -> None:
    """The enrolment service, until cancelled. It keeps all certificates of the site fresh, and the published lists up to the book."""
    with open_authority(site) as authority:
        desk = EnrolDesk(authority, *broker_told(site))
        watch.measure(lambda: of_enrolment(desk.counts))
        where = site.settings.identity
        service = EnrolService(
            desk, authority, server_file(site, "enrol"), where.host, where.port, lambda: keep_fresh(site, authority)
        )  # fmt: skip
        await service.run()


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as `paceline node list` shows it; `until_s` is the end of its certificate or code, UTC seconds, 0 when it has neither."""

    name: str
    state: str
    until_s: int


def standings(authority: Authority) -> list[NodeRow]:
    """Every node that was added, by name."""
    book, now_s = authority.book, authority.now_s()
    newest, codes, behind = book.newest_of_nodes(), book.open_codes(now_s), set(authority.behind())
    rows: list[NodeRow] = []
    for node in book.nodes():
        kept = newest.get(node.name)
        if node.revoked_s is not None:
            rows.append(NodeRow(node.name, "revoked", 0))
        elif kept is None or kept.revoked_s is not None:
            until_s = codes.get(node.name, 0)
            rows.append(NodeRow(node.name, "waits for its code to be used" if until_s else "its code expired", until_s))
        elif kept.not_after_s <= now_s:
            rows.append(NodeRow(node.name, "expired", kept.not_after_s))
        else:
            rows.append(NodeRow(node.name, "enrolled, of a former root" if node.name in behind else "enrolled", kept.not_after_s))
    return rows
