"""The live stage as a function of the set of frames: any cut, any permutation, any repetition ends in the same boards and tracks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from processors.log import SqliteLog
from processors.runner import Runner, replay
from processors.stores import fingerprint

T0_US = 1_790_000_000_000_000
MOTION = layout_named("motion.1")
BEATS = layout_named("beats.1")
US = 1_000_000


def motion(device: str, seq: int, t_s: float, *, n: int = 5, boot: int = 7, subject: str = "gym/anna", **values: float) -> Frame:
    """A frame of `n` samples a second apart from `t_s` after T0."""
    rows = [{"tick_ms": i * 1000, "speed_mps": 3.0, "hr_bpm": 150, **values} for i in range(n)]
    return Frame(MOTION.id, 1, device, boot, seq, int(t_s * US), T0_US, 2, subject, b"".join(MOTION.pack(row) for row in rows))


def record(frame: Frame, appended_us: int, node: str = "box") -> LogRecord:
    key = route_of("gym", node, frame.device, frame.subject, self_numbered=frame.self_numbered)
    return LogRecord(Kind.FRAME, key, "gym", node, appended_us, encode_frame(frame))


class Platform:
    """A log and a runner with a clock that the test moves."""

    def __init__(self, path: Path, max_records: int = 2048) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.now_us = T0_US
        self.log = SqliteLog.open(path / "log.db")
        self.runner = Runner(self.log, path / "state.db", clock_us=lambda: self.now_us, max_records=max_records)

    def take(self, *frames: Frame, node: str = "box") -> None:
        self.log.append([record(f, self.now_us, node) for f in frames])
        self.runner.drain()

    def settle(self, seconds: float = 10) -> None:
        """Let time pass until no wake is left that is due."""
        self.now_us += int(seconds * US)
        self.runner.drain()
        while self.runner.fire_wakes():
            self.runner.drain()

    def fingerprint(self) -> str:
        return fingerprint(self.path / "state.db")

    def close(self) -> None:
        self.runner.close()
        self.log.close()

    def board(self) -> list[tuple[str, float]]:
        return [(s.subject, s.distance_um / 1e6) for s in self.runner.standings("live/gym")]


@pytest.fixture
def platform(tmp_path: Path):
    made = Platform(tmp_path / "a")
    yield made
    made.close()


def ride() -> list[Frame]:
    """Two athletes, a pause, a gap that ends an activity, two origins on one athlete."""
    frames = [motion("watch", i, i * 5.0, speed_mps=3.0 + i % 3) for i in range(60)]
    frames += [motion("watch", 60 + i, 1500 + i * 5.0) for i in range(20)]
    frames += [motion("phone", i, 2.5 + i * 5.0, boot=9, speed_mps=9.0) for i in range(80)]
    frames += [motion("band", i, i * 5.0, subject="gym/bob", hr_bpm=120 + i % 40) for i in range(60)]
    return frames


def test_repeats_count_once(platform: Platform) -> None:
    frames = [motion("watch", i, i * 5.0) for i in range(10)]
    platform.take(*frames)
    before = platform.board()
    platform.take(*frames, *frames)
    assert platform.board() == before == [("gym/anna", pytest.approx(49 * 3.0))]


def test_unbound_device_is_its_own_subject(platform: Platform) -> None:
    platform.take(motion("watch", 0, 0.0, subject=""))
    assert platform.board()[0][0] == "gym/@watch"


def test_second_origin_adds_no_distance(platform: Platform) -> None:
    for i in range(20):
        platform.take(motion("watch", i, i * 5.0), motion("phone", i, i * 5.0, boot=9, speed_mps=9.0))
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(99 * 3.0))]


def test_second_origin_takes_over_after_silence(platform: Platform) -> None:
    platform.take(*(motion("watch", i, i * 5.0) for i in range(4)))
    platform.take(*(motion("phone", i, i * 5.0, boot=9) for i in range(20)))
    platform.settle()
    # watch counts 0..19 s; the phone counts once the watch was silent for over 10 s: from 30 s to 99 s
    assert platform.board() == [("gym/anna", pytest.approx(19 * 3.0 + 69 * 3.0))]


def test_late_frames_are_counted_after_the_wake(platform: Platform) -> None:
    frames = [motion("watch", i, i * 5.0) for i in range(10)]
    platform.take(*frames[:3], *frames[6:])
    platform.take(*frames[3:6])
    assert platform.board()[0][1] < 49 * 3.0
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(49 * 3.0))]


def test_gap_longer_than_ten_minutes_starts_a_new_activity(platform: Platform) -> None:
    platform.take(motion("watch", 0, 0.0), motion("watch", 1, 5.0), motion("watch", 2, 700.0))
    starts = [a.start_us - T0_US for a in platform.runner.activities("gym/anna")]
    assert starts == [0, 700 * US]


def test_late_frames_that_fill_a_gap_join_two_activities(platform: Platform) -> None:
    platform.take(motion("watch", 0, 0.0), motion("watch", 2, 700.0))
    platform.take(motion("watch", 1, 350.0))
    platform.settle()
    assert [a.start_us - T0_US for a in platform.runner.activities("gym/anna")] == [0]
    assert len(platform.board()) == 1


def test_undated_frames_wait_for_the_date_of_their_boot(platform: Platform) -> None:
    undated = [replace(motion("watch", i, i * 5.0), utc_offset_us=None, clock=0) for i in range(4)]
    platform.take(*undated)
    platform.settle()
    assert platform.board() == []
    platform.take(motion("watch", 4, 20.0))
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(24 * 3.0))]


def test_silence_closes_and_compacts_without_changing_the_track(platform: Platform) -> None:
    platform.take(*ride())
    platform.settle()
    before = platform.fingerprint()
    assert platform.runner.raw_frames() > 0
    platform.settle(601)
    assert platform.runner.raw_frames() == 0
    assert platform.fingerprint() == before
    platform.take(motion("watch", 500, 200.5, speed_mps=1.0))
    platform.settle()
    platform.settle(601)
    assert platform.fingerprint() != before


@given(seed=st.integers(0, 10_000), cut=st.integers(1, 40), repeat=st.booleans())
@settings(max_examples=12, deadline=None)
def test_any_order_cut_and_repetition_ends_the_same(tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int, repeat: bool) -> None:
    base = tmp_path_factory.mktemp("order")
    ordered = Platform(base / "ordered")
    ordered.take(*ride())
    ordered.settle()
    shuffled = Platform(base / "shuffled", max_records=cut)
    frames = ride()
    rng = random.Random(seed)
    rng.shuffle(frames)
    if repeat:
        frames += rng.sample(frames, 50)
    for i in range(0, len(frames), 37):
        shuffled.take(*frames[i : i + 37])
        if rng.random() < 0.3:
            shuffled.settle(rng.choice([1, 5, 700]))
    shuffled.settle()
    assert shuffled.fingerprint() == ordered.fingerprint()
    replayed = replay(shuffled.log, base / "replayed.db", max_records=rng.randint(1, 500))
    assert fingerprint(base / "replayed.db", versions=True) == fingerprint(base / "shuffled" / "state.db", versions=True)
    replayed.close()
    ordered.close()
    shuffled.close()
