"""Device sessions: the samples of a dumb sensor become numbered frames on the box's monotonic clock.

A session numbers from 0 under a `boot` of 64 random bits drawn when it starts. A frame holds one layout and closes when it is `frame_ms`
old, when the 1 KB limit is reached, when the layout changes, or when a sample is older than the one before.
Invariant: every sample is in exactly one frame, in the order it came. Times come in as arguments; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.frames import MAX_FRAME_BYTES, Frame
from broker.ids import check_id
from broker.layouts import Layout
from gateway.clock import Instant, box_dating

# array 1, layout 3, flags 1, device 34, boot 9, seq 9, t0 9, offset 9, clock 1, subject 67, bin head 3: the longest header msgpack can make
MAX_RECORD_BYTES: Final = MAX_FRAME_BYTES - 146
_TICK_US: Final = 1000
_TICK_BYTES: Final = 2


def record_body(layout: Layout, values: Mapping[str, float | None]) -> bytes:
    """The packed record of SI `values` without its tick, as `DeviceSession.add` takes it. BadInputError names a wrong field."""
    return layout.pack({"tick_ms": 0, **values})[_TICK_BYTES:]


class DeviceSession:
    """Numbers and frames the samples of one device. `frame_ms` may change at any time; it holds from the next sample on."""

    def __init__(self, device: str, boot: int, *, frame_ms: int = 250) -> None:
        self.device = check_id(device, "device")
        self.boot = boot
        self.frame_ms = frame_ms
        self._seq = 0
        self._layout: Layout | None = None
        self._t0_us = 0
        self._last_us = 0
        self._records = bytearray()

    def add(self, layout: Layout, t_us: int, body: bytes, now: Instant) -> list[Frame]:
        """Take one sample at `t_us` of the box's monotonic clock; the frames it closed (none or one, two when it is full at once).

        ValueError when `body` is not a record of `layout` without its tick, or `t_us` is negative.
        """
        if len(body) != layout.size - _TICK_BYTES or t_us < 0:
            raise ValueError(f"{self.device}: {len(body)} bytes at {t_us} us is not a record of {layout.name} without its tick")
        closed: list[Frame] = []
        if self._layout is not None and self._must_close(layout, t_us):
            closed += self.close(now)
        if self._layout is None:
            self._layout, self._t0_us = layout, t_us
        tick_ms = (t_us - self._t0_us) // _TICK_US
        self._records += tick_ms.to_bytes(_TICK_BYTES, "little") + body
        self._last_us = t_us
        if len(self._records) + layout.size > MAX_RECORD_BYTES:
            closed += self.close(now)
        return closed

    def poll(self, now: Instant) -> list[Frame]:
        """The open frame, if it is `frame_ms` old: call it when no sample comes."""
        due = self._layout is not None and now.mono_us - self._t0_us >= self.frame_ms * _TICK_US
        return self.close(now) if due else []

    def close(self, now: Instant) -> list[Frame]:
        """The open frame, dated by the box's clock as it is `now`; empty when none is open."""
        if self._layout is None:
            return []
        dating = box_dating(now)
        frame = Frame(
            self._layout.id, 0, self.device, self.boot, self._seq,
            self._t0_us, dating.utc_offset_us, dating.clock, "", bytes(self._records),
        )  # fmt: skip
        self._seq += 1
        self._layout = None
        self._records.clear()
        return [frame]

    def _must_close(self, layout: Layout, t_us: int) -> bool:
        return layout is not self._layout or t_us < self._last_us or t_us - self._t0_us >= self.frame_ms * _TICK_US
