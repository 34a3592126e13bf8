"""What the platform knows as points: efforts that overwrite themselves, boards without names, and reading stores by position."""

from __future__ import annotations

import gzip
from contextlib import closing
from pathlib import Path

import pytest

from broker.errors import StoreError
from broker.events import models
from broker.events.envelope import Event, make_event
from broker.events.models import utc_text
from processors.influx_collector import Collector
from processors.influx_outbox import Outbox
from processors.influx_points import board_rows, effort_rows, node_points, points_of
from processors.influx_queries import track
from processors.influx_schema import BOARD, BUCKETS
from processors.influx_sink import SinkFiles
from processors.line_protocol import encode_lines
from processors.pulse import read_pulse, write_pulse
from tests.any_way import US
from tests.influx_world import InfluxWorld

AT_US = 1_790_000_000_000_000


def effort(ms: int = 60_000, *, timing: str = "final", corrected: bool = False, start_us: int = AT_US, kept_off: bool = False) -> Event:
    values = {
        "effort": "e" * 26, "activity": "a" * 26, "subject": "gym/ann", "segment": "hill", "ordinal": 0, "started_at": utc_text(start_us),
        "elapsed_ms": ms, "accuracy_ms": 10, "timing": timing, "hr_avg_bpm": 150, "power_avg_w": None, "kept_off": kept_off,
    }  # fmt: skip
    if corrected:
        values["change"] = models.EffortCorrection(elapsed_delta_ms=10, fields=("elapsed_ms",))
    model = models.EffortCorrected if corrected else models.Effort
    name = f"paceline.social.effort.{'corrected' if corrected else 'recorded'}.v1"
    return make_event(name, model.model_validate(values), time_us=AT_US, recorded_us=AT_US, phase="final", position=5)


def removed() -> Event:
    data = models.EffortRemoved(effort="e" * 26, activity="a" * 26, subject="gym/ann", segment="hill")
    return make_event("paceline.social.effort.removed.v1", data, time_us=AT_US, recorded_us=AT_US, phase="correction", position=6)


@pytest.mark.parametrize("timing", ["provisional", "settled"])
def test_only_final_efforts_are_written(timing):
    assert effort_rows(effort(timing=timing), "run", None) == ([], None)


def test_an_effort_that_is_timed_again_keeps_its_time_and_overwrites_itself():
    (first,), at = effort_rows(effort(60_000), "run", None)
    (second,), then = effort_rows(effort(60_700, start_us=AT_US + 300_000, corrected=True), "run", at)
    assert (first.tags, first.t) == (second.tags, second.t) == (("hill", "run", "gym"), at.t_ns)
    assert (first.values[0], second.values[0]) == (60_000, 60_700)
    assert then.t_ns // 1_000_000 == (AT_US + 60_000_000) // 1000


def test_an_effort_of_another_sport_stands_no_more_where_it_was():
    _, at = effort_rows(effort(), "run", None)
    rows, then = effort_rows(effort(), "ride", at)
    assert [(row.tags[1], row.values[2]) for row in rows] == [("ride", 1), ("run", 0)]
    assert then.sport == "ride"


def test_an_effort_that_is_removed_or_not_believed_does_not_stand():
    rows, at = effort_rows(effort(kept_off=True), "run", None)
    assert [row.values[2] for row in rows] == [0]
    (gone,), then = effort_rows(removed(), "run", at)
    assert (gone.t, gone.values[2], then) == (at.t_ns, 0, None)
    assert effort_rows(removed(), "run", None) == ([], None)


def test_no_name_of_a_person_is_in_an_effort_or_on_a_board():
    rows, _ = effort_rows(effort(), "run", None)
    boards = board_rows(board_changed(60_000, 61_500, rank_before=None, rank_after=1))
    assert [(r.tags, r.values) for r in boards] == [(("01", "hill", "gym"), (1, 60_000, 0)), (("02", "hill", "gym"), (1, 61_500, 1_500))]
    assert "ann" not in repr(rows) + repr(boards)
    assert encode_lines(points_of(BOARD, boards)).count(b"\n") == 2


def board_changed(*times_ms: int, rank_before: int | None, rank_after: int | None) -> Event:
    top = tuple(
        models.BoardRow(rank=place, subject="gym/ann", effort="e" * 26, elapsed_ms=ms, started_at=utc_text(AT_US))
        for place, ms in enumerate(times_ms, 1)
    )
    moved = models.BoardChange(subject="gym/ann", rank_before=rank_before, rank_after=rank_after)
    data = models.BoardChanged(board="gym/hill", segment="hill", top=top, change=moved)
    return make_event("paceline.social.board.changed.v1", data, time_us=AT_US, recorded_us=AT_US, phase="provisional", position=7)


@pytest.mark.parametrize(
    ("times_ms", "rank_before", "rank_after", "vacant"),
    [
        ((60_000, 61_500), 1, None, "03"),  # the last place of those that were held, whoever left
        ((), 1, None, "01"),
        ((60_000, 61_500), 2, 1, None),
        ((60_000, 61_500), None, 2, None),
        (tuple(range(60_000, 60_010)), 4, None, None),  # somebody moved up from beyond
    ],
)
def test_a_place_that_falls_vacant_stands_no_more_and_has_no_time(times_ms, rank_before, rank_after, vacant):
    rows = board_rows(board_changed(*times_ms, rank_before=rank_before, rank_after=rank_after))
    gone = {row.tags[0]: row.values for row in rows if row.values[0] == 0}
    assert gone == ({} if vacant is None else {vacant: (0, None, None)})
    assert len(rows) - len(gone) == len(times_ms)


def test_flux_is_written_with_what_the_tag_holds():
    text = track("paceline_live", "gym", 'a"b\n', "-1h")
    assert 'r.ath == "a\\"b_"' in text
    assert text.startswith('from(bucket: "paceline_live")')


# reading the stores


@pytest.fixture
def world(tmp_path: Path):
    made = InfluxWorld(tmp_path / "platform")
    yield made
    made.close()


def collector_of(world: InfluxWorld, outbox: Outbox) -> Collector:
    return Collector(outbox, world.files.state, world.files.log, world.files.pulse, "here")


def lines_of(outbox: Outbox) -> dict[str, list[bytes]]:
    """What is owed, by bucket."""
    found: dict[str, list[bytes]] = {}
    for bucket in BUCKETS:
        while (owed := outbox.owed(bucket)) is not None:
            found.setdefault(bucket, []).extend(gzip.decompress(owed.batch.body).splitlines())
            outbox.done(owed.ids, {})
    return found


def all_of(world: InfluxWorld, folder: Path, looks: int) -> dict[str, list[bytes]]:
    """The lines of a whole world when somebody looks `looks` times, each time with a new collector; without the counters."""
    outbox = Outbox(SinkFiles(folder).outbox, cap_bytes=10**9)
    found: dict[str, list[bytes]] = {}
    for _ in range(looks):
        with closing(collector_of(world, outbox)) as collector:
            while collector.look(world.now_us):
                pass
        for bucket, lines in lines_of(outbox).items():
            found.setdefault(bucket, []).extend(lines)
    outbox.close()
    return {bucket: sorted(set(lines)) for bucket, lines in found.items() if bucket != "ops"}


def test_lines_do_not_depend_on_how_often_one_looks(world, tmp_path):
    world.segments()
    world.ride_on(150)
    world.finish()
    world.now_us += 3_600 * US
    once, often = all_of(world, tmp_path / "a", 1), all_of(world, tmp_path / "b", 5)
    assert once == often
    assert once.keys() == {"live", "seg", "agg"}


def test_disk_that_can_neither_be_written_nor_read_for_a_while_counts_no_minute_twice(world, tmp_path, monkeypatch):
    world.ride_on(150)
    world.now_us += 3_600 * US
    once = all_of(world, tmp_path / "a", 1)
    outbox = Outbox(SinkFiles(tmp_path / "b").outbox, cap_bytes=10**9)
    with closing(collector_of(world, outbox)) as collector:

        def broken(*_of: object) -> None:
            raise StoreError("disk I/O error")

        for names in (("commit",), ("commit", "last")):
            with monkeypatch.context() as disk:
                for name in names:
                    disk.setattr(outbox, name, broken)
                with pytest.raises(StoreError):
                    collector.look(world.now_us)
        while collector.look(world.now_us):
            pass
    found = {bucket: sorted(lines) for bucket, lines in lines_of(outbox).items() if bucket != "ops"}
    outbox.close()
    assert found == once


def test_state_that_cannot_be_read_is_said_with_the_cure_and_read_on_when_it_can(world, tmp_path):
    world.ride_on(50)
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    with closing(collector_of(world, outbox)) as collector:
        db = world.runner._store.db
        db.execute("ALTER TABLE believed RENAME TO hidden")
        with pytest.raises(StoreError, match=r"state\.db: cannot be read") as raised:
            collector.look(world.now_us)
        assert raised.value.cure
        db.execute("ALTER TABLE hidden RENAME TO believed")
        collector.look(world.now_us)
        assert len(lines_of(outbox)["live"]) == len(world.samples())
    outbox.close()


def test_nothing_new_is_nothing_written(world, tmp_path):
    world.ride_on(25)
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    with closing(collector_of(world, outbox)) as collector:
        collector.look(world.now_us)
        made = outbox.counters()["made"]
        for _ in range(3):
            assert not collector.look(world.now_us)
        assert outbox.counters()["made"] == made
    outbox.close()


def test_blocks_that_went_before_they_were_read_are_counted(world, tmp_path):
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    with closing(collector_of(world, outbox)) as collector:
        world.ride_on(25)
        collector.look(world.now_us)
        world.runner._told._keep_bytes = 1
        world.ride_on(75)
        collector.look(world.now_us)
        assert outbox.counters()["lost_blocks"] >= 2
    outbox.close()


def test_a_state_that_was_made_again_is_read_from_its_beginning(world, tmp_path):
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    world.ride_on(50)
    with closing(collector_of(world, outbox)) as collector:
        collector.look(world.now_us)
        first = lines_of(outbox)["live"]
        world.close()
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            (world.files.folder / name).unlink(missing_ok=True)
        again = InfluxWorld(world.files.folder)
        again.runner.drain()
        collector.look(world.now_us)
        assert sorted(lines_of(outbox)["live"]) == sorted(first)
        again.close()
    outbox.close()


def test_damaged_blocks_are_passed_over_and_counted(world, tmp_path):
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    world.ride_on(25)
    world.runner._store.db.execute("UPDATE believed SET body=x'00' WHERE id=1")
    world.ride_on(25)
    with closing(collector_of(world, outbox)) as collector:
        collector.look(world.now_us)
    assert outbox.counters()["unreadable"] == 1
    assert outbox.counters()["made"] > 40
    outbox.close()


def test_a_platform_that_is_not_there_yet_is_waited_for(tmp_path):
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    files = SinkFiles(tmp_path / "nowhere")
    with closing(Collector(outbox, files.state, files.log, files.pulse, "here")) as collector:
        assert not collector.look(AT_US)
    assert outbox.counters()["made"] == 1  # its own counters
    outbox.close()


def test_a_pulse_is_read_as_it_was_left_and_a_damaged_one_is_none(world):
    world.report_nodes()
    pulse = read_pulse(world.files.pulse)
    assert pulse is not None
    assert [(n.tenant, n.node, n.online, n.spool_rows, n.hours_left) for n in pulse.nodes] == [("gym", "box", True, 7, 12.5)]
    assert pulse.p99_ms == 85
    assert b"spool=7i" in encode_lines(node_points(pulse.nodes, AT_US))
    for raw in (b"", b"{}", b'{"t_us": 1, "nodes": [[1]], "p99_ms": 2}', b"\xff"):
        world.files.pulse.write_bytes(raw)
        assert read_pulse(world.files.pulse) is None
    write_pulse(world.files.pulse, AT_US, {}, {})
    assert read_pulse(world.files.pulse) is not None


def test_a_state_made_again_has_erased_athletes_deleted_again_behind_what_it_tells(tmp_path: Path) -> None:
    """It tells samples of before the erasure once more, perhaps before it knows of that; its position is the one of the old state."""
    world = InfluxWorld(tmp_path / "platform")
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)

    def erased() -> list[bytes]:
        found: list[bytes] = []
        while (owed := outbox.owed("live")) is not None:
            found += [owed.batch.body] if owed.batch.kind == "erase" else []
            outbox.done(owed.ids, {})
        return found

    with closing(outbox), closing(collector_of(world, outbox)) as collector:
        world.ride_on(25)
        world.erase("bob")
        collector.look(world.now_us)
        assert (erased(), erased()) == ([b"gym/bob"], [])
        world.close()
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            (world.files.folder / name).unlink(missing_ok=True)
        again = InfluxWorld(world.files.folder)
        again.runner.drain()
        while collector.look(world.now_us):
            pass
        assert erased() == [b"gym/bob"]
        collector.look(world.now_us)
        assert erased() == []
        again.close()


def test_a_state_made_again_in_another_order_leaves_no_event_out_and_no_effort_changes_its_series(
    world: InfluxWorld, tmp_path: Path
) -> None:
    """As a view whose file was removed: the events of other partitions come before those that were read, and activities last."""
    outbox = Outbox(tmp_path / "influx.db", cap_bytes=10**9)
    world.segments()
    world.ride_on(150)
    world.finish()
    db = world.runner._store.db

    def efforts() -> dict[bytes, bytes]:
        """The last fields of each point of an effort."""
        lines = [line for line in lines_of(outbox).get("seg", []) if line.startswith(b"effort,")]
        return {b" ".join(line.split(b" ")[::2]): line for line in lines}

    with closing(outbox), closing(collector_of(world, outbox)) as collector:
        last = db.execute("SELECT * FROM outbox WHERE type LIKE 'paceline.social.effort.%' ORDER BY seq DESC LIMIT 1").fetchone()
        db.execute("DELETE FROM outbox WHERE seq>=?", last[:1])
        while collector.look(world.now_us):
            pass
        first = efforts()
        assert first
        db.execute("UPDATE outbox SET seq=-seq")
        db.execute("UPDATE outbox SET seq=2-seq")
        db.execute("INSERT INTO outbox VALUES (1,?,?,?,?,?,?,?)", last[1:])
        db.execute("ALTER TABLE final RENAME TO hidden")
        db.execute("CREATE TABLE final AS SELECT * FROM hidden WHERE 0")
        while collector.look(world.now_us):
            pass
        again = efforts()
        assert len(again) == len(first) + 1
        assert {point: again[point] for point in first} == first
