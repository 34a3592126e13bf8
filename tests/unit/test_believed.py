"""What the live stage tells of each sample: once, as believed, again when late samples change it, and nothing unless it is asked."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from broker.errors import StoreError
from broker.frames import Frame
from broker.layouts import layout_named
from processors.believed import ABSENT, NO_POS, Believed, decode_believed, encode_believed
from processors.believed_db import BelievedWriter, blocks_after, generation, last_block
from processors.log import SqliteLog
from processors.runner import Runner, replay
from processors.state_db import StateDb, connect
from tests.unit.test_live_stage import T0_US, US, beats, machine, motion, record

HEALTH = layout_named("health.1")


class Teller:
    """A log and a runner that tells."""

    def __init__(self, folder: Path, *, tells: bool = True) -> None:
        self.state = folder / "state.db"
        self.log = SqliteLog.open(folder / "log.db")
        self.runner = Runner(self.log, self.state, clock_us=lambda: self.now_us, tells=tells)
        self.now_us = T0_US

    def take(self, *frames: Frame, after_s: float = 5.0) -> None:
        self.now_us += int(after_s * US)
        self.log.append([record(f, self.now_us) for f in frames])
        self.runner.drain()

    def told(self) -> list[Believed]:
        with closing(connect(self.state, write=False)) as db:
            return [decode_believed(block.body) for block in blocks_after(db, 0, 1000)]


@pytest.fixture
def teller(tmp_path: Path) -> Iterator[Teller]:
    made = Teller(tmp_path)
    yield made
    made.runner.close()
    made.log.close()


def test_each_sample_is_told_once_with_what_it_brought(teller):
    frame = motion("watch", 0, 0.0, lat=47.0, lon=8.0, power_w=200, cadence_rpm=90)
    teller.take(frame, frame)
    teller.take(frame)
    (block,) = teller.told()
    assert list(block.subjects) == ["gym/anna"]
    assert block.t_us.tolist() == [T0_US + i * US for i in range(5)]
    assert block.hr_bpm.tolist() == [150] * 5
    assert block.power_w.tolist() == [200] * 5
    assert block.cadence_rpm.tolist() == [90] * 5
    assert all(abs(lat - 470_000_000) < 1000 for lat in block.lat.tolist())
    assert not block.again


def test_a_field_is_there_only_at_samples_that_brought_it(teller):
    teller.take(beats("strap", 0, 0.0))
    (block,) = teller.told()
    assert set(block.lat.tolist()) == {NO_POS}
    assert set(block.power_w.tolist()) == set(block.speed_cmps.tolist()) == {ABSENT}
    assert len(block) == 10
    assert all(118 <= hr <= 127 for hr in block.hr_bpm.tolist())
    assert set(block.source.tolist()) == {2}


def test_a_source_that_does_not_count_is_not_told(teller):
    for i in range(4):
        teller.take(motion("watch", i, i * 5.0), machine(i, i * 5.0 + 0.5))
    assert {s for block in teller.told() for s in block.source.tolist()} <= {1, 2}
    assert sum(len(block) for block in teller.told()) < 40


def test_late_samples_have_the_whole_activity_told_again(teller):
    teller.take(motion("watch", 0, 0.0), motion("watch", 2, 10.0))
    teller.take(motion("watch", 1, 5.0))
    teller.now_us += 30 * US
    while teller.runner.fire_wakes():
        teller.runner.drain()
    last = teller.told()[-1]
    assert last.again
    assert last.t_us.tolist() == [T0_US + i * US for i in range(15)]
    assert last.dist_um.tolist() == sorted(last.dist_um.tolist())


def test_samples_of_last_week_are_not_told(teller):
    teller.now_us += 7 * 86_400 * US
    teller.take(motion("watch", 0, 0.0))
    assert teller.told() == []


def test_health_of_devices_is_told(teller):
    body = HEALTH.pack({"tick_ms": 500, "battery_pct": 80, "rssi_dbm": -60})
    teller.take(Frame(HEALTH.id, 1, "watch", 7, 0, 0, T0_US, 2, "gym/anna", body))
    (said,) = [h for block in teller.told() for h in block.health]
    assert (said.tenant, said.node, said.device, said.t_us) == ("gym", "box", "watch", T0_US + 500_000)
    assert (said.battery_pct, said.rssi_dbm, said.dropped, said.uptime_s) == (80, -60, None, None)


def test_a_stage_that_is_not_asked_tells_nothing_and_makes_no_table(tmp_path):
    quiet = Teller(tmp_path, tells=False)
    quiet.take(motion("watch", 0, 0.0))
    quiet.runner.close()
    with closing(connect(quiet.state, write=False)) as db:
        assert generation(db) is None
    quiet.log.close()


def test_a_state_made_again_has_another_generation_and_numbers_go_on_in_the_same_one(tmp_path):
    first = Teller(tmp_path)
    first.take(motion("watch", 0, 0.0))
    first.runner.close()
    second = Runner(first.log, first.state, tells=True)
    second.close()
    with closing(connect(first.state, write=False)) as db:
        was, number = generation(db), last_block(db)
    assert was is not None
    assert number == 1
    replay(first.log, tmp_path / "again.db").close()
    Runner(first.log, tmp_path / "again.db", tells=True).close()
    with closing(connect(tmp_path / "again.db", write=False)) as db:
        assert generation(db) not in (None, was)
    first.log.close()


def test_blocks_are_bounded_by_age_and_bytes_and_numbers_only_grow(tmp_path):
    store = StateDb(tmp_path / "state.db")
    (tmp_path / "b").mkdir()
    teller = Teller(tmp_path / "b")
    teller.take(motion("watch", 0, 0.0))
    (one,) = teller.told()
    size = len(encode_believed(one))
    writer = BelievedWriter(store.db, keep_us=10 * US, keep_bytes=3 * size + 10)
    for i in range(5):
        writer.put([replace(one, appended_us=one.appended_us + i)])
    assert [b.id for b in blocks_after(store.db, 0, 10)] == [3, 4, 5]
    writer.put([replace(one, appended_us=one.appended_us + 60 * US)])
    assert [b.id for b in blocks_after(store.db, 0, 10)] == [6]
    store.close()
    teller.runner.close()
    teller.log.close()


def test_a_block_survives_its_bytes_and_damaged_ones_are_an_error_with_a_cure(teller):
    teller.take(motion("watch", 0, 0.0, lat=47.0, lon=-8.0), beats("strap", 0, 0.0, subject="gym/bob"))
    (block,) = teller.told()
    raw = encode_believed(block)
    assert encode_believed(decode_believed(raw)) == raw
    for cut in (b"", raw[:10], raw[:-3], b"\xff" * 40):
        with pytest.raises(StoreError, match="block 7"):
            decode_believed(cut, "block 7")


def test_a_transaction_that_fails_tells_nothing(teller, monkeypatch):
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(teller.runner._store, "save", full)
    with pytest.raises(sqlite3.OperationalError):
        teller.take(motion("watch", 0, 0.0))
    assert teller.told() == []
    monkeypatch.undo()
    teller.runner.drain()
    assert [len(block) for block in teller.told()] == [5]
