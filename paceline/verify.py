"""The check at the end of a demo: what the devices made, held against what the stores hold, frame by frame.

Frames are compared by (origin, boot, seq) with the ranges the live stage counted, and samples with what the activities added up, so that
a frame counted twice shows even when its number is kept once. Nothing here trusts a counter of the parts it checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processors.reference_data import ReferenceData
    from simulators.truth import Made

Numbers = Mapping[tuple[str, int], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Owed:
    """Frames a box made itself, by (origin, boot), and the samples in them."""

    frames: Numbers
    samples: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What the stores hold: per (origin, boot) how often each seq was counted; samples per subject; totals by name; efforts that stand and
    events that were ever owed."""

    frames: Mapping[tuple[str, int], Counter[int]]
    samples: Mapping[str, int]
    activities: int
    counters: Mapping[str, int]
    efforts: int = 0
    events: int = 0

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
    from processors.results_db import count_efforts, count_events
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
        efforts, events = count_efforts(db), count_events(db)
    finally:
        store.close()
        db.close()
    samples: Counter[str] = Counter()
    for activity in activities:
        samples[activity.subject] += activity.samples
    return Stored(frames, samples, len(activities), counters, efforts, events)


def read_reference(state: Path) -> ReferenceData:
    """The athletes, segments and bindings in the state file."""
    from processors.reference_data import ReferenceData
    from processors.results_db import references
    from processors.state_db import connect

    found = ReferenceData()
    db = connect(state, write=False)
    try:
        for value, _ in references(db):
            found.apply(value)
    finally:
        db.close()
    return found


def as_bound(made: Iterable[Made], reference: ReferenceData) -> Iterator[Made]:
    """What was made, with whom it counts for by the bindings somebody gave meanwhile."""
    for one in made:
        subject = reference.counts_for(one.subject, one.origin, one.utc_us)
        yield one if subject == one.subject else replace(one, subject=subject)


def pending(state: Path) -> int:
    """What the stages still owe for what they know: late frames to be worked in, efforts to be timed again, activities to be finished.

    0 when there is no state file. That a quiet athlete's activity closes some day is not owed.
    """
    from processors.state_db import connect

    if not state.exists():
        return 0
    db = connect(state, write=False)
    try:
        return db.execute("SELECT count(*) FROM wake WHERE name<>'close'").fetchone()[0]
    finally:
        db.close()


def unread(log_end: int, state: Path) -> int:
    """How many records of the log, which ends at that position, the state does not know yet."""
    from processors.stores import ReadStore

    if not state.exists():
        return log_end
    store = ReadStore(state)
    try:
        return max(log_end - store.position(), 0)
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
