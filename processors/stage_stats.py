"""What a stage did since its process started, as plain counters: the runner writes them, `processors/measures.py` tells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class StageStats:
    """`newest_us`: the time of the newest sample processed (UTC microseconds; 0: none yet); recordings that are replayed do not count."""

    records: int = 0
    batches: int = 0
    failures: int = 0
    busy_s: float = 0.0
    newest_us: int = 0
    subjects: int = 0
    last_error: str = ""
    counts: Counter[str] = field(default_factory=Counter[str])

    def committed(self, records: int, busy_s: float, counts: Iterable[tuple[str, int]], newest_us: int, subjects: int) -> None:
        """One more transaction is durable: so many records, and what came of them by name."""
        self.records += records
        self.batches += 1
        self.busy_s += busy_s
        self.counts.update(dict(counts))
        self.newest_us = max(self.newest_us, newest_us)
        self.subjects = subjects
        self.last_error = ""

    def failed(self, why: str) -> None:
        """A transaction was given up; it is tried again."""
        self.failures += 1
        self.last_error = why
