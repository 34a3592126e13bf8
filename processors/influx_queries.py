"""Flux of what is asked most: one text a question, pivoted, so that a row is a point. Pure; `docs/influx.md` shows them.

Ranking never asks InfluxDB: boards are the platform's.
"""

from __future__ import annotations

import json
from typing import Final

from processors.line_protocol import tag_text

_PIVOT: Final = '|> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
HELD_NOW: Final = '|> last(column: "_time")\n  |> filter(fn: (r) => r.stands == 1)'


def track(bucket: str, tenant: str, athlete: str, start: str, stop: str = "now()") -> str:
    """The samples of an athlete between two times (Flux times: -1h, 2026-01-01T00:00:00Z)."""
    return _flux(bucket, start, stop, "tele", {"tenant": tenant, "ath": athlete}, _PIVOT, '|> sort(columns: ["_time"])')


def efforts(bucket: str, tenant: str, segment: str, start: str, stop: str = "now()") -> str:
    """The efforts on a segment that stand."""
    return _flux(bucket, start, stop, "effort", {"tenant": tenant, "seg": segment}, _PIVOT, "|> filter(fn: (r) => r.stands == 1)")


def board(bucket: str, tenant: str, segment: str, start: str, stop: str = "now()") -> str:
    """How the leading places of a board went; `stands` 0: nobody holds the place from then on."""
    return _flux(bucket, start, stop, "board", {"tenant": tenant, "seg": segment}, _PIVOT)


def board_now(bucket: str, tenant: str, segment: str, start: str, stop: str = "now()") -> str:
    """The leading places as they were told last, those that somebody holds."""
    tags = {"tenant": tenant, "seg": segment}
    return _flux(bucket, start, stop, "board", tags, _PIVOT, HELD_NOW)


def totals(bucket: str, tenant: str, measurement: str, start: str, stop: str = "now()") -> str:
    """What was moved: `act_1m` or `act_1h`."""
    return _flux(bucket, start, stop, measurement, {"tenant": tenant}, _PIVOT)


def health(bucket: str, tenant: str, start: str, stop: str = "now()") -> str:
    """The last that devices and gateways said of themselves."""
    return _flux(bucket, start, stop, "health", {"tenant": tenant}, "|> last()", _PIVOT)


def pipeline(bucket: str, start: str, stop: str = "now()") -> str:
    """The counters of the pipeline."""
    return _flux(bucket, start, stop, "pipe", {}, _PIVOT)


def _flux(bucket: str, start: str, stop: str, measurement: str, tags: dict[str, str], *then: str) -> str:
    """Strings of Flux are written as those of JSON."""
    wanted = {"_measurement": measurement, **{name: tag_text(value) for name, value in tags.items()}}
    filters = " and ".join(f"r.{name} == {json.dumps(value, ensure_ascii=False)}" for name, value in wanted.items())
    steps = [f"from(bucket: {json.dumps(bucket)})", f"|> range(start: {start}, stop: {stop})", f"|> filter(fn: (r) => {filters})", *then]
    return "\n  ".join(steps)
