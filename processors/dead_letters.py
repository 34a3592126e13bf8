"""Dead letters for people: list, show, and replay after a fix (`paceline dlq list | show | replay`).

Replay appends what is accepted now as new records and marks the dead letter, in one transaction: doing it twice appends nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.errors import BadInputError
from broker.topics import parse_topic
from processors.accept import Accepted, accept, accept_row, is_frame
from processors.dead_store import StoredDead, counts_by_reason, dropped_count, select_dead
from processors.log import SqliteLog


@dataclass(frozen=True, slots=True)
class DeadCounts:
    """How many different rows were refused by reason, and how many of them are no longer kept."""

    by_reason: dict[str, int]
    dropped: int

    @property
    def total(self) -> int:
        return sum(self.by_reason.values())


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: records appended, dead letters done, and `{id: reason}` of those refused again."""

    records: int
    done: tuple[int, ...]
    still_refused: dict[int, str]


def dead_counts(log: SqliteLog) -> DeadCounts:
    """Counts since the log was created."""
    with log.reading() as db:
        return DeadCounts(counts_by_reason(db), dropped_count(db))


def dead_letters(
    log: SqliteLog, *, reason: str | None = None, tenant: str | None = None, after_id: int = 0, limit: int = 100, replayed: bool = False
) -> list[StoredDead]:
    """Kept dead letters, oldest first; without those already replayed unless `replayed`."""
    where, parameters = ["id > ?"], [after_id]
    filters: list[object] = []
    for column, value in (("reason", reason), ("tenant", tenant)):
        if value is not None:
            where.append(f"{column} = ?")
            filters.append(value)
    if not replayed:
        where.append("replayed_us IS NULL")
    with log.reading() as db:
        return select_dead(db, " AND ".join(where), (*parameters, *filters), limit)


def show(log: SqliteLog, dead_id: int) -> StoredDead:
    """One dead letter; BadInputError when there is none of that id."""
    with log.reading() as db:
        found = select_dead(db, "id = ?", (dead_id,), 1)
    if not found:
        raise BadInputError(f"no dead letter {dead_id}", cure="see `paceline dlq list`")
    return found[0]


def replay(log: SqliteLog, ids: Iterable[int], now_us: int) -> Replayed:
    """Check dead letters again, as if they arrived at `now_us`, and append what is accepted. Those already replayed are left alone."""
    records = 0
    done: list[int] = []
    still: dict[int, str] = {}
    for dead_id in ids:
        stored = show(log, dead_id)
        if stored.replayed_us is not None:
            continue
        result = _again(stored, now_us)
        if result.dead or not result.records:
            still[dead_id] = str(result.dead[0].reason if result.dead else stored.letter.reason)
            continue
        log.append(result.records, replayed=(dead_id,))
        records += len(result.records)
        done.append(dead_id)
    return Replayed(records, tuple(done), still)


def _again(stored: StoredDead, now_us: int) -> Accepted:
    letter = stored.letter
    address = parse_topic(letter.topic)
    if address is None or not is_frame(letter.raw):
        return accept(letter.topic, letter.raw, now_us)
    return accept_row(address, letter.topic, letter.raw, now_us)
