"""What the enrolment service counts, as figures for operators; no label names a node or an address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from broker.metric_list import ENROL_ANSWERS, ENROL_CONNECTIONS, ENROL_FAILED_HANDSHAKES, ENROL_OPEN, ENROL_TURNED_AWAY
from broker.metrics import Measure


@dataclass(slots=True)
class EnrolCounts:
    """Since the service started. `open` by address, handshakes under way among them; `answers` by what they said."""

    connections: int = 0
    turned_away: int = 0
    failed_handshakes: int = 0
    open: Counter[str] = field(default_factory=Counter[str])
    answers: Counter[str] = field(default_factory=Counter[str])


def of_enrolment(counts: EnrolCounts) -> Iterator[Measure]:
    """The service's counters."""
    yield ENROL_CONNECTIONS.of(counts.connections)
    yield ENROL_TURNED_AWAY.of(counts.turned_away)
    yield ENROL_FAILED_HANDSHAKES.of(counts.failed_handshakes)
    yield ENROL_OPEN.of(sum(dict(counts.open).values()))
    for what, count in dict(counts.answers).items():
        yield ENROL_ANSWERS.of(count, what)
