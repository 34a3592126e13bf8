"""State of the live stage: one fixed row of int64 per subject and, beside it, what each numbering has already counted.

Rows live in one array (a snapshot of a subject is its bytes, 1 KiB, and what another source that proves itself needs); numberings
of old boots stay in the store until a frame of theirs comes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from broker.frames import Frame
from processors.attempts import Arena, Attempts
from processors.live_kernel import COLUMNS, I64, fresh_row
from processors.ranges import RangeSet
from processors.run_kernel import Sides
from processors.stage import Numbered

TICK_SPAN_US = 65_536_000  # the longest a frame can last: a u16 of milliseconds


@dataclass(slots=True)
class Numbering:
    """What is known of one (subject, origin, boot)."""

    node: str = ""
    device: str = ""
    ranges: RangeSet = field(default_factory=RangeSet)
    date_seq: int | None = None
    date_offset_us: int = 0
    undated_from_us: int | None = None
    undated_to_us: int = 0

    def take(self, frame: Frame, node: str) -> bool:
        """Count the frame; False when its seq was counted before."""
        if not self.ranges.add(frame.seq):
            return False
        self.node, self.device = node, frame.device
        return True

    def is_dated(self, frame: Frame) -> bool:
        """Whether the frame has a date and dates nothing: the boot has one already."""
        return frame.utc_offset_us is not None and self.date_seq is not None and frame.seq >= self.date_seq

    def note_undated(self, frame: Frame) -> None:
        """Remember from when to when undated frames reach, on the origin's own clock."""
        if self.undated_from_us is None or frame.t0_us < self.undated_from_us:
            self.undated_from_us = frame.t0_us
        self.undated_to_us = max(self.undated_to_us, frame.t0_us + TICK_SPAN_US)

    def undated_spans(self, offset_us: int) -> Iterator[tuple[int, int]]:
        """Where the undated frames lie by the date so far and by a new offset."""
        if self.undated_from_us is None:
            return
        if self.date_seq is not None:
            yield self.undated_from_us + self.date_offset_us, self.undated_to_us + self.date_offset_us
        yield self.undated_from_us + offset_us, self.undated_to_us + offset_us


@dataclass(slots=True)
class Matching:
    """The matcher's state in the activity that began at `start_us`."""

    start_us: int
    attempts: Attempts = field(default_factory=Attempts)  # those of one batch lie in one arena

    def encode(self) -> bytes:
        """As bytes; equal states give equal bytes."""
        return self.start_us.to_bytes(8, "little", signed=True) + self.attempts.encode()

    @classmethod
    def decode(cls, raw: bytes, arena: Arena | None = None) -> Matching:
        """Inverse of `encode`."""
        return cls(int.from_bytes(raw[:8], "little", signed=True), Attempts.decode(raw[8:], arena))


class LiveStates:
    """The loaded part of the state. The runner puts rows, matchings and numberings in, and asks which changed."""

    def __init__(self) -> None:
        self.rows: I64 = np.zeros((256, COLUMNS), np.int64)
        self.sides: Sides = {}
        self._slots: dict[str, int] = {}
        self._keys: list[str] = []
        self.numberings: dict[Numbered, Numbering] = {}
        self.changed: set[str] = set()
        self.counted: set[Numbered] = set()
        self.arena = Arena()
        self.matchings: dict[str, Matching] = {}
        self.matched: set[str] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def has(self, key: str) -> bool:
        return key in self._slots

    def put(self, key: str, stored: bytes, matching: bytes = b"") -> None:
        """Load what `stored` gave of a subject, and its matcher's state."""
        row = np.frombuffer(stored, np.int64)
        slot = self.slot(key)
        self.rows[slot] = row[:COLUMNS]
        self.set_side(slot, row[COLUMNS:])
        if matching:
            self.matchings[key] = Matching.decode(matching, self.arena)

    def stored(self, key: str) -> bytes | None:
        """The row of a loaded subject, and what is beside it while a source proves itself; None when it is not loaded."""
        slot = self._slots.get(key)
        if slot is None:
            return None
        beside = self.sides.get(slot)
        return self.rows[slot].tobytes() + (b"" if beside is None else beside.tobytes())

    def rows_of(self, keys: Sequence[str]) -> I64:
        """The rows of subjects, shape (keys, COLUMNS); that of somebody else where one is not loaded."""
        slots = self._slots
        return self.rows[[slots.get(key, 0) for key in keys]]

    def beside(self, key: str) -> bytes:
        """What is beside the row of a subject, as in `stored`."""
        beside = self.sides.get(self._slots[key]) if self.sides and key in self._slots else None
        return b"" if beside is None else beside.tobytes()

    def set_side(self, slot: int, beside: I64 | None) -> None:
        """Replace what is beside a row, by nothing when it is empty."""
        self.sides.pop(slot, None)
        if beside is not None and len(beside):
            self.sides[slot] = beside

    def slot(self, key: str) -> int:
        """The row index of a subject, made fresh when it is new."""
        slot = self._slots.get(key)
        if slot is None:
            slot = len(self._keys)
            if slot == len(self.rows):
                self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self._slots[key] = slot
            self._keys.append(key)
            self.rows[slot] = fresh_row()
        return slot

    def row(self, key: str) -> I64:
        """The row of a subject, made fresh when it is new: rows handed out before then may be those of a table it outgrew."""
        slot = self.slot(key)
        return self.rows[slot]

    def peek(self, key: str) -> I64 | None:
        """The row of a loaded subject, or None."""
        slot = self._slots.get(key)
        return None if slot is None else self.rows[slot]

    def key_of(self, slot: int) -> str:
        return self._keys[slot]

    def numbering(self, of: Numbered) -> Numbering:
        """The numbering, made empty when it is new; it counts as changed."""
        found = self.numberings.get(of)
        if found is None:
            found = self.numberings[of] = Numbering()
        self.counted.add(of)
        return found

    def mark(self, key: str) -> None:
        """This subject's row changed."""
        self.changed.add(key)

    def matching(self, key: str, start_us: int) -> Matching:
        """The matcher's state of a subject in that activity, made anew when the last one was of another; it counts as changed."""
        found = self.matchings.get(key)
        if found is None or found.start_us != start_us:
            found = self.matchings[key] = Matching(start_us, Attempts(self.arena))
        self.matched.add(key)
        return found

    def set_matching(self, key: str, matching: Matching) -> None:
        """Replace the matcher's state of a subject."""
        self.matchings[key] = matching
        self.matched.add(key)

    def saved(self) -> None:
        """All changes are committed."""
        self.changed.clear()
        self.counted.clear()
        self.matched.clear()

    def forget(self) -> None:
        """Drop everything loaded (after a commit, to bound memory)."""
        self.__init__()
