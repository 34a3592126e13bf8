"""The frames of a fleet, made in blocks by numpy: templates in which only seq, t0, position and distance change. Pure.

Every row has its place in an arithmetic of `(connection, n)`, so the truth needs no memory: row n of a connection is frame n // devices of
its device n % devices.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import msgpack
import numpy as np
import numpy.typing as npt

from broker.bundles import HEADER_BYTES, MAGIC, MAX_BUNDLE_BYTES, MAX_ROWS
from broker.columns import dtype_of
from broker.errors import BadInputError, Rejected
from broker.frames import MAX_FRAME_BYTES, SELF_NUMBERED, Clock, decode_frame
from broker.ids import origin_of, subject_of
from broker.layouts import layout_named
from broker.topics import Principal, topic
from simulators.noise import key_of
from simulators.swarm import Passwords

_SPEED_CMPS: Final = 300
_U64: Final = struct.Struct(">Q")
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """A load. `frames` per connection None: until `seconds` are over. `rate` (frames a second in all) None: closed loop at `window`.

    Each sample is a second after the one before; `start_us` (true time of sample 0) None: so long ago that nothing lies in the future.
    `live` 1: from now on, the devices of a connection spread evenly over their frame's length, so that at the rate `devices * connections /
    samples_per_frame` every frame leaves when its last sample is taken.
    """

    host: str
    port: int
    tenant: str
    passwords: Passwords
    connections: int = 4
    devices: int = 100
    frames_per_bundle: int = 10
    samples_per_frame: int = 30
    seconds: float = 10.0
    frames: int | None = None
    window: int = 2000
    rate: float | None = None
    start_us: int | None = None
    live: int = 0
    seed: int = 1
    name: str = "load"
    drain_s: float = 10.0

    def __post_init__(self) -> None:
        size = layout_named("motion.1").size * self.samples_per_frame
        limits = (
            ("connections", self.connections, 1, 1000),
            ("devices", self.devices, 1, 10_000),
            ("frames_per_bundle", self.frames_per_bundle, 1, MAX_ROWS),
            ("samples_per_frame", self.samples_per_frame, 1, (MAX_FRAME_BYTES - 130) // layout_named("motion.1").size),
            ("window", self.window, self.frames_per_bundle, 1 << 30),
            ("frames_per_bundle * samples_per_frame bytes", self.frames_per_bundle * (size + 130), 1, MAX_BUNDLE_BYTES),
        )
        for field, value, low, high in limits:
            if not low <= value <= high:
                raise BadInputError(f"fleet: {field} is {value}", cure=f"give {low}..{high}")


class BundleMill:
    """Makes the PUBLISH packets of one connection: rows n, n + 1, ... in blocks. Pure: the same settings give the same bytes."""

    def __init__(self, settings: FleetSettings, connection: int, start_us: int) -> None:
        self._settings = settings
        self.who = Principal(settings.tenant, f"{settings.name}{connection:03d}")
        self.epoch = key_of(settings.seed, "fleet epoch", self.who.username)
        self.next_n = 0
        self._pid = 0
        self._start_us = start_us
        self._boot_of = [key_of(settings.seed, "fleet boot", connection, d) | 1 << 63 for d in range(settings.devices)]
        self._names = [f"{settings.name}{connection:03d}-{d:04d}" for d in range(settings.devices)]
        frames = [self._template(d) for d in range(settings.devices)]
        self._frames = np.stack([np.frombuffer(frame, np.uint8) for frame in frames])
        self._row_bytes = 2 + self._frames.shape[1]
        self._seq_at = self._frames.shape[1] - self._tail - 8
        self._t0_at = self._seq_at + 9
        name = topic(settings.tenant, self.who.node, "up").encode()
        body = 2 + len(name) + 2 + HEADER_BYTES + settings.frames_per_bundle * self._row_bytes
        self._head = b"\x32" + _length(body) + struct.pack(">H", len(name)) + name

    @property
    def message_bytes(self) -> int:
        """Bytes of one PUBLISH."""
        return len(self._head) + 2 + HEADER_BYTES + self._settings.frames_per_bundle * self._row_bytes

    def frame_key(self, n: int) -> tuple[str, int, int]:
        """`(origin, boot, seq)` of row n."""
        device = n % self._settings.devices
        origin = origin_of(self.who.tenant, self.who.node, self._names[device], self_numbered=True)
        return origin, self._boot_of[device], n // self._settings.devices

    def block(self, messages: int) -> bytes:
        """The next `messages` PUBLISH packets at QoS 1, back to back."""
        settings = self._settings
        rows = messages * settings.frames_per_bundle
        n = self.next_n + np.arange(rows, dtype=np.int64)
        self.next_n += rows
        device, seq = n % settings.devices, n // settings.devices
        block = np.empty((rows, self._row_bytes), np.uint8)
        block[:, :2] = np.frombuffer(struct.pack("<H", self._row_bytes - 2), np.uint8)
        block[:, 2:] = self._frames[device]
        self._patch(block[:, 2:], seq, n)
        out = np.empty((messages, self.message_bytes), np.uint8)
        head = len(self._head)
        out[:, :head] = np.frombuffer(self._head, np.uint8)
        pids = (self._pid + np.arange(messages)) % 0xFFFF + 1
        self._pid = int(pids[-1])
        out[:, head : head + 2] = _columns(pids, ">u2")
        out[:, head + 2 : head + 2 + HEADER_BYTES] = self._headers(n[:: settings.frames_per_bundle])
        out[:, head + 2 + HEADER_BYTES :] = block.reshape(messages, -1)
        return out.tobytes()

    def _patch(self, frames: Bytes, seq: npt.NDArray[np.int64], n: npt.NDArray[np.int64]) -> None:
        """Write what differs from the template: number, time, position and distance."""
        samples = self._settings.samples_per_frame
        frames[:, self._seq_at : self._seq_at + 8] = _columns(seq, ">u8")
        frames[:, self._t0_at : self._t0_at + 8] = _columns(n * (samples * 1_000_000) // self._settings.devices, ">u8")
        dtype = dtype_of(layout_named("motion.1").id)
        size = dtype.itemsize
        sample = seq[:, None] * samples + np.arange(samples)
        records = np.ascontiguousarray(frames[:, -samples * size :]).view(dtype)
        records["distance_m"] = sample * _SPEED_CMPS
        leg = sample % 4000  # 6 km north, 6 km back
        records["lat"] += ((2000 - np.abs(leg - 2000)) * 270).astype(np.int32)  # 3 m are 270e-7 degrees
        frames[:, -samples * size :] = records.view(np.uint8)

    def _headers(self, first: npt.NDArray[np.int64]) -> Bytes:
        headers = np.empty((len(first), HEADER_BYTES), np.uint8)
        headers[:, 0], headers[:, 1] = MAGIC, self._settings.frames_per_bundle
        headers[:, 2:4] = _columns(first & 0xFFFF, "<u2")
        headers[:, 4:8] = _columns(first >> 16, "<u4")
        headers[:, 8:16] = np.frombuffer(struct.pack("<Q", self.epoch), np.uint8)
        sums = np.fromiter((crc32(header[:16].tobytes()) for header in headers), np.uint32, len(first))
        headers[:, 16:20] = _columns(sums, "<u4")
        return headers

    def _template(self, device: int) -> bytes:
        """The frame of one device with seq and t0 as 9-byte msgpack integers, so that any value fits in place."""
        settings, layout, name = self._settings, layout_named("motion.1"), self._names[device]
        fixed = {"lat": 45.0 + 1e-4 * device, "lon": -30.0, "altitude_m": 100.0, "altitude_source": 1, "accuracy_m": 3.0}
        moving = {"speed_mps": 3.0, "heading_deg": 0.0, "distance_m": 0.0, "hr_bpm": 120.0 + device % 60, "cadence_rpm": 85.0}
        records = b"".join(layout.pack({**fixed, **moving, "tick_ms": 1000 * k}) for k in range(settings.samples_per_frame))
        subject = subject_of(settings.tenant, name)
        tail = b"".join(msgpack.packb(part) for part in (self._start_us, int(Clock.NETWORK), subject, records))
        self._tail = len(tail) + 9
        head = b"\x9a" + b"".join(msgpack.packb(part) for part in (layout.id, SELF_NUMBERED, name, self._boot_of[device]))
        frame = head + b"\xcf" + _U64.pack(0) + b"\xcf" + _U64.pack(0) + tail
        checked = decode_frame(frame)
        if isinstance(checked, Rejected):
            raise BadInputError(
                f"fleet: frame of {name}: {checked.detail}", cure="shorten the tenant or name, or take fewer samples a frame"
            )
        return frame


def _columns(values: npt.NDArray[Any], form: str) -> Bytes:
    """Integers as rows of bytes."""
    raw = np.ascontiguousarray(values.astype(form))
    return raw.view(np.uint8).reshape(len(raw), -1)


def _length(body: int) -> bytes:
    """The remaining length of an MQTT packet, always in three bytes' form where it needs them (section 2.2.3)."""
    encoded = bytearray()
    while True:
        body, low = divmod(body, 128)
        encoded.append(low | (0x80 if body else 0))
        if not body:
            return bytes(encoded)
