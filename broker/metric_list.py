"""Every figure a process of ours can tell: the one list of names, for dashboards, alerts and docs/operations.md.

A counter counts since the process started, unless it says otherwise. A label has few values, all known beforehand; none names a person,
a device or a node. To count something new: a line here, and a source (`Watch.measure`) where it is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from broker.metrics import PREFIX, SERIES_LEFT_OUT, SOURCE_FAILURES, Kind, Metric

PARTS: Final[dict[str, list[Metric]]] = {}
"""The metrics by the part that tells them."""


def _of(part: str) -> Callable[..., Metric]:
    def metric(name: str, kind: Kind, says: str, unit: str = "", labels: tuple[str, ...] = ()) -> Metric:
        made = Metric(PREFIX + name, kind, says, unit, labels)
        PARTS.setdefault(part, []).append(made)
        return made

    return metric


_metric = _of("every process")
BUILD: Final = _metric("build", "info", "The version that runs, and as what.", labels=("version", "role"))
LIVE: Final = _metric("live", "gauge", "1 while every loop of the process moves (/healthz).")
READY: Final = _metric("ready", "gauge", "1 while its links are up and it is caught up (/readyz).")
DRAINING: Final = _metric("draining", "gauge", "1 once it was told to stop.")
LINK_UP: Final = _metric("link_up", "gauge", "1 while a connection stands.", labels=("link",))
LINK_CONNECTS: Final = _metric("link_connects", "counter", "Connections made.", labels=("link",))
LOG_LINES: Final = _metric("log_lines", "counter", "Lines written to the process's own log.", labels=("level",))
DISK_FREE: Final = _metric("disk_free_bytes", "gauge", "Free space where the process keeps its data.", "bytes")
STATE_SIZE: Final = _metric("state_size_bytes", "gauge", "Size of what the process keeps on disk.", "bytes", ("store",))

_metric = _of("ingest")
INGEST_MESSAGES: Final = _metric("ingest_messages", "counter", "Messages of nodes taken.")
INGEST_FRAMES: Final = _metric("ingest_frames", "counter", "Frames made durable in the log, before they were acknowledged.")
INGEST_BYTES: Final = _metric("ingest_received_bytes", "counter", "Bytes of messages taken.", "bytes")
INGEST_BATCHES: Final = _metric("ingest_batches", "counter", "Durable appends.")
INGEST_REFUSED: Final = _metric(
    "ingest_refused_rows", "counter", "Rows refused, each time they arrive, by reason (broker/errors.py).", labels=("reason",)
)
INGEST_UNKNOWN: Final = _metric(
    "ingest_unknown_layout_frames", "counter", "Frames of a layout this version does not know: stored all the same."
)
INGEST_APPEND_ERRORS: Final = _metric(
    "ingest_append_errors", "counter", "Appends that failed and were tried again: nothing is acknowledged."
)
INGEST_ALARM: Final = _metric("ingest_alarm", "gauge", "1 while the log cannot be written.")

_metric = _of("log and dead letters")
LOG_END: Final = _metric("log_end_position", "gauge", "The last position of the log.")
DEAD_LETTERS: Final = _metric(
    "dead_letters",
    "counter",
    "Different rows refused since the log was made, by reason; on a cluster (api) those of 30 days.",
    labels=("reason",),
)
DEAD_DROPPED: Final = _metric("dead_letters_dropped", "counter", "Dead letters no longer kept: the oldest, beyond the caps.")

_metric = _of("stages")
STAGE_POSITION: Final = _metric(
    "stage_position", "gauge", "The last position of the log that is processed and committed.", labels=("stage",)
)
STAGE_LAG_RECORDS: Final = _metric("stage_lag_records", "gauge", "Records of the log not processed yet.", labels=("stage",))
STAGE_LAG: Final = _metric(
    "stage_lag_seconds", "gauge", "How long the oldest record not processed yet has been in the log.", "seconds", ("stage",)
)
STAGE_WATERMARK_AGE: Final = _metric(
    "stage_watermark_age_seconds", "gauge", "Age of the newest sample that is processed; grows while nobody moves.", "seconds", ("stage",)
)
STAGE_RECORDS: Final = _metric("stage_records", "counter", "Records of the log processed.", labels=("stage",))
STAGE_BATCHES: Final = _metric("stage_batches", "counter", "Transactions committed.", labels=("stage",))
STAGE_BUSY: Final = _metric("stage_busy_seconds", "counter", "Time spent in processing, commits included.", "seconds", ("stage",))
STAGE_FAILURES: Final = _metric("stage_failures", "counter", "Transactions that failed and were tried again.", labels=("stage",))
STAGE_COUNTS: Final = _metric(
    "stage_counts", "counter", "What came of the records: frames, samples, repeats, late_batches, board_changes ...", labels=("stage", "of")
)
STAGE_SUBJECTS: Final = _metric("stage_subjects", "gauge", "Subjects whose state is in memory.", labels=("stage",))
STAGE_PARTITIONS: Final = _metric("stage_partitions", "gauge", "Partitions this replica holds; stages on Kafka only.", labels=("stage",))
SAMPLE_TO_BOARD: Final = _metric(
    "sample_to_board_seconds",
    "histogram",
    "From the last sample of a frame to its board change being committed; not of backlogs.",
    "seconds",
)

_metric = _of("view")
VIEW_RECORDS: Final = _metric("view_records", "counter", "Records taken into the state file that `paceline api` serves.")
VIEW_PASSED: Final = _metric(
    "view_passed", "counter", "Records of which nothing was of its part of the tenants (`view.part`), passed over."
)
VIEW_LAG_RECORDS: Final = _metric(
    "view_lag_records", "gauge", "Records of a topic not taken yet, as far as the last fetch told.", labels=("topic",)
)
VIEW_LAG: Final = _metric("view_lag_seconds", "gauge", "About how old the oldest of them is.", "seconds", ("topic",))
VIEW_UNREADABLE: Final = _metric("view_unreadable", "counter", "Records that could not be read and were passed over.")

_metric = _of("nodes, as the platform hears them")
NODES: Final = _metric("nodes", "gauge", "Nodes that reported a state.", labels=("state",))
NODES_OWED: Final = _metric("nodes_owed_frames", "gauge", "Frames in the spools of all nodes that are not stored here yet.")
NODES_SHORT: Final = _metric("nodes_short_of_room", "gauge", "Nodes whose spool is full within that time.", labels=("within",))

_metric = _of("gateway")
SPOOL_ROWS: Final = _metric("spool_rows", "gauge", "Frames in the spool that are owed to the platform.")
SPOOL_SIZE: Final = _metric("spool_size_bytes", "gauge", "Bytes of the spool in use.", "bytes")
SPOOL_CAP: Final = _metric("spool_cap_bytes", "gauge", "Bytes the spool may use.", "bytes")
SPOOL_LEFT: Final = _metric(
    "spool_left_hours", "gauge", "Hours until the spool is full at the pace of now; absent until that is known.", "hours"
)
SPOOL_ROWS_LOST: Final = _metric(
    "spool_lost_rows", "counter", "Frames of this epoch that the spool could not keep: rejected, dropped, corrupt.", labels=("reason",)
)
SPOOL_REFUSED: Final = _metric(
    "spool_refused_rows", "counter", "Frames of this epoch that the platform refused, by reason.", labels=("reason",)
)
SPOOL_ALARM: Final = _metric("spool_alarm", "gauge", "1 while the spool cannot be written.")
PART_CRASHES: Final = _metric("part_crashes", "counter", "Parts that failed and were started again.", labels=("part",))
GATEWAY_COUNTS: Final = _metric(
    "gateway_counts", "gauge", "What the box counts of devices and radios, as in its state document.", labels=("of",)
)

_metric = _of("event publisher")
EVENTS_PUBLISHED: Final = _metric("events_published", "counter", "Events acknowledged by Kafka.")
EVENTS_UNREADABLE: Final = _metric("events_unreadable", "counter", "Events of the outbox that could not be read and were passed over.")
EVENTS_FAILURES: Final = _metric("events_failures", "counter", "Sends that failed: the batch goes again.")
EVENTS_BEHIND: Final = _metric("events_behind", "gauge", "Events of the outbox not published yet (at most one batch is counted).")

_metric = _of("InfluxDB sink")
INFLUX_LINES: Final = _metric("influx_lines", "counter", "Lines by what became of them, since the outbox began.", labels=("of",))
INFLUX_WAITING: Final = _metric("influx_waiting_lines", "gauge", "Lines in the outbox.")
INFLUX_WAITING_BYTES: Final = _metric("influx_waiting_bytes", "gauge", "Bytes of them, compressed.", "bytes")
INFLUX_SERIES: Final = _metric("influx_series_ratio", "gauge", "Series of a bucket as a part of what it may have.", "ratio", ("bucket",))

_metric = _of("enrolment service")
ENROL_CONNECTIONS: Final = _metric("enrol_connections", "counter", "Connections taken.")
ENROL_TURNED_AWAY: Final = _metric(
    "enrol_turned_away", "counter", "Connections ended at once: too many are open, in all or of one address."
)
ENROL_FAILED_HANDSHAKES: Final = _metric("enrol_failed_handshakes", "counter", "TLS handshakes that failed or took too long.")
ENROL_OPEN: Final = _metric("enrol_open_connections", "gauge", "Connections open now, handshakes among them.")
ENROL_ANSWERS: Final = _metric(
    "enrol_answers", "counter", "Questions answered: enrolled, renewed, standing, roots, or the word of the refusal.", labels=("of",)
)

PARTS["every process"] += [SOURCE_FAILURES, SERIES_LEFT_OUT]
METRICS: Final = tuple(metric for part in PARTS.values() for metric in part)
