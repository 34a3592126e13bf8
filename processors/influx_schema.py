"""What is kept in InfluxDB: five buckets, their measurements with fixed types, how long each is kept and how many series it may have.

The one table of the sink, of its set-up and of docs/influx.md. A person's id is a tag of `tele` in `live` and nowhere else: a tag can be
deleted by a predicate and a field cannot, and that bucket forgets after two days by itself. No name is a tag and a field. Points of one
instant and the same tags overwrite each other silently, so where people are left out a time gets jitter (`jittered_ns`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from processors.line_protocol import Field, Measurement
from processors.samples import hash64

_DAY_S: Final = 86_400
ALARM_PCT: Final = 80  # of its limit of series: a bucket warns

TELE: Final = Measurement(
    "tele",
    ("ath", "kind", "tenant"),
    (
        Field("dist", "float", 1),
        Field("lat", "float", 7), Field("lon", "float", 7), Field("ele", "float", 1), Field("spd", "float", 2),
        Field("hr", "int"), Field("pw", "int"), Field("cad", "int"),
    ),
    "us",
)  # fmt: skip
EFFORT: Final = Measurement(
    "effort",
    ("seg", "sport", "tenant"),
    (Field("ms", "int"), Field("id", "text"), Field("stands", "int"), Field("avg_hr", "int"), Field("avg_pw", "int")),
)
BOARD: Final = Measurement("board", ("place", "seg", "tenant"), (Field("stands", "int"), Field("ms", "int"), Field("gap", "int")))
_TOTALS: Final = (
    Field("n", "int"), Field("athletes", "int"), Field("dist", "float", 1), Field("hr_mean", "float", 1), Field("pw_mean", "float", 1),
)  # fmt: skip
ACT_1M: Final = Measurement("act_1m", ("region", "source", "sport", "tenant"), _TOTALS)
ACT_1H: Final = Measurement("act_1h", ("region", "source", "sport", "tenant"), _TOTALS)
HEALTH: Final = Measurement(
    "health",
    ("gw", "kind", "tenant"),
    (
        Field("dev", "text"),
        Field("bat", "int"), Field("rssi", "int"), Field("drop", "int"), Field("up_s", "int"),
        Field("online", "int"), Field("spool", "int"), Field("hours_left", "float", 1),
    ),
)  # fmt: skip
PIPE: Final = Measurement(
    "pipe",
    ("node", "stage"),
    (Field("in", "int"), Field("out", "int"), Field("late", "int"), Field("dlq", "int"), Field("lag", "int"), Field("lag_ms", "int")),
)


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket: `series` is the most it may have, `shard_s` how much time a shard of it holds."""

    name: str
    keep_s: int
    shard_s: int
    series: int
    measurements: tuple[Measurement, ...]
    about: str


BUCKETS: Final = {
    bucket.name: bucket
    for bucket in (
        Bucket("live", 2 * _DAY_S, _DAY_S, 500_000, (TELE,), "samples as the live stage believes them; the only one that knows people"),
        Bucket("seg", 90 * _DAY_S, _DAY_S, 200_000, (EFFORT, BOARD), "final efforts on segments, the leading places of boards"),
        Bucket("agg", 730 * _DAY_S, 7 * _DAY_S, 50_000, (ACT_1M, ACT_1H), "what was moved, by minute and by hour"),
        Bucket("dev", 30 * _DAY_S, _DAY_S, 200_000, (HEALTH,), "health of devices and gateways"),
        Bucket("ops", 14 * _DAY_S, _DAY_S, 5_000, (PIPE,), "counters of the pipeline"),
    )
}
BUCKET_OF: Final = {m.name: bucket.name for bucket in BUCKETS.values() for m in bucket.measurements}


def jittered_ns(t_us: int, name: str) -> int:
    """The millisecond of a time in ns, with one of its 10^6 nanoseconds drawn from a name: always the same for the same two."""
    return t_us // 1000 * 1_000_000 + hash64(name) % 1_000_000
