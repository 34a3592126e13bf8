"""Frames of many devices by numpy: templates of equal length in which number, time and measurements change. Pure.

Everybody goes at 3 m/s on one straight road of 6 km, out and back, so that a sample's place and distance follow from its number alone;
what a receiver and a strap add to that is noise from a table, so that frames do not compress better than real ones.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgpack
import numpy as np
import numpy.typing as npt

from broker.columns import dtype_of
from broker.errors import BadInputError, Rejected
from broker.frames import SELF_NUMBERED, Clock, decode_frame
from broker.ids import subject_of
from broker.layouts import layout_named

SPEED_CMPS: Final = 300
ROAD_LON_DEG: Final = -30.0
ROAD_LAT_DEG: Final = 45.0  # where device 0 begins
APART_E7: Final = 1000  # the next device begins so much further north: 11 m
LEG_SAMPLES: Final = 2000  # out, and as many back
STEP_E7: Final = 270  # of latitude a sample: 3 m
LAYOUT: Final = layout_named("motion.1")
FRAME_ROOM_BYTES: Final = 130  # of a frame beside its records, at most
NOISE: Final = {"lat": 60, "lon": 60, "altitude_m": 3, "speed_mps": 15, "heading_deg": 120, "hr_bpm": 3, "cadence_rpm": 2}  # raw, 1 sigma
_NOISES: Final = 4096  # then they repeat, at another place for each device
_U64: Final = struct.Struct(">Q")
Bytes = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


class FrameStencil:
    """The devices `names` of a tenant; each numbers its own frames from boot `boots` on, and counts for a subject of its own name.

    `utc_offset_us` is what all of them add to their clock. Names have one length. BadInputError when a frame does not fit its limits.
    """

    def __init__(self, tenant: str, names: Sequence[str], boots: Sequence[int], samples: int, utc_offset_us: int) -> None:
        self._samples = samples
        still = {"lat": ROAD_LAT_DEG, "lon": ROAD_LON_DEG, "altitude_m": 100.0, "altitude_source": 1, "accuracy_m": 3.0}
        moving = {"speed_mps": 3.0, "heading_deg": 0.0, "distance_m": 0.0, "hr_bpm": 120.0, "cadence_rpm": 85.0}
        packed = b"".join(LAYOUT.pack({**still, **moving, "tick_ms": 1000 * k}) for k in range(samples))
        self._records = np.frombuffer(packed, dtype_of(LAYOUT.id))
        frames = [self._template(tenant, name, boot, d, utc_offset_us) for d, (name, boot) in enumerate(zip(names, boots, strict=True))]
        self._frames = np.stack([np.frombuffer(frame, np.uint8) for frame in frames])
        self.row_bytes = 2 + self._frames.shape[1]
        self._seq_at = self._frames.shape[1] - self._tail - 8
        self._t0_at = self._seq_at + 9

    def rows(self, device: I64, seq: I64, t0_us: I64, sample: I64) -> Bytes:
        """A row of a bundle (length, frame) each: frame `seq` of `device`, its first sample at `t0_us` and the `sample`-th of its way."""
        rows = np.empty((len(device), self.row_bytes), np.uint8)
        rows[:, :2] = np.frombuffer(struct.pack("<H", self.row_bytes - 2), np.uint8)
        rows[:, 2:] = self._frames[device]
        frames = rows[:, 2:]
        frames[:, self._seq_at : self._seq_at + 8] = as_bytes(seq, ">u8")
        frames[:, self._t0_at : self._t0_at + 8] = as_bytes(t0_us, ">u8")
        dtype = dtype_of(LAYOUT.id)
        size = self._samples * dtype.itemsize
        at = sample[:, None] + np.arange(self._samples)
        records = np.ascontiguousarray(frames[:, -size:]).view(dtype)
        records["distance_m"] = at * SPEED_CMPS
        leg = at % (2 * LEG_SAMPLES)
        records["lat"] += ((LEG_SAMPLES - np.abs(leg - LEG_SAMPLES)) * STEP_E7).astype(np.int32)
        noise = (at + device[:, None] * 769) % _NOISES
        for name, table in _noise().items():
            records[name] += table[noise].astype(records[name].dtype)
        frames[:, -size:] = records.view(np.uint8)
        return rows

    def _template(self, tenant: str, name: str, boot: int, device: int, utc_offset_us: int) -> bytes:
        """The frame of one device with seq and t0 as 9-byte msgpack integers, so that any value fits in place."""
        records = self._records.copy()
        records["lat"] += APART_E7 * device
        records["hr_bpm"] += device % 60
        whose = (utc_offset_us, int(Clock.NETWORK), subject_of(tenant, name), records.tobytes())
        tail = b"".join(msgpack.packb(part) for part in whose)
        self._tail = len(tail) + 9
        head = b"\x9a" + b"".join(msgpack.packb(part) for part in (LAYOUT.id, SELF_NUMBERED, name, boot))
        frame = head + b"\xcf" + _U64.pack(0) + b"\xcf" + _U64.pack(0) + tail
        checked = decode_frame(frame)
        if isinstance(checked, Rejected):
            raise BadInputError(
                f"fleet: frame of {name}: {checked.detail}", cure="shorten the tenant or name, or take fewer samples a frame"
            )
        return frame


@cache
def _noise() -> dict[str, I64]:
    """A table for each field, always the same; headings lie to one side of north, for there is none below 0."""
    draw = np.random.default_rng(1)
    tables = {name: np.rint(draw.normal(0.0, sigma, _NOISES)).astype(np.int64) for name, sigma in NOISE.items()}
    return {**tables, "heading_deg": np.abs(tables["heading_deg"])}


def as_bytes(values: npt.NDArray[Any], form: str) -> Bytes:
    """Integers as rows of bytes."""
    raw = np.ascontiguousarray(values.astype(form))
    return raw.view(np.uint8).reshape(len(raw), -1)
