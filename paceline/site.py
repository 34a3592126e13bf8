"""A site on disk: where each part keeps its data, and the secrets drawn at the first run.

`<data>/secrets/` is 0700 and its files 0600: `secrets.json` (what our own processes log in with) and one password file per embedded broker
(hashes only). There is no default secret anywhere. Every platform process has its own credential, because the client id is the user name.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import SecretStr

from broker.credentials import hash_secret, new_secret, read_passwords, write_passwords
from broker.errors import ConfigError, StoreError
from broker.logs import hide
from broker.pinned_tls import ClientFiles
from broker.topics import PLATFORM
from paceline.config import BrokerSettings, CentralSettings, IdentitySettings, Settings
from paceline.supervise import free_port, require_free

CENTRAL_PLATFORM: Final = ("platform/ingest", "platform/control", "platform/tap")
NEAR_PLATFORM: Final = ("platform/gateway", "platform/tap")


@dataclass(frozen=True, slots=True)
class Site:
    """Settings with every port and token decided, and the folders of the parts."""

    settings: Settings

    @property
    def data(self) -> Path:
        return self.settings.data

    @property
    def logs(self) -> Path:
        """Output of each process, `<role>.log`."""
        return self.data / "logs"

    @property
    def gateway_dir(self) -> Path:
        """The spool and the accepted configuration of the box."""
        return self.data / "gateway"

    @property
    def platform_dir(self) -> Path:
        """The log, the dead letters and the state."""
        return self.data / "platform"

    @property
    def log_db(self) -> Path:
        """The log with its dead letters."""
        return self.platform_dir / "log.db"

    @property
    def state_db(self) -> Path:
        """State, tracks, activities and boards."""
        return self.platform_dir / "state.db"

    @property
    def node_configs(self) -> Path:
        """`<tenant>/<node>.json`: what each node is told."""
        return self.platform_dir / "nodes"

    @property
    def secrets(self) -> Path:
        return self.data / "secrets"

    @property
    def token_file(self) -> Path:
        """Tokens of the API (hashes)."""
        return self.secrets / "tokens.json"

    @property
    def influx_token(self) -> str:
        """What `paceline influx setup` left; empty when it was never run."""
        return _read_secrets(self.secrets / "secrets.json").get("influx:token", "")

    def keep_influx_token(self, token: str) -> None:
        """Leave a token for the sink."""
        path = self.secrets / "secrets.json"
        self.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_secrets(path, {**_read_secrets(path), "influx:token": token})

    def password_file(self, broker: str) -> Path:
        """The password file of the `central` or `near` broker."""
        return self.secrets / f"{broker}.passwords"

    def secret(self, broker: str, user: str) -> str:
        """The secret our own process logs in with; ConfigError when the site has none."""
        known = _read_secrets(self.secrets / "secrets.json")
        key = f"{broker}:{user}"
        if key not in known:
            where = self.secrets / "secrets.json"
            raise ConfigError(f"{where}: no secret for {user} on the {broker} broker", cure="start `paceline run` once")
        return known[key]

    def client_file(self, user: str) -> Path:
        """Key and certificate of one of our own processes (`platform/NAME`) at the central broker."""
        return self.secrets / "clients" / f"{user.partition('/')[2]}.pem"

    @property
    def box_user(self) -> str:
        """The gateway's user name on the central broker."""
        return f"{self.settings.tenant}/{self.settings.gateway.node}"

    @property
    def ingest_user(self) -> str:
        """The user name of `paceline ingest` on the central broker."""
        return f"{PLATFORM}/{self.settings.ingest.name}"


def central_platform(settings: Settings) -> tuple[str, ...]:
    """Our own processes at the central broker, those that the settings name among them."""
    named = (settings.ingest.name, *settings.central.platform)
    return tuple(dict.fromkeys([*CENTRAL_PLATFORM, *(f"{PLATFORM}/{name}" for name in named)]))


def client_files(site: Site, user: str) -> ClientFiles | None:
    """What one of our own processes shows the central broker; None when that goes by passwords."""
    if not site.settings.central.by_certificate:
        return None
    return ClientFiles(node_file=site.client_file(user), roots_file=site.secrets / "authority" / "published" / "roots.pem")


def open_site(settings: Settings) -> Site:
    """Make the folders, draw what secrets are missing and decide free ports: those of the last run where they still are.

    StoreError when the data folder cannot be written.
    """
    site = Site(settings)
    try:
        for folder in (site.data, site.logs, site.gateway_dir, site.platform_dir):
            folder.mkdir(parents=True, exist_ok=True)
        site.secrets.mkdir(mode=0o700, exist_ok=True)
        with _drawing(site):
            _draw(site, "central", (site.box_user, *central_platform(settings)))
            _draw(site, "near", NEAR_PLATFORM)
            token = settings.api.token.get_secret_value() or _kept(site, "api:token")
    except OSError as error:
        raise StoreError(f"{settings.data}: {error.strerror}", cure="give a folder you may write with --data") from error
    api = settings.api.model_copy(update={"token": SecretStr(token), "port": settings.api.port or free_port(settings.api.host)})
    last = _last_ports(site)
    ports = {
        "central": _with_port(settings.central, 8883 if settings.central.by_certificate else 1883, last.get("central", 0)),
        "near": _with_port(settings.near, 1884, last.get("near", 0)),
        "identity": _with_own_port(settings.identity, last.get("identity", 0)),
    }
    site = Site(settings.model_copy(update={**ports, "api": api}))
    if settings.central.by_certificate:
        from paceline.site_identity import prepare  # brings the library of certificates

        prepare(site)
    return site


def add_nodes(site: Site, broker: str, users: Sequence[str]) -> dict[str, str]:
    """Give each user a secret on a broker (kept ones stay) and return them. Commands that do so at once wait for each other."""
    with _drawing(site):
        _draw(site, broker, users)
    return {user: site.secret(broker, user) for user in users}


@contextmanager
def _drawing(site: Site) -> Generator[None]:
    """Alone with the secrets: processes that start at once in a new folder all get those that the first one drew."""
    with os.fdopen(os.open(site.secrets / ".lock", os.O_WRONLY | os.O_CREAT, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


P = TypeVar("P", BrokerSettings, CentralSettings, IdentitySettings)


def _with_port(broker: P, external_port: int, last_port: int) -> P:
    if broker.port or not isinstance(broker, (BrokerSettings, CentralSettings)) or broker.kind != "external":
        return _with_own_port(broker, last_port)
    return broker.model_copy(update={"port": external_port})


def _with_own_port(part: P, last_port: int) -> P:
    if part.port:
        return part
    port = last_port if last_port and _is_free(part.host, last_port) else free_port(part.host)
    return part.model_copy(update={"port": port})


def _last_ports(site: Site) -> dict[str, int]:
    """The ports of the run before: devices were told them. Nothing to go by: none."""
    try:
        before = running_site(site.settings).settings
    except (ConfigError, ValueError):
        return {}
    ours = {name: broker.port for name, broker in (("central", before.central), ("near", before.near)) if broker.kind != "external"}
    return {**ours, "identity": before.identity.port}


def _is_free(host: str, port: int) -> bool:
    try:
        require_free(host, port, "")
    except ConfigError:
        return False
    return True


def _kept(site: Site, key: str) -> str:
    path = site.secrets / "secrets.json"
    known = _read_secrets(path)
    if key not in known:
        known[key] = new_secret()
        _write_secrets(path, known)
    return known[key]


def _draw(site: Site, broker: str, users: Sequence[str]) -> None:
    path = site.secrets / "secrets.json"
    known = _read_secrets(path)
    hashes = read_passwords(site.password_file(broker))
    missing = [user for user in users if f"{broker}:{user}" not in known or user not in hashes]
    if not missing:
        return
    for user in missing:
        secret = known.setdefault(f"{broker}:{user}", new_secret())
        hashes[user] = hash_secret(secret)
    _write_secrets(path, known)
    write_passwords(site.password_file(broker), hashes)


def _read_secrets(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", cure="restore it, or remove the secrets folder to draw new ones") from error
    hide(known.values())
    return known


def _write_secrets(path: Path, known: Mapping[str, str]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(dict(known), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def publish_site(site: Site) -> None:
    """Leave the decided settings (no secrets) in `<data>/site.json`, so that other commands find the running brokers."""
    public = site.settings.model_copy(update={"api": site.settings.api.model_copy(update={"token": SecretStr("")})})
    temporary = site.data / ".site.json.new"
    temporary.write_text(public.model_dump_json(indent=1), "utf-8")
    temporary.replace(site.data / "site.json")  # whole: other commands read it at any time


def running_site(settings: Settings) -> Site:
    """The site that runs in this data folder; ConfigError when none ever did."""
    path = settings.data / "site.json"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", cure="give the data folder of a running `paceline run` with --data") from error
    found = Settings.model_validate_json(text)
    token = _read_secrets(settings.data / "secrets" / "secrets.json").get("api:token", "")
    api = found.api.model_copy(update={"token": SecretStr(token)})
    return Site(found.model_copy(update={"data": settings.data, "api": api}))


def site_here(settings: Settings) -> Site:
    """The site of this data folder as it runs or last ran; where none ever did, the one these settings would make."""
    return running_site(settings) if (settings.data / "site.json").exists() else Site(settings)
