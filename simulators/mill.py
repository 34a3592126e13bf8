"""The frames of a fleet, made in blocks. Pure.

Every row has its place in an arithmetic of `(connection, n)`, so the truth needs no memory: row n of a connection is frame n // devices of
its device n % devices.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from broker.bundles import HEADER_BYTES, MAGIC, MAX_BUNDLE_BYTES, MAX_ROWS
from broker.errors import BadInputError
from broker.frames import MAX_FRAME_BYTES
from broker.ids import origin_of
from broker.layouts import layout_named
from broker.topics import Principal, topic
from simulators.noise import key_of
from simulators.stencil import Bytes, FrameStencil, as_bytes
from simulators.swarm import Passwords


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """A load. `frames` per connection None: until `seconds` are over. `rate` (frames a second in all) None: closed loop at `window`.

    It goes on behind the `first` rows of each connection, which an earlier run of the same load sent.
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
    first: int = 0
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
        self.next_n = settings.first
        self._pid = 0
        self._boot_of = [key_of(settings.seed, "fleet boot", connection, d) | 1 << 63 for d in range(settings.devices)]
        self._names = [f"{settings.name}{connection:03d}-{d:04d}" for d in range(settings.devices)]
        self._stencil = FrameStencil(settings.tenant, self._names, self._boot_of, settings.samples_per_frame, start_us)
        self._row_bytes = self._stencil.row_bytes
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
        t0_us = n * (settings.samples_per_frame * 1_000_000) // settings.devices
        block = self._stencil.rows(device, seq, t0_us, seq * settings.samples_per_frame)
        out = np.empty((messages, self.message_bytes), np.uint8)
        head = len(self._head)
        out[:, :head] = np.frombuffer(self._head, np.uint8)
        pids = (self._pid + np.arange(messages)) % 0xFFFF + 1
        self._pid = int(pids[-1])
        out[:, head : head + 2] = as_bytes(pids, ">u2")
        out[:, head + 2 : head + 2 + HEADER_BYTES] = self._headers(n[:: settings.frames_per_bundle])
        out[:, head + 2 + HEADER_BYTES :] = block.reshape(messages, -1)
        return out.tobytes()

    def _headers(self, first: npt.NDArray[np.int64]) -> Bytes:
        headers = np.empty((len(first), HEADER_BYTES), np.uint8)
        headers[:, 0], headers[:, 1] = MAGIC, self._settings.frames_per_bundle
        headers[:, 2:4] = as_bytes(first & 0xFFFF, "<u2")
        headers[:, 4:8] = as_bytes(first >> 16, "<u4")
        headers[:, 8:16] = np.frombuffer(struct.pack("<Q", self.epoch), np.uint8)
        sums = np.fromiter((crc32(header[:16].tobytes()) for header in headers), np.uint32, len(first))
        headers[:, 16:20] = as_bytes(sums, "<u4")
        return headers


def _length(body: int) -> bytes:
    """The remaining length of an MQTT packet, always in three bytes' form where it needs them (section 2.2.3)."""
    encoded = bytearray()
    while True:
        body, low = divmod(body, 128)
        encoded.append(low | (0x80 if body else 0))
        if not body:
            return bytes(encoded)
