"""Dead letters for people: list, show, and replay after a fix (`paceline dlq list | show | replay`).

Replay appends what is accepted now as new records and marks the dead letter, in one transaction: doing it twice appends nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from broker.errors import BadInputError, Reason, Rejected
from broker.frames import decode_frame
from broker.topics import parse_topic
from processors.accept import Accepted, DeadLetter, accept, accept_row, is_frame
from processors.dead_index import Wanted
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
    log: SqliteLog,
    *,
    reason: str | None = None,
    tenant: str | None = None,
    node: str | None = None,
    from_us: int | None = None,
    until_us: int | None = None,
    after_id: int = 0,
    limit: int = 100,
    replayed: bool = False,
) -> list[StoredDead]:
    """Kept dead letters, oldest first; without those already replayed unless `replayed`. For the filters see `Wanted`."""
    where, parameters = Wanted(reason, tenant, node, from_us, until_us, replayed).where()
    with log.reading() as db:
        return select_dead(db, f"id > ? AND {where}", (after_id, *parameters), limit)


_MEANING: Final = {
    Reason.BAD_BUNDLE: "header or row framing of a bundle cannot be read",
    Reason.BAD_FRAME: "not the array a frame is, or a field of the wrong type or range",
    Reason.BAD_RECORDS: "the record block is empty or not a whole number of records",
    Reason.OVERSIZED: "more than the limit of a frame or message",
    Reason.BAD_ID: "a device, subject or topic is not what ids allow",
    Reason.BAD_JSON: "the JSON form does not follow its schema",
    Reason.WRONG_TENANT: "the subject belongs to another tenant than the credential",
    Reason.FUTURE_TIME: "dated more than five minutes after its arrival",
    Reason.RESERVED_FLAG: "a flag that this version does not know",
    Reason.NOT_SELF_NUMBERED: "a device behind a box must number its own frames",
    Reason.CORRUPT_ROW: "the node itself found its stored row damaged",
}


def meaning_of(reason: str) -> str:
    """A reason in a few words; empty when it is not one of ours."""
    return next((words for known, words in _MEANING.items() if known == reason), "")


def content_of(raw: bytes) -> str:
    """What the bytes of a letter hold, for a person: the fields of a frame, or what they are not."""
    frame = decode_frame(raw)
    if isinstance(frame, Rejected):
        return frame.detail
    samples = "records of an unknown layout" if frame.samples is None else f"{frame.samples} records"
    return (
        f"layout {frame.layout}, device {frame.device}, boot {frame.boot:#x}, seq {frame.seq}, t0 {frame.t0_us} us, offset "
        f"{frame.utc_offset_us} us, clock {frame.clock}, subject {frame.subject or 'nobody'}, {samples}"
    )


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
        result = checked_again(stored.letter, now_us)
        if result.dead or not result.records:
            still[dead_id] = str(result.dead[0].reason if result.dead else stored.letter.reason)
            continue
        log.append(result.records, replayed=(dead_id,))
        records += len(result.records)
        done.append(dead_id)
    return Replayed(records, tuple(done), still)


def checked_again(letter: DeadLetter, now_us: int) -> Accepted:
    """What the bytes of a letter come to if they arrive at `now_us`."""
    address = parse_topic(letter.topic)
    if address is None or not is_frame(letter.raw):
        return accept(letter.topic, letter.raw, now_us)
    return accept_row(address, letter.topic, letter.raw, now_us)
