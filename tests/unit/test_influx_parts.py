"""A sink whose state file is made again, of the same tenants or of others, counts each sample of its tenants once and tells nothing of others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.errors import StoreError
from broker.view_part import WHOLE, ViewPart
from processors.influx_collector import Collector
from processors.influx_outbox import Outbox
from processors.influx_schema import BUCKETS
from processors.influx_sink import SinkFiles, named
from processors.series_guard import buckets_of
from processors.state_view import Record
from tests.any_way import T0_US, US
from tests.tenants_told import TENANTS, rides_of, view_of

NOW_US = T0_US + 6_000 * US
HALF, THIRD = ViewPart(1, 2), ViewPart(1, 3)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return rides_of(tmp_path_factory.mktemp("cluster"))


def looked(files: SinkFiles, part: ViewPart, prepare: Callable[[Outbox], None] = lambda _: None) -> dict[str, int]:
    """How many samples each subject has in all minutes that are kept, once nothing is left to read."""
    with closing(Outbox(files.outbox, cap_bytes=10**9)) as outbox:
        prepare(outbox)
        with closing(Collector(outbox, files.state, files.log, files.pulse, "here", part)) as collector:
            while collector.look(NOW_US):
                pass
            collector.look(NOW_US)
        found: dict[str, int] = {}
        for minute in filter(None, map(outbox.minute, outbox.minute_starts())):
            assert all(part.has(group[3]) for group in minute.told)
            for subject, row in minute.rows.items():
                found[subject] = found.get(subject, 0) + row[0]
        return found


def made(files: SinkFiles, told: list[Record], part: ViewPart, *, forgotten: int = 0) -> None:
    """The state file is made again; it forgot so many blocks."""
    files.state.unlink(missing_ok=True)
    with closing(view_of(files.state, told, part)) as store:
        store.db.execute("DELETE FROM believed WHERE id <= ?", (forgotten,))


@pytest.mark.parametrize("forgotten", [0, 2])
def test_a_state_that_is_made_again_counts_nothing_twice(tmp_path: Path, told: list[Record], forgotten: int) -> None:
    files = SinkFiles(tmp_path)
    made(files, told, WHOLE)
    first = looked(files, WHOLE)
    assert {subject.partition("/")[0] for subject in first} == set(TENANTS)
    made(files, told, WHOLE, forgotten=forgotten)
    assert looked(files, WHOLE) == first
    assert looked(files, WHOLE) == first


def test_a_tenant_that_moves_is_counted_where_it_goes_and_told_no_more_where_it_was(tmp_path: Path, told: list[Record]) -> None:
    whole = SinkFiles(tmp_path / "whole")
    made(whole, told, WHOLE)
    expected = looked(whole, WHOLE)
    files = SinkFiles(tmp_path / "part")
    seen: set[str] = set()
    for part in (HALF, THIRD, WHOLE):
        made(files, told, part)
        ours = looked(files, part)
        assert ours == {subject: n for subject, n in expected.items() if part.has_subject(subject)}
        seen.add(repr(sorted(ours)))
    assert len(seen) > 1


def test_a_file_of_another_part_is_not_read_and_says_why(tmp_path: Path, told: list[Record]) -> None:
    files = SinkFiles(tmp_path)
    made(files, told, HALF)
    with pytest.raises(StoreError, match=r"is of part 1/2 of the tenants, view\.part here is 1/3"):
        looked(files, THIRD)


def test_sinks_of_parts_have_twice_their_share_of_series_and_names_of_their_own() -> None:
    assert buckets_of(WHOLE) == buckets_of(HALF) == BUCKETS
    sixteenth = buckets_of(ViewPart(3, 16))
    assert {name: bucket.series * 8 for name, bucket in sixteenth.items()} == {name: bucket.series for name, bucket in BUCKETS.items()}
    assert (named("host", WHOLE), named("host", ViewPart(3, 16))) == ("host", "host-3of16")
