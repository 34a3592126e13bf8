"""The topics of the events on Kafka.

A topic keeps the events of an entity in order, by key, so its number of partitions never changes once it is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.events.catalogue import CATALOGUE

EVENT_PARTITIONS: Final = 12
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `domain` is who may read it; `retention_ms` -1 keeps for ever."""

    name: str
    domain: str
    partitions: int
    retention_ms: int
    compacted: bool = False

    @property
    def config(self) -> dict[str, str]:
        """The configuration of the topic as Kafka spells it."""
        policy = "compact" if self.compacted else "delete"
        return {"cleanup.policy": policy, "retention.ms": str(self.retention_ms), "compression.type": "producer"}


def event_topics() -> tuple[Topic, ...]:
    """The topics of the events, by name; one is kept as long as that of its events that is kept longest."""
    days: dict[str, int] = {}
    domains: dict[str, str] = {}
    for kind in CATALOGUE.values():
        days[kind.topic] = max(days.get(kind.topic, 0), kind.retention_days)
        domains[kind.topic] = kind.domain
    return tuple(Topic(name, domains[name], EVENT_PARTITIONS, days[name] * DAY_MS) for name in sorted(days))
