"""The brokers the contract runs over, one process each per test module, with a pool of credentials so that tests do not meet."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ServedBroker, start_amqtt, start_mosquitto

KINDS = ("amqtt", "mosquitto", "mosquitto-tls")
PLATFORM_USERS = ("platform/ingest", "platform/control", "platform/second")
POOL = tuple(f"gym{i}/box{j}" for i in range(100) for j in (1, 2))


class Bench:
    """A running broker and fresh credentials. `nodes(n)` gives n nodes of one new tenant (at most 2), `node()` one."""

    def __init__(self, served: ServedBroker) -> None:
        self.served = served
        self._tenants = itertools.count()

    @property
    def holds_by_silence(self) -> bool:
        """True for a broker that grants a foreign subscription and delivers nothing on it (mosquitto)."""
        return self.served.kind != "amqtt"

    def pair(self) -> tuple[str, str]:
        """Two nodes of a tenant no other test uses."""
        tenant = next(self._tenants)
        return f"gym{tenant}/box1", f"gym{tenant}/box2"

    def reload(self) -> None:
        """Let a mosquitto read its password and ACL files again."""
        self.served.reload()

    def node(self) -> str:
        return self.pair()[0]


@contextmanager
def running(kind: str, folder: Path, *, users: tuple[str, ...] = (*POOL, *PLATFORM_USERS)) -> Iterator[Bench]:
    """Start a broker of this kind; it is ended at the end."""
    context = start_amqtt(folder, users=users) if kind == "amqtt" else start_mosquitto(folder, users=users, tls=kind == "mosquitto-tls")
    with asyncio.Runner() as runner:
        served = runner.run(context.__aenter__())
        try:
            yield Bench(served)
        finally:
            runner.run(context.__aexit__(None, None, None))


def topic(user: str, leaf: str) -> str:
    """A topic of this node."""
    return f"pl/1/{user}/{leaf}"
