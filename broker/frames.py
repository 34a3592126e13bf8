"""Frames: consecutive samples of one device in one layout, the unit that is numbered, stored and acknowledged.

On the wire a msgpack array `[layout, flags, device, boot, seq, t0_us, utc_offset_us, clock, subject, records]`.
Refuses with a `Rejected` value (never an exception) anything that is not exactly that; `msgpack` limits stop size bombs first.
Invariant: a frame is at most 1,024 bytes, holds at least one record, and its bytes never change once spooled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cache, lru_cache
from typing import Final

import msgpack

from broker.errors import Reason, Rejected
from broker.ids import is_id, subject_tenant
from broker.layouts import all_layouts

MAX_FRAME_BYTES: Final = 1024
MAX_U64: Final = (1 << 64) - 1
MAX_TIME_US: Final = 1 << 62  # far beyond any clock; keeps sums of two times inside an i64
EARLIEST_SET_US: Final = 1_577_836_800_000_000  # 2020-01-01: a device clock before it was never set (1970, 1980, 2000, GPS rollovers)
SELF_NUMBERED: Final = 1  # flag bit 0: the device numbered this frame itself, so the device is the origin
_KNOWN_FLAGS: Final = SELF_NUMBERED


class Clock(IntEnum):
    """How far `utc_offset_us` can be trusted. UNKNOWN means undated: kept, but off boards until a later frame of that boot is dated."""

    UNKNOWN = 0
    SET = 1  # set by hand or a battery clock
    NETWORK = 2  # NTP, or dated by the gateway
    GNSS = 3
    RECORDED = 4  # the time stands in a recording being replayed; never compared with the present


_RECORDED: Final = int(Clock.RECORDED)
_MAX_LAYOUT: Final = 0xFFFF
_NAMES_KEPT: Final = 65_536  # the same devices and subjects come again and again: each is looked at once


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `t0_us` is on the origin's monotonic clock; UTC of a record = t0_us + tick_ms * 1000 + utc_offset_us.

    `utc_offset_us` is None exactly when `clock` is UNKNOWN. `subject` is `tenant/athlete`, or "" for the unbound device.
    """

    layout: int
    flags: int
    device: str
    boot: int
    seq: int
    t0_us: int
    utc_offset_us: int | None
    clock: int
    subject: str
    records: bytes

    @property
    def self_numbered(self) -> bool:
        return bool(self.flags & SELF_NUMBERED)

    @property
    def dated(self) -> bool:
        """Whether the date can be believed: there is one, and it is not that of a clock nobody has set. A recording may be old."""
        offset = self.utc_offset_us
        return offset is not None and (self.t0_us + offset >= EARLIEST_SET_US or self.clock == _RECORDED)

    @property
    def samples(self) -> int | None:
        """Number of records, or None when the layout is not known here."""
        layout = all_layouts().get(self.layout)
        return len(self.records) // layout.size if layout else None


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame. ValueError when it would not decode again."""
    raw = msgpack.packb(
        (
            frame.layout, frame.flags, frame.device, frame.boot, frame.seq,
            frame.t0_us, frame.utc_offset_us, int(frame.clock), frame.subject, frame.records,
        )
    )  # fmt: skip
    checked = decode_frame(raw)
    if isinstance(checked, Rejected):
        raise ValueError(f"frame of {frame.device!r}: {checked.reason}: {checked.detail}")
    return raw


def restamp(frame: Frame, *, subject: str, utc_offset_us: int | None, clock: int) -> Frame:
    """The frame as a gateway spools it: whom it counts for and, if it was undated, its date. Origin, boot, seq and records stay."""
    return replace(frame, subject=subject, utc_offset_us=utc_offset_us, clock=clock)


FrameFields = tuple[int, int, str, int, int, int, int | None, int, str, bytes]
"""The fields of a `Frame` in their order."""


@cache
def record_bytes() -> dict[int, int]:
    """The size of a record of each known layout, by its id."""
    return {number: layout.size for number, layout in all_layouts().items()}


def decode_frame(raw: bytes) -> Frame | Rejected:
    """Check and decode one frame of at most 1,024 bytes."""
    fields = check_frame(raw)
    return fields if isinstance(fields, Rejected) else Frame(*fields)


def check_frame(raw: bytes) -> FrameFields | Rejected:
    """What `decode_frame` does, without making the frame: for ingest, which keeps the bytes."""
    if len(raw) > MAX_FRAME_BYTES:
        return Rejected(Reason.OVERSIZED, f"frame of {len(raw)} bytes, at most {MAX_FRAME_BYTES}", raw)
    try:
        fields = msgpack.unpackb(
            raw, use_list=False, max_str_len=128, max_bin_len=MAX_FRAME_BYTES, max_array_len=10, max_map_len=0, max_ext_len=0
        )
        layout, flags, device, boot, seq, t0_us, offset, clock, subject, records = fields
    except Exception as error:
        return Rejected(Reason.BAD_FRAME, f"not a frame array: {type(error).__name__}", raw)
    if not (
        type(layout) is int
        and type(flags) is int
        and type(boot) is int
        and type(seq) is int
        and type(t0_us) is int
        and type(clock) is int
        and type(device) is str
        and type(subject) is str
        and type(records) is bytes
        and (offset is None or type(offset) is int)
    ):
        return Rejected(Reason.BAD_FRAME, "a field has the wrong type", raw)
    if not (0 < layout <= _MAX_LAYOUT and 0 <= boot <= MAX_U64 and 0 <= seq <= MAX_U64 and 0 <= clock <= 4):
        return Rejected(Reason.BAD_FRAME, "layout, boot, seq or clock quality out of range", raw)
    if not (0 <= t0_us <= MAX_TIME_US and (offset is None or -MAX_TIME_US <= offset <= MAX_TIME_US)):
        return Rejected(Reason.BAD_FRAME, "t0_us or utc_offset_us out of range", raw)
    if (offset is None) != (clock == 0):
        return Rejected(Reason.BAD_FRAME, "utc_offset_us must be nil exactly when clock quality is 0", raw)
    if flags & ~_KNOWN_FLAGS:
        return Rejected(Reason.RESERVED_FLAG, f"flags {flags:#x}: only bit 0 is defined", raw)
    if not _is_device(device):
        return Rejected(Reason.BAD_ID, f"device {device!r}: use 1-32 of a-z 0-9 . _ -", raw)
    if not _is_subject(subject):
        return Rejected(Reason.BAD_ID, f"subject {subject!r}: give tenant/athlete or leave it empty", raw)
    if not records or len(records) % record_bytes().get(layout, 1):
        return Rejected(Reason.BAD_RECORDS, f"{len(records)} bytes is not a whole number of records of layout {layout}", raw)
    return fields


_is_device = lru_cache(_NAMES_KEPT)(is_id)


@lru_cache(_NAMES_KEPT)
def _is_subject(text: str) -> bool:
    return not text or subject_tenant(text) is not None


def read_frame(raw: bytes) -> Frame | Rejected:
    """Decode a frame that was checked before it was stored (much cheaper than `decode_frame`); Rejected when it is no frame at all."""
    try:
        return Frame(*msgpack.unpackb(raw, use_list=False))
    except (ValueError, TypeError) as error:
        return Rejected(Reason.BAD_FRAME, f"not a frame array: {type(error).__name__}", raw)
