"""What the parts of the platform count, as figures for operators, and what must hold before they are of use.

Each function takes what a part keeps anyway; nothing is counted twice. They are called from the thread of whoever looks.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from broker.errors import Reason
from broker.metric_list import (
    DEAD_DROPPED,
    DEAD_LETTERS,
    EVENTS_BEHIND,
    EVENTS_FAILURES,
    EVENTS_PUBLISHED,
    EVENTS_UNREADABLE,
    INGEST_ALARM,
    INGEST_APPEND_ERRORS,
    INGEST_BATCHES,
    INGEST_BYTES,
    INGEST_FRAMES,
    INGEST_MESSAGES,
    INGEST_REFUSED,
    INGEST_UNKNOWN,
    LOG_END,
    NODES,
    NODES_OWED,
    NODES_SHORT,
    SAMPLE_TO_BOARD,
    STAGE_BATCHES,
    STAGE_BUSY,
    STAGE_COUNTS,
    STAGE_FAILURES,
    STAGE_LAG,
    STAGE_LAG_RECORDS,
    STAGE_POSITION,
    STAGE_RECORDS,
    STAGE_SUBJECTS,
    STAGE_WATERMARK_AGE,
    STATE_SIZE,
    VIEW_LAG,
    VIEW_LAG_RECORDS,
    VIEW_PASSED,
    VIEW_RECORDS,
    VIEW_UNREADABLE,
)
from broker.metrics import Distribution, Measure
from broker.nodeconfig import NodeState
from processors.dead_letters import dead_counts
from processors.ingest import IngestStats
from processors.log import Log, SqliteLog
from processors.stage_stats import StageStats
from processors.wall import wall_us

if TYPE_CHECKING:
    from processors.event_publisher import Published  # brings a Kafka client
    from processors.kafka_view import KafkaView

CAUGHT_UP_S: Final = 10.0  # a stage whose oldest waiting record is older is not ready: what it shows is old
LATENCY_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SHORT_H: Final = {"1h": 1.0, "6h": 6.0, "24h": 24.0}


def of_ingest(stats: IngestStats) -> Iterator[Measure]:
    """What ingest took and refused; every reason from the start, because a counter that appears with its first row has not grown for who
    looks for that."""
    yield INGEST_MESSAGES.of(stats.messages)
    yield INGEST_FRAMES.of(stats.frames)
    yield INGEST_BYTES.of(stats.bytes)
    yield INGEST_BATCHES.of(stats.batches)
    yield INGEST_UNKNOWN.of(stats.unknown_layouts)
    yield INGEST_APPEND_ERRORS.of(stats.append_errors)
    yield INGEST_ALARM.of(int(bool(stats.alarm)))
    refused = dict.fromkeys(map(str, Reason), 0) | dict(stats.refused)
    for reason, rows in refused.items():
        yield INGEST_REFUSED.of(rows, reason)


def of_log(log: SqliteLog) -> Iterator[Measure]:
    """The log and its dead letters."""
    yield LOG_END.of(log.end())
    dead = dead_counts(log)
    for reason, rows in dead.by_reason.items():
        yield DEAD_LETTERS.of(rows, reason)
    yield DEAD_DROPPED.of(dead.dropped)
    yield size_of("log", log.path)


def of_dead(by_reason: Mapping[str, int]) -> Iterator[Measure]:
    """The dead letters of a cluster."""
    for reason, rows in by_reason.items():
        yield DEAD_LETTERS.of(rows, reason)


def size_of(store: str, path: Path) -> Measure:
    """Bytes of a SQLite file with what is not merged into it yet; of a folder, all below it. What goes meanwhile counts nothing."""
    parts = path.rglob("*") if path.is_dir() else (path, path.with_name(f"{path.name}-wal"))
    return STATE_SIZE.of(sum(map(_file_bytes, parts)), store)


def _file_bytes(path: Path) -> int:
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


class Lag:
    """How far a stage is behind the end of its log."""

    def __init__(self, log: Log, position: Callable[[], int], clock_us: Callable[[], int] = wall_us) -> None:
        self._log = log
        self._position = position
        self._clock_us = clock_us

    def records(self) -> int:
        """Records not processed yet."""
        return max(self._log.end() - self._position(), 0)

    def seconds(self) -> float:
        """How long the oldest of them has been in the log; 0 when there is none."""
        _, waiting = self._log.read(self._position(), 1)
        return max(self._clock_us() - waiting[0].appended_us, 0) / 1e6 if waiting else 0.0

    def holds(self) -> str:
        """A condition of readiness: caught up."""
        behind_s = self.seconds()
        return "" if behind_s <= CAUGHT_UP_S else f"{self.records()} records behind, the oldest {behind_s:.0f} s old"


def of_stage(name: str, stats: StageStats, position: int, lag: Lag, clock_us: Callable[[], int] = wall_us) -> Iterator[Measure]:
    """One stage: where it is, how far behind, what it did."""
    yield STAGE_POSITION.of(position, name)
    yield STAGE_LAG_RECORDS.of(lag.records(), name)
    yield STAGE_LAG.of(lag.seconds(), name)
    yield STAGE_RECORDS.of(stats.records, name)
    yield STAGE_BATCHES.of(stats.batches, name)
    yield STAGE_BUSY.of(stats.busy_s, name)
    yield STAGE_FAILURES.of(stats.failures, name)
    yield STAGE_SUBJECTS.of(stats.subjects, name)
    if stats.newest_us:
        yield STAGE_WATERMARK_AGE.of(max(clock_us() - stats.newest_us, 0) / 1e6, name)
    for of, count in dict(stats.counts).items():
        yield STAGE_COUNTS.of(count, name, of)


def of_latency(buckets_ms: list[int]) -> Measure:
    """The histogram of the runner (one bucket a millisecond) with bounds of a scrape."""
    held = np.array(buckets_ms, np.int64)
    edges = [0, *(int(bound * 1000) + 1 for bound in LATENCY_BOUNDS_S), len(held)]
    counts = [int(held[low:high].sum()) for low, high in pairwise(edges)]
    return SAMPLE_TO_BOARD.of(Distribution(LATENCY_BOUNDS_S, counts, float(held @ np.arange(len(held))) / 1000))


def of_nodes(nodes: Mapping[tuple[str, str], NodeState]) -> Iterator[Measure]:
    """The fleet, as its nodes report it."""
    states = list(dict(nodes).values())
    yield NODES.of(sum(state.online for state in states), "online")
    yield NODES.of(sum(not state.online for state in states), "offline")
    yield NODES_OWED.of(sum(state.spool_rows for state in states))
    for within, hours in SHORT_H.items():
        yield NODES_SHORT.of(sum(state.hours_left is not None and state.hours_left < hours for state in states), within)


def of_publisher(done: Published) -> Iterator[Measure]:
    """The outbox on its way to Kafka."""
    yield EVENTS_PUBLISHED.of(done.events)
    yield EVENTS_UNREADABLE.of(done.unreadable)
    yield EVENTS_FAILURES.of(done.failures)
    yield EVENTS_BEHIND.of(done.behind)


def of_view(view: KafkaView, clock_us: Callable[[], int] = wall_us) -> Iterator[Measure]:
    """The follower that keeps a state file for readers."""
    yield VIEW_RECORDS.of(view.records)
    yield VIEW_PASSED.of(view.passed)
    yield VIEW_UNREADABLE.of(view.unreadable)
    for topic, waiting in view.lag.records(view.end_of).items():
        yield VIEW_LAG_RECORDS.of(waiting, topic)
    for topic, behind_s in view.lag.seconds(view.end_of, clock_us() / 1e6).items():
        yield VIEW_LAG.of(behind_s, topic)
