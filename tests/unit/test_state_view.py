"""A view's tables are the same however its records are cut into batches, and as the plain rules have them; also when records come again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import msgpack
import numpy as np
import pytest

from broker.errors import BadInputError
from broker.events.envelope import encode_kafka, make_event
from broker.events.models import ActivityStarted, utc_text
from broker.kafka_topics import ACTIVITIES_STATE, BELIEVED, BOARDS_STATE, LIVE_STATE, REFERENCE
from broker.reference import AthleteRef, encode_reference
from processors import live_kernel as k
from processors.believed import Believed, Health, decode_believed, encode_believed
from processors.believed_db import BelievedWriter, blocks_after
from processors.live_pages import Facts, encode_page
from processors.live_row import fresh_row
from processors.row_mirror import row_key
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from processors.stores import ReadStore
from tests.plain_view import PlainView

SUBJECTS = ("gym/ann", "gym/bob", "club/eve", "gym/strap>3")
STARTS = (k.NEVER, 1_000, 2_000, 3_000)
TABLES = (
    "state", "numbering", "attempts", "activity", "undated", "wake", "reference", "final", "final_track", "effort", "award", "board", "outbox",
    "believed", "believed_covered",
)  # fmt: skip


def facts(chance: random.Random) -> Facts:
    numberings = tuple(
        (f"gym/box:{chance.choice('ab')}", chance.choice([1, 1 << 63]), "gym/box", "strap",
         chance.choice([([0], [chance.randrange(9)]), ([], []), ([2, 6], [3, 1 << 50]), ([0, 1 << 60], [5, (1 << 60) + 2])]),
         chance.choice([None, 1 << 63]), chance.randrange(5), 0, 0)
        for _ in range(chance.randrange(3))
    )  # fmt: skip
    under_way = chance.choice([None, (chance.choice(STARTS[1:]), chance.randrange(9))])
    return chance.random() < 0.9, chance.choice([b"", b"beside.."]), chance.choice([b"", b"attempt"]), numberings, under_way, None


def page(chance: random.Random) -> tuple[bytes, bytes | None]:
    """Subjects whose rows agree with the activity under way, or not."""
    if chance.random() < 0.05:
        return b"p\0\0\0\1", None
    keys = chance.sample(SUBJECTS, chance.randint(1, 3))
    rows = np.stack([fresh_row() for _ in keys])
    rows[:, [k.START, k.DIST_UM]] = [(chance.choice(STARTS), chance.randrange(1 << 40)) for _ in keys]
    of = [facts(chance) for _ in keys]
    if chance.random() < 0.2:
        return b"s" + keys[0].encode(), msgpack.packb((rows[0].tobytes() if of[0][0] else b"", *of[0][1:]))
    return b"p\0\0\0" + bytes([chance.randrange(4)]), encode_page(1, keys, rows, of)


def spilled(chance: random.Random) -> tuple[bytes, bytes | None]:
    """A numbering that left its entry, or came back into it."""
    subject, numbering = chance.choice(SUBJECTS), next(iter(n for n in iter(lambda: facts(chance)[3], None) if n))[0]
    return b"n" + msgpack.packb((subject, *numbering[:2])), chance.choice([None, msgpack.packb(numbering)])


def cell(chance: random.Random, *of: object, **columns: object) -> tuple[bytes, bytes | None]:
    """A cell of a row, `of` its table and key; sometimes that it is gone."""
    table, *key = of
    return row_key(str(table), key), None if chance.random() < 0.25 else msgpack.packb([*key, *columns.values()])


def live(chance: random.Random) -> tuple[str, bytes, bytes | None]:
    subject, n = chance.choice(SUBJECTS[:3]), chance.randrange(100)
    start_us = chance.choice(STARTS[1:])
    made: Callable[[], tuple[bytes, bytes | None]] = chance.choices(
        (
            lambda: page(chance),
            lambda: (
                row_key("activity", [subject, start_us]),
                chance.choice([None, msgpack.packb([subject, start_us, start_us, n, n, 1, 2, 3, 4, 5, 6, n % 2, n])]),
            ),
            lambda: cell(chance, "undated", n % 3, subject=chance.choice(SUBJECTS), node="box", body=b"%d" % n),
            lambda: cell(chance, "wake", subject, "close", at_us=n),
            lambda: cell(chance, "reference", "upload", "gym", f"u{n % 2}", body=b"%d" % n, version=n),
            lambda: cell(chance, "folded", subject, id=n),
            lambda: (b"v", b"2"),
            lambda: spilled(chance),
        ),
        (12, 5, 2, 1, 1, 1, 1, 1),
    )[0]
    return LIVE_STATE, *made()


def other(chance: random.Random) -> tuple[str, bytes, bytes | None]:
    n = chance.randrange(4)
    if chance.random() < 0.3:
        return ACTIVITIES_STATE, *cell(chance, "final_track", f"a{n}", body=chance.randbytes(3))
    if chance.random() < 0.5:
        key, gone = cell(chance, "award", f"e{n}", "gym/ann")
        return BOARDS_STATE, key, None if gone is None else msgpack.packb(["gym/ann", f"e{n}", "gym", "hill", str(chance.random())])
    entry = {"version": chance.randrange(9), "distance_um": 1, "points": 2, "removed": n % 2}
    return BOARDS_STATE, *cell(chance, "board", "live/gym", f"gym/{n}", 5, **entry)


def believed(chance: random.Random, at: int) -> bytes:
    """A block that may begin before where the last one ended, as after a checkpoint, or hold health alone."""
    n = chance.choice([0, 1, 3])
    column = np.full(n, at, np.int64)
    columns = [
        np.zeros(n, np.int64),
        *[column] * 10,
        np.sort(np.array([chance.randrange(max(at - 3, 0), at + 3) << 8 for _ in range(n)], np.int64)),
    ]
    health = (Health("gym", "box", "strap", at, 50, None, None, None),) if chance.random() < 0.3 else ()
    return encode_believed(Believed(["gym/ann"], *columns, appended_us=at, again=chance.random() < 0.2, health=health))


def records(chance: random.Random, count: int) -> Iterator[Record]:
    """What stages and people might say, some of it again."""
    said: list[Record] = []
    for n in range(count):
        headers: list[tuple[str, bytes]] = []
        if said and chance.random() < 0.1:
            yield from said[-chance.randint(1, 5) :]
            continue
        kind = chance.random()
        if kind < 0.7:
            topic, key, value = live(chance)
        elif kind < 0.85:
            topic, key, value = other(chance)
        elif kind < 0.9:
            topic, key, value = BELIEVED, str(chance.randrange(2)).encode(), believed(chance, n)
        elif kind < 0.95:
            value = encode_reference(AthleteRef(tenant="gym", id=f"a{chance.randrange(3)}", name=f"Ann {n}"))
            topic, key = REFERENCE, b"gym/athlete/a"
        elif kind < 0.98:
            topic = "paceline.social.activity.v1"
            started = ActivityStarted(activity=f"a{n % 3}", subject="gym/ann", started_at=utc_text(n))
            happened = make_event(
                "paceline.user.activity.started.v1", started, time_us=n, recorded_us=n, phase="provisional", position=n % 3
            )
            headers, key, value = encode_kafka(happened)
        else:
            topic, key, value = "paceline.social.activity.v1", b"gym/ann", b"damaged"
        said.append(Record(topic, 0, n, key, value, headers))
        yield said[-1]


def tables(store: StateDb) -> dict[str, list[tuple[object, ...]]]:
    return {name: sorted(store.db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for name in TABLES}


def cuts(chance: random.Random, said: Iterable[Record]) -> Iterator[list[Record]]:
    """The same records in batches of any size."""
    left = list(said)
    while left:
        n = chance.choice([1, 2, 5, 30])
        yield left[:n]
        left = left[n:]


@pytest.mark.parametrize("seed", range(16))
def test_records_in_batches_come_to_what_they_come_to_one_by_one(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    said = list(records(chance, 200))
    with closing(StateDb(tmp_path / "plain.db")) as plain, closing(StateDb(tmp_path / "state.db", by_arrival=True)) as store:
        by_one, view = PlainView(plain, tells=True), StateView(store, tells=True)
        plain.db.execute("BEGIN")
        store.db.execute("BEGIN")
        refused = 0
        for record in said:
            try:
                by_one.take(record)
            except BadInputError:
                refused += 1
        told = [one for batch in cuts(chance, said) for one in view.take(batch)]
        assert len(told) == refused
        for name, rows in tables(plain).items():
            if name != "believed_covered":
                assert tables(store)[name] == rows, name


def test_a_file_by_arrival_answers_as_one_by_key_and_keeps_those_together_that_came_together(tmp_path: Path) -> None:
    with closing(StateDb(tmp_path / "state.db", by_arrival=True)) as store:
        view = StateView(store)
        for n in (3, 1, 2):
            view.take(
                [
                    Record(
                        LIVE_STATE,
                        0,
                        n,
                        b"p\0\0\0\1",
                        encode_page(n, [f"gym/{n}"], fresh_row()[None], [(True, b"", b"", (), None, None)]),
                        (),
                    )
                ]
            )
        assert store.db.execute("SELECT key FROM state ORDER BY rowid").fetchall() == [("gym/3",), ("gym/1",), ("gym/2",)]
    with closing(ReadStore(tmp_path / "state.db")) as reads:
        assert [key for key, _ in reads.rows("gym")] == ["gym/1", "gym/2", "gym/3"]


def test_a_block_of_samples_is_kept_as_it_came_unless_a_part_of_it_was_there(tmp_path: Path) -> None:
    chance = random.Random(1)
    blocks = [raw for raw in (believed(chance, at) for at in range(10, 100)) if decode_believed(raw).position.size == 3]
    first, last = blocks[0], blocks[-1]
    with closing(StateDb(tmp_path / "state.db")) as store:
        writer = BelievedWriter(store.db)
        for raw in (first, last, last):
            writer.put_once("0", raw)
        writer.settle()
        assert [block.body for block in blocks_after(store.db, 0, 10)] == [first, last]
