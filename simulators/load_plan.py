"""A load as a plan: which athlete's frame is due when, over which connection, and its bytes. Pure; nobody's answer changes it.

Node k of a load is a box with its athletes (or a wearable, with one). Once in `bundle_ms` it closes the frames of those whose turn it is
and sends them in one message; an athlete's turn comes every `frame_s` seconds, at one and the same place in that time. The last sample of
a frame is taken at the moment it is due, so whoever meets a sample of ours anywhere behind knows how long it took.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from broker.bundles import HEADER_BYTES, MAX_BUNDLE_BYTES, MAX_ROWS, encode_bundle
from broker.errors import BadInputError
from broker.frames import MAX_FRAME_BYTES
from broker.ids import check_id, subject_of
from broker.topics import Principal
from simulators.load_shape import parse_shape
from simulators.noise import key_of, mix, uniform
from simulators.stencil import FRAME_ROOM_BYTES, LAYOUT, FrameStencil

SECOND_US: Final = 1_000_000
MOST_CONNECTIONS: Final = 100_000
MOST_ATHLETES: Final = 10_000  # of one connection


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """`athletes` divided among `connections` nodes `{name}00000` ...; `frame_s` seconds, and samples, a frame; it begins at `start_us`."""

    tenant: str
    athletes: int
    connections: int
    seconds: float
    start_us: int = 0
    run: int = 0  # tells apart the numberings of runs
    frame_s: int = 1
    bundle_ms: int = 250
    shape: str = "steady"
    name: str = "load"
    seed: int = 1

    def __post_init__(self) -> None:
        check_id(self.tenant, "tenant")
        check_id(f"{self.name}00000-0000", "name")
        parse_shape(self.shape)
        most_s = (MAX_FRAME_BYTES - FRAME_ROOM_BYTES) // LAYOUT.size
        limits = (
            ("connections", self.connections, 1, MOST_CONNECTIONS),
            ("athletes", self.athletes, self.connections, MOST_ATHLETES * self.connections),
            ("frame_s", self.frame_s, 1, most_s),
            ("bundle_ms", self.bundle_ms, 10, 1000 * self.frame_s),
        )
        for field, value, low, high in limits:
            if not low <= value <= high:
                raise BadInputError(f"load: {field} is {value}", cure=f"give {low}..{high}")
        if 1000 * self.frame_s % self.bundle_ms:
            raise BadInputError(
                f"load: bundle_ms {self.bundle_ms} does not divide a frame of {self.frame_s} s", cure="take 50, 100, 250 or 500"
            )

    @property
    def frame_us(self) -> int:
        return self.frame_s * SECOND_US

    @property
    def end_us(self) -> int:
        """Nothing is due from then on."""
        return self.start_us + round(self.seconds * SECOND_US)

    @property
    def frames_per_s(self) -> float:
        """While everybody trains."""
        return self.athletes / self.frame_s

    def who(self, node: int) -> Principal:
        """The credential of a node."""
        return Principal(self.tenant, f"{self.name}{node:05d}")

    def epoch(self, node: int) -> int:
        """The spool of a node in this run."""
        return key_of(self.seed, "load epoch", self.who(node).username, self.run)

    def usernames(self) -> list[str]:
        """The credentials the load needs: one a connection."""
        return [self.who(node).username for node in range(self.connections)]

    def athletes_of(self, node: int) -> int:
        """How many a node has: they are divided as evenly as can be."""
        return self.athletes // self.connections + (node < self.athletes % self.connections)

    def athlete(self, node: int, device: int) -> str:
        """The local id of an athlete, which is that of its device."""
        return f"{self.name}{node:05d}-{device:04d}"

    def subject(self, node: int, device: int) -> str:
        return subject_of(self.tenant, self.athlete(node, device))

    def place_of(self, subject: str) -> tuple[int, int] | None:
        """Node and device of a subject of this load, else None."""
        tenant, _, athlete = subject.partition("/")
        rest = athlete.removeprefix(self.name)
        if tenant != self.tenant or rest == athlete or len(rest) != 10 or rest[5] != "-":
            return None
        digits = rest[:5] + rest[6:]
        if not (digits.isascii() and digits.isdigit()):
            return None
        node, device = int(rest[:5]), int(rest[6:])
        return (node, device) if node < self.connections and device < self.athletes_of(node) else None

    def first_us(self, node: int, device: int) -> int:
        """When the first frame of an athlete is due, were it to train then."""
        key = key_of(self.seed, "load place", self.who(node).username)
        slots = 1000 * self.frame_s // self.bundle_ms
        slot = int((device + uniform(key, 0)) * slots / self.athletes_of(node))
        return self.start_us + slot * self.bundle_ms * 1000 + int(uniform(key, 1, 0, self.bundle_ms * 1000))

    def will(self, node: int, device: int) -> float:
        """An athlete trains while the share of the shape is above this."""
        return (mix(key_of(self.seed, "load will", node), device) >> 11) / (1 << 53)

    def frame_at(self, subject: str, t_us: int) -> int | None:
        """The number (seconds of training aside) of the frame of `subject` whose last sample is at `t_us`; None when there is none."""
        place = self.place_of(subject)
        if place is None:
            return None
        turn, rest = divmod(t_us - self.first_us(*place), self.frame_us)
        return turn if rest == 0 and turn >= 0 else None

    def due_after(self, subject: str, t_us: int) -> int | None:
        """When the frame that holds the instant `t_us` of `subject` is due; None for somebody else's."""
        place = self.place_of(subject)
        if place is None:
            return None
        first_us = self.first_us(*place)
        return first_us + max(-((first_us - t_us) // self.frame_us), 0) * self.frame_us


class Due(NamedTuple):
    """A message of consecutive rows that is due: `payload` is the bundle, rows `first_n` on."""

    due_us: int
    first_n: int
    frames: int
    payload: bytes


class NodePlan:
    """What one node sends, in order. `turn_us` is when its next turn is; `take` makes what is due then."""

    def __init__(self, plan: LoadPlan, node: int) -> None:
        self.plan = plan
        self.node = node
        self.who = plan.who(node)
        self.epoch = plan.epoch(node)
        self.next_n = 0
        devices = range(plan.athletes_of(node))
        names = [plan.athlete(node, d) for d in devices]
        boots = [
            key_of(plan.seed, "load boot", name, plan.run) | 1 << 63 for name in names
        ]  # nine bytes each, so that frames are of one length
        self._offset_us = plan.start_us - plan.frame_us  # a frame begins before it is due
        self._stencil = FrameStencil(plan.tenant, names, boots, plan.frame_s, self._offset_us)
        self._will = np.array([plan.will(node, d) for d in devices])
        self._share = parse_shape(plan.shape).share
        self._seq = np.zeros(len(names), np.int64)
        first_us = np.array([plan.first_us(node, d) for d in devices], np.int64)
        turns, members = np.unique(first_us, return_inverse=True)
        self._turns = [(int(at), np.flatnonzero(members == n)) for n, at in enumerate(turns)]
        self._round = self._turn = 0
        room = (MAX_BUNDLE_BYTES - HEADER_BYTES) // self._stencil.row_bytes
        self._rows = min(MAX_ROWS, room)

    @property
    def row_bytes(self) -> int:
        """Of a bundle, for one frame."""
        return self._stencil.row_bytes

    @property
    def turn_us(self) -> int:
        """When frames are due next."""
        return self._turns[self._turn][0] + self._round * self.plan.frame_us

    def take(self) -> Iterator[Due]:
        """The messages of this turn; the plan goes on to the next."""
        plan, due_us, number = self.plan, self.turn_us, self._round
        devices = self._turns[self._turn][1]
        self._turn += 1
        if self._turn == len(self._turns):
            self._round, self._turn = self._round + 1, 0
        share = self._share((due_us - plan.start_us) / SECOND_US)
        devices = devices if share >= 1 else devices[self._will[devices] < share]
        for lo in range(0, len(devices), self._rows):
            yield self._bundle(devices[lo : lo + self._rows], due_us, number)

    def _bundle(self, devices: np.ndarray[tuple[int], np.dtype[np.int64]], due_us: int, number: int) -> Due:
        samples, count = self.plan.frame_s, len(devices)
        t0_us = np.full(count, due_us - (samples - 1) * SECOND_US - self._offset_us, np.int64)
        rows = self._stencil.rows(devices, self._seq[devices], t0_us, np.full(count, number * samples, np.int64))
        self._seq[devices] += 1
        first_n = self.next_n
        self.next_n += count
        raw, size = rows[:, 2:].tobytes(), self._stencil.row_bytes - 2
        frames = [raw[at : at + size] for at in range(0, len(raw), size)]
        return Due(due_us, first_n, count, encode_bundle(self.epoch, first_n, frames))
