"""What the box counts, as figures for operators. Asked inside the event loop (`broker.watch.in_loop`): the spool's books live there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from broker.metric_list import (
    GATEWAY_COUNTS,
    PART_CRASHES,
    SPOOL_ALARM,
    SPOOL_CAP,
    SPOOL_LEFT,
    SPOOL_REFUSED,
    SPOOL_ROWS,
    SPOOL_ROWS_LOST,
    SPOOL_SIZE,
)
from broker.metrics import Measure
from gateway.spool import SpoolStats

CRASHED: Final = "crashed_"
_OF_THE_SPOOL: Final = "spool_"


def of_spool(stats: SpoolStats) -> Iterator[Measure]:
    """The spool: what is owed, how much room is left and for how long, what was lost or refused."""
    yield SPOOL_ROWS.of(stats.rows)
    yield SPOOL_SIZE.of(stats.bytes)
    yield SPOOL_CAP.of(stats.cap_bytes)
    if stats.hours_left is not None:
        yield SPOOL_LEFT.of(stats.hours_left)
    for reason, rows in (("rejected", stats.rejected), ("dropped", stats.dropped), ("corrupt", stats.corrupt)):
        yield SPOOL_ROWS_LOST.of(rows, reason)
    for reason, rows in stats.refused.items():
        yield SPOOL_REFUSED.of(rows, reason)
    yield SPOOL_ALARM.of(int(bool(stats.alarm)))


def of_counters(counters: Mapping[str, int]) -> Iterator[Measure]:
    """The counters of the node's state: those of its parts, and crashes."""
    crashes: Counter[str] = Counter()
    for name, count in counters.items():
        if name.startswith(CRASHED):
            part = name.removeprefix(CRASHED)
            crashes["file" if part.startswith("file_") else part] += count
        elif not name.startswith(_OF_THE_SPOOL):
            yield GATEWAY_COUNTS.of(count, name)
    for part, count in crashes.items():
        yield PART_CRASHES.of(count, part)
