"""The embedded broker: amqtt on loopback for a single box, the demo and tests. Any other listener is mosquitto (`broker/mosquitto.py`).

`serve` runs until cancelled, `run` is the same as a process that ends on SIGTERM or SIGINT. amqtt is imported only when a broker starts:
`amqtt_gate.py` decides who gets in and closes what must not, `amqtt_router.py` who receives what. MQTT 3.1.1, QoS 0 and 1.
Invariants: loopback only; user name = client id = `tenant/node`; topics by `broker/topics.py`; every queue is bounded.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from broker.errors import ConfigError, LinkError
from broker.mosquitto import is_loopback


class EmbeddedSettings(BaseModel):
    """Where the broker listens, who may use it, and its bounds. `port` 0 lets the system choose; `ready` tells which."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=0, le=65535)
    password_file: Path
    max_connections: int = Field(default=512, ge=1, le=10_000)
    max_packet_bytes: int = Field(default=128 * 1024, ge=70_000, le=8 << 20)
    connect_timeout_s: float = Field(default=10.0, gt=0)  # from the TCP connection to a whole CONNECT
    max_inflight: int = Field(default=100, ge=1, le=10_000)  # QoS 1 messages a session may leave unacknowledged
    max_queued_messages: int = Field(default=20_000, ge=1)  # a session, waiting or offline; then the newest are dropped and counted
    max_queued_bytes: int = Field(default=32 << 20, ge=1 << 20)
    session_expiry_s: int = Field(default=86_400, ge=1)  # how long an offline session is kept


async def serve(settings: EmbeddedSettings, *, ready: Callable[[int], None] | None = None) -> None:
    """Run the broker until cancelled, then close all connections and return to the caller's cancellation.

    `ready` gets the port once clients can connect. ConfigError for a host beyond loopback or a password file that cannot be read, LinkError
    when the port cannot be bound.
    """
    if not is_loopback(settings.host):
        raise ConfigError(
            f"broker.host: the embedded broker listens on loopback only, not on {settings.host}",
            cure="use mosquitto there: `paceline broker config mosquitto` writes its configuration",
        )
    from broker.amqtt_gate import Gate

    gate = Gate(settings)
    await gate.open()
    try:
        try:
            server = await asyncio.start_server(gate.connected, settings.host, settings.port)
        except OSError as error:
            raise _cannot_bind(settings, error) from error
        async with server:
            if ready is not None:
                ready(server.sockets[0].getsockname()[1])
            try:
                await gate.watch()
            finally:
                server.close()
                await gate.close_connections()
    finally:
        await gate.close()


def run(settings: EmbeddedSettings, *, ready: Callable[[int], None] | None = None) -> int:
    """Run the broker as this process until SIGTERM or SIGINT; the exit code. Errors go to stderr with their cure and give 1."""

    async def until_signalled() -> None:
        task = asyncio.create_task(serve(settings, ready=ready))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    try:
        asyncio.run(until_signalled())
    except (ConfigError, LinkError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _cannot_bind(settings: EmbeddedSettings, error: OSError) -> LinkError:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return LinkError(f"port {settings.port} on {settings.host} is in use", cure="stop the other program, or set another broker.port")
    if error.errno == errno.EACCES:
        return LinkError(f"not allowed to listen on {where}", cure="use a port of 1024 or above")
    return LinkError(f"cannot listen on {where}: {error.strerror or error}", cure="check broker.host and broker.port")
