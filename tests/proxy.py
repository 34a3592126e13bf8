"""A TCP proxy on loopback with the faults of a real link, for every test that needs a bad network.

    async with start_proxy(broker.port, seed=1) as proxy:
        proxy.port; proxy.mode = Mode.CUT; proxy.cut(); proxy.delay_s = 0.2; proxy.loss = 0.3; proxy.bytes_up

A proxy keeps at most 64 KB a direction; what it has read and not delivered is lost when the connection is cut, as on a real link.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from random import Random


class Mode(StrEnum):
    """What happens to bytes and to new connections."""

    PASS = "pass"
    CUT = "cut"  # no connection lives or is accepted (reset)
    HALF_OPEN = "half-open"  # connections stay, new ones open, everything is swallowed both ways
    ONE_WAY_UP = "one-way-up"  # client to server passes, server to client is swallowed
    ONE_WAY_DOWN = "one-way-down"  # server to client passes, client to server is swallowed
    STALL = "stall"  # nothing is read any more: the sender's buffers fill up


class Proxy:
    """Forwards `127.0.0.1:port` to `127.0.0.1:target`. Change `mode`, `loss` and `delay_s` at any time.

    `loss` is the chance that a connection is reset at each piece (up to 16 KB) it forwards; TCP itself repairs smaller losses.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target = target
        self.port = 0
        self.loss = 0.0
        self.delay_s = 0.0
        self.cut_in_bytes = 0  # so many more bytes pass, in both directions together, then every connection is reset once; 0: never
        self.bytes_up = 0  # read from clients
        self.bytes_down = 0
        self.connections = 0  # accepted so far
        self.resets = 0  # by `loss`
        self._mode = Mode.PASS
        self._random = Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self._moved = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        self._moved.set()
        self._moved = asyncio.Event()
        if mode is Mode.CUT:
            self.cut()

    @property
    def alive(self) -> int:
        """Connections open now."""
        return len(self._open) // 2

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 5)

    def cut(self) -> None:
        """Reset every connection once; new ones follow the mode."""
        for writer in tuple(self._open):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._mode is Mode.CUT:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=64 * 1024)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._open |= pair
        up = asyncio.ensure_future(self._pump(reader, far_writer, up=True))
        down = asyncio.ensure_future(self._pump(far_reader, writer, up=False))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            if any(task.done() and task.exception() for task in (up, down)):
                for one in pair:
                    _reset(one)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            self._open -= pair
            for one in pair:
                with suppress(OSError):
                    one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        swallows = {Mode.HALF_OPEN, Mode.ONE_WAY_DOWN if up else Mode.ONE_WAY_UP}
        while True:
            while self._mode is Mode.STALL:
                await self._moved.wait()
            try:
                piece = await reader.read(16 * 1024)
            except OSError:
                return
            if not piece:
                if self._mode is Mode.HALF_OPEN:  # the other end does not learn of it
                    await self._moved.wait()
                return
            if up:
                self.bytes_up += len(piece)
            else:
                self.bytes_down += len(piece)
            if self._mode in swallows:
                continue
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.loss and self._random.random() < self.loss:
                self.resets += 1
                raise ConnectionResetError
                return
            last = 0 < self.cut_in_bytes <= len(piece)
            if last:
                piece = piece[: self.cut_in_bytes]
            self.cut_in_bytes -= min(self.cut_in_bytes, len(piece))
            try:
                writer.write(piece)
                await writer.drain()
            except OSError:
                return
            if last:
                await asyncio.sleep(0.01)  # what was cut off is on its way; what came before it arrives
                self.cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST: what a cut link looks like, not an orderly FIN."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def start_proxy(target: int, seed: int = 0) -> AsyncIterator[Proxy]:
    """A running proxy in front of the port `target`."""
    proxy = Proxy(target, seed)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
