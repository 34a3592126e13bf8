"""The live stage as a function of the set of frames: any cut, any permutation, any repetition ends in the same boards and tracks."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.frames import Frame, encode_frame
from broker.ids import route_of
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from broker.reference import AthleteRef, encode_reference
from processors import live_row
from processors.live import LiveStage
from processors.live_state import LiveStates
from processors.log import SqliteLog
from processors.reference_data import ReferenceData
from processors.runner import Runner, replay
from processors.stage import Batch, Inputs
from processors.stores import ReadStore, fingerprint

T0_US = 1_790_000_000_000_000
MOTION = layout_named("motion.1")
BEATS = layout_named("beats.1")
MACHINE = layout_named("machine.1")
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


def beats(device: str, seq: int, t_s: float, *, subject: str = "gym/anna") -> Frame:
    rows = [BEATS.pack({"tick_ms": i * 500, "rr_ms": 500, "hr_bpm": 118 + i}) for i in range(10)]
    return Frame(BEATS.id, 1, device, 3, seq, int(t_s * US), T0_US, 2, subject, b"".join(rows))


def machine(seq: int, t_s: float, *, subject: str = "gym/anna") -> Frame:
    """A treadmill that does not number its own frames: the box is part of the origin."""
    rows = [MACHINE.pack({"tick_ms": i * 1000, "kind": 1, "speed_mps": 2.5, "distance_m": t_s * 2 + i * 2}) for i in range(5)]
    return Frame(MACHINE.id, 0, "treadmill", 11, seq, int(t_s * US), T0_US, 2, subject, b"".join(rows))


def scrambled(rng: random.Random) -> list[Frame]:
    """A hard hour: sensors that overlap, reboots, undated frames that a later one dates, gaps around the limits, equal times, GPS only."""
    frames: list[Frame] = []
    for i in range(30):
        frames += [motion("watch", i, i * 5.0 + (700 if i > 20 else 0)), beats("strap", i, i * 5.0), machine(i, i * 6.0)]
    offset = rng.choice([0, 40 * US, 900 * US])
    for i in range(20):  # a phone without a clock at first; its dates differ a little, the lowest-numbered one counts
        frame = motion("phone", i, i * 5.0, boot=21, subject="gym/bob")
        dated = i >= 8
        frames.append(replace(frame, utc_offset_us=T0_US + offset + i * 1000 if dated else None, clock=2 if dated else 0))
    for i in range(10):
        frames.append(motion("phone", i, 200 + i * 5.0, boot=22, subject="gym/bob"))
        rows = [{"tick_ms": k * 1000, "lat": 45 + 4e-5 * (i * 5 + k), "lon": 7.0, "hr_bpm": 150} for k in range(5)]
        records = b"".join(MOTION.pack(row) for row in rows)
        frames.append(Frame(MOTION.id, 1, "gps", 5, i, i * 5 * US, T0_US, 2, "gym/carl", records))
    frames.append(motion("watch", 900, 52.5))  # the same instants as others of the same origin
    frames.append(motion("watch", 901, 50.0))
    frames.append(Frame(999, 1, "watch", 7, 902, 0, T0_US, 2, "gym/anna", b"a layout from the future"))
    return frames


@given(seed=st.integers(0, 1_000_000), cut=st.integers(1, 60))
@settings(max_examples=10, deadline=None)
def test_a_hard_hour_ends_the_same_in_any_order(tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int) -> None:
    base = tmp_path_factory.mktemp("hard")
    rng = random.Random(seed)
    frames = scrambled(rng)
    ends = []
    for name in ("one", "other"):
        platform = Platform(base / name, max_records=cut)
        rng.shuffle(frames)
        sent = frames + rng.sample(frames, 20)
        while sent:
            size = rng.randint(1, 40)
            part, sent = sent[:size], sent[size:]
            platform.take(*part)
            if rng.random() < 0.3:
                platform.settle(rng.choice([1, 5, 700]))
        platform.take(*frames)  # whatever was left out above, and repeats of the rest
        platform.settle()
        if rng.random() < 0.5:
            platform.settle(700)
        ends.append(platform.fingerprint())
        again = replay(platform.log, base / f"{name}.db", max_records=rng.randint(1, 300))
        assert fingerprint(base / f"{name}.db", versions=True) == fingerprint(platform.path / "state.db", versions=True)
        again.close()
        platform.close()
    assert ends[0] == ends[1]


def test_plain_python_gives_the_bits_of_the_compiled_kernel(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "here")
    platform.take(*ride(), *scrambled(random.Random(1)))
    platform.settle()
    want = platform.fingerprint()
    platform.close()
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from pathlib import Path; from processors import live_kernel; assert not live_kernel.COMPILED\n"
        "from processors.log import SqliteLog; from processors.runner import replay; from processors.stores import ReadStore, fingerprint\n"
        "replay(SqliteLog.open(sys.argv[1]), Path(sys.argv[2])); print(fingerprint(Path(sys.argv[2])))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "here" / "log.db"), str(tmp_path / "plain.db")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == want


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
        platform.take(motion("watch", i, i * 5.0), motion("phone", i, 0.5 + i * 5.0, boot=9, speed_mps=9.0))
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(99 * 3.0))]


def test_second_origin_takes_over_after_silence(platform: Platform) -> None:
    platform.take(*(motion("watch", i, i * 5.0) for i in range(4)))
    platform.take(*(motion("phone", i, 1.5 + i * 5.0, boot=9, speed_mps=9.0) for i in range(20)))
    platform.settle()
    # the watch counts to 19 s; the phone once the watch was silent for over 10 s: from 29.5 s to 100.5 s
    assert platform.board() == [("gym/anna", pytest.approx(19 * 3.0 + 71 * 9.0))]


def test_a_late_frame_of_the_first_source_moves_the_takeover(platform: Platform) -> None:
    platform.take(*(motion("watch", i, i * 5.0) for i in range(4)))
    platform.take(*(motion("phone", i, 1.5 + i * 5.0, boot=9, speed_mps=9.0) for i in range(20)))
    platform.take(motion("watch", 4, 20.0))
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(24 * 3.0 + 66 * 9.0))]


@pytest.mark.parametrize("first", ["watch", "phone"])
def test_of_two_sources_that_begin_at_once_the_same_one_counts_whoever_came_first(platform: Platform, first: str) -> None:
    other = "phone" if first == "watch" else "watch"
    speeds = {"watch": 3.0, "phone": 9.0}
    for device in (first, other):
        platform.take(*(motion(device, i, i * 5.0, speed_mps=speeds[device]) for i in range(4)))
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(19 * 9.0))]


def test_late_frames_are_counted_after_the_wake(platform: Platform) -> None:
    frames = [motion("watch", i, i * 5.0) for i in range(20)]
    platform.take(*frames[:3], *frames[16:])
    platform.take(*frames[3:16])
    assert platform.board()[0][1] == pytest.approx((14 + 45 + 19) * 3.0)  # 66 s of silence, of which 45 are bridged
    platform.settle()
    assert platform.board() == [("gym/anna", pytest.approx(99 * 3.0))]


def test_a_long_backlog_is_worked_in_once_it_pauses_or_after_a_minute(platform: Platform) -> None:
    platform.take(motion("watch", 1000, 5000.0))
    rebuilt_at: list[int] = []
    for i in range(100):  # a second a frame, all behind what is held
        platform.take(motion("watch", i, i * 5.0))
        before = len(platform.runner.activities("gym/anna"))
        platform.settle(1)
        if len(platform.runner.activities("gym/anna")) != before:
            rebuilt_at.append(i)
    assert rebuilt_at == [59]  # 60 s after the first
    platform.settle(4)
    assert platform.runner.pending_wakes("rebuild") == 0
    assert [a.samples for a in platform.runner.activities("gym/anna")] == [500, 5]


def test_a_rebuild_folds_many_frames_into_blobs(platform: Platform) -> None:
    platform.take(*(motion("watch", i, i * 5.0) for i in range(1, 600)))
    platform.take(motion("watch", 0, 0.0))
    before = platform.runner.raw_frames()
    platform.settle()
    assert (before, platform.runner.raw_frames()) == (600, 0)


def test_a_jump_of_seq_is_counted_as_missing_until_the_frames_come(platform: Platform) -> None:
    platform.take(motion("watch", 0, 0.0), motion("watch", 4, 20.0), motion("band", (1 << 64) - 1, 0.0, subject="gym/bob"))
    store = ReadStore(platform.path / "state.db")
    assert store.missing("gym") == {"watch": 3, "band": 1 << 48}
    platform.take(*(motion("watch", i, i * 5.0) for i in range(1, 4)))
    assert store.missing("gym") == {"band": 1 << 48}
    store.close()


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


@pytest.mark.parametrize("zones", [(115, 135, 155, 300), (115, 135, 155, 10**18), (-5, 0, 1, 2)])
def test_zones_beyond_any_heart_stop_nobody(platform: Platform, zones: tuple[int, int, int, int]) -> None:
    """A bound no heart reaches is a zone nobody is in; it changes neither the other bounds nor the sex."""
    anna = AthleteRef(tenant="gym", id="anna", name="Anna", hr_zones_bpm=zones)
    platform.log.append([LogRecord(Kind.REFERENCE, "gym/anna", "gym", "", platform.now_us, encode_reference(anna))])
    platform.take(*ride())
    row = live_row.person_of(zones)
    packed = [row >> 8 * i & 255 for i in range(4)]
    assert packed == [min(max(bound, 0), 255) for bound in zones]
    assert row >> 32 == 0
    assert {subject for subject, _ in platform.board()} == {"gym/anna", "gym/bob"}


def test_a_wake_makes_the_row_that_outgrows_the_table() -> None:
    states = LiveStates()
    room = len(states.rows)
    for number in range(room):
        states.slot(f"gym/{number}")
    stage = LiveStage(ReferenceData())
    wake = LogRecord(Kind.WAKE, "gym/new", "", "", T0_US, f"rebuild:{T0_US}:{T0_US}".encode())
    stage.step(states, Batch(1, [wake], [], []), Inputs())
    assert states.peek("gym/new") is not None


def test_a_state_made_again_waits_for_no_wake_that_is_in_the_log(platform: Platform) -> None:
    """Else all that was ever finished would be finished once more."""
    platform.take(*ride())
    platform.settle(700)
    again = replay(platform.log, platform.path / "again.db")
    again.close()
    with closing(sqlite3.connect(platform.path / "again.db")) as db:
        assert db.execute("SELECT key, name FROM wake").fetchall() == []


def test_a_state_set_aside_goes_once_the_new_one_has_all_of_the_log(tmp_path: Path) -> None:
    """It may hold results of athletes who were erased since."""
    log = SqliteLog.open(tmp_path / "log.db")
    anna = AthleteRef(tenant="gym", id="anna", name="Anna")
    log.append([LogRecord(Kind.REFERENCE, "gym/anna", "gym", "", T0_US, encode_reference(anna))])
    for name in ("state.db.2", "state.db.kept"):
        (tmp_path / name).write_bytes(b"results of yesterday")
    runner = Runner(log, tmp_path / "state.db")
    assert runner.advance() == 1
    assert (tmp_path / "state.db.2").exists()  # there may be more in the log
    assert runner.advance() == 0
    assert not (tmp_path / "state.db.2").exists()
    assert (tmp_path / "state.db.kept").exists()
    runner.close()
    log.close()
