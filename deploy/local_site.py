"""The services of docker-compose.yml as processes: the same commands and settings, with names, ports and volumes of this machine.

Pure: `Places` says where things are here, `local` makes of a service what is run. Names of other services become loopback addresses, fixed
ports free ones, volumes folders.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final

LOOPBACK: Final = "127.0.0.1"
OURS: Final = "paceline-"
ENGINES: Final = frozenset({"kafka", "influxdb", "prometheus", "grafana"})
PORTS: Final = {
    "PACELINE_CENTRAL__PORT": "broker", "PACELINE_IDENTITY__PORT": "enrol", "PACELINE_API__PORT": "api", "PACELINE_NEAR__PORT": "near",
}  # fmt: skip
OF_THE_PLACE: Final = frozenset({  # what a Kafka has as a container, and another one elsewhere
    "KAFKA_NODE_ID", "KAFKA_PROCESS_ROLES", "KAFKA_CONTROLLER_QUORUM_VOTERS", "KAFKA_CONTROLLER_LISTENER_NAMES", "KAFKA_LISTENERS",
    "KAFKA_INTER_BROKER_LISTENER_NAME", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "KAFKA_LOG_DIRS",
    "KAFKA_HEAP_OPTS",
})  # fmt: skip
HOSTS: Final = ("PACELINE_CENTRAL__HOST", "PACELINE_IDENTITY__HOST", "PACELINE_API__HOST", "PACELINE_METRICS__HOST")


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are here: a folder for the volumes, ports by service, addresses of the engines, and settings that are others here."""

    folder: Path
    ports: Mapping[str, int]
    metrics: Mapping[str, int]
    kafka: str
    influx: str
    more: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class LocalService:
    """One process: what follows `python -m`, and its environment. `once`: it ends by itself, and others wait for that."""

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    once: bool

    @property
    def line(self) -> str:
        """As one would type it."""
        return shlex.join(self.arguments)


def local(name: str, service: Mapping[str, Any], places: Places) -> LocalService:
    """What is run of a service of ours."""
    folders = {volume["target"]: places.folder / volume["source"] for volume in service.get("volumes", ()) if volume["type"] == "volume"}
    environment = {variable: _moved(str(value), folders) for variable, value in service["environment"].items()}
    for variable, owner in PORTS.items():
        if variable in environment:
            environment[variable] = str(places.ports[owner])
    for variable in HOSTS:
        if variable in environment:
            environment[variable] = LOOPBACK
    environment["PACELINE_METRICS__PORT"] = str(places.metrics[name])
    if "PACELINE_KAFKA__BOOTSTRAP" in environment:
        environment["PACELINE_KAFKA__BOOTSTRAP"] = places.kafka
    if "PACELINE_INFLUX__URL" in environment:
        environment |= {"PACELINE_INFLUX__URL": places.influx, **places.more}
    arguments = tuple(_moved(part, folders) for part in service["command"])
    return LocalService(name, arguments, environment, once=service["restart"] != "unless-stopped")


def kafka_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """The properties of a broker that a variable of its image stands for: `_` is a dot, `__` an underline, `___` a hyphen."""
    return {
        name.removeprefix("KAFKA_").lower().replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_"): value
        for name, value in environment.items()
        if name.startswith("KAFKA_") and name not in OF_THE_PLACE
    }


def ours_in_order(services: Mapping[str, Mapping[str, Any]], *, demo: bool) -> list[str]:
    """The services of ours, each after those it waits for; those of the profile `demo` only when it is asked for."""
    wanted = {
        name: service for name, service in services.items()
        if service["image"].startswith(OURS) and (demo or "demo" not in service.get("profiles", ()))
    }  # fmt: skip
    waits = {name: set(service.get("depends_on", {})) & set(wanted) for name, service in wanted.items()}
    for name, service in wanted.items():
        if service.get("network_mode", "").startswith("service:"):
            waits[name].discard(service["network_mode"].removeprefix("service:"))  # a box is not ready before its near broker is there
    return list(TopologicalSorter(waits).static_order())


def _moved(text: str, folders: Mapping[str, Path]) -> str:
    for target in sorted(folders, key=len, reverse=True):
        if text == target or text.startswith(f"{target}/"):
            return str(folders[target]) + text.removeprefix(target)
    return text
