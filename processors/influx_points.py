"""What the platform knows as points of InfluxDB: samples, health, efforts, boards, counters. Pure; the tables are `influx_schema`'s."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from broker.events import models
from broker.events.envelope import Event
from broker.events.models import utc_us
from processors import believed as b
from processors.influx_schema import BOARD, EFFORT, HEALTH, PIPE, TELE, jittered_ns
from processors.line_protocol import ABSENT, Measurement, Points
from processors.live_row import NO_ALTITUDE, NO_POS

I64 = npt.NDArray[np.int64]

PLACES: Final = 10
Value = int | str | None


class Row(NamedTuple):
    """One point by itself: tag values and field values in the order of its measurement, time in its unit."""

    tags: tuple[str, ...]
    values: tuple[Value, ...]
    t: int


def points_of(measurement: Measurement, rows: Sequence[Row]) -> Points:
    """Rows as columns; None: no value."""
    series: dict[tuple[str, ...], int] = {}
    of = [series.setdefault(row.tags, len(series)) for row in rows]
    columns: list[I64] = []
    texts: dict[str, Sequence[str]] = {}
    for place, field in enumerate(measurement.fields):
        known: dict[str, int] = {}
        made: list[int] = []
        for row in rows:
            value = row.values[place]
            if isinstance(value, str):
                made.append(known.setdefault(value, len(known)))
            else:
                made.append(ABSENT if value is None else value)
        if field.kind == "text":
            texts[field.name] = list(known)
        columns.append(np.array(made, np.int64))
    times = np.array([row.t for row in rows], np.int64)
    return Points(measurement, list(series), np.array(of, np.int64), tuple(columns), times, texts)


def tele_points(block: b.Believed, erased: Collection[str] = ()) -> Points:
    """Samples, an athlete's one after the other; without those of erased subjects."""
    order = np.lexsort((block.t_us, block.subject_of))
    if erased:
        gone = np.array([subject in erased for subject in block.subjects], np.bool_)
        order = order[~gone[block.subject_of[order]]] if len(gone) else order

    def column(values: I64, absent: int) -> I64:
        picked = values[order]
        return np.where(picked == absent, ABSENT, picked)

    split = [subject.partition("/") for subject in block.subjects]
    return Points(
        TELE,
        [(athlete, "smooth", tenant) for tenant, _, athlete in split],
        block.subject_of[order],
        (
            block.dist_um[order] // 100_000,
            column(block.lat, NO_POS), column(block.lon, NO_POS), column(block.altitude_dm, NO_ALTITUDE),
            column(block.speed_cmps, b.ABSENT), column(block.hr_bpm, b.ABSENT), column(block.power_w, b.ABSENT),
            column(block.cadence_rpm, b.ABSENT),
        ),
        block.t_us[order],
        {},
    )  # fmt: skip


def health_points(said: Sequence[b.Health]) -> Points:
    """What devices said of themselves."""
    rows = [
        Row((h.node, "device", h.tenant), (h.device, h.battery_pct, h.rssi_dbm, h.dropped, h.uptime_s, None, None, None), _at(h))
        for h in said
    ]
    return points_of(HEALTH, rows)


def _at(h: b.Health) -> int:
    return jittered_ns(h.t_us, h.device)


class NodeHealth(NamedTuple):
    """A gateway as it reports itself."""

    tenant: str
    node: str
    online: bool
    spool_rows: int
    hours_left: float | None


def node_points(nodes: Sequence[NodeHealth], t_us: int) -> Points:
    """Gateways as they are at a time."""
    rows = [
        Row(
            (n.node, "gateway", n.tenant),
            (n.node, None, None, None, None, int(n.online), n.spool_rows, None if n.hours_left is None else round(n.hours_left * 10)),
            jittered_ns(t_us, n.node),
        )
        for n in nodes
    ]
    return points_of(HEALTH, rows)


def pipe_points(node: str, stages: Mapping[str, Mapping[str, int]], t_us: int) -> Points:
    """Counters of the stages of a process at a time; names of `influx_schema.PIPE`."""
    rows = [Row((node, stage), tuple(counts.get(f.name) for f in PIPE.fields), t_us * 1000) for stage, counts in stages.items()]
    return points_of(PIPE, rows)


class Written(NamedTuple):
    """An effort as it stands in InfluxDB."""

    seg: str
    sport: str
    tenant: str
    t_ns: int
    ms: int


def effort_rows(event: Event, sport: str, before: Written | None) -> tuple[list[Row], Written | None]:
    """What an event of an effort writes, and how the effort stands then. `sport` of its activity.

    Only final efforts are written. One that is timed again keeps its time in InfluxDB, so that it overwrites itself; what is taken back, or
    goes to another series, stays with `stands` 0.
    """
    data = event.data
    if isinstance(data, models.EffortRemoved):
        return ([] if before is None else [_effort_row(data.effort, before, None, None, stands=False)]), None
    if not isinstance(data, models.Effort) or data.timing != "final":
        return [], before
    t_ns = jittered_ns(utc_us(data.started_at) + data.elapsed_ms * 1000, data.effort)
    now = Written(data.segment, sport, event.tenant, t_ns, data.elapsed_ms)
    if before is not None and before[:3] == now[:3]:
        now = now._replace(t_ns=before.t_ns)
    rows = [_effort_row(data.effort, now, data.hr_avg_bpm, data.power_avg_w, stands=not data.kept_off)]
    if before is not None and before[:4] != now[:4]:
        rows.append(_effort_row(data.effort, before, None, None, stands=False))
    return rows, now


def _effort_row(name: str, at: Written, hr_bpm: int | None, power_w: int | None, *, stands: bool) -> Row:
    return Row((at.seg, at.sport, at.tenant), (at.ms, name, int(stands), hr_bpm, power_w), at.t_ns)


def board_rows(event: Event) -> list[Row]:
    """The leading places of a board after a change; nobody's name. One subject moves at a time: who leaves a board that is not full leaves
    its last place vacant, which is told as standing no more, without a time."""
    data = event.data
    if not isinstance(data, models.BoardChanged):
        return []
    t_ns = event.recorded_us * 1000 + event.position % 1000
    held: list[tuple[Value, ...]] = [(1, row.elapsed_ms, row.elapsed_ms - data.top[0].elapsed_ms) for row in data.top[:PLACES]]
    if data.change.rank_before is not None and data.change.rank_after is None and len(held) < PLACES:
        held.append((0, None, None))
    return [Row((f"{place:02d}", data.segment, event.tenant), values, t_ns) for place, values in enumerate(held, 1)]


def segment_points(efforts: Sequence[Row], boards: Sequence[Row]) -> list[Points]:
    """Both measurements of the bucket `seg`."""
    made = [points_of(EFFORT, efforts)] if efforts else []
    return [*made, points_of(BOARD, boards)] if boards else made
