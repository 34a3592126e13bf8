"""The platform in one process: ingest, the stages on the embedded runner, control, HTTP API and live page.

Parts fail alone: each is tried again by its own loop. A stop ends them in order: ingest first (nothing new is acknowledged), then the
runner, then the page. kill -9 needs no order: everything goes on from what is committed.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from broker.pinned_tls import ClientFiles
from broker.watch import Watch
from processors.api import ApiOptions, serve_api
from processors.api.opening import open_services
from processors.bulk_client import BulkSettings
from processors.control import Control
from processors.equipment import EquipmentDesk
from processors.ingest import IngestService
from processors.log import SqliteLog
from processors.measures import Lag, of_ingest, of_latency, of_log, of_nodes, of_stage, size_of
from processors.pulse import NAME as PULSE
from processors.pulse import leave_pulse
from processors.runner import Runner
from processors.warm import warm_up

_log = logging.getLogger(__name__)

DRAIN_S: Final = 5.0  # what is in the log is worked off, at most this long; the rest waits there for the next start
END_S: Final = 4.0


class PlatformSettings(BaseModel):
    """Where the platform keeps its data, which broker it reads and where the page listens."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    data_dir: Path
    tenant: str
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    password: SecretStr = SecretStr("")
    control_password: SecretStr = SecretStr("")
    files: ClientFiles | None = None  # the broker is met by TLS, and knows us by certificates
    control_files: ClientFiles | None = None
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8800, ge=0, le=65535)
    api_token: SecretStr = SecretStr("")
    token_file: Path | None = None
    tells: bool = False  # what is believed of samples, and of itself, for those who follow (`believed_db`, `pulse`)

    @property
    def log_file(self) -> Path:
        return self.data_dir / "log.db"

    @property
    def state_file(self) -> Path:
        return self.data_dir / "state.db"

    @property
    def node_configs(self) -> Path:
        """`<tenant>/<node>.json`: what each node is told."""
        return self.data_dir / "nodes"


async def run(settings: PlatformSettings, watch: Watch | None = None) -> None:
    """Run until SIGTERM or SIGINT, which `watch` is told first. PacelineError when the port or a store cannot be used."""
    watch = watch or Watch("platform")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        watch.drain()
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, told)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with SqliteLog.open(settings.log_file) as log:
        await _serve(settings, log, stop, watch)


async def _serve(settings: PlatformSettings, log: SqliteLog, stop: asyncio.Event, watch: Watch) -> None:
    runner = Runner(log, settings.state_file, tells=settings.tells)
    link = BulkSettings(settings.host, settings.port, "platform/ingest", settings.password.get_secret_value())
    if settings.files is not None:
        link = replace(link, tls=settings.files.context, trusted=settings.files.must_be_of)
    ingest = IngestService(link, log, alive=watch.part("ingest"))
    desk = EquipmentDesk(settings.data_dir / "equipment.db")
    control = Control(settings.node_configs, settings.host, settings.port, settings.control_password, desk, settings.control_files)
    page_stop, page_up = asyncio.Event(), asyncio.Event()
    _show(watch, settings, log, runner, ingest, control, page_up)
    await asyncio.to_thread(warm_up)  # before anything is accepted: the first frame must not wait for a compiler
    tasks = {
        "ingest": asyncio.create_task(ingest.run()),
        "control": asyncio.create_task(control.run()),
        "runner": asyncio.create_task(runner.run(alive=watch.part("runner"))),
        "page": asyncio.create_task(_page(settings, log, control, runner, desk, page_stop, page_up.set)),
    }
    if settings.tells:
        tasks["pulse"] = asyncio.create_task(leave_pulse(settings.data_dir / PULSE, lambda: control.nodes, runner.latency.quantiles))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopping, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        for name, task in tasks.items():
            if task.done() and not stop.is_set():
                _log.error("platform: %s ended", name)
                task.result()
    finally:
        stopping.cancel()
        page_stop.set()
        await _end(tasks["ingest"], tasks["control"], *([tasks["pulse"]] if settings.tells else []))
        await runner.finish(tasks["runner"], DRAIN_S)
        await _end(tasks["page"], cancel=False)
        runner.close()
        desk.close()


def _show(
    watch: Watch,
    settings: PlatformSettings,
    log: SqliteLog,
    runner: Runner,
    ingest: IngestService,
    control: Control,
    page_up: asyncio.Event,
) -> None:
    """Figures and conditions of the parts."""
    lag = Lag(log, lambda: runner.position)
    watch.link("ingest", lambda: not ingest.trouble, lambda: ingest.trouble, connects=lambda: ingest.connects)
    watch.link("control", lambda: control.connected, lambda: control.last_error)
    watch.ready_when("stage live", lag.holds)
    watch.ready_when("page", lambda: "" if page_up.is_set() else "does not listen yet")
    watch.measure(lambda: of_ingest(ingest.stats))
    watch.measure(lambda: of_log(log))
    watch.measure(lambda: of_stage("live", runner.stats, runner.position, lag))
    watch.measure(lambda: [of_latency(runner.latency.buckets), size_of("state", settings.state_file)])
    watch.measure(lambda: of_nodes(control.nodes))


async def _page(
    settings: PlatformSettings,
    log: SqliteLog,
    control: Control,
    runner: Runner,
    desk: EquipmentDesk,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    """The API and the live page, until `stop`."""
    options = ApiOptions(settings.tenant, settings.api_host, settings.api_port, settings.api_token.get_secret_value(), settings.token_file)
    with open_services(
        log,
        settings.state_file,
        settings.node_configs,
        settings.tenant,
        nodes=lambda: control.nodes,
        latency=runner.latency.quantiles,
        desk=desk,
    ) as services:
        await serve_api(services, options, stop, ready)


async def _end(*tasks: asyncio.Task[None], cancel: bool = True) -> None:
    """Let tasks end, by cancelling them or because they were told; one that does not is left behind after END_S."""
    for task in tasks:
        if cancel:
            task.cancel()
    _, late = await asyncio.wait(tasks, timeout=END_S)
    for task in late:
        _log.error("platform: %s did not end within %.0f s", task.get_coro(), END_S)
        task.cancel()
