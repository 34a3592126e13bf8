"""Commands to FE-C equipment over ANT+: the `ControlLink` of one machine. A page goes acknowledged; page 71 answers.

An answer counts only when it speaks of the same command with the same arguments (bytes 4-7, where the machine repeats them) and its
sequence number is another one than before the command: an answer still under way to a cancelled command is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from device_profiles.samples import Identity
from gateway.ant_messages import PAYLOAD_BYTES
from gateway.controllable import Dialect

REQUEST: Final = 70
STATUS: Final = 71
ASK_AGAIN_S: Final = 1.0
_TIMES: Final = 4  # how often the machine shall send the page it is asked for
_NOTHING: Final = b"\xff\xff\xff\xff"

Send = Callable[[bytes], Awaitable[None]]


def page_request(page: int) -> bytes:
    """Page 70: send that page."""
    return bytes((REQUEST, 0xFF, 0xFF, 0xFF, 0xFF, _TIMES, page, 1))


class AntControl:
    """One machine. `send` delivers eight bytes to it, acknowledged, or raises OSError; `take` gets every page it transmits."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._sequence = -1
        self._waiting: list[tuple[Callable[[bytes], bool], asyncio.Future[bytes]]] = []

    @property
    def dialect(self) -> Dialect:
        """See `ControlLink`."""
        return "fec"

    @property
    def identity(self) -> Identity:
        """Not known: a trainer says who it is on pages that come when they like."""
        return Identity()

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`. ValueError for a page that is not eight bytes."""
        if len(payload) != PAYLOAD_BYTES:
            raise ValueError(f"a page has {PAYLOAD_BYTES} bytes, this one has {len(payload)}")
        before = self._sequence

        def answers(page: bytes) -> bool:
            same = page[4:8] in (payload[4:8], _NOTHING)
            return page[0] == STATUS and page[1] == payload[0] and page[2] != before and same

        async def talk() -> bytes:
            await self._send(payload)
            return await self._asked(STATUS, answers)

        return await self._within(talk, timeout_s)

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        """See `ControlLink`."""
        return await self._within(lambda: self._asked(what, lambda page: page[0] == what), timeout_s)

    def take(self, page: bytes) -> None:
        """A page of this machine."""
        for answers, future in self._waiting:
            if not future.done() and answers(page):
                future.set_result(page)
        if page[0] == STATUS:
            self._sequence = page[2]

    async def _asked(self, what: int, answers: Callable[[bytes], bool]) -> bytes:
        """Ask for a page until one comes that answers."""
        future = asyncio.get_running_loop().create_future()
        entry = answers, future
        self._waiting.append(entry)
        try:
            while True:
                await self._send(page_request(what))
                done, _ = await asyncio.wait({future}, timeout=ASK_AGAIN_S)
                if done:
                    return future.result()
        finally:
            self._waiting.remove(entry)
            future.cancel()

    async def _within(self, talk: Callable[[], Awaitable[bytes]], timeout_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await talk()
        except TimeoutError:
            return None
