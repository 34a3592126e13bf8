"""`python -m deploy.up_local`: the platform of docker-compose.yml as processes, beside a real Kafka and a real InfluxDB. `make up-local`.

Until Ctrl-C, in `data-local/`; what a run left is removed at the next start. `--demo`: with a box and a simulated class. Prometheus and
Grafana are left out, and what only InfluxDB 2.x has (the service `influx-setup`): its databases are made here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local_site import LOOPBACK, LocalService, Places, kafka_properties, local, ours_in_order
from paceline.role_view import RoleView
from paceline.supervise import Role, Supervisor, at_once, free_port
from processors.influx_schema import BUCKETS
from tests.debian_packages import library_environment
from tests.influx_server import start_influx
from tests.kafka_server import start_kafka
from tests.operator_check import asked
from tests.servers import PROJECT, find_or_install_mosquitto

LEFT_OUT: Final = frozenset({"influx-setup"})  # needs InfluxDB 2.x
ONCE_S: Final = 300.0
READY_S: Final = 300.0


@dataclass(slots=True)
class LocalSite:
    """What runs: the supervisor of the processes, and where each shows its figures."""

    supervisor: Supervisor
    places: Places
    services: Mapping[str, LocalService]
    kafka: Any
    influx: Any

    def view(self, name: str) -> RoleView:
        """The figures and health of a service."""
        return RoleView(name, LOOPBACK, self.places.metrics[name])


@asynccontextmanager
async def up(folder: Path, *, demo: bool = False, leave_out: frozenset[str] = frozenset()) -> AsyncGenerator[LocalSite]:
    """All services up and ready, until the block ends; then they end in reverse order."""
    described = (await asyncio.to_thread(asked, "compose", PROJECT / "docker-compose.yml", cwd=PROJECT))["services"]
    names = [name for name in ours_in_order(described, demo=demo) if name not in LEFT_OUT | leave_out]
    program = await asyncio.to_thread(find_or_install_mosquitto)
    properties = kafka_properties(described["kafka"]["environment"])
    async with start_kafka(folder, extra=properties, consumers=True) as kafka, start_influx(folder) as influx:
        for bucket in BUCKETS:
            await asyncio.to_thread(influx.create_database, f"paceline_{bucket}")
        more = {"PACELINE_INFLUX__TOKEN": influx.token, "PACELINE_INFLUX__BUCKET": "paceline_{bucket}/autogen"}
        ports = {name: free_port() for name in ("broker", "enrol", "api", "near")}
        places = Places(folder / "volumes", ports, {name: free_port() for name in names}, kafka.bootstrap, influx.url, more)
        services = {name: local(name, described[name], places) for name in names}
        for name in names:
            if services[name].once:
                await _once(services[name], folder)
        tools = {name: value for name, value in library_environment(program).items() if name == "LD_LIBRARY_PATH"}
        tools["PACELINE_CENTRAL__PROGRAM"] = str(program)
        running = [_role(services[name], places, tools if name == "broker" else {}) for name in names if not services[name].once]
        supervisor = Supervisor(running, folder / "logs", ready_timeout_s=READY_S)
        try:
            await supervisor.start()
            yield LocalSite(supervisor, places, services, kafka, influx)
        finally:
            await supervisor.stop()


def _role(service: LocalService, places: Places, more: Mapping[str, str]) -> Role:
    view = RoleView(service.name, LOOPBACK, places.metrics[service.name])

    async def ready() -> bool:
        try:
            return not await asyncio.to_thread(view.reasons)
        except OSError:
            return False

    waits = service.name not in {"fleet", "gateway"}  # a box is ready once its near broker is, which comes after it
    return Role(service.name, service.arguments[1:], {**service.environment, **more}, ready if waits else at_once)


async def _once(service: LocalService, folder: Path) -> None:
    log = folder / "logs" / f"{service.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *service.arguments, env={**os.environ, **service.environment}, stdout=sink, stderr=sink
        )
    code = await asyncio.wait_for(process.wait(), ONCE_S)
    if code:
        raise RuntimeError(f"{service.line} ended with {code}: {log.read_text()[-2000:]}")


async def _until_told(folder: Path, *, demo: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with up(folder, demo=demo) as site:
        print(f"page     http://{LOOPBACK}:{site.places.ports['api']}/")
        for name in site.supervisor.pids():
            print(f"{name:<8} http://{LOOPBACK}:{site.places.metrics[name]}/readyz")
        print(f"kafka    {site.places.kafka}; with log-in {site.kafka.consumers_bootstrap}, passwords in {folder}/volumes/kafka-secrets")
        print(f"influxdb {site.places.influx}\nlogs     {folder / 'logs'}; Ctrl-C ends all")
        await stop.wait()


def main() -> None:
    """Run until Ctrl-C."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--data", type=Path, default=Path("data-local"))
    reader.add_argument("--demo", action="store_true")
    given = reader.parse_args()
    shutil.rmtree(given.data, ignore_errors=True)
    given.data.mkdir(parents=True)
    asyncio.run(_until_told(given.data.absolute(), demo=given.demo))


if __name__ == "__main__":
    main()
