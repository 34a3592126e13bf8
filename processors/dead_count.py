"""How many rows of whom a cluster refused, and why: what an API shows beside what it serves.

Follows the topic of the dead letters in a thread of its own, from its beginning, so a count is of the letters that are kept and of those
that come while this runs. Each letter counts once, however often it was sent, also when it was replayed. While Kafka is away the
counts are those of before; no reader waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, Self

from broker.errors import LinkError
from processors.accept import DeadLetter
from processors.dead_index import DeadIndex, Place

_log = logging.getLogger(__name__)

AGAIN_S: Final = 5.0
_END_S: Final = 10.0

Letters = Iterator[tuple[Place, str, DeadLetter]]


class Followed(Protocol):
    """Where the letters come from: `KafkaDeadLetters`."""

    def followed(self, stop: threading.Event) -> Iterator[Letters]: ...


class DeadCount:
    """Counts between `with` and its end."""

    def __init__(self, letters: Followed, *, again_s: float = AGAIN_S) -> None:
        self._letters = letters
        self._again_s = again_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dead-letters", daemon=True)
        self._counts: Mapping[tuple[str, str], int] = {}
        self._told = ""

    def of(self, tenant: str) -> int:
        """Different rows of a tenant that were refused."""
        return sum(count for (of, _), count in self._counts.items() if of == tenant)

    def by_reason(self) -> dict[str, int]:
        """Different rows of all tenants that were refused."""
        made = Counter[str]()
        for (_, reason), count in self._counts.items():
            made[reason] += count
        return dict(made)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(_END_S)

    def _run(self) -> None:
        with DeadIndex() as index:
            while not self._stop.is_set():
                try:
                    for letters in self._letters.followed(self._stop):
                        index.take(letters)
                        self._counts = index.tallies()
                except LinkError as error:
                    self._say(error)
                    self._stop.wait(self._again_s)  # what is read again counts as sent again

    def _say(self, error: LinkError) -> None:
        """Once for each cause."""
        if error.cure != self._told:
            self._told = error.cure
            _log.warning("dead letters are not counted now: %s; cure: %s", error.message, error.cure)
