"""The stage contract: pure, batch-shaped, the same on the embedded runner, on Kafka and in a replay.

`step(states, batch, inputs) -> outputs`. Any cut of the same records into batches gives the same outputs in the end. The only time a
stage knows is the append time in each record. For later it asks for a durable wake; what it must look up, it names in `wants` and the
runner passes in. A runner never mixes kinds: a batch holds frames only, or exactly one wake, or exactly one change of reference data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

from broker.errors import Rejected
from broker.frames import Clock, Frame, read_frame
from broker.ids import origin_of
from broker.logrecord import Kind, LogRecord
from broker.reference import UploadRef
from processors.believed import Believed
from processors.copies import Date
from processors.results import Finished, Timed
from processors.samples import TakenFrame
from processors.tracks import Track


class Numbered(NamedTuple):
    """One numbering whose state a stage needs: the subject it counts for, the origin and its boot."""

    key: str
    origin: str
    boot: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of the log; `first` is the position of the first. Only a batch of frames has `frames` and `numbered`, and, on a
    cluster, `copied`: by position those that have their home in another partition, with the date of their boot."""

    first: int
    records: Sequence[LogRecord]
    frames: Sequence[Frame | Rejected] = ()
    numbered: Sequence[Numbered | None] = ()
    copied: Mapping[int, Date] = field(default_factory=dict[int, Date])


def batches_of(first: int, records: Sequence[LogRecord]) -> Iterator[Batch]:
    """Cut records so that each batch holds frames only, or one wake, or one change of reference data."""
    start = 0
    for i, record in enumerate(records):
        if record.kind != Kind.FRAME:
            if start < i:
                yield _frames(first + start, records[start:i])
            yield Batch(first + i, [record])
            start = i + 1
    if start < len(records):
        yield _frames(first + start, records[start:])


def _frames(first: int, records: Sequence[LogRecord]) -> Batch:
    frames = [_believed(read_frame(r.body)) for r in records]
    numbered = [_numbered(r, f) if isinstance(f, Frame) else None for r, f in zip(records, frames, strict=True)]
    return Batch(first, records, frames, numbered)


def _believed(frame: Frame | Rejected) -> Frame | Rejected:
    """The frame, undated when its date is that of a clock nobody has set: then a good date of its boot dates it."""
    if isinstance(frame, Rejected) or frame.utc_offset_us is None or frame.dated:
        return frame
    return replace(frame, utc_offset_us=None, clock=int(Clock.UNKNOWN))


def _numbered(record: LogRecord, frame: Frame) -> Numbered:
    origin = _origin(record.tenant, "" if frame.self_numbered else record.node, frame.device, frame.self_numbered)
    return Numbered(record.key, origin, frame.boot)


@lru_cache(maxsize=65536)
def _origin(tenant: str, node: str, device: str, self_numbered: bool) -> str:
    return origin_of(tenant, node, device, self_numbered=self_numbered)


@dataclass(frozen=True, slots=True)
class TrackWindow:
    """All samples of a subject in every activity that touches from_us..to_us."""

    key: str
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Wants:
    """What a runner must load before `step`."""

    keys: Sequence[str] = ()
    numbered: Sequence[Numbered] = ()
    window: TrackWindow | None = None
    origins: Sequence[str] = ()  # whose binding changed: where are samples of them?
    history: str = ""  # a subject: all its activities
    segment: tuple[str, str] | None = None  # (tenant, segment) that changed: whose activities does it touch?


class Activity(NamedTuple):
    """One workout of a subject; its id is (subject, start_us). `version` is the log position it was last computed at."""

    subject: str
    start_us: int
    anchor_us: int  # start of the live stream alone: what its id is made of
    end_us: int
    distance_um: int
    points: int  # effort points in point-microseconds per minute: divide by 60e6
    moving_us: int
    samples: int
    hr_sum: int
    hr_n: int
    hr_max: int
    closed: bool
    version: int


class Held(NamedTuple):
    """Samples of an origin that are stored under a key; between two of them are never more than a few minutes."""

    key: str
    origin: str
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What `wants` asked for: canonical tracks by layout, the activities they cover, the last one before them, and how many of the frames
    are not in blobs yet; where samples of origins are; (subject, start_us, closed) of activities that a segment may touch."""

    tracks: dict[int, Track] = field(default_factory=dict[int, Track])
    activities: Sequence[Activity] = ()
    raw_frames: int = 0
    before: Activity | None = None
    held: Sequence[Held] = ()
    touched: Sequence[tuple[str, int, bool]] = ()
    uploads: Sequence[UploadRef] = ()  # of the uploaded files in `tracks`


@dataclass(frozen=True, slots=True)
class Wake:
    """Call the stage again for `key` with a durable WAKE record named `name` once the time is `at_us`."""

    key: str
    name: str
    at_us: int


class Shared(NamedTuple):
    """A frame that counts for subjects whose partition is another one."""

    record: LogRecord
    date: Date
    subjects: Sequence[str]


class Mutation(NamedTuple):
    """A versioned change of a board: set the entry of (subject, activity) or take it away. Older versions never win."""

    board: str
    subject: str
    activity_us: int
    version: int
    distance_um: int
    points: int
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """An activity appeared (or, `over`, vanished before it was finished: its frames are part of `merged_into` or of nobody's now)."""

    subject: str
    activity: str
    anchor_us: int
    version: int
    appended_us: int
    over: bool = False
    merged_into: str | None = None


@dataclass(frozen=True, slots=True)
class LiveEfforts:
    """Efforts timed while an activity goes on. `whole`: these are all it has; others that are not final are gone."""

    subject: str
    activity: str
    timed: Sequence[Timed]
    version: int
    appended_us: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class FinishedActivity:
    """A finished activity; `start_us` is that of the live one it came from."""

    start_us: int
    finished: Finished
    version: int
    appended_us: int


@dataclass(slots=True)
class Outputs:
    """What one step produced; the runner commits it together with state and position."""

    taken: list[tuple[str, TakenFrame]] = field(default_factory=list[tuple[str, TakenFrame]])
    undated: list[tuple[str, TakenFrame]] = field(default_factory=list[tuple[str, TakenFrame]])
    activities: list[Activity] = field(default_factory=list[Activity])
    removed: list[Activity] = field(default_factory=list[Activity])
    mutations: list[Mutation] = field(default_factory=list[Mutation])
    wakes: list[Wake] = field(default_factory=list[Wake])
    compact: list[str] = field(default_factory=list[str])
    begun: list[Begun] = field(default_factory=list[Begun])
    efforts: list[LiveEfforts] = field(default_factory=list[LiveEfforts])
    finished: list[FinishedActivity] = field(default_factory=list[FinishedActivity])
    believed: list[Believed] = field(default_factory=list[Believed])  # only of a stage that tells
    shared: list[Shared] = field(default_factory=list[Shared])  # only where a stage is cut into partitions
    redated: list[tuple[Numbered, int]] = field(default_factory=list[tuple[Numbered, int]])
    """The same: numberings whose undated frames have another date, and when what says so was appended."""
    repeats: int = 0
    unreadable: int = 0
    unknown_layouts: int = 0
    unfinished: int = 0
    late_frames: int = 0


S_contra = TypeVar("S_contra", contravariant=True)


class Stage(Protocol[S_contra]):
    """A pure step over keyed state."""

    name: str
    state_version: int

    def key(self, record: LogRecord) -> str:
        """The partition and state key of a record."""
        ...

    def wants(self, states: S_contra, batch: Batch) -> Wants:
        """What must be loaded into `states` and `Inputs` before `step` may run."""
        ...

    def step(self, states: S_contra, batch: Batch, inputs: Inputs) -> Outputs:
        """Advance `states` by a batch."""
        ...
