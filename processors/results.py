"""What workouts come to: efforts on segments, summaries of activities, and the ids they keep.

All values are integers, so that the same frames give the same bytes everywhere. Ids are functions of what happened, not of when it was
computed: an effort is the k-th of its segment in its activity, an activity is its subject and the start of its live stream (of its file,
when it was never live), so a correction finds what it corrects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from broker import topics

UPLOAD_NODE: Final = topics.UPLOAD_NODE  # frames of uploaded files come from this node; no credential may have this name
CURVE_POINTS: Final = 64  # elapsed time at 1/64, 2/64 ... 64/64 of a segment


Ruling = Literal["", "flagged", "cleared", "hidden"]
"""What somebody decided of an effort; it overrides the verdict of the platform."""


class Phase(IntEnum):
    """How much was known when an effort was timed; a later phase is better."""

    PROVISIONAL = 0  # at the crossing
    SETTLED = 1  # five seconds later
    FINAL = 2  # with the whole activity


def activity_id(subject: str, anchor_us: int) -> str:
    """The id of an activity: 26 characters that are also safe in a URL."""
    return _digest(f"activity\0{subject}\0{anchor_us}")


def effort_id(activity: str, segment: str, ordinal: int) -> str:
    """The id of the `ordinal`-th (from 0) effort on a segment in an activity."""
    return _digest(f"effort\0{activity}\0{segment}\0{ordinal}")


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=13).hexdigest()


@dataclass(frozen=True, slots=True)
class Timed:
    """One crossing of a segment as a matcher timed it. `curve_ms`: elapsed at each 1/64 of the length, the last is `elapsed_ms`."""

    segment: str
    ordinal: int
    start_us: int
    elapsed_ms: int
    phase: Phase
    accuracy_ms: int  # one standard deviation of the elapsed time, from the stated accuracy of the positions
    curve_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far an effort is believed: reason words in a fixed order (none: it is), a score of 0-100, and whether boards leave it out."""

    doubts: tuple[str, ...] = ()
    plausibility_pct: int = 100
    kept_off: bool = False


BELIEVED: Final = Verdict()


@dataclass(frozen=True, slots=True)
class Effort:
    """An effort as boards and readers see it. `version` is the log position it was last computed at. `doubts` to `kept_off` are its
    `Verdict`, `ruling` what people decided of it, whatever that says."""

    id: str
    tenant: str
    segment: str
    subject: str
    activity: str
    ordinal: int
    start_us: int
    elapsed_ms: int
    phase: Phase
    accuracy_ms: int
    hr_avg_bpm: int | None
    power_avg_w: int | None
    curve_ms: tuple[int, ...]
    version: int
    removed: bool = False
    doubts: tuple[str, ...] = ()
    plausibility_pct: int = 100
    kept_off: bool = False
    ruling: Ruling = ""

    @property
    def stands(self) -> bool:
        """Whether it may count on boards: it is there, nobody hid or flagged it, and it is believed or was cleared."""
        return not self.removed and (self.ruling == "cleared" or (self.ruling == "" and not self.kept_off))


@dataclass(frozen=True, slots=True)
class Lap:
    """One lap of an activity."""

    start_us: int
    elapsed_ms: int
    distance_cm: int
    hr_avg_bpm: int | None
    power_avg_w: int | None


class Counted(NamedTuple):
    """Whose samples of a channel counted ("heart_rate", "motion", "power" or "cadence"), from the first to the last before another's."""

    channel: str
    origin: str
    from_us: int
    to_us: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished activity. Times are UTC; `zones_ms` is the time in heart-rate zones 1-5; `bounds` is (south, west, north, east) in 1e-7
    degrees or None without positions; `origins` are those whose samples count, in order; zones and the last four are a
    `repair.Strain`."""

    id: str
    subject: str
    start_us: int
    end_us: int
    sport: str  # "run", "ride" or "other"
    distance_cm: int
    elapsed_ms: int
    moving_ms: int
    gain_cm: int
    hr_avg_bpm: int | None
    hr_max_bpm: int | None
    power_avg_w: int | None
    points: int  # effort points in thousandths
    zones_ms: tuple[int, int, int, int, int]
    laps: tuple[Lap, ...]
    bounds: tuple[int, int, int, int] | None
    origins: tuple[str, ...]
    samples: int
    trimp: int | None = None  # Banister's training impulse in thousandths
    work_j: int | None = None
    normalised_power_w: int | None = None
    rmssd_ms: int | None = None  # of the beat intervals
    counted: tuple[Counted, ...] = ()  # by channel and time


@dataclass(frozen=True, slots=True)
class FinalTrack:
    """The drawn line of a finished activity, parallel columns: time in ms since the start, smoothed position in 1e-7 degrees, altitude in
    dm, heart rate, power, distance in dm; -1 (NO_POS of the live kernel for positions, -32768 for altitude) where nothing was measured."""

    t_ms: tuple[int, ...]
    lat: tuple[int, ...]
    lon: tuple[int, ...]
    altitude_dm: tuple[int, ...]
    hr_bpm: tuple[int, ...]
    power_w: tuple[int, ...]
    distance_dm: tuple[int, ...]


class FinalEffort(NamedTuple):
    """An effort of a finished activity, of phase FINAL, with its averages of heart rate and power and how far it is believed."""

    timed: Timed
    hr_avg_bpm: int | None
    power_avg_w: int | None
    verdict: Verdict = BELIEVED


@dataclass(frozen=True, slots=True)
class Finished:
    """The outcome of finishing an activity."""

    summary: Summary
    efforts: tuple[FinalEffort, ...]
    track: FinalTrack
