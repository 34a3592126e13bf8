"""What `GET /live` and each event of `GET /live/stream` say: `LiveState` (names and units as in `models.py`)."""

from __future__ import annotations

from typing import Literal

from processors.api.kinds import Out, Show


class LiveAthlete(Out):
    """One tile, by rank (distance in the activity under way). `subject` is the stable key: `tenant/athlete`, or `tenant/@node/device` and
    `tenant/@device` for somebody unknown: then `unknown` is true, and POST /bindings with this `node` and `device` names them."""

    subject: str
    athlete: str
    name: str
    show: Show
    unknown: bool
    node: str  # of an unknown device; empty when it numbers its own samples, and for an athlete
    device: str  # of an unknown device
    rank: int
    status: Literal["live", "paused"]
    t_us: int  # of the latest sample
    start_us: int  # of the activity under way
    hr_bpm: int | None
    zone: int | None  # 1-5
    speed_mps: float | None
    distance_m: float
    points: float
    moving_s: float
    power_w: int | None  # without spikes
    cadence_rpm: int | None
    gain_m: float | None  # climbed so far
    normalised_w: float | None  # after half a minute of power
    work_kj: float | None
    rmssd_ms: float | None  # variability of the heart beats of the activity
    trimp: float  # training impulse (Banister)
    zones_s: list[float]  # seconds in heart-rate zones 1-5
    sources: dict[str, str]  # whose samples count now, by channel (heart_rate, motion, power, cadence); empty for screens
    lat: float | None
    lon: float | None


class LiveAttempt(Out):
    """Somebody on a segment now, at metre `metre_m` after `elapsed_ms`. A gap compares with the other's time at the same metre: positive
    is behind; null when there is nobody to compare with. `next_*`: who stands right above
    the athlete on the board of all time (for who is not on it: its last row). `projected_ms`: the time at the finish, when the rest goes as
    the way so far against the athlete's own best (else the leader's, else an even pace); null on the first sixteenth of the way."""

    segment: str
    segment_name: str
    subject: str
    athlete: str
    name: str
    start_us: int
    elapsed_ms: int
    metre_m: float
    length_m: float
    gap_leader_ms: int | None
    gap_own_ms: int | None
    gap_next_ms: int | None
    next_subject: str | None
    next_name: str | None
    next_rank: int | None
    projected_ms: int | None


class BoardMove(Out):
    """A recent change of a segment's board: who came to stand where among the first ten. `seq` only grows.

    `from_rank` null: was not among them; `rank` null: is not any more."""

    seq: int
    t_us: int
    segment: str
    segment_name: str
    subject: str
    athlete: str
    name: str
    rank: int | None
    from_rank: int | None
    elapsed_ms: int | None


class LiveDevice(Out):
    """Frames of one device as its node counts them and as they are stored."""

    node: str
    device: str
    sent: int
    stored: int
    refused: int
    missing: int


class LiveNode(Out):
    """A box, as it says itself."""

    node: str
    online: bool
    spool_rows: int
    hours_left: float | None


class Latency(Out):
    """From a frame closed at the node to its effect stored, milliseconds."""

    p50: float
    p95: float
    p99: float


class LiveState(Out):
    """The latest state of a tenant. A screen gets no `devices` (their names may tell whose they are), only the sums."""

    tenant: str
    role: Literal["staff", "screen"]
    t_us: int
    athletes: list[LiveAthlete]
    attempts: list[LiveAttempt]
    moves: list[BoardMove]  # the last 20, latest first
    devices: list[LiveDevice]
    nodes: list[LiveNode]
    devices_total: int
    devices_equal: int  # sent = stored + refused
    frames_sent: int
    frames_stored: int
    samples: int
    dead_letters: int
    board_changes: int
    activities: int
    efforts: int
    events: int
    latency_ms: Latency
