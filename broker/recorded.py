"""A recording becomes frames (pure): replayed by a gateway as a device that numbers itself, or uploaded to the platform.

Device and boot come from the file's bytes, seq is the frame's index, `t0_us` counts from the first instant: the same file always gives the
same frames, so importing it again, or being killed in the middle, counts once. A recording moved to another time is another activity and
must come with a boot of its own. Points become `motion.1`, beat intervals `beats.1`, rounded to what the layouts can hold.
What a recording is, is said here by its shape (`Recorded`), because `device_profiles` and `broker` do not know each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Final, Protocol

from broker.frames import SELF_NUMBERED, Clock, Frame
from broker.layouts import Layout, all_layouts, layout_named

SAMPLES: Final = 30  # of a frame; part of the identity of a replay: other frames under the same numbers would be lost as repeats
MAX_GAP_US: Final = 65_000_000  # a tick is a u16 of milliseconds
_TICK_US: Final = 1000
_MAX_SPAN_MS: Final = 65_535


class RecordedPoint(Protocol):
    """One instant: UTC microseconds, and what was measured in SI units, None where nothing was."""

    @property
    def t_us(self) -> int: ...
    @property
    def lat(self) -> float | None: ...
    @property
    def lon(self) -> float | None: ...
    @property
    def altitude_m(self) -> float | None: ...
    @property
    def accuracy_m(self) -> float | None: ...
    @property
    def speed_mps(self) -> float | None: ...
    @property
    def heading_deg(self) -> float | None: ...
    @property
    def distance_m(self) -> float | None: ...
    @property
    def hr_bpm(self) -> float | None: ...
    @property
    def cadence_rpm(self) -> float | None: ...
    @property
    def power_w(self) -> float | None: ...


class RecordedBeat(Protocol):
    """One heart beat: UTC microseconds, and the interval that ended with it in milliseconds."""

    @property
    def t_us(self) -> int: ...
    @property
    def rr_ms(self) -> float: ...


class Recorded(Protocol):
    """A recording: points and beats, each in the order they are to be framed."""

    @property
    def points(self) -> Iterable[RecordedPoint]: ...
    @property
    def beats(self) -> Iterable[RecordedBeat]: ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Who numbers the frames of a recording."""

    device: str
    boot: int


def identity_of(content: bytes, device: str | None = None) -> Identity:
    """The identity of a file by its bytes: device `f-` and 12 hex digits (or the one given), boot 64 bits of the same hash."""
    digest = hashlib.sha256(content).digest()
    return Identity(device or f"f-{digest[:6].hex()}", int.from_bytes(digest[8:16], "big"))


def span_of(recording: Recorded) -> tuple[int, int]:
    """(first, last) instant of a recording in UTC microseconds. ValueError when it has neither points nor beats."""
    times = [p.t_us for p in recording.points] + [b.t_us for b in recording.beats]
    if not times:
        raise ValueError("the recording holds no point and no beat")
    return min(times), max(times)


def frames_of(
    recording: Recorded,
    who: Identity,
    *,
    samples: int = SAMPLES,
    subject: str = "",
    utc_offset_us: int | None,
    clock: Clock = Clock.RECORDED,
    self_numbered: bool = True,
) -> Iterator[Frame]:
    """The frames in the order their last samples were taken; `utc_offset_us` is the UTC time of the recording's first instant.

    `self_numbered`: the device alone is the origin; else it is node and device.

    A frame holds up to `samples` consecutive instants of one kind and starts anew after a gap of 65 s or a step back in time.
    """
    if not 1 <= samples <= SAMPLES:
        raise ValueError(f"{samples} samples a frame, 1 to {SAMPLES} fit")
    start_us, _ = span_of(recording)
    motion, beats = layout_named("motion.1"), layout_named("beats.1")
    blocks = merge(
        _blocks(motion, ((p.t_us - start_us, _motion(p)) for p in recording.points), samples),
        _blocks(beats, ((b.t_us - start_us, _beat(b)) for b in recording.beats), samples),
        key=lambda block: block.last_us,
    )
    flags = SELF_NUMBERED if self_numbered else 0
    for seq, block in enumerate(blocks):
        yield Frame(block.layout.id, flags, who.device, who.boot, seq, block.t0_us, utc_offset_us, clock, subject, bytes(block.records))


def last_instant_us(frame: Frame) -> int:
    """When the last sample of a frame was taken, on the clock of its origin."""
    layout = all_layouts().get(frame.layout)
    if layout is None or len(frame.records) < layout.size:
        return frame.t0_us
    return frame.t0_us + int.from_bytes(frame.records[-layout.size :][:2], "little") * _TICK_US


@dataclass(slots=True)
class _Block:
    layout: Layout
    t0_us: int
    last_us: int
    records: bytearray
    count: int = 0


def _blocks(layout: Layout, instants: Iterator[tuple[int, dict[str, float | None]]], samples: int) -> Iterator[_Block]:
    block: _Block | None = None
    for t_us, values in instants:
        if block is not None and _ends(block, t_us, samples):
            yield block
            block = None
        if block is None:
            block = _Block(layout, t_us, t_us, bytearray())
        tick_ms = round((t_us - block.t0_us) / _TICK_US)
        block.records += layout.pack({"tick_ms": tick_ms, **values})
        block.last_us = t_us
        block.count += 1
    if block is not None:
        yield block


def _ends(block: _Block, t_us: int, samples: int) -> bool:
    if block.count >= samples or t_us < block.last_us or t_us - block.last_us > MAX_GAP_US:
        return True
    return round((t_us - block.t0_us) / _TICK_US) > _MAX_SPAN_MS


def _motion(p: RecordedPoint) -> dict[str, float | None]:
    return {
        "lat": p.lat,
        "lon": p.lon,
        "altitude_m": p.altitude_m,
        "accuracy_m": p.accuracy_m,
        "speed_mps": p.speed_mps,
        "heading_deg": p.heading_deg,
        "distance_m": p.distance_m,
        "hr_bpm": p.hr_bpm,
        "cadence_rpm": p.cadence_rpm,
        "power_w": p.power_w,
    }


def _beat(b: RecordedBeat) -> dict[str, float | None]:
    return {"rr_ms": b.rr_ms}
