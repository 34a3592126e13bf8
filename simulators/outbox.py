"""The outbox of a simulated node: rows of one epoch until they are acknowledged, and when to send which again. Pure.

Rows go out in order, at most `window_rows` unacknowledged. A row without an answer is sent again after `retry_us`; when nothing at
all is heard, one probe bundle per back-off (doubling, with jitter), so that a silent far end is not flooded. Full: new rows are
rejected and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from broker.acks import Ack
from broker.bundles import HEADER_BYTES, MAX_BUNDLE_BYTES, MAX_ROWS, encode_bundle
from simulators.noise import uniform

_NEVER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """Limits of an outbox."""

    window_rows: int = 256
    bundle_rows: int = 32
    retry_us: int = 2_000_000
    max_retry_us: int = 30_000_000
    cap_rows: int = 100_000

    def __post_init__(self) -> None:
        if not 1 <= self.bundle_rows <= min(MAX_ROWS, self.window_rows):
            raise ValueError(f"bundle_rows {self.bundle_rows} must be 1..{min(MAX_ROWS, self.window_rows)}")


@dataclass(frozen=True, slots=True)
class Settled:
    """What one ack ended: row numbers."""

    stored: tuple[int, ...]
    refused: tuple[tuple[int, str], ...]


class Outbox:
    """Rows `n` of one epoch."""

    def __init__(self, epoch: int, settings: OutboxSettings, key: int = 0) -> None:
        self.epoch = epoch
        self.rejected = 0
        self.sent_rows = 0
        self.resent_rows = 0
        self._settings = settings
        self._key = key
        self._rows: dict[int, bytes] = {}  # ascending n
        self._next_n = 0
        self._unsent = 0  # rows from here on were never sent on this link
        self._sent_us: dict[int, int] = {}
        self._silent_us = _NEVER  # when the first message without any answer since was sent
        self._backoff_us = settings.retry_us
        self._probe_us = 0
        self._probes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def unacked(self) -> Sequence[tuple[int, bytes]]:
        """Everything still owed, by row."""
        return tuple(self._rows.items())

    @property
    def taken(self) -> int:
        """Rows ever taken in this epoch."""
        return self._next_n

    def append(self, frame: bytes) -> int | None:
        """Keep one frame; its row number, or None when full."""
        if len(self._rows) >= self._settings.cap_rows:
            self.rejected += 1
            return None
        n = self._next_n
        self._rows[n] = frame
        self._next_n = n + 1
        return n

    def due(self, now_us: int) -> list[bytes]:
        """The bundles to send now."""
        if not self._rows:
            return []
        if now_us - self._silent_us >= self._settings.retry_us:
            return self._probe(now_us)
        retry_us = self._settings.retry_us
        again = [n for n, at in self._sent_us.items() if now_us - at >= retry_us]
        self.resent_rows += len(again)
        room = self._settings.window_rows - len(self._sent_us)
        fresh = range(self._unsent, min(self._next_n, self._unsent + max(0, room)))
        self._unsent = fresh.stop if fresh else self._unsent
        return self._bundles([*sorted(again), *(n for n in fresh if n in self._rows)], now_us)

    def next_us(self, now_us: int) -> int:
        """When `due` may have something again, if nothing else happens."""
        if not self._rows:
            return _NEVER
        retry_us = self._settings.retry_us
        if now_us - self._silent_us >= retry_us:
            return self._probe_us
        if self._unsent < self._next_n and len(self._sent_us) < self._settings.window_rows:
            return now_us
        return min(min(self._sent_us.values(), default=now_us - retry_us), self._silent_us) + retry_us

    def settle(self, ack: Ack) -> Settled:
        """Free the rows an ack names. Acks of another epoch and of rows long gone do nothing."""
        if ack.epoch != self.epoch:
            return Settled((), ())
        self._silent_us, self._backoff_us, self._probe_us = _NEVER, self._settings.retry_us, 0
        stored = tuple(n for first, last in ack.stored for n in self._held(first, last))
        for n in stored:
            self._free(n)
        refused = tuple((n, r.reason) for r in ack.refused for n in self._held(r.first, r.last))
        for n, _ in refused:
            self._free(n)
        return Settled(stored, refused)

    def link_changed(self) -> None:
        """The link went or came: everything owed counts as unsent, and the back-off starts again."""
        self.resent_rows += len(self._sent_us)
        self._sent_us.clear()
        self._unsent = next(iter(self._rows), self._next_n)
        self._silent_us, self._backoff_us, self._probe_us = _NEVER, self._settings.retry_us, 0

    def _held(self, first: int, last: int) -> list[int]:
        if last - first > len(self._rows):
            return [n for n in self._rows if first <= n <= last]
        return [n for n in range(first, last + 1) if n in self._rows]

    def _free(self, n: int) -> None:
        self._rows.pop(n, None)
        self._sent_us.pop(n, None)

    def _probe(self, now_us: int) -> list[bytes]:
        if now_us < self._probe_us:
            return []
        wait_us = round(self._backoff_us * uniform(self._key, self._probes, 0.9, 1.1))
        self._probes += 1
        self._probe_us = now_us + wait_us
        self._backoff_us = min(2 * self._backoff_us, self._settings.max_retry_us)
        first = next(iter(self._rows))
        rows = [n for n in islice(self._rows, self._settings.bundle_rows) if n < first + self._settings.bundle_rows]
        self.resent_rows += len(rows)
        self._unsent = max(self._unsent, rows[-1] + 1)
        return self._bundles(rows, now_us)[:1]

    def _bundles(self, numbers: Sequence[int], now_us: int) -> list[bytes]:
        """Cut `numbers` (ascending) into bundles of consecutive rows and note them as sent."""
        bundles: list[bytes] = []
        start, size = 0, HEADER_BYTES
        for i, n in enumerate(numbers):
            self._sent_us[n] = now_us
            row_bytes = 2 + len(self._rows[n])
            full = i - start == self._settings.bundle_rows or size + row_bytes > MAX_BUNDLE_BYTES
            if i > start and (full or n != numbers[i - 1] + 1):
                bundles.append(self._bundle(numbers[start:i]))
                start, size = i, HEADER_BYTES
            size += row_bytes
        if numbers:
            bundles.append(self._bundle(numbers[start:]))
            self._silent_us = min(self._silent_us, now_us)
        self.sent_rows += len(numbers)
        return bundles

    def _bundle(self, numbers: Sequence[int]) -> bytes:
        return encode_bundle(self.epoch, numbers[0], [self._rows[n] for n in numbers])
