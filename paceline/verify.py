"""The check at the end of a demo: what the devices made, held against what the stores hold, frame by frame.

Frames are compared by (origin, boot, seq) with the ranges the live stage counted, and samples with what the activities added up, so that
a frame counted twice shows even when its number is kept once. Nothing here trusts a counter of the parts it checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulators.truth import Made

Numbers = Mapping[tuple[str, int], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Owed:
    """Frames a box made itself, by (origin, boot), and the samples in them."""

    frames: Numbers
    samples: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What the stores hold: per (origin, boot) how often each seq was counted; samples per subject; totals by name."""

    frames: Mapping[tuple[str, int], Counter[int]]
    samples: Mapping[str, int]
    activities: int
    counters: Mapping[str, int]

    @property
    def frame_count(self) -> int:
        """Distinct frames."""
        return sum(len(seqs) for seqs in self.frames.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """Counts of frames, and the first few of each fault by name."""

    sent: int
    stored: int
    lost: int
    duplicated: int
    examples: tuple[str, ...]


def read_stored(state: Path) -> Stored:
    """Read the state file of the platform (which must be quiet or stopped)."""
    from processors.ranges import RangeSet
    from processors.state_db import connect
    from processors.stores import ReadStore

    db = connect(state, write=False)
    store = ReadStore(state)
    try:
        frames: dict[tuple[str, int], Counter[int]] = {}
        for origin, boot, ranges in db.execute("SELECT origin, boot, ranges FROM numbering"):
            seqs = frames.setdefault((origin, int(boot, 16)), Counter())
            for first, last in RangeSet.decode(ranges).ranges():
                seqs.update(range(first, last + 1))
        activities = store.activities()
        counters = store.counters()
    finally:
        store.close()
        db.close()
    samples: Counter[str] = Counter()
    for activity in activities:
        samples[activity.subject] += activity.samples
    return Stored(frames, samples, len(activities), counters)


def pending(state: Path) -> int:
    """How many subjects have late frames that the live stage has not worked in yet; 0 when there is no state file."""
    from processors.stores import ReadStore

    if not state.exists():
        return 0
    store = ReadStore(state)
    try:
        return store.pending()
    finally:
        store.close()


def ride_owed(origin: str, samples: Sequence[int], unfinished: Mapping[int, int], held: Mapping[tuple[str, int], Iterable[int]]) -> Owed:
    """What a replayed file owes: every frame of each recording of it that was finished, and of an unfinished one those that were taken.

    `samples` are those of each frame of the file; `unfinished` says per boot how many frames were taken at least. A box that died after the
    end of the file replays it again, so there may be several recordings.
    """
    boots = {boot for name, boot in held if name == origin} | unfinished.keys()
    frames: dict[tuple[str, int], range] = {}
    for boot in boots or {0}:
        seen = max(held.get((origin, boot), ()), default=-1) + 1
        frames[origin, boot] = range(max(unfinished[boot], seen) if boot in unfinished else len(samples))
    return Owed(frames, sum(sum(samples[seq] for seq in seqs if seq < len(samples)) for seqs in frames.values()))


def judge(made: Iterable[Made], stored: Stored, others: Numbers, others_samples: Mapping[str, int]) -> Verdict:
    """Hold the truth of the simulators and of `others` (frames a box made itself) against what is stored.

    `others_samples` are the samples each of their subjects must have. Frames of origins in neither are somebody else's and not judged.
    """
    owed: dict[tuple[str, int], set[int]] = {key: set(seqs) for key, seqs in others.items()}
    samples: Counter[str] = Counter(others_samples)
    optional: set[tuple[str, int, int]] = set()
    for one in made:
        owed.setdefault((one.origin, one.boot), set()).add(one.seq)
        samples[one.subject] += one.samples
        if not one.owed:
            optional.add(one.key)
    examples: list[str] = []
    lost = duplicated = held = 0
    for (origin, boot), seqs in owed.items():
        counted = stored.frames.get((origin, boot), Counter[int]())
        held += len(seqs & counted.keys())
        missing = [seq for seq in seqs - counted.keys() if (origin, boot, seq) not in optional]
        twice = [seq for seq, times in counted.items() if times > 1]
        lost += len(missing)
        duplicated += sum(counted[seq] - 1 for seq in twice)
        examples += [f"lost {origin} boot {boot:016x} seq {seq}" for seq in sorted(missing)[:3]]
        examples += [f"counted twice {origin} boot {boot:016x} seq {seq}" for seq in sorted(twice)[:3]]
    if not lost and not duplicated and not optional:
        for subject, want in samples.items():
            difference = stored.samples.get(subject, 0) - want
            if difference:
                examples.append(f"{subject}: {want} samples made, {want + difference} counted")
            lost, duplicated = lost + max(-difference, 0), duplicated + max(difference, 0)
    return Verdict(sum(len(seqs) for seqs in owed.values()), held, lost, duplicated, tuple(examples[:10]))
