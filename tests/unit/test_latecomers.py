"""Reference data as it was, and partitions that go on with it until they have done again what may have been told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.logrecord import Kind, LogRecord
from broker.reference import BindingRef, Reference, SegmentRef, encode_reference
from processors import latecomers
from processors.latecomers import Latecomers
from processors.partition_reach import Reach
from processors.quix_live import LiveOnKafka
from processors.reference_data import ReferenceData
from processors.reference_feed import KEPT_US, Change, TakenChanges
from processors.row_mirror import MemoryCells
from processors.track_folder import FolderBlobs
from tests.memory_cluster import Feed, Topics

HOUR_US = 3_600_000_000
ORIGIN = "gym/strap"


@dataclass
class Part:
    """A partition that took records."""

    partition: int
    next: int = 0


def taken(feed: TakenChanges, offset: int, value: Reference, at_us: int = 0) -> None:
    feed.take(Change(offset, recorded(value, at_us), value))


def recorded(value: Reference, at_us: int = 0) -> LogRecord:
    return LogRecord(Kind.REFERENCE, "gym", "gym", "", at_us, encode_reference(value))


def bound(subject: str, ident: str = "b1") -> BindingRef:
    return BindingRef(tenant="gym", id=ident, device="strap", athlete=subject, from_us=0)


def line(north: int) -> SegmentRef:
    return SegmentRef(tenant="gym", id="hill", name="Hill", points=((north, 70_000_000), (north + 100_000, 70_000_000)))


def test_reference_data_is_known_as_it_was_at_each_change() -> None:
    feed = TakenChanges()
    for offset, value in ((3, bound("anna")), (5, line(470_000_000)), (8, bound("bob")), (9, bound("carl")), (12, line(480_000_000))):
        taken(feed, offset, value)
    subjects = [[b.subject for b in feed.as_of(offset).bindings(ORIGIN)] for offset in (2, 3, 7, 8, 11, 12)]
    assert subjects == [[], ["gym/anna"], ["gym/anna"], ["gym/bob"], ["gym/carl"], ["gym/carl"]]
    indexes = [feed.as_of(offset).index("gym") for offset in (4, 5, 11, 12)]
    assert [index is not None for index in indexes] == [False, True, True, True]
    assert indexes[3] is feed.reference.index("gym")
    assert [s.points[0][0] for offset in (5, 12) if (s := feed.as_of(offset).segment("gym", "hill")) is not None] == [
        470_000_000,
        480_000_000,
    ]
    assert [change.offset for change in feed.each_since(3)] == [5, 8, 9, 12]
    assert [change.offset for change in feed.since(3)] == [9, 12]


def test_what_was_replaced_for_longer_than_frames_are_kept_is_forgotten() -> None:
    feed = TakenChanges()
    taken(feed, 0, bound("anna"))
    taken(feed, 1, bound("bob"), HOUR_US)
    taken(feed, 2, bound("carl", "b2"), HOUR_US)
    taken(feed, 3, bound("dora", "b2"), HOUR_US + KEPT_US + 1)
    assert [change.offset for change in feed.each_since(-1)] == [1, 2, 3]
    assert feed.as_of(0).bindings(ORIGIN) == ()


def test_latecomers_are_done_once_each_has_taken_what_was_there_when_kafka_told() -> None:
    late, reach = Latecomers[Part](ReferenceData()), dict[int, Reach]()
    early, slow, idle, lost = Part(0), Part(1), Part(2), Part(3)
    for part in (early, slow, idle, lost):
        late.add(part)
    late.keep([early, slow, idle])
    assert list(late) == [early, slow, idle]
    assert not late.are_done(reach.get)  # Kafka does not say
    reach |= {0: Reach(4, 6), 1: Reach(0, 3), 2: Reach(7, 7)}
    assert not late.are_done(reach.get)
    early.next, slow.next = 6, 2
    assert not late.are_done(reach.get)
    reach[1] = Reach(0, 30)  # more came since
    slow.next = 3
    assert late.are_done(reach.get)


def test_offsets_behind_which_nothing_comes_are_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Latecomers[Part](ReferenceData())
    late.add(Part(0))
    assert not late.are_done(lambda _: Reach(4, 6))
    monkeypatch.setattr(latecomers, "QUIET_S", 0.0)
    assert late.are_done(lambda _: Reach(4, 6))


def test_a_partition_that_knows_more_than_its_new_process_has_it_read_on_and_all_others_take_that(tmp_path: Path) -> None:
    records = [recorded(bound("anna", f"b{n}")) for n in range(3)]
    feed, cells = Feed(records), {0: MemoryCells(), 1: MemoryCells()}
    stage = LiveOnKafka(feed, FolderBlobs(tmp_path / "tracks"), tmp_path / "work", lambda: 0, partitions=2)
    records += [recorded(bound("bob", f"b{n}")) for n in range(2)]
    cells[0].put(b"c", b"2")
    cells[1].put(b"c", b"4")
    shards = {n: stage.open(n, cells[n], Topics(2)) for n in (0, 1)}
    assert (feed.end, [shard.changes for shard in shards.values()]) == (4, [4, 4])
    for shard in shards.values():
        shard.close()
