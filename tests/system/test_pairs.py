"""One run recorded by two devices, replayed as two athletes: both on every board, and an upload of the files corrects each activity once."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.pairs import PAIRS, replay_pair, segments_of
from broker.events.envelope import decode_structured
from broker.frames import encode_frame
from broker.logrecord import Kind, LogRecord
from broker.recorded import frames_of, identity_of, span_of
from broker.reference import SegmentRef, encode_reference
from device_profiles.files import Point, Points, Recording, read_recording, write_fit
from gateway.settings import FileReplay
from paceline.ride import write_ride
from processors.log import SqliteLog
from processors.results_db import efforts_of_segment, events, finals
from processors.runner import Runner
from processors.state_db import connect
from processors.stores import fingerprint, results_fingerprint
from processors.upload_file import read_upload, records_of
from processors.uploads import Uploads
from tests.system.stack import TENANT, Stack

LATER_US = 1_800_000_000_000_000
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "pairs"


def made_pair(folder: Path) -> tuple[Path, Path]:
    """A synthetic ride, and the same a little to the side, as a second device would see it."""
    a, b = folder / "a.fit", folder / "b.fit"
    write_ride(a, 900, 5)
    recording = read_recording(a)
    moved = [
        Point(
            p.t_us, **{name: getattr(p, name) for name in ("altitude_m", "speed_mps", "distance_m", "hr_bpm")}, lat=p.lat + 2e-5, lon=p.lon
        )
        for p in recording.points
        if p.lat is not None
    ]
    write_fit(Recording(Points.of(moved), sport="cycling", device="other"), b)
    return a, b


def real_pairs() -> list[tuple[Path, Path]]:
    return [(SHARED / a, SHARED / b) for a, b in PAIRS if (SHARED / a).exists()]


def test_both_recordings_of_a_run_stand_on_each_board_and_uploads_count_once(tmp_path: Path) -> None:
    for number, (a, b) in enumerate([made_pair(tmp_path), *real_pairs()[:1]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = replay_pair(a, b, folder, lost=10)
        assert outcome.activities == Counter({"pairs/a": 1, "pairs/b": 1})
        assert outcome.segments
        for segment in outcome.segments:
            assert outcome.boards[segment.id].size() == 2, segment.id
        assert outcome.told["paceline.user.activity.closed.v1"] == 2
        assert outcome.told["paceline.promo.distance.credited.v1"] == 2
        corrected = "paceline.user.activity.corrected.v1"
        assert outcome.told[corrected] - outcome.live_told.get(corrected, 0) == 2
        assert outcome.told == outcome.told_again


@pytest.mark.nightly
def test_two_devices_agree_on_all_real_pairs(tmp_path: Path) -> None:
    """Most segments of device a's route have an effort of both devices; the bars are the recall that the facts measured."""
    for number, (a, b) in enumerate(real_pairs()):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = replay_pair(a, b, folder)
        both = sum(1 for board in outcome.boards.values() if board.size() == 2)
        assert both >= 0.8 * len(outcome.segments), a.name


async def test_a_pair_replayed_through_the_gateway_and_then_uploaded(tmp_path: Path) -> None:
    """The whole way: box, brokers, ingest, stages; then both files by upload. One activity each, corrected once, no event twice."""
    a, b = (real_pairs() or [made_pair(tmp_path)])[0]
    segments = segments_of(a)
    replays = [FileReplay(path=path, athlete=name, device=f"dev-{name}", speed=1000) for name, path in (("a", a), ("b", b))]
    count = 0
    for path in (a, b):
        recording = read_recording(path)
        count += sum(1 for _ in frames_of(recording, identity_of(path.read_bytes()), utc_offset_us=span_of(recording)[0]))
    stack = Stack(tmp_path / "site", None, replays)
    stack.site.platform_dir.mkdir(parents=True, exist_ok=True)
    with SqliteLog.open(stack.site.platform_dir / "log.db") as log:
        now_us = time.time_ns() // 1000
        refs = [SegmentRef.model_validate({**s.model_dump(), "tenant": TENANT}) for s in segments]
        log.append([LogRecord(Kind.REFERENCE, TENANT, TENANT, "", now_us, encode_reference(ref)) for ref in refs])
        async with stack:
            await stack.settled(count, timeout_s=120)
            uploads = Uploads(log)
            frames = sum(uploads.accept(TENANT, name, path.name, path.read_bytes()).frames for name, path in (("a", a), ("b", b)))
            await stack.settled(count + frames, timeout_s=120)
            for name, path in (("a", a), ("b", b)):
                uploads.accept(TENANT, name, path.name, path.read_bytes())
            await stack.settled(count + frames, timeout_s=120)
    db = connect(stack.state, write=False)
    try:
        assert Counter(row.summary.subject for row in finals(db)) == Counter({f"{TENANT}/a": 1, f"{TENANT}/b": 1})
        for ref in refs:
            efforts = [e for e in efforts_of_segment(db, TENANT, ref.id) if not e.removed]
            assert {e.subject for e in efforts} == {f"{TENANT}/a", f"{TENANT}/b"}, ref.id
        told = Counter(decode_structured(row.body).type for row in events(db, limit=1 << 30))
        assert told["paceline.user.activity.started.v1"] == 2
        assert told["paceline.user.activity.closed.v1"] == 2
        assert told["paceline.promo.distance.credited.v1"] == 2
    finally:
        db.close()


def shuffled(a: Path, b: Path, folder: Path, rng: random.Random | None) -> str:
    """What results come to when the frames of both recordings and of the upload come in any order, cut and repetition (None: as they were)."""
    segments = segments_of(a)
    records: list[LogRecord] = []
    for name, path in (("a", a), ("b", b)):
        recording = read_recording(path)
        subject = f"{TENANT}/{name}"
        frames = frames_of(recording, identity_of(path.read_bytes()), samples=10, subject=subject, utc_offset_us=span_of(recording)[0])
        records += [LogRecord(Kind.FRAME, subject, TENANT, "box", 0, encode_frame(f)) for f in frames if f.seq % 10]
        records += records_of(read_upload(TENANT, name, path.name, path.read_bytes(), LATER_US), 0)
    if rng is not None:
        records = [*records, *rng.sample([r for r in records if r.kind == Kind.FRAME], 50)]
        rng.shuffle(records)
    now_us = LATER_US
    folder.mkdir()
    with SqliteLog.open(folder / "log.db") as log:
        runner = Runner(log, folder / "state.db", clock_us=lambda: now_us, max_records=rng.choice([7, 100, 4096]) if rng else 4096)
        refs = [SegmentRef.model_validate({**s.model_dump(), "tenant": TENANT}) for s in segments]
        log.append([LogRecord(Kind.REFERENCE, TENANT, TENANT, "", now_us, encode_reference(ref)) for ref in refs])
        at = 0
        while at < len(records):
            n = rng.randint(1, 200) if rng else len(records)
            log.append([r._replace(appended_us=now_us) for r in records[at : at + n]])
            at += n
            now_us += rng.choice([0, 0, 4, 700]) * 1_000_000 if rng else 0
            runner.drain()
            while runner.fire_wakes():
                runner.drain()
        for _ in range(3):
            now_us += 700_000_000
            while runner.fire_wakes():
                runner.drain()
        runner.close()
    return results_fingerprint(folder / "state.db") + fingerprint(folder / "state.db")


@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
def test_any_order_of_recorded_runs_ends_in_the_same_bits(tmp_path: Path, seeds: int) -> None:
    for number, (a, b) in enumerate([made_pair(tmp_path), *real_pairs()[:1]]):
        want = shuffled(a, b, tmp_path / f"plain{number}", None)
        for seed in range(seeds):
            assert shuffled(a, b, tmp_path / f"{number}-{seed}", random.Random(seed)) == want, (a.name, seed)
