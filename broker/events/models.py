"""What each event says: the `data` of its envelope.

Two rules hold for every model. Everything outside `change` is the state of the entity after the event and a function of what was measured
alone: any order, repetition and cut of the same frames ends in the same state. `change` tells how it came to be and depends on that order.
People are subjects (`tenant/athlete`), never names; no event holds a position. What was not measured is null, and always there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from broker.errors import BadInputError

TOP: Final = 10  # rows of a board a change carries
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UTC: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_SUBJECT: Final = r"^[a-z0-9][a-z0-9._-]{0,31}/@?[a-z0-9][a-z0-9._-]{0,31}(/[a-z0-9][a-z0-9._-]{0,31})?$"


def utc_text(t_us: int) -> str:
    """RFC 3339 in UTC with microseconds; BadInputError outside the years 1 to 9999."""
    try:
        return (_EPOCH + t_us * _MICROSECOND).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError as error:
        raise BadInputError(f"time {t_us} us is outside the years 1 to 9999", cure="give UTC microseconds since 1970") from error


def utc_us(text: str) -> int:
    """Inverse of `utc_text`; ValueError for any other form of time."""
    if re.fullmatch(_UTC, text) is None:
        raise ValueError(f"{text!r} is not a UTC time with six decimals and Z")
    return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND


def metres(cm: int) -> float:
    """Metres of whole centimetres: the nearest double, so it prints with at most two decimals."""
    return cm / 100


def _utc(text: str) -> str:
    utc_us(text)
    return text


def _day(text: str) -> str:
    datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    return text


def _whole_cm(value: float) -> float:
    if round(value, 2) != value:
        raise ValueError("give metres in whole centimetres")
    return value


def _whole_thousandths(value: float) -> float:
    if round(value, 3) != value:
        raise ValueError("give at most three decimals")
    return value


Text = Annotated[str, Field(min_length=1, max_length=200)]
Subject = Annotated[str, Field(pattern=_SUBJECT, description="Who: tenant/athlete, or tenant/@device of an unbound device")]
Utc = Annotated[str, Field(pattern=_UTC, description="RFC 3339, UTC, microseconds"), AfterValidator(_utc)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="A day in UTC"), AfterValidator(_day)]
Metres = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Metres, whole centimetres"), AfterValidator(_whole_cm)]
MetresDelta = Annotated[float, Field(allow_inf_nan=False, description="Metres, whole centimetres, signed"), AfterValidator(_whole_cm)]
Points = Annotated[float, Field(ge=0, allow_inf_nan=False, description="Effort points, thousandths"), AfterValidator(_whole_thousandths)]
Millis = Annotated[int, Field(ge=0)]
HeartRate = Annotated[int, Field(ge=0, le=255, description="Beats a minute")]
Watts = Annotated[int, Field(ge=0)]


class Data(BaseModel):
    """What all have in common: strict types, frozen, unknown keys refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class ActivityStarted(Data):
    """A workout is under way."""

    activity: Text
    subject: Subject
    started_at: Utc


class LapData(Data):
    """One lap of a workout."""

    started_at: Utc
    elapsed_ms: Millis
    distance_m: Metres
    hr_avg_bpm: HeartRate | None
    power_avg_w: Watts | None


class Activity(Data):
    """A finished workout as it stands. `zones_ms`: time in heart-rate zones 1-5; `sources`: how many devices and files count."""

    activity: Text
    subject: Subject
    sport: Literal["run", "ride", "other"]
    started_at: Utc
    ended_at: Utc
    distance_m: Metres
    elapsed_ms: Millis
    moving_ms: Millis
    gain_m: Metres
    hr_avg_bpm: HeartRate | None
    hr_max_bpm: HeartRate | None
    power_avg_w: Watts | None
    effort_points: Points
    zones_ms: tuple[Millis, Millis, Millis, Millis, Millis]
    laps: tuple[LapData, ...]
    sources: int = Field(ge=0)
    samples: int = Field(ge=0)
    trimp: Points | None = Field(default=None, description="Training impulse of Banister; since 1.1")
    work_j: int | None = Field(default=None, ge=0, description="Work in joules; since 1.1")
    normalised_power_w: Watts | None = Field(default=None, description="Normalised power; since 1.1")
    rmssd_ms: int | None = Field(default=None, ge=0, description="Variability of the beat intervals; since 1.1")


class Correction(Data):
    """Which fields of the state differ from what was told before."""

    fields: tuple[Text, ...] = Field(min_length=1)


class ActivityCorrected(Activity):
    """A finished workout differs from what was told."""

    change: Correction


class ActivityRemoval(Data):
    """Why: it became part of another activity of the subject (its id), or nothing of it counts any more (null)."""

    merged_into: Text | None


class ActivityRemoved(Data):
    """A workout is none any more; what was told of it no longer holds."""

    activity: Text
    subject: Subject
    change: ActivityRemoval


class Effort(Data):
    """One crossing of a segment. `timing`: at the crossing, five seconds later, or from the whole activity (`final`); a later one is
    better. `accuracy_ms`: one standard deviation of the elapsed time. `doubts` and what follows: how far it is believed; boards leave out
    what is `kept_off`."""

    effort: Text
    activity: Text
    subject: Subject
    segment: Text
    ordinal: int = Field(ge=0, description="The how-manieth on this segment in the activity, from 0")
    started_at: Utc
    elapsed_ms: Millis
    accuracy_ms: Millis
    timing: Literal["provisional", "settled", "final"]
    hr_avg_bpm: HeartRate | None
    power_avg_w: Watts | None
    doubts: tuple[Text, ...] = Field(default=(), max_length=32, description="Words for what speaks against it; since 1.1")
    plausibility_pct: int = Field(default=100, ge=0, le=100, description="100: nothing speaks against it; since 1.1")
    kept_off: bool = Field(default=False, description="Not believed enough for a board; since 1.1")


class EffortCorrection(Correction):
    """Also by how much the elapsed time moved."""

    elapsed_delta_ms: int


class EffortCorrected(Effort):
    """An effort differs from what was told."""

    change: EffortCorrection


class EffortRemoved(Data):
    """An effort does not count any more."""

    effort: Text
    activity: Text
    subject: Subject
    segment: Text


class BoardRow(Data):
    """One line of a board; equal times share a rank."""

    rank: int = Field(ge=1)
    subject: Subject
    effort: Text
    elapsed_ms: Millis
    started_at: Utc


class BoardChange(Data):
    """Whose best effort moved, and from which rank to which; null: not among the first ten."""

    subject: Subject
    rank_before: int | None = Field(ge=1, le=TOP)
    rank_after: int | None = Field(ge=1, le=TOP)


class BoardChanged(Data):
    """The first ten of a board after a change among them; empty when nobody is left on it."""

    board: Text
    segment: Text
    top: tuple[BoardRow, ...] = Field(max_length=TOP)
    change: BoardChange


class LeadChange(Data):
    """Whom the leader follows (null: the first on the board), and how: a better effort, or the leader before fell back."""

    previous: Subject | None
    cause: Literal["faster", "inherited"]


class LeadTaken(Data):
    """Another subject leads a board."""

    board: Text
    segment: Text
    leader: BoardRow
    change: LeadChange


class RecordChange(Data):
    """Why it was set: the first effort, a faster one, the same one with another time, or the next best after the best was taken back."""

    cause: Literal["first", "faster", "corrected", "restored"]
    previous_elapsed_ms: Millis | None


class RecordSet(Data):
    """The best effort of a subject on a segment."""

    record: Text
    subject: Subject
    board: Text
    segment: Text
    effort: Text
    elapsed_ms: Millis
    started_at: Utc
    change: RecordChange


class RecordWithdrawn(Data):
    """A subject has no effort left on a segment."""

    record: Text
    subject: Subject
    board: Text
    segment: Text


AwardKind = Literal["record", "top_10", "own_1", "own_2", "own_3"]


class AwardChange(Data):
    """What moved it: the effort itself, or what became of another one."""

    cause: Literal["own", "other"]


class AwardGiven(Data):
    """An effort was, at its finish, the best ever on the board (`record`), of an athlete among its first ten (`top_10`), or one of the best
    three of the athlete's own (`own_1` to `own_3`, with one before it)."""

    award: Text
    subject: Subject
    effort: Text
    kind: AwardKind
    board: Text
    segment: Text
    change: AwardChange


class AwardWithdrawn(AwardGiven):
    """What was awarded does not hold: the effort was taken back, flagged or timed again, or a better one before it became known."""


class DistanceCredited(Data):
    """What an activity adds to the distance of a subject on a day: the UTC day it started."""

    credit: Text
    activity: Text
    subject: Subject
    day: Day
    distance_m: Metres


class DistanceChange(Data):
    """How much to add to what was told."""

    delta_m: MetresDelta


class DistanceCorrected(DistanceCredited):
    """The credit of an activity on a day moved; 0: nothing of it is left."""

    change: DistanceChange

    @model_validator(mode="after")
    def _moved(self) -> DistanceCorrected:
        if self.change.delta_m == 0:
            raise ValueError("change.delta_m must not be 0")
        return self
