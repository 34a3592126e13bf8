"""Every topic of the platform on Kafka: what it holds, how many partitions, how long it is kept, who reads it. `paceline topics apply`
makes a cluster so.

A topic keeps what belongs together in order by its key (murmur2, `broker/kafka.py`), so its number of partitions never changes once it is
made. A compacted topic keeps the last value of each key for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.events.catalogue import CATALOGUE

FRAMES: Final = "telemetry.frames"
DEAD: Final = "telemetry.dlq"
REFERENCE: Final = "reference.changes"
RESULTS: Final = "stage.results"
BOARD_WORDS: Final = "stage.boards"
LIVE_STATE: Final = "live.state"
ACTIVITIES_STATE: Final = "activities.state"
BOARDS_STATE: Final = "boards.state"
BELIEVED: Final = "live.samples"
API_TRANSACTIONS: Final = "paceline-api-"  # ids of transactions begin so: of those who write `reference.changes`

FRAME_PARTITIONS: Final = 64  # the most replicas a stage can have; state is bound to it
SAMPLES_PARTITIONS: Final = 8  # all of a round of the live stage in few requests: what asks Kafka for most is a request, not a record
EVENT_PARTITIONS: Final = 12
DAY_MS: Final = 86_400_000
FRAMES_DAYS: Final = 7  # longer than any outage of a stage; a person's raw data ends there by itself
DEAD_DAYS: Final = 30
STATE_LAG_MS: Final = 6 * 3_600_000  # a value whose successor was never committed, because its writer died, is still needed
SAMPLES_DAYS: Final = 1  # for followers that put them elsewhere
GONE_DAYS: Final = 30  # so long it is told that a cell is gone: to disks of replicas and state files that were away for less
FOR_EVER: Final = -1
PLATFORM: Final = "platform"
MAX_RECORD_BYTES: Final = 1_048_588  # of a batch of records: Kafka's own default, said so that a smaller one of the cluster does not count


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `domain` is who may read it; `retention_ms` FOR_EVER keeps what is not replaced."""

    name: str
    domain: str
    partitions: int
    retention_ms: int
    compacted: bool = False
    lag_ms: int = 0  # so long a value is kept that was replaced
    placed: bool = False  # who writes names the partition, whatever the key: there may be more of them than are written

    @property
    def config(self) -> dict[str, str]:
        """The configuration of the topic as Kafka spells it."""
        policy = "compact" if self.compacted else "delete"
        return {
            "cleanup.policy": policy,
            "retention.ms": str(self.retention_ms),
            "compression.type": "producer",
            "max.message.bytes": str(MAX_RECORD_BYTES),
            **({"min.compaction.lag.ms": str(self.lag_ms)} if self.lag_ms else {}),
            **({"delete.retention.ms": str(GONE_DAYS * DAY_MS)} if self.compacted else {}),
        }

    @property
    def kept(self) -> str:
        """How long a record is kept, for a person to read."""
        return "the last of each key" if self.compacted else f"{self.retention_ms // DAY_MS} days"


def platform_topics() -> tuple[Topic, ...]:
    """The topics that the platform keeps for itself."""
    return (
        Topic(
            FRAMES, PLATFORM, FRAME_PARTITIONS, FRAMES_DAYS * DAY_MS
        ),  # key: the subject; frames, wakes, and what uploads say of themselves
        Topic(DEAD, PLATFORM, EVENT_PARTITIONS, DEAD_DAYS * DAY_MS),  # key: which row; what ingest refused, and why
        Topic(
            REFERENCE, PLATFORM, 1, FOR_EVER, compacted=True, lag_ms=FRAMES_DAYS * DAY_MS
        ),  # key: tenant/entity/id; one partition: every stage reads it whole, in order
        Topic(RESULTS, PLATFORM, FRAME_PARTITIONS, FRAMES_DAYS * DAY_MS),  # key: the subject; what the live stage tells the finish stage
        Topic(BOARD_WORDS, PLATFORM, FRAME_PARTITIONS, FRAMES_DAYS * DAY_MS),  # key: the board; changed efforts and entries
        # changelogs of the stages: what they are made again from, and what readers show
        Topic(LIVE_STATE, PLATFORM, FRAME_PARTITIONS, FOR_EVER, compacted=True, lag_ms=STATE_LAG_MS),
        Topic(ACTIVITIES_STATE, PLATFORM, FRAME_PARTITIONS, FOR_EVER, compacted=True, lag_ms=STATE_LAG_MS),
        Topic(BOARDS_STATE, PLATFORM, FRAME_PARTITIONS, FOR_EVER, compacted=True, lag_ms=STATE_LAG_MS),
        Topic(
            BELIEVED, PLATFORM, SAMPLES_PARTITIONS, SAMPLES_DAYS * DAY_MS, placed=True
        ),  # key: that of the stage; samples as it believes them
    )


def event_topics() -> tuple[Topic, ...]:
    """The topics of the events, by name; one is kept as long as that of its events that is kept longest."""
    days: dict[str, int] = {}
    domains: dict[str, str] = {}
    for kind in CATALOGUE.values():
        days[kind.topic] = max(days.get(kind.topic, 0), kind.retention_days)
        domains[kind.topic] = kind.domain
    return tuple(Topic(name, domains[name], EVENT_PARTITIONS, days[name] * DAY_MS) for name in sorted(days))


def all_topics() -> tuple[Topic, ...]:
    """Every topic there is."""
    return (*platform_topics(), *event_topics())
