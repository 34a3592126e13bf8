"""A `Recording` to a FIT activity file: file_id, timer events, record, hrv, lap, session, activity (FIT protocol 2.0, little-endian).

Kept to the units of the FIT profile: 1 s, 2^-31 half turns (1 cm), 0.2 m altitude, 1 mm/s, 1 cm, 1 bpm, 1/128 rpm, 1 W, 1 m accuracy
and beats of 1 ms. Heading has no place in a FIT record. Written so that there are files to test and to demonstrate with that are nobody's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from device_profiles.files.fit_frames import crc16
from device_profiles.files.recording import Beat, Point, Recording

_EPOCH_S: Final = 631_065_600
_MIN_S: Final = 0x10000000  # earlier seconds would mean "since power-on"
_MAX_S: Final = 0xFFFFFFFE
_ENUM, _U8, _U16, _U32, _S32, _U32Z = 0x00, 0x02, 0x84, 0x86, 0x85, 0x8C
_STRUCT: Final = {_ENUM: "B", _U8: "B", _U16: "H", _U32: "I", _S32: "i", _U32Z: "I"}
_INVALID: Final = {_ENUM: 0xFF, _U8: 0xFF, _U16: 0xFFFF, _U32: 0xFFFFFFFF, _S32: 0x7FFFFFFF, _U32Z: 0}
_RECORD_FIELDS: Final[tuple[tuple[int, int, Callable[[Point], float | None]], ...]] = (
    (0, _S32, lambda p: None if p.lat is None or p.lon is None else p.lat * 2**31 / 180),
    (1, _S32, lambda p: None if p.lat is None or p.lon is None else p.lon * 2**31 / 180),
    (78, _U32, lambda p: None if p.altitude_m is None else (p.altitude_m + 500) * 5),
    (73, _U32, lambda p: None if p.speed_mps is None else p.speed_mps * 1000),
    (5, _U32, lambda p: None if p.distance_m is None else p.distance_m * 100),
    (3, _U8, lambda p: p.hr_bpm),
    (4, _U8, lambda p: None if p.cadence_rpm is None else p.cadence_rpm // 1),
    (53, _U8, lambda p: None if p.cadence_rpm is None else min(p.cadence_rpm % 1 * 128, 127)),
    (7, _U16, lambda p: p.power_w),
    (31, _U8, lambda p: p.accuracy_m),
)
_SPORTS: Final = {"running": 1, "cycling": 2, "swimming": 5, "training": 10, "walking": 11, "rowing": 15, "hiking": 17}
_BEATS_A_MESSAGE: Final = 5
_LOCAL: Final = {0: 0, 21: 1, 20: 2, 78: 3, 19: 4, 18: 5, 34: 6}

_Value = tuple[int, int, int | None]  # field number, base type, raw value


def encode_fit(recording: Recording) -> bytes:
    """A FIT file of all points. ValueError when there is none or a time is not between 1998 and 2125.

    A value FIT cannot hold (altitude below -500 m, heart rate over 254) is absent in the file; times are cut to the second.
    """
    points = recording.points
    if not len(points):
        raise ValueError("no points: there is nothing to write")
    file = _FitFile()
    start_s, end_s = _seconds(points[0].t_us), _seconds(points[-1].t_us)
    file.write(0, [(0, _ENUM, 4), (1, _U16, 255), (2, _U16, 0), (3, _U32Z, 1), (4, _U32, start_s)])
    file.timer(start_s, 0)
    _write_points(file, recording)
    file.timer(end_s, 4)
    starts = sorted({start_s, *(s for s in map(_seconds, recording.lap_starts_us) if start_s < s <= end_s)})
    sport = _SPORTS.get(recording.sport or "", 0)
    for lap_s, lap_end_s in zip(starts, [*starts[1:], end_s], strict=True):
        file.write(19, [*_span(lap_s, lap_end_s), (0, _ENUM, 9), (1, _ENUM, 1)])
    file.write(18, [*_span(start_s, end_s), (0, _ENUM, 8), (1, _ENUM, 1), (5, _ENUM, sport), (25, _U16, 0), (26, _U16, len(starts))])
    elapsed_ms = (end_s - start_s) * 1000
    file.write(34, [(253, _U32, end_s), (0, _U32, elapsed_ms), (1, _U16, 1), (2, _ENUM, 0), (3, _ENUM, 26), (4, _ENUM, 1)])
    return file.finish()


def _span(start_s: int, end_s: int) -> list[_Value]:
    elapsed_ms = (end_s - start_s) * 1000
    return [(253, _U32, end_s), (2, _U32, start_s), (7, _U32, elapsed_ms), (8, _U32, elapsed_ms)]


def _write_points(file: _FitFile, recording: Recording) -> None:
    """Records in order; beats after the last record not later than they are; stops and starts of the timer where they fall."""
    points = list(recording.points)
    fields = [(n, t, of) for n, t, of in _RECORD_FIELDS if any(of(point) is not None for point in points)]
    beats = sorted(recording.beats, key=lambda beat: beat.t_us)
    stops = sorted([(a, 4) for a, _ in recording.pauses_us] + [(b, 0) for _, b in recording.pauses_us])
    next_beat = next_stop = 0
    for i, point in enumerate(points):
        while next_stop < len(stops) and stops[next_stop][0] <= point.t_us:
            file.timer(_seconds(stops[next_stop][0]), stops[next_stop][1])
            next_stop += 1
        file.write(20, [(253, _U32, _seconds(point.t_us)), *((n, t, _raw(of(point), t)) for n, t, of in fields)])
        until_us = points[i + 1].t_us if i + 1 < len(points) else None
        first = next_beat
        while next_beat < len(beats) and (until_us is None or beats[next_beat].t_us < until_us):
            next_beat += 1
        _write_beats(file, beats[first:next_beat])


def _write_beats(file: _FitFile, beats: Sequence[Beat]) -> None:
    for first in range(0, len(beats), _BEATS_A_MESSAGE):
        intervals = [min(beat.rr_ms, 0xFFFE) for beat in beats[first : first + _BEATS_A_MESSAGE]]
        file.write_array(78, 0, _U16, intervals + [0xFFFF] * (_BEATS_A_MESSAGE - len(intervals)))


class _FitFile:
    """The messages of one file; a definition is written when the shape of a kind of message changes."""

    def __init__(self) -> None:
        self._body = bytearray()
        self._shapes: dict[int, bytes] = {}

    def timer(self, t_s: int, event_type: int) -> None:
        """A timer event: 0 start, 4 stop all."""
        self.write(21, [(253, _U32, t_s), (0, _ENUM, 0), (1, _ENUM, event_type)])

    def write(self, number: int, values: Sequence[_Value]) -> None:
        """One message of single values; None is written as the invalid value of its type."""
        self._define(number, b"".join(bytes((n, struct.calcsize(_STRUCT[t]), t)) for n, t, _ in values))
        raw = [_INVALID[t] if value is None else value for _, t, value in values]
        self._body += struct.pack("<" + "".join(_STRUCT[t] for _, t, _ in values), *raw)

    def write_array(self, number: int, field: int, base_type: int, values: Sequence[int]) -> None:
        """One message of one array."""
        form = f"<{len(values)}{_STRUCT[base_type]}"
        self._define(number, bytes((field, struct.calcsize(form), base_type)))
        self._body += struct.pack(form, *values)

    def _define(self, number: int, shape: bytes) -> None:
        local = _LOCAL[number]
        if self._shapes.get(local) != shape:
            self._shapes[local] = shape
            self._body += struct.pack("<BBBHB", 0x40 | local, 0, 0, number, len(shape) // 3) + shape
        self._body.append(local)

    def finish(self) -> bytes:
        """Header with CRC, messages, CRC of all."""
        header = struct.pack("<BBHI4s", 14, 0x20, 2132, len(self._body), b".FIT")
        content = header + struct.pack("<H", crc16(header)) + self._body
        return content + struct.pack("<H", crc16(content))


def _seconds(t_us: int) -> int:
    t_s = t_us // 1_000_000 - _EPOCH_S
    if not _MIN_S <= t_s <= _MAX_S:
        raise ValueError(f"time {t_us} us is not between 1998 and 2125: FIT cannot hold it")
    return t_s


def _raw(value: float | None, base_type: int) -> int | None:
    """The nearest raw value, None where FIT has none for it."""
    if value is None:
        return None
    raw = round(value)
    low, high = (-(2**31), 2**31 - 1) if base_type == _S32 else (0, _INVALID[base_type])
    return raw if low <= raw < high else None
