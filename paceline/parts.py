"""Wiring of one site: the settings each part gets, and the role processes `run` and `demo` keep alive."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Coroutine, Generator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import SecretStr

from broker.embedded import EmbeddedSettings
from broker.errors import ConfigError, StoreError
from broker.influx import InfluxSettings
from broker.watch import Watch
from gateway.settings import GatewaySettings, NearBroker, UplinkBroker
from gateway.setup_credential import IDENTITY_FOLDER, BoxCredential
from paceline.config import Settings, as_environment
from paceline.site import Site, client_files
from paceline.supervise import Role, at_once, port_open

if TYPE_CHECKING:
    from processors.api import ApiOptions
    from processors.api.opening import LogParts
    from processors.control import Control
    from processors.equipment import EquipmentDesk
    from processors.log import SqliteLog
    from processors.platform import PlatformSettings

LOOK_S: Final = 1.0
Broker = Literal["central", "near"]

SUPERVISED: Final = (
    "platform",
    "gateway",
    "events",
    "broker-central",
    "broker-near",
    "influx",
    "enrol",
)  # ports of `metrics` count on from the first


def embedded_settings(site: Site, broker: Broker) -> EmbeddedSettings:
    """The embedded broker `central` or `near`."""
    where = site.settings.central if broker == "central" else site.settings.near
    return EmbeddedSettings(host=where.host, port=where.port, password_file=site.password_file(broker), max_connections=2048)


def gateway_settings(site: Site) -> GatewaySettings:
    """The box: a node of the central broker, and the platform side of the near one."""
    s = site.settings
    return GatewaySettings(
        data_dir=site.gateway_dir,
        tenant=s.tenant,
        node=s.gateway.node,
        password=SecretStr(site.secret("central", site.box_user)),
        uplink=UplinkBroker(
            host=s.central.link_host,
            port=s.central.port,
            tls=s.central.by_certificate,
            identity=site.gateway_dir / IDENTITY_FOLDER if s.central.by_certificate else None,
        ),
        identity_check_s=s.identity.check_s,
        near=NearBroker(
            host=s.near.host, port=s.near.port, username="platform/gateway", password=SecretStr(site.secret("near", "platform/gateway"))
        ),
        **_of_the_box(s),
    )


def box_gateway(settings: Settings, credential: BoxCredential) -> GatewaySettings:
    """The gateway of an installed box: its platform is what it was told at its set-up, its folder the data folder itself."""
    return GatewaySettings(
        data_dir=settings.data,
        tenant=credential.tenant,
        node=credential.node,
        password=credential.password,
        uplink=credential.broker(settings.data),
        identity_check_s=settings.identity.check_s,
        **_of_the_box(settings),
    )


def _of_the_box(settings: Settings) -> dict[str, Any]:
    """What `gateway.*` says, but the name of the node: the same for the box of a site and for an installed one."""
    own = settings.gateway
    return {name: getattr(own, name) for name in type(own).model_fields if name != "node"}


def platform_settings(site: Site) -> PlatformSettings:
    """Ingest, runner and API in one process."""
    from processors.platform import PlatformSettings

    s = site.settings
    return PlatformSettings(
        data_dir=site.platform_dir,
        tenant=s.tenant,
        host=s.central.link_host,
        port=s.central.port,
        password=SecretStr(site.secret("central", "platform/ingest")),
        control_password=SecretStr(site.secret("central", "platform/control")),
        files=client_files(site, "platform/ingest"),
        control_files=client_files(site, "platform/control"),
        api_host=s.api.host,
        api_port=s.api.port,
        api_token=s.api.token,
        token_file=site.token_file,
        tells=bool(s.influx.url),
    )


def api_options(site: Site) -> ApiOptions:
    """Where the API listens and who may read it."""
    from processors.api import ApiOptions

    s = site.settings
    return ApiOptions(s.tenant, s.api.host, s.api.port, s.api.token.get_secret_value(), site.token_file, part=s.view.followed)


async def run_ingest(site: Site, watch: Watch) -> None:
    """Ingest alone, until cancelled."""
    from paceline.ingest_part import ingest_link, open_appender
    from processors.ingest import IngestService
    from processors.log import SqliteLog
    from processors.measures import of_ingest, of_log

    opened = asyncio.Event()
    watch.ready_when("log", lambda: "" if opened.is_set() else "cannot be written yet: see the log of this process")
    async with open_appender(site) as log:
        opened.set()
        ingest = IngestService(ingest_link(site), log, share=site.settings.ingest.share.get_secret_value(), alive=watch.part("ingest"))
        watch.link("ingest", lambda: not ingest.trouble, lambda: ingest.trouble, connects=lambda: ingest.connects)
        watch.measure(lambda: of_ingest(ingest.stats))
        if isinstance(log, SqliteLog):
            watch.measure(lambda: of_log(log))
        await ingest.run()


async def run_api(site: Site, watch: Watch) -> None:
    """The API alone, until cancelled: over the log of this machine, or over Kafka where the settings name one; with `api.control` the nodes
    too, and on a cluster their machines: no other process commands them there."""
    from processors.api import serve_api
    from processors.api.opening import open_services
    from processors.measures import of_nodes
    from processors.pulse import NAME as PULSE
    from processors.pulse import leave_pulse
    from processors.view_file import check_part

    def no_latency() -> dict[str, float]:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}

    if site.state_db.exists():
        check_part(site.state_db, site.settings.view.followed)
    elif not site.settings.kafka.bootstrap:
        cure = "name the data folder of `paceline run` with --data; beyond one machine name Kafka too (kafka.bootstrap)"
        raise StoreError(f"{site.state_db}: there is no state file yet", cure=cure)
    desk = _desk(site) if site.settings.api.control and site.settings.kafka.bootstrap else None
    control = _control(site, desk) if site.settings.api.control else None
    nodes = dict if control is None else lambda: control.nodes
    with (
        closing(desk) if desk is not None else nullcontext(),
        _api_log(site, watch) as log,
        open_services(log, site.state_db, site.node_configs, site.settings.tenant, nodes=nodes, latency=no_latency, desk=desk) as services,
    ):
        up = asyncio.Event()
        watch.ready_when("page", lambda: "" if up.is_set() else "does not listen yet")
        work: list[Coroutine[Any, Any, None]] = [
            serve_api(services, api_options(site), asyncio.Event(), up.set),
            while_the_same(site.state_db),
        ]
        if control is not None:
            watch.link("control", lambda: control.connected, lambda: control.last_error)
            watch.measure(lambda: of_nodes(control.nodes))
            work += [control.run(), leave_pulse(site.platform_dir / PULSE, nodes, dict)]
        await _all(work)


async def while_the_same(state: Path) -> None:
    """Until the state file is another one; then StoreError, because what is open here is the old one, which nobody keeps any more."""
    first = _inode(state)
    while _inode(state) == first:  # noqa: ASYNC110 - nothing in this process changes it
        await asyncio.sleep(LOOK_S)
    raise StoreError(f"{state}: is another file now, or gone", cure="start this again; it reads the new one")


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Until one of them ends, or this is cancelled; its error is raised as it is."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _control(site: Site, desk: EquipmentDesk | None) -> Control:
    """Node states, configurations and commands of a desk, at the central broker."""
    from processors.control import Control

    central, user = site.settings.central, "platform/control"
    return Control(
        site.node_configs, central.link_host, central.port, SecretStr(site.secret("central", user)), desk, client_files(site, user)
    )


def _desk(site: Site) -> EquipmentDesk:
    """The commands to machines, kept beside the state file: what was sent before a restart goes on."""
    from processors.equipment import EquipmentDesk

    site.platform_dir.mkdir(parents=True, exist_ok=True)
    return EquipmentDesk(site.platform_dir / "equipment.db")


@contextmanager
def _api_log(site: Site, watch: Watch) -> Generator[SqliteLog | LogParts]:
    """What an API writes to. Kafka may be away: reads need none, and a write says so."""
    from processors.api.opening import LogParts
    from processors.log import SqliteLog
    from processors.measures import of_log

    if not site.settings.kafka.bootstrap:
        with SqliteLog.open(site.log_db) as log:
            watch.measure(lambda: of_log(log))
            yield log
        return
    from processors.dead_count import DeadCount
    from processors.kafka_changes import SEND_S, KafkaChanges
    from processors.kafka_dead_letters import KafkaDeadLetters
    from processors.kafka_log import KafkaLog
    from processors.measures import of_dead

    kafka = site.settings.kafka
    if not site.state_db.exists():
        raise StoreError(f"{site.state_db}: there is no state file yet", cure="start `paceline process view` with this data folder first")
    with KafkaLog(kafka, send_s=SEND_S) as frames, KafkaChanges(kafka) as changes, DeadCount(KafkaDeadLetters(kafka)) as dead:
        watch.measure(lambda: of_dead(dead.by_reason()))
        yield LogParts(changes, frames, dead.of, mark=secrets.token_hex(2))


async def run_publisher(settings: Settings, watch: Watch) -> None:
    """The publisher of events, until cancelled. ConfigError without a Kafka to publish to."""
    from processors.event_publisher import EventPublisher
    from processors.measures import of_publisher

    if not settings.kafka.bootstrap:
        raise ConfigError("kafka.bootstrap is empty", cure="give host:port of a broker in the settings or as PACELINE_KAFKA__BOOTSTRAP")
    site = Site(settings)
    publisher = EventPublisher(settings.kafka, site.state_db, site.platform_dir / "published.json", alive=watch.part("events"))
    watch.link("kafka", lambda: publisher.done.connected, lambda: publisher.done.last_error)
    watch.measure(lambda: of_publisher(publisher.done))
    await publisher.run()


def influx_settings(settings: Settings) -> InfluxSettings:
    """`influx` with the token that the set-up left when none is given. ConfigError without a server."""
    influx = settings.influx
    if not influx.url:
        raise ConfigError(
            "influx.url is empty", cure="give http://host:8086 of a server in the settings or as PACELINE_INFLUX__URL; see docs/influx.md"
        )
    if influx.token.get_secret_value():
        return influx
    kept = Site(settings).influx_token
    return influx.model_copy(update={"token": SecretStr(kept)}) if kept else influx


async def run_influx(settings: Settings, watch: Watch) -> None:
    """The sink to InfluxDB, until cancelled."""
    from gateway.data_lock import locked_directory
    from processors.influx_admin import InfluxAdmin
    from processors.influx_measures import show
    from processors.influx_sink import Sink, SinkFiles

    influx, site = influx_settings(settings), Site(settings)
    with locked_directory(site.platform_dir, "influx"):
        files = SinkFiles(site.platform_dir)
        sink = Sink(influx, files, socket.gethostname(), InfluxAdmin(influx), part=settings.view.followed)
        show(watch, sink, files.outbox)
        await sink.run()


def roles(site: Site) -> list[Role]:
    """The processes of the site, in the order they start."""
    s = site.settings
    brokers: list[Role] = []
    for name in ("central", "near"):
        where = s.central if name == "central" else s.near
        if where.kind != "external":
            role = f"broker-{name}"
            brokers.append(Role(role, ("broker", "serve", name), environment_of(s, role), port_open(where.host, where.port)))
    if s.central.by_certificate:
        brokers.append(Role("enrol", ("node", "serve"), environment_of(s, "enrol"), port_open(s.identity.host, s.identity.port)))
    return [
        *brokers,
        Role("platform", ("process",), environment_of(s, "platform"), port_open(s.api.host, s.api.port)),
        Role("gateway", ("gateway",), environment_of(s, "gateway"), at_once),
        *([Role("events", ("events", "publish"), environment_of(s, "events"), at_once)] if s.kafka.bootstrap else []),
        *([Role("influx", ("influx", "sink"), environment_of(s, "influx"), at_once)] if s.influx.url else []),
    ]


def environment_of(settings: Settings, role: str) -> dict[str, str]:
    """What a child process that plays `role` is told: these settings, with a metrics port of its own counted from `metrics.port`."""
    base = settings.metrics.port
    own = settings.metrics.model_copy(update={"port": base + SUPERVISED.index(role) if base else 0})
    return as_environment(settings.model_copy(update={"metrics": own}))
