"""What a shard owes to others: told once it is committed, the same after a kill, and heard once."""

from __future__ import annotations

from collections.abc import Sequence

from processors.owed import CELL_BYTES, Heard, Owed, Place
from processors.row_mirror import MemoryCells

Sent = list[tuple[str, bytes, bytes | None]]


class Wire:
    """What was sent."""

    def __init__(self) -> None:
        self.sent: Sent = []

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        self.sent.append((topic, key, value))


def test_a_word_is_sent_once_its_checkpoint_is_committed() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(3, cells, wire)
    owed.add("t", b"k", b"one")
    owed.send()
    assert wire.sent == []
    owed.save()
    assert wire.sent == []
    owed.send()
    assert wire.sent == [("t", b"k", b"one")]
    owed.send()
    assert len(wire.sent) == 1


def test_what_a_killed_replica_owed_is_sent_again_in_order_and_nothing_else() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(3, cells, wire)
    owed.add("t", b"k", b"one")
    owed.add("t", b"k", b"two")
    owed.save()
    owed.send()
    owed.add("t", b"k", b"never committed")
    again = Wire()
    Owed(3, cells, again).send()
    assert again.sent == wire.sent == [("t", b"k", b"one"), ("t", b"k", b"two")]


def test_what_was_sent_leaves_the_cells_with_the_next_checkpoint() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(3, cells, wire)
    owed.add("t", b"k", b"one")
    owed.save()
    owed.send()
    owed.save()
    again = Wire()
    Owed(3, cells, again).send()
    assert again.sent == []


def test_a_checkpoint_sends_first_what_the_one_before_it_holds() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(3, cells, wire)
    owed.add("t", b"k", b"one")
    owed.save()
    owed.add("t", b"k", b"two")
    owed.save()
    owed.send()
    assert [value for _, _, value in wire.sent] == [b"one", b"two"]


def test_places_grow_over_checkpoints_and_kills() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(3, cells, wire, lambda: 17)
    assert owed.place == Place(3, 17, 0)
    owed.add("t", b"k", b"one")
    assert owed.place == Place(3, 17, 1)
    owed.save()
    assert Owed(3, cells, wire, lambda: 99).place == Place(3, 17, 1)


def test_many_words_are_cells_of_a_bounded_size_in_their_order() -> None:
    cells, wire = MemoryCells(), Wire()
    owed = Owed(0, cells, wire)
    body = bytes(CELL_BYTES // 3)
    for n in range(300):
        owed.add("t", str(n).encode(), body if n % 50 == 0 else b"")
    owed.save()
    assert max(map(len, cells.held.values())) < 2 * CELL_BYTES
    again = Wire()
    Owed(0, cells, again).send()
    assert [int(key) for _, key, _ in again.sent] == list(range(300))


def test_a_word_is_heard_once_also_by_who_was_killed() -> None:
    cells = MemoryCells()
    heard = Heard(cells)
    assert heard.is_new(Place(1, 17, 5))
    assert not heard.is_new(Place(1, 17, 5))
    assert not heard.is_new(Place(1, 17, 4))
    assert heard.is_new(Place(2, 17, 4))
    heard.save()
    again = Heard(cells)
    assert not again.is_new(Place(1, 17, 5))
    assert again.is_new(Place(1, 17, 6))


def test_words_of_a_state_that_was_made_anew_are_heard_and_those_of_the_old_one_no_more() -> None:
    heard = Heard(MemoryCells())
    assert heard.is_new(Place(1, 17, 5000))
    assert heard.is_new(Place(1, 18, 0))
    assert not heard.is_new(Place(1, 17, 6000))
