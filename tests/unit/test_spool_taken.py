"""What the spool remembers of numbers it has taken: against a plain set, over restarts, frees, kills, damage and its own limits."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.layouts import layout_named
from gateway.spool import Spool, SpoolFullError, SpoolRow, SpoolSettings
from gateway.spool_taken import MAX_PARTS, TAKEN_MAGIC, Taken, carve_taken, decode_taken
from gateway.spool_work import group_of

MOTION = layout_named("motion.1")
QUICK = SpoolSettings(min_window_s=0.0, max_window_s=0.0, free_after_s=0.01)


def row(device: str, boot: int, seq: int, flags: int = SELF_NUMBERED) -> SpoolRow:
    frame = Frame(MOTION.id, flags, device, boot, seq, seq, None, Clock.UNKNOWN, "", MOTION.pack({"tick_ms": 0}))
    return SpoolRow(encode_frame(frame), device, (boot, seq) if flags else None)


def add(taken: Taken, n: int, *numbers: tuple[str, int, int]) -> None:
    taken.add(n, group_of([SpoolRow(b"x", device, (boot, seq)) for device, boot, seq in numbers]))


NUMBERS = st.tuples(st.sampled_from(("a", "b")), st.sampled_from((0, 7, 2**64 - 1)), st.integers(0, 40))


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=12), max_size=12))
def test_remembers_exactly_what_was_added_and_so_does_a_copy_made_of_its_records(groups: list[list[tuple[str, int, int]]]) -> None:
    taken, plain, table = Taken(64), set[tuple[str, int, int]](), dict[int, bytes]()
    for at, numbers in enumerate(groups):
        add(taken, 100 * at, *numbers)
        plain.update(numbers)
        table.update(taken.changed(100 * at + 50))
        taken.saved()
        assert taken.changed(0) == []
    again = Taken(64)
    assert again.restore(table.values()) == (100 * len(groups) - 50 if groups else 0)
    every = [(device, boot, seq) for device in ("a", "b") for boot in (0, 7, 2**64 - 1) for seq in range(42)]
    for each in (taken, again):
        assert {number for number in every if each.has(*number)} == plain
        assert each.forgotten == 0


def test_forgets_the_numbering_not_heard_for_longest_and_counts_it() -> None:
    taken = Taken(3)
    add(taken, 1, ("a", 1, 0), ("b", 1, 0), ("c", 1, 0))
    add(taken, 4, ("a", 1, 1))
    add(taken, 5, ("d", 1, 0))
    assert [taken.has(device, 1, 0) for device in "abcd"] == [True, False, True, True]
    assert (len(taken), taken.forgotten) == (3, 1)
    assert len({slot for slot, _ in taken.changed(6)}) == 4  # three and the end


def test_forgets_the_lowest_ranges_of_a_numbering_with_many_holes_and_counts_them() -> None:
    taken = Taken(3)
    for i in range(MAX_PARTS + 10):
        add(taken, i, ("a", 1, 2 * i))
    assert taken.forgotten == 10
    assert not taken.has("a", 1, 0)
    assert all(taken.has("a", 1, 2 * i) for i in range(11, MAX_PARTS + 10))


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(1, 255))
def test_damaged_records_are_left_out_and_undamaged_ones_found_in_ruins(junk: bytes, at: int, flip: int) -> None:
    taken = Taken(3)
    add(taken, 1, ("a", 1, 5))
    ((_, record), _) = taken.changed(2)
    assert list(carve_taken(junk + TAKEN_MAGIC + record + junk)) == [record]
    damaged = bytearray(record)
    damaged[at % len(record)] ^= flip
    assert decode_taken(bytes(damaged)) is None
    assert Taken(3).restore([bytes(damaged)]) == 0


async def test_survives_restart_free_and_refusal_and_is_not_made_of_the_boxs_own_numbers(tmp_path) -> None:
    spool = await Spool.open(tmp_path / "spool.db", QUICK)
    first = await spool.append([row("w", 9, seq) for seq in range(10)] + [row("strap", 3, 0, flags=0)])
    spool.free([(first, first + 3)])
    spool.refuse([(first + 4, first + 4)], "future_time")
    await spool.flush()
    await spool.append([row("w", 9, 10)])
    for _ in range(2):
        assert all(spool.has_taken("w", 9, seq) for seq in range(11))
        assert not spool.has_taken("w", 9, 11)
        assert not spool.has_taken("w", 8, 0)
        assert not spool.has_taken("strap", 3, 0)
        await spool.close()
        spool = await Spool.open(tmp_path / "spool.db", QUICK)
    await spool.close()


async def test_the_files_of_any_moment_hold_all_that_was_appended_by_then(tmp_path) -> None:
    """A copy of database and WAL is what a kill leaves."""
    spool = await Spool.open(tmp_path / "spool.db", QUICK)
    for turn in range(8):
        first = await spool.append([row("w", 9, 3 * turn + i) for i in range(3)])
        if turn % 2:
            spool.free([(first - 1, first + 1)])
            await spool.flush()
        folder = tmp_path / f"killed-{turn}"
        folder.mkdir()
        for name in ("spool.db", "spool.db-wal"):
            shutil.copy(tmp_path / name, folder / name)
        again = await Spool.open(folder / "spool.db", QUICK)
        assert [again.has_taken("w", 9, seq) for seq in range(24)] == [seq < 3 * turn + 3 for seq in range(24)]
        await again.close()
    await spool.close()


async def test_rows_refused_because_the_spool_is_full_are_not_taken(tmp_path) -> None:
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(cap_bytes=1_000_000, min_window_s=0.0, max_window_s=0.0))
    seq = 0
    with pytest.raises(SpoolFullError):
        while seq < 100_000:
            await spool.append([row("w", 9, seq + i) for i in range(100)])
            seq += 100
    assert spool.has_taken("w", 9, seq - 1)
    assert not spool.has_taken("w", 9, seq)
    await spool.close()


async def test_salvage_keeps_it(tmp_path) -> None:
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, QUICK)
    first = await spool.append([row("w", 9, seq) for seq in range(20)])
    spool.free([(first, first + 9)])
    await spool.close()
    image = bytearray(path.read_bytes())
    image[:100] = bytes(100)  # the head of the database
    path.write_bytes(image)
    spool = await Spool.open(path, QUICK)
    assert spool.stats().salvaged
    assert all(spool.has_taken("w", 9, seq) for seq in range(20))
    await spool.close()
