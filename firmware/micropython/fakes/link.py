"""A network that goes: links of `kit.stream` that are cut after so many bytes, refused while it is down, or silent.

    network = Network()
    settings = Settings(host, port, ..., connect=network.open)
    network.cut_in_bytes = 700           # both directions together; then every open link breaks once
    network.down(), network.up()
"""

import asyncio
import errno

from kit.stream import open_stream

_LOOK_S = 0.05


class Network:
    """`cuts` counts links that were broken, `refused` those that were not made, `bytes_passed` what went through."""

    def __init__(self, connect=open_stream):
        self.is_up = True
        self.silent = False  # links stay, and nothing passes: what a radio out of reach looks like
        self.cut_in_bytes = 0
        self.cuts = self.refused = self.bytes_passed = 0
        self._connect = connect
        self._links = []

    async def open(self, *where):
        """In the place of `kit.stream.open_stream`."""
        if not self.is_up:
            self.refused += 1
            raise OSError(errno.EHOSTUNREACH, "the network is down")
        link = _Link(await self._connect(*where), self)
        self._links.append(link)
        return link

    def up(self):
        self.is_up = True

    def down(self):
        """Break every link, and make no other until `up`."""
        self.is_up = False
        self.cut()

    def cut(self):
        """Break every link once."""
        for link in self._links:
            link.broken = True
            self.cuts += 1
        self._links = []

    def passed(self, count):
        """Count bytes; breaks the links when their time has come."""
        self.bytes_passed += count
        if self.cut_in_bytes:
            self.cut_in_bytes -= min(count, self.cut_in_bytes)
            if not self.cut_in_bytes:
                self.cut()

    def room(self, size):
        """How many of so many bytes pass before the cut."""
        return min(size, self.cut_in_bytes) if self.cut_in_bytes else size

    def gone(self, link):
        if link in self._links:
            self._links.remove(link)


class _Link:
    def __init__(self, stream, network):
        self.broken = False
        self._stream, self._network = stream, network

    def read(self, view):
        self._check()
        if self._network.silent:
            return 0
        count = self._stream.read(view[: self._network.room(len(view))])
        if count:
            self._network.passed(count)
        return count

    def write(self, view):
        self._check()
        if self._network.silent:
            return len(view)
        count = self._stream.write(view[: self._network.room(len(view))])
        if count:
            self._network.passed(count)
        return count

    async def readable(self):
        await self._until(self._stream.readable)

    async def writable(self):
        await self._until(self._stream.writable)

    def close(self):
        self._network.gone(self)
        self._stream.close()

    async def _until(self, ready):
        while True:
            self._check()
            if self._network.silent:
                await asyncio.sleep(_LOOK_S)
                continue
            try:
                await asyncio.wait_for(ready(), _LOOK_S)
                return
            except asyncio.TimeoutError:
                pass

    def _check(self):
        if self.broken:
            raise OSError(errno.ECONNRESET, "the link was cut")
