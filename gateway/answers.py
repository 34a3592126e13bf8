"""Answers on their way up: what equipment control says on `rsp` waits here until the broker confirmed it.

Bounded: beyond `MAX_WAITING` the oldest goes and is counted; the platform asks again by repeating its command, and notices are for people.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MAX_WAITING: Final = 512


class Answers:
    """A queue that outlives connections: `first` is only taken off by `sent`."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._some = asyncio.Event()
        self.dropped = 0

    def put(self, raw: bytes) -> None:
        """Behind all others."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(raw)
        self._some.set()

    async def first(self) -> bytes:
        """The oldest answer; waits for one."""
        while not self._waiting:
            self._some.clear()
            await self._some.wait()
        return self._waiting[0]

    def sent(self, raw: bytes) -> None:
        """`raw`, which `first` gave, is with the broker."""
        if self._waiting and self._waiting[0] is raw:
            self._waiting.popleft()

    def __len__(self) -> int:
        return len(self._waiting)
