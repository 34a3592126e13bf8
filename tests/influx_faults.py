"""An HTTP proxy in front of InfluxDB with the faults of a real one: each request meets the next fault of a list, then all pass.

async with start_faults(influx.port, [answered(429, "1"), Fault("answer_lost")]) as proxy:
    proxy.url; proxy.met                                  # what each request met
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["pass", "answer", "reset", "answer_lost", "half_answer", "written_but_500", "half_request"]


@dataclass(frozen=True)
class Fault:
    """What one request meets. `answer`: this status, nothing forwarded. `written_but_500`, `answer_lost`, `half_answer`: InfluxDB has it."""

    kind: Kind
    status: int = 0
    retry_after: str = ""


def answered(status: int, retry_after: str = "") -> Fault:
    return Fault("answer", status, retry_after)


@dataclass
class FaultProxy:
    """Counts what every request met and when (`times` of the loop)."""

    target: int
    faults: list[Fault]
    port: int = 0
    met: list[Fault] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.tasks.discard(task)
            with suppress(OSError):
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        body = await reader.readexactly(length)
        fault = self.faults.pop(0) if self.faults else Fault("pass")
        self.met.append(fault)
        self.times.append(asyncio.get_running_loop().time())
        if fault.kind == "reset":
            reset(writer)
            return False
        if fault.kind == "answer":
            more = f"Retry-After: {fault.retry_after}\r\n" if fault.retry_after else ""
            said = b'{"code":"fault","message":"a fault of the test"}'
            writer.write(f"HTTP/1.1 {fault.status} Fault\r\n{more}Content-Length: {len(said)}\r\n\r\n".encode() + said)
            await writer.drain()
            return True
        if fault.kind == "half_request":
            await self._forward(head, body[: length // 2], whole=False)
            reset(writer)
            return False
        answer = await self._forward(head, body)
        if fault.kind == "answer_lost":
            reset(writer)
            return False
        if fault.kind == "half_answer":
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n" + b'{"code":"inva')
            await writer.drain()
            return False
        if fault.kind == "written_but_500":
            answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
        writer.write(answer)
        await writer.drain()
        return True

    async def _forward(self, head: bytes, body: bytes, *, whole: bool = True) -> bytes:
        """The answer of InfluxDB to a request; none when only a part of it is sent."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            far_writer.write(head + body)
            await far_writer.drain()
            if not whole:
                reset(far_writer)
                return b""
            answer = await far_reader.readuntil(b"\r\n\r\n")
            lines = answer.lower().split(b"\r\n")
            length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
            if b"transfer-encoding: chunked" in answer.lower():
                return answer + await far_reader.readuntil(b"0\r\n\r\n")
            return answer + await far_reader.readexactly(length)
        finally:
            far_writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def start_faults(target: int, faults: Sequence[Fault] = ()) -> AsyncIterator[FaultProxy]:
    """A running proxy in front of the port `target`."""
    proxy = FaultProxy(target, list(faults))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(proxy.tasks):
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)
