"""What a shard sends through `OwedOut`: at once, or on hold once it is committed, and the same after a kill."""

from __future__ import annotations

from collections.abc import Sequence

from processors.owed_out import CELL_BYTES, OwedOut
from processors.row_mirror import MemoryCells

Word = tuple[str, bytes, bytes | None, Sequence[tuple[str, bytes]], int | None]
ONE: Word = ("frames", b"k", b"one", [("kind", b"wake")], 3)
TWO: Word = ("boards", b"k", None, (), None)


class Wire:
    """What was sent."""

    def __init__(self) -> None:
        self.sent: list[Word] = []

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        self.sent.append((topic, key, value, [*headers], partition))


def plain(*words: Word) -> list[Word]:
    return [(topic, key, value, [*headers], partition) for topic, key, value, headers, partition in words]


def owing(cells: MemoryCells) -> tuple[OwedOut, Wire]:
    wire = Wire()
    return OwedOut(cells, wire, b"o"), wire


def test_a_word_goes_at_once_and_costs_no_cell() -> None:
    cells = MemoryCells()
    out, wire = owing(cells)
    out.send(*ONE)
    assert wire.sent == plain(ONE)
    out.save()
    assert cells.held == {}


def test_on_hold_a_word_is_told_once_its_checkpoint_is_committed_and_the_next_one_behind_it() -> None:
    out, wire = owing(MemoryCells())
    out.send(*TWO)
    out.hold()
    out.send(*ONE)
    out.tell()
    out.save()
    assert wire.sent == plain(TWO)
    out.tell()
    out.tell()
    assert wire.sent == plain(TWO, ONE)
    out.hold()
    out.send(*ONE)
    out.save()
    out.send(*TWO)
    assert wire.sent == plain(TWO, ONE, ONE, TWO)


def test_a_killed_replica_tells_what_its_checkpoint_owes_again_in_order_and_nothing_else() -> None:
    cells = MemoryCells()
    out, wire = owing(cells)
    out.hold()
    out.send(*ONE)
    out.send(*TWO)
    out.save()
    out.tell()
    out.hold()
    out.send(*ONE)  # never committed
    again, wire_again = owing(cells)
    again.tell()
    assert wire_again.sent == wire.sent == plain(ONE, TWO)


def test_what_was_told_leaves_the_cells_with_the_next_checkpoint_and_cells_of_others_stay() -> None:
    cells = MemoryCells()
    cells.put(b"n1", b"of somebody")
    out, _ = owing(cells)
    out.hold()
    out.send(*ONE)
    out.save()
    assert len(cells.held) == 2
    out.save()
    assert cells.held == {b"n1": b"of somebody"}


def test_what_is_due_is_told_before_the_next_checkpoint_takes_its_place() -> None:
    out, wire = owing(MemoryCells())
    out.hold()
    out.send(*ONE)
    out.save()
    out.hold()
    out.send(*TWO)
    out.save()
    assert wire.sent == plain(ONE)
    out.tell()
    assert wire.sent == plain(ONE, TWO)


def test_many_words_are_in_cells_of_a_bounded_size_and_few_ones_take_the_place_of_all() -> None:
    cells = MemoryCells()
    out, _ = owing(cells)
    words: list[Word] = [("t", b"k", bytes([n]) * 90_000, (), None) for n in range(20)]
    out.hold()
    for word in words:
        out.send(*word)
    out.save()
    assert len(cells.held) > 3
    assert max(map(len, cells.held.values())) < CELL_BYTES
    again, wire = owing(cells)
    again.hold()
    again.send(*ONE)
    again.save()
    again.tell()
    assert wire.sent == plain(*words, ONE)
    assert len(cells.held) == 1
