"""Pages of subjects and of frames against what a dictionary says, however they are cut, restarted and emptied."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from broker.columns import dtype_of
from broker.frames import Frame, encode_frame
from broker.layouts import layout_named
from processors import live_pages
from processors.live_pages import Entry, Facts, LivePages, decode_page, encode_page, entries_of, facts_of
from processors.live_row import COLUMNS, I64, fresh_row
from processors.raw_pages import RawPages
from processors.row_mirror import MemoryCells
from processors.samples import TakenFrame
from processors.state_db import StateDb
from processors.track_db import FOREVER_US, raw_frames


def entry(rng: random.Random, key: str) -> Entry:
    row = fresh_row()
    row[rng.sample(range(COLUMNS), 5)] = [rng.randrange(-(1 << 63), 1 << 63) for _ in range(5)]
    numberings = (("gym/box/strap", rng.randrange(1 << 64), "box", "strap", b"\x01", None, 0, None, 0),) * rng.randrange(3)
    has_row, under_way, close_us = rng.random() < 0.9, rng.choice([None, (rng.randrange(1 << 50), 7)]), rng.choice([None, 1 << 50])
    return Entry(
        key, row.tobytes() if has_row else b"", rng.randbytes(rng.choice([0, 24])), rng.randbytes(rng.choice([0, 60])), numberings,
        under_way, close_us,
    )  # fmt: skip


def parts(entries: Iterable[Entry]) -> tuple[list[str], I64, list[Facts]]:
    """Entries as they are written."""
    held = list(entries)
    rows = np.frombuffer(b"".join(one.row or bytes(COLUMNS * 8) for one in held), np.int64)
    return [one.key for one in held], rows.reshape(-1, COLUMNS), [facts_of(one) for one in held]


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_page_gives_its_entries_back(count: int) -> None:
    rng = random.Random(count)
    entries = [entry(rng, f"gym/{n}") for n in range(count)]
    assert decode_page(encode_page(9, *parts(entries))) == (9, entries)
    assert entries_of(b"p\x00\x00\x00\x01", encode_page(9, *parts(entries))) == entries
    assert entries_of(b"r\x00", b"whatever") == []


def test_columns_that_are_equal_are_there_once() -> None:
    rows = [Entry(f"a{n}", fresh_row().tobytes(), b"", b"", (), None, None) for n in range(100)]
    assert len(encode_page(1, *parts(rows))) < 5_000


@pytest.mark.parametrize("seed", range(4))
def test_pages_say_what_was_written_last(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_pages, "MOST_PAGES", 6)
    monkeypatch.setattr(live_pages, "PAGE_BYTES", 4_500)
    rng, cells = random.Random(seed), MemoryCells()
    pages, known = LivePages(cells), dict[str, Entry]()
    for _ in range(200):
        keys = {f"gym/{int(rng.expovariate(0.1))}" for _ in range(rng.randrange(1, 12))}
        changed = {key: entry(rng, key) for key in keys}
        for key in pages.stragglers():
            if key not in changed:
                if rng.random() < 0.5:
                    changed[key] = known[key]
                else:
                    pages.write_own(known[key])
        pages.write(*parts(changed.values()))
        known |= changed
        if rng.random() < 0.1:
            pages = LivePages(cells)
            for one in pages.restore():
                assert one == known[one.key]
        for key in [*rng.sample(sorted(known), min(5, len(known))), "gym/nobody"]:
            assert known.get(key) == next((one for one in pages.read(key) if one.key == key), None)
    assert len([key for key in cells.held if key.startswith(b"p")]) == len(pages)
    shown: dict[str, Entry] = {}
    own = {key: value for key, value in cells.held.items() if key.startswith(b"s")}
    for key, value in own.items():
        shown |= {one.key: one for one in entries_of(key, value)}
    for one in LivePages(cells).restore():
        shown[one.key] = one
    assert shown == known


def test_an_emptied_page_gives_its_place_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_pages, "PAGE_BYTES", 13_000)
    rng, cells = random.Random(1), MemoryCells()
    pages = LivePages(cells)
    for _ in range(50):
        for part in range(3):
            pages.write(*parts([entry(rng, f"gym/{part}-{n}") for n in range(10)]))
    assert len(cells.held) == 3


MOTION = layout_named("motion.1")


def frame(seq: int, subject: str, node: str) -> TakenFrame:
    records = np.zeros(1, dtype_of(MOTION.id)).tobytes()
    made = Frame(MOTION.id, 1, "strap", 7, seq, seq * 1_000_000, 0, 2, subject, records)
    return TakenFrame("gym/box/strap", node, made, encode_frame(made), 0)


@pytest.mark.parametrize("seed", range(4))
def test_frames_are_there_until_they_are_folded(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `LiveCells` goes about it: `folded` is kept, rows are not."""
    monkeypatch.setattr("processors.raw_pages.PAGE_BYTES", 700)
    monkeypatch.setattr("processors.raw_pages.FILE_BYTES", 2_000)
    rng, cells = random.Random(seed), MemoryCells()
    known: dict[str, list[int]] = {}
    folded: dict[str, int] = {}

    def opened(number: int) -> tuple[StateDb, RawPages]:
        store = StateDb(tmp_path / f"{number}.db")
        store.db.execute("CREATE TABLE folded (subject TEXT PRIMARY KEY, id INTEGER)")
        store.db.executemany("INSERT INTO folded VALUES (?,?)", folded.items())
        return store, RawPages(store.db, cells, tmp_path)

    store, pages = opened(0)
    for number in range(1, 120):
        subjects = [f"gym/{rng.randrange(6)}" for _ in range(rng.randrange(8))]
        taken = [(subject, frame(number * 10 + n, subject, rng.choice(["box", "hall"]))) for n, subject in enumerate(subjects)]
        pages.add(taken)
        for subject, one in taken:
            known.setdefault(subject, []).append(one.frame.seq)
        subject = f"gym/{rng.randrange(6)}"
        if rng.random() < 0.5:
            pages.settle(subject)
            found = [one.frame.seq for one in raw_frames(store.db, subject, -FOREVER_US, FOREVER_US)]
            assert sorted(found) == known.get(subject, [])
        if rng.random() < 0.3:
            pages.settle(subject)
            store.db.execute("DELETE FROM raw WHERE subject=?", (subject,))
            last = pages.folded(subject)
            assert (last is None) == (not known.pop(subject, []))
            if last is not None:
                folded[subject] = last
        if rng.random() < 0.4:
            pages.save()
            if rng.random() < 0.3:
                store.close()
                store, pages = opened(number)
    store.close()
    assert len(cells.held) < 60  # places are taken again
