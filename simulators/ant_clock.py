"""A virtual ANT stick in real time: the one place where `ant_stick` meets a clock. Used by the shells `ant_pty` and `ant_usb`."""

from __future__ import annotations

import time
from collections.abc import Callable

from simulators.ant_stick import VirtualStick


class LiveStick:
    """Lets the room live as time passes. Not thread-safe: the shell that owns it serialises."""

    def __init__(self, stick: VirtualStick, clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000) -> None:
        self.stick = stick
        self._clock_us = clock_us
        self._began_us = clock_us()

    @property
    def now_us(self) -> int:
        """Time of the room."""
        return self._clock_us() - self._began_us

    def exchange(self, written: bytes = b"") -> bytes:
        """Give the stick what the host wrote, let it live until now: what the host can read."""
        self.stick.advance(self.now_us)
        if written:
            self.stick.feed(written)
        return self.stick.take()

    def wait_s(self) -> float:
        """How long until something happens by itself; at least a millisecond, at most one second."""
        return min(max((self.stick.next_us() - self.now_us) / 1e6, 0.001), 1.0)
