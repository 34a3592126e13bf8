"""The kit's flash ring: order, freeing, what happens when it is full, and rot that a power cut does not make."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from fakes.flash import Nor, PowerCut
from kit.ring import Cursor, Ring


class Epochs:
    """Epochs one after the other, so that a test can tell them apart."""

    def __init__(self) -> None:
        self._next = itertools.count(100)

    def __call__(self) -> int:
        return next(self._next)


EPOCHS = Epochs()


def ring_on(nor: Nor, **changes: object) -> Ring:
    return Ring(nor, EPOCHS, **{"max_record": 100, **changes})


def contents(ring: Ring) -> list[tuple[int, int, bytes]]:
    """Everything owed, oldest first, as (epoch, n, payload)."""
    cursor, buf, found = Cursor(), bytearray(100), []
    ring.oldest(cursor)
    while size := ring.read(cursor, buf):
        found.append((cursor.epoch, cursor.n, bytes(buf[:size])))
    return found


def filled(nor: Nor, count: int, **changes: object) -> Ring:
    ring = ring_on(nor, **changes)
    for i in range(count):
        ring.append(b"record %04d" % i)
    return ring


def test_records_come_back_in_order_and_after_a_restart() -> None:
    nor = Nor(4, 512)
    ring = filled(nor, 40)
    wanted = [(ring.epoch, i, b"record %04d" % i) for i in range(40)]
    assert contents(ring) == wanted == contents(ring_on(nor))
    assert ring.owed == 40


def test_numbers_go_on_in_the_same_epoch_after_a_restart() -> None:
    nor = Nor(4, 512)
    first = filled(nor, 3)
    again = ring_on(nor)
    assert (again.append(b"next"), again.epoch) == (3, first.epoch)


def test_an_empty_partition_and_a_used_one_of_something_else_are_taken() -> None:
    assert contents(ring_on(Nor(2, 256))) == []
    nor = Nor(3, 256)
    nor.image[:] = bytes(range(256)) * 3
    ring = ring_on(nor)
    assert [ring.append(b"x" * 50) for _ in range(8)] == list(range(8))
    assert len(contents(ring_on(nor))) == 8


def test_freed_records_are_gone_also_after_a_restart() -> None:
    nor = Nor(4, 512)
    ring = filled(nor, 30)
    assert ring.free(ring.epoch, 5, 9) == 5
    assert ring.free(ring.epoch, 5, 12) == 3
    assert ring.free(ring.epoch, 0, 0) == 1
    left = [0 + n for n in range(30) if n not in {0, *range(5, 13)}]
    assert [n for _, n, _ in contents(ring)] == left == [n for _, n, _ in contents(ring_on(nor))]


def test_an_answer_to_another_epoch_or_to_numbers_never_given_frees_nothing() -> None:
    ring = filled(Nor(4, 512), 10)
    assert ring.free(ring.epoch + 1, 0, 9) == 0
    assert ring.free(ring.epoch, 10, (1 << 48) - 1) == 0
    assert ring.owed == 10


def test_a_full_ring_rejects_and_counts() -> None:
    ring = filled(Nor(2, 256), 100)
    held = len(contents(ring))
    assert held + ring.rejected == 100
    assert ring.free(ring.epoch, 0, 0) == 1
    assert ring.append(b"no sector is free yet") == -1
    ring.free(ring.epoch, 0, 50)
    assert ring.append(b"now") > 0


def test_a_ring_that_drops_the_oldest_counts_them() -> None:
    ring = filled(Nor(3, 256), 100, drop_oldest=True)
    found = contents(ring)
    assert ring.dropped + len(found) == 100
    assert [n for _, n, _ in found] == list(range(100 - len(found), 100))


def test_a_cursor_at_the_end_sees_what_comes_and_survives_what_is_dropped() -> None:
    ring = filled(Nor(3, 256), 5, drop_oldest=True)
    end, old, buf = Cursor(), Cursor(), bytearray(100)
    ring.newest(end)
    ring.oldest(old)
    assert ring.read(end, buf) == 0
    for i in range(60):
        n = ring.append(b"later %04d" % i)
        assert ring.read(end, buf) == 10
        assert end.n == n
    assert ring.read(old, buf) == 10
    assert old.n == contents(ring)[0][1]


def test_a_record_longer_than_the_room_asked_stays_for_later() -> None:
    ring = filled(Nor(2, 256), 1)
    cursor, small = Cursor(), bytearray(8)
    ring.oldest(cursor)
    assert ring.read(cursor, small) == -1
    assert ring.read(cursor, bytearray(11)) == 11


def test_a_rotten_record_is_counted_and_the_others_stay() -> None:
    nor = Nor(3, 512)
    filled(nor, 12)
    at = bytes(nor.image).index(b"record 0004")
    nor.image[at] ^= 4
    ring = ring_on(nor)
    assert ring.damaged == 1
    assert [n for _, n, _ in contents(ring)] == [n for n in range(12) if n != 4]


def test_a_record_that_rots_while_mounted_is_counted_when_it_is_read() -> None:
    nor = Nor(3, 512)
    ring = filled(nor, 5)
    nor.image[bytes(nor.image).index(b"record 0002")] ^= 4
    assert [n for _, n, _ in contents(ring)] == [0, 1, 3, 4]
    assert (ring.damaged, ring.owed) == (1, 4)


def test_the_number_of_a_newest_record_that_cannot_be_read_is_not_used_again() -> None:
    """It may have been sent: an answer to it would free another record."""
    nor = Nor(3, 512)
    filled(nor, 5)
    nor.image[bytes(nor.image).index(b"record 0004")] ^= 4
    assert ring_on(nor).append(b"new") == 5


def test_a_newest_sector_that_cannot_be_read_begins_a_new_epoch() -> None:
    nor = Nor(4, 256)
    first = filled(nor, 20)
    newest = first.sector_bytes * first._k
    nor.image[newest + 5] ^= 1
    again = ring_on(nor)
    assert again.epoch != first.epoch
    before = contents(again)
    assert {epoch for epoch, _, _ in before} == {first.epoch}
    again.append(b"new")
    assert contents(ring_on(nor)) == [*before, (again.epoch, again.next_n - 1, b"new")]


def test_rot_of_any_byte_shows_no_record_that_was_not_there() -> None:
    nor = Nor(3, 256)
    made = contents(filled(nor, 24))
    whole = bytes(nor.image)
    for at in range(len(whole)):
        nor.image[:] = whole
        nor.image[at] ^= 1 << at % 8
        ring = ring_on(nor)
        found = contents(ring)
        assert set(found) <= set(made)
        assert found == sorted(found)
        assert len(made) - len(found) <= 12  # the records of one sector
        assert ring.owed == len(found)
        ring.append(b"after")
        assert contents(ring_on(nor))[-1][2] == b"after"


def test_records_before_a_sector_that_cannot_be_read_are_freed_all_the_same() -> None:
    for broken in range(8):
        nor = Nor(10, 256)
        made = contents(filled(nor, 90))
        nor.image[broken * 256 + 5] ^= 1
        ring = ring_on(nor)
        left = contents(ring)
        assert 0 < len(made) - len(left) <= 12
        for epoch, n, _ in left:
            assert ring.free(epoch, n, n) == 1
        assert contents(ring) == []


def test_what_is_owed_of_a_long_ring_is_found_at_once() -> None:
    nor = Nor(40, 256)
    ring = filled(nor, 300)
    assert ring.free(ring.epoch, 0, 250) == 251
    reads = []
    read = nor.readblocks
    nor.readblocks = lambda *words: (reads.append(words), read(*words))
    assert contents(ring)[0][1] == 251
    assert len(reads) < 3 * 70
    ring.free(ring.epoch, 290, 290)
    assert [n for _, n, _ in contents(ring)] == [n for n in range(251, 300) if n != 290]


def test_a_write_that_fails_closes_its_sector_and_spoils_nothing() -> None:
    nor = Nor(3, 512)
    ring = filled(nor, 3)
    nor.cut_at = 1
    with pytest.raises(PowerCut):
        ring.append(b"torn")
    nor.power_up()
    n = ring.append(b"after")
    assert [one[1:] for one in contents(ring)][-1] == (n, b"after")
    assert contents(ring) == contents(ring_on(nor))


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        ring_on(Nor(1, 512))
    with pytest.raises(ValueError, match="1 to 100"):
        ring_on(Nor(2, 512)).append(bytes(101))
    with pytest.raises(ValueError, match="1 to 100"):
        ring_on(Nor(2, 512)).append(b"")


def test_an_image_in_a_file_outlives_its_process(tmp_path: Path) -> None:
    for count in (7, 0):
        nor = Nor(3, 512, str(tmp_path / "image"))
        assert len(contents(filled(nor, count))) == 7
        nor.close()
