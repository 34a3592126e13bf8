"""What travels over HTTP: the bodies of every route below `/api/v1`, as pydantic models.

Names carry units: metres, metres a second, seconds in milliseconds (`_ms`), instants in UTC microseconds (`_us`), positions in
degrees. Absent is `null`. `athlete` is an athlete's id within the tenant; a screen gets a made-up id instead (`~...`) for who does not
show a name, and it may be used wherever an id may. `name` is what this reader may show, empty when nothing. Bodies sent to us refuse
unknown keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from broker.reference import MAX_FOLLOWS, ZONES_BPM
from processors.api.kinds import Degrees, In, Out, Period, PhaseName, Sex, Show, Sport
from processors.api.live_models import LiveAttempt, LiveDevice


class Problem(Out):
    """An error as `application/problem+json` (RFC 9457), with what to do about it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    cure: str


class Health(Out):
    """GET /health"""

    status: Literal["ok"] = "ok"


# activities


class ActivityLine(Out):
    """A finished activity."""

    id: str
    athlete: str
    name: str
    sport: Literal["run", "ride", "other"]
    start_us: int
    end_us: int
    distance_m: float
    elapsed_ms: int
    moving_ms: int
    gain_m: float
    hr_avg_bpm: int | None
    hr_max_bpm: int | None
    power_avg_w: int | None
    points: float
    version: int


class ActivityPage(Out):
    """GET /activities?athlete=&before=&limit=: the latest first. `next_before_us`: give it as `before` for the next page; null: the end."""

    activities: list[ActivityLine]
    next_before_us: int | None


class LapLine(Out):
    start_us: int
    elapsed_ms: int
    distance_m: float
    hr_avg_bpm: int | None
    power_avg_w: int | None


class EffortLine(Out):
    """One crossing of a segment. `rank`: its athlete's place on the board of all time when this is the effort he or she stands there with,
    else null. `own_rank`: its place among the athlete's own efforts there, null when it does not count; `best`: the first of them.
    `doubts`: words for what speaks against it, `why` the same for people; 100 `plausibility_pct` when nothing does; one that is `kept_off`
    stands on no board, by that or by a `ruling` of people. `awards`: `record`, `top_10`, `own_1`, `own_2`, `own_3`."""

    id: str
    segment: str
    segment_name: str
    athlete: str
    name: str
    activity: str
    start_us: int
    elapsed_ms: int
    accuracy_ms: int
    phase: PhaseName
    hr_avg_bpm: int | None
    power_avg_w: int | None
    rank: int | None
    own_rank: int | None
    best: bool
    doubts: list[str]
    why: list[str]
    plausibility_pct: int
    kept_off: bool
    ruling: Literal["flagged", "cleared", "hidden"] | None
    awards: list[str]


class CountedLine(Out):
    """Whose samples of a channel counted, from the first to the last before another source's."""

    channel: Literal["heart_rate", "motion", "power", "cadence"]
    source: str
    from_us: int
    to_us: int


class ActivityDetail(ActivityLine):
    """GET /activities/{id}. `trimp`: Banister's training impulse; `work_j`: joules at the pedals; `rmssd_ms`: of the beat intervals. Null
    where nothing was measured."""

    zones_ms: tuple[int, int, int, int, int]
    laps: list[LapLine]
    efforts: list[EffortLine]
    south: float | None
    west: float | None
    north: float | None
    east: float | None
    sources: list[str]
    counted: list[CountedLine]
    samples: int
    trimp: float | None
    work_j: int | None
    normalised_power_w: int | None
    rmssd_ms: int | None


class TrackColumns(Out):
    """GET /activities/{id}/track?points=N: parallel columns, null where nothing was measured. `points_total` before thinning."""

    activity: str
    start_us: int
    points_total: int
    t_ms: list[int]  # since start_us
    lat: list[float | None]
    lon: list[float | None]
    altitude_m: list[float | None]
    hr_bpm: list[int | None]
    power_w: list[int | None]
    distance_m: list[float | None]


class UploadAccepted(Out):
    """POST /activities?athlete=ID&name=FILE (body: the FIT, GPX or TCX file): stored durably; the activity appears or is corrected soon.

    `repeated`: the same file was there already, nothing was counted again. `skipped`: samples left out, by reason; `damage`: why the file
    was not whole."""

    id: str
    athlete: str
    format: Literal["fit", "gpx", "tcx"]
    sport: str | None
    first_us: int
    last_us: int
    samples: int
    frames: int
    repeated: bool
    skipped: dict[str, int]
    damage: str | None


# segments and boards


class SegmentLine(Out):
    """GET /segments"""

    id: str
    name: str
    sport: Sport
    length_m: float
    start: Degrees
    end: Degrees
    efforts: int
    athletes: int
    leader_name: str | None  # null: nobody yet
    leader_ms: int | None


class SegmentList(Out):
    segments: list[SegmentLine]


class LocalLegend(Out):
    """Who did most efforts on a segment in the last 90 days."""

    athlete: str
    name: str
    efforts: int


class SegmentDetail(SegmentLine):
    """GET /segments/{id}"""

    points: list[Degrees]
    legend: LocalLegend | None  # null: nobody in the last 90 days


class SegmentPut(In):
    """PUT /segments/{id}: give `points` (degrees, in the direction of travel). Staff only."""

    name: str = Field(min_length=1, max_length=80)
    sport: Sport = "any"
    points: list[Degrees] = Field(min_length=2, max_length=200_000)


class Written(Out):
    """What a write came to: durable at log position `position`; `applied`: readers see it already (else within seconds)."""

    id: str
    position: int
    applied: bool


class SegmentsImported(Out):
    """POST /segments/import: what was written."""

    segments: list[Written]


class BoardLine(Out):
    """One line of a segment's board: the best effort of an athlete under the filter. Equal times share a rank."""

    rank: int
    athlete: str
    name: str
    elapsed_ms: int
    gap_ms: int  # to the first
    start_us: int
    activity: str
    effort: str
    phase: PhaseName
    hr_avg_bpm: int | None
    power_avg_w: int | None


class BoardPage(Out):
    """GET /segments/{id}/board?sex=&age=&weight=&club=&following=&period=&limit=&cursor= and /segments/{id}/board/around/{athlete}?k=

    `total` athletes stand on the view, with `efforts` in all; `percentiles_ms`: what the first 10, 25, 50, 75 and 90 % of them reach, empty
    when nobody stands on it. `next_cursor`: give it as `cursor` for the next page; null at the end, and around an athlete."""

    segment: str
    segment_name: str
    version: int
    sex: Sex | None
    age: str | None
    weight: str | None
    club: str | None
    following: str | None
    period: Period
    total: int
    efforts: int
    percentiles_ms: list[int]
    lines: list[BoardLine]
    next_cursor: str | None


class SegmentLive(Out):
    """GET /segments/{id}/live: who is on it now, the furthest first."""

    segment: str
    t_us: int
    attempts: list[LiveAttempt]


class ClassLine(Out):
    rank: int
    subject: str
    athlete: str
    name: str
    distance_m: float
    points: float


class ClassBoard(Out):
    """GET /boards/live?by=distance|points: the class in progress."""

    by: Literal["distance", "points"]
    t_us: int
    lines: list[ClassLine]


# athletes, devices, bindings


class AthleteLine(Out):
    """GET /athletes and /athletes/{id}. A screen gets `name` as it may be shown and null for the rest of who a person is."""

    id: str
    name: str
    show: Show
    nickname: str | None
    sex: Sex | None
    birth_year: int | None
    hr_max_bpm: int | None
    hr_zones_bpm: tuple[int, int, int, int] | None  # lower bounds of zones 2-5; null: 60, 70, 80, 90 % of hr_max_bpm
    weight_kg: float | None
    clubs: list[str]  # of a screen's athletes: none, like the next two
    follows: list[str]  # athletes
    blocks: list[str]  # athletes: neither sees the other among those followed
    known: bool  # false: frames came for this id, nobody described it yet


class AthleteList(Out):
    athletes: list[AthleteLine]


ZoneBpm = Annotated[int, Field(ge=ZONES_BPM[0], le=ZONES_BPM[1])]


class AthletePut(In):
    """PUT /athletes/{id}. Staff only."""

    name: str = Field(min_length=1, max_length=80)
    show: Show = "yes"
    nickname: str = Field(default="", max_length=40)
    sex: Sex | None = None
    birth_year: int | None = Field(default=None, ge=1900, le=2100)
    hr_max_bpm: int = Field(default=190, ge=100, le=240)
    hr_zones_bpm: tuple[ZoneBpm, ZoneBpm, ZoneBpm, ZoneBpm] | None = None
    weight_kg: float | None = Field(default=None, ge=20, le=300)
    clubs: list[str] = Field(default=[], max_length=50)
    follows: list[str] = Field(default=[], max_length=MAX_FOLLOWS)
    blocks: list[str] = Field(default=[], max_length=MAX_FOLLOWS)


class EffortList(Out):
    """GET /athletes/{id}/efforts?segment=: by segment, the fastest first."""

    efforts: list[EffortLine]


class DeviceLine(LiveDevice):
    """One device of GET /devices. `athlete` null: counts for nobody known now."""

    athlete: str | None
    athlete_name: str | None
    binding: str | None  # the binding that says so; null when the node itself stamps it


class DeviceList(Out):
    """GET /devices. Staff only."""

    devices: list[DeviceLine]


class BindingLine(Out):
    """Whom a device counts for, from `from_us` to `to_us` (exclusive); null is open. `node` empty: the device numbers its own samples."""

    id: str
    node: str
    device: str
    athlete: str
    athlete_name: str
    from_us: int | None
    to_us: int | None


class BindingList(Out):
    """GET /bindings: the latest first. Staff only."""

    bindings: list[BindingLine]


class BindingNew(In):
    """POST /bindings. Staff only. Without `from_us`: from the start of the device's activity under way, else from now.

    With `name` an athlete nobody described yet is made with that name."""

    node: str = Field(default="", max_length=32)
    device: str = Field(min_length=1, max_length=32)
    athlete: str = Field(min_length=1, max_length=32)
    name: str | None = Field(default=None, min_length=1, max_length=80)
    from_us: int | None = None
    to_us: int | None = None


class BindingEnd(In):
    """POST /bindings/{id}/end. Without `to_us`: now. (DELETE /bindings/{id} undoes it as if it had never been.)"""

    to_us: int | None = None


# events


class EventLine(Out):
    """An event of the outbox; `body` is the CloudEvent."""

    seq: int
    id: str
    type: str
    topic: str
    key: str
    time_us: int
    body: dict[str, Any]


class EventPage(Out):
    """GET /events?after=&limit=: oldest first. `last_seq`: give it as `after` next time. Staff only."""

    events: list[EventLine]
    last_seq: int
