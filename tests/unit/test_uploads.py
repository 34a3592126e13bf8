"""Uploads: the same frames a gateway makes of a file, under the node `upload`, in the log once, or a refusal that names the file."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import BadInputError, StoreError
from broker.frames import SELF_NUMBERED, Clock, Frame, decode_frame
from broker.ids import is_id
from broker.logrecord import Kind, decode_records, encode_records
from broker.recorded import Identity, frames_of, identity_of, span_of
from broker.reference import MAX_LAPS, UploadRef, decode_reference, encode_reference
from device_profiles.files import Point, Recording, decode_recording
from device_profiles.files.fit_writing import encode_fit
from device_profiles.files.gpx import encode_gpx
from device_profiles.files.tcx import encode_tcx
from processors import upload_file, uploads
from processors.log import SqliteLog
from processors.runner import Runner
from processors.upload_file import EARLIEST_US, Upload, read_upload, records_of, shown_name, upload_id
from processors.uploads import Uploads
from tests.unit.test_files_fuzz import FILES as WRITTEN
from tests.unit.test_files_fuzz import RIDE, mutated
from tests.unit.test_gateway_replay import FILES, check_same

T = TypeVar("T")
NOW_US = 1_790_000_000_000_000
YEAR_US = 365 * 86_400 * 1_000_000


def ride_at(start_us: int, seconds: int = 10, **more) -> Recording:
    points = [Point(start_us + s * 1_000_000, 46.5 + s * 1e-5, 7.25, hr_bpm=120.0) for s in range(seconds)]
    return Recording(points, **more)


def read(raw: bytes, name: str = "ride.fit", athlete: str = "ann") -> Upload:
    return read_upload("gym", athlete, name, raw, NOW_US)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog.open(tmp_path / "log.db") as opened:
        yield opened


def check_frames(upload: Upload, raw: bytes) -> None:
    """The frames are those of a gateway's replay (which is compared field by field with its file) but for who numbers them."""
    recording = decode_recording(raw, "x")
    who = identity_of(raw, upload.ref.id)
    replayed = list(frames_of(recording, who, subject="gym/ann", utc_offset_us=span_of(recording)[0]))
    assert [replace(frame, flags=SELF_NUMBERED) for frame in upload.frames] == replayed
    assert {frame.flags for frame in upload.frames} == {0}


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_field_of_a_file_is_in_its_frames_as_a_gateway_would_replay_it(kind: str) -> None:
    upload = read(WRITTEN[kind])
    check_frames(upload, WRITTEN[kind])
    check_same(decode_recording(WRITTEN[kind], "x"), upload.frames)
    assert upload.samples == sum(frame.samples or 0 for frame in upload.frames)
    recording = decode_recording(WRITTEN[kind], "x")
    assert upload.ref == UploadRef(
        tenant="gym",
        id=upload_id("ann", WRITTEN[kind]),
        athlete="ann",
        name="ride.fit",
        sport="cycling",
        lap_starts_us=recording.lap_starts_us,
        format=kind,  # pyright: ignore[reportArgumentType]
        first_us=RIDE.points[0].t_us,
        last_us=max(RIDE.points[-1].t_us, *(b.t_us for b in recording.beats), 0) if recording.beats else RIDE.points[-1].t_us,
    )


@given(st.lists(st.tuples(st.integers(0, 100_000_000), st.integers(30, 220)), min_size=1, max_size=90), st.sampled_from("ab"))
@settings(max_examples=40, deadline=None)
def test_the_same_file_of_the_same_athlete_gives_the_same_frames(steps: list[tuple[int, int]], athlete: str) -> None:
    t_us, points = 1_700_000_000_000_000, []
    for step_us, bpm in steps:
        t_us += step_us
        points.append(Point(t_us, 46.5, 7.25, hr_bpm=float(bpm)))
    raw = encode_tcx(Recording(points))
    first, again = read(raw, "one.tcx", athlete), read_upload("gym", athlete, "two.tcx", raw, NOW_US + YEAR_US)
    assert first.frames == again.frames
    assert records_of(first, 5)[1:] == records_of(again, 5)[1:]
    other = read(raw, "one.tcx", "other")
    assert other.ref.id != first.ref.id
    assert [replace(f, device=first.ref.id, subject=f"gym/{athlete}") for f in other.frames] == list(first.frames)
    assert {(f.device, f.boot, f.subject, f.clock) for f in first.frames} == {
        (first.ref.id, identity_of(raw).boot, f"gym/{athlete}", Clock.RECORDED)
    }
    assert is_id(first.ref.id)


def test_a_file_is_appended_once_with_its_reference_before_its_frames(log: SqliteLog) -> None:
    taken = Uploads(log, clock_us=lambda: NOW_US)
    first = taken.accept("gym", "ann", "a/b/ride.fit", WRITTEN["fit"])
    assert (first.known, first.format, first.sport, first.damage) == (False, "fit", "cycling", None)
    _, records = log.read(0, 100)
    assert [r.kind for r in records] == [Kind.REFERENCE] + [Kind.FRAME] * first.frames
    assert {(r.tenant, r.appended_us) for r in records} == {("gym", NOW_US)}
    assert (records[0].key, records[0].node) == ("gym", "")
    assert {(r.key, r.node) for r in records[1:]} == {("gym/ann", "upload")}
    ref = decode_reference(records[0].body)
    assert isinstance(ref, UploadRef)
    assert (ref.id, ref.name, ref.subject, ref.origin) == (first.id, "ride.fit", "gym/ann", f"gym/upload/{first.id}")
    frames = [decode_frame(r.body) for r in records[1:]]
    assert frames == list(read(WRITTEN["fit"]).frames)
    again = taken.accept("gym", "ann", "other name.fit", WRITTEN["fit"])
    assert again == replace(first, known=True)
    assert log.end() == len(records)
    assert not taken.accept("gym", "bob", "ride.fit", WRITTEN["fit"]).known
    assert not taken.accept("spa", "ann", "ride.fit", WRITTEN["fit"]).known
    assert log.end() == 3 * len(records)


@pytest.mark.parametrize(("stored", "known"), [(None, False), ("stands", True), ("removed", False)])
def test_what_the_stores_have_of_an_upload_decides_after_a_restart(log: SqliteLog, stored: str | None, known: bool) -> None:
    ref = read(WRITTEN["gpx"]).ref

    def find(tenant: str, name: str) -> UploadRef | None:
        assert (tenant, name) == ("gym", ref.id)
        return None if stored is None else ref.model_copy(update={"removed": stored == "removed"})

    assert Uploads(log, find=find, clock_us=lambda: NOW_US).accept("gym", "ann", "x", WRITTEN["gpx"]).known is known
    assert (log.end() == 0) is known


def test_a_file_that_could_not_be_stored_is_not_known(tmp_path: Path) -> None:
    class Full(SqliteLog):
        full = True

        def append(self, records, dead=(), *, replayed=()):
            if self.full:
                raise StoreError("disk full", cure="free space")
            return super().append(records, dead, replayed=replayed)

    with Full.open(tmp_path / "log.db") as log:
        taken = Uploads(log, clock_us=lambda: NOW_US)
        with pytest.raises(StoreError, match="disk full"):
            taken.accept("gym", "ann", "x", WRITTEN["tcx"])
        log.full = False
        assert not taken.accept("gym", "ann", "x", WRITTEN["tcx"]).known


def test_an_activity_of_1995_is_in_the_stores_once(log: SqliteLog, tmp_path: Path) -> None:
    start_us = 25 * YEAR_US
    runner = Runner(log, tmp_path / "state.db", clock_us=lambda: 2 * NOW_US)
    for _ in range(2):  # the second time as after a restart
        Uploads(log, clock_us=lambda: NOW_US).accept("gym", "ann", "old.gpx", encode_gpx(ride_at(start_us, 300)))
        while runner.drain() or runner.fire_wakes():
            continue
    (activity,) = runner.activities("gym/ann")
    runner.close()
    assert (activity.start_us, activity.end_us, activity.samples, activity.closed) == (start_us, start_us + 299_000_000, 300, True)


@pytest.mark.parametrize("year", [1990, 1999, 2005, 2019, 2024])
def test_an_old_activity_is_dated_by_its_file(year: int) -> None:
    start_us = (year - 1970) * YEAR_US + 30 * 86_400 * 1_000_000
    upload = read(encode_gpx(ride_at(start_us)))
    assert (upload.ref.first_us, upload.ref.last_us) == (start_us, start_us + 9_000_000)
    assert all(frame.dated and frame.utc_offset_us == start_us for frame in upload.frames)


def test_only_a_recording_is_believed_to_be_older_than_2020() -> None:
    old = read(encode_gpx(ride_at(30 * YEAR_US))).frames[0]
    assert old.dated
    assert not replace(old, clock=int(Clock.SET)).dated
    assert not replace(old, clock=int(Clock.GNSS)).dated


ROUTE = b'<gpx version="1.1"><rte><rtept lat="1" lon="2"/></rte></gpx>'


@pytest.mark.parametrize(
    ("raw", "reason", "cure"),
    [
        (b"", "the file is empty", "copy it"),
        (b"hello, world", "neither FIT, GPX nor TCX", "FIT, GPX or TCX"),
        (b"PK\x03\x04 zipped", "ZIP-packed", "unpack"),
        (ROUTE, "no times", "route"),
        (b"<html><body/></html>", "root is <html>", "FIT, GPX or TCX"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><gpx/>", "document type", "DOCTYPE"),
        (WRITTEN["fit"][:100], "damaged", "copy it"),
        (encode_gpx(ride_at(NOW_US + 400_000_000)), "in the future", "clock of the device"),
        (encode_gpx(ride_at(NOW_US - 5_000_000, 600)), "in the future", "clock of the device"),
        (encode_gpx(ride_at(5_000_000)), "dated 1970-01-01 00:00 UTC: the clock of the device was not set", "correct the times"),
        (encode_gpx(ride_at(EARLIEST_US - 1_000_000)), "dated 1989-12-31", "correct the times"),
    ],
)
def test_what_is_no_activity_is_refused_by_name_reason_and_cure(log: SqliteLog, raw: bytes, reason: str, cure: str) -> None:
    with pytest.raises(BadInputError, match=r"^my ride\.fit: ") as caught:
        Uploads(log, clock_us=lambda: NOW_US).accept("gym", "ann", "C:\\files\\my ride.fit", raw)
    assert reason in caught.value.message
    assert cure in caught.value.cure
    assert log.end() == 0


def test_a_platform_whose_clock_was_never_set_proves_no_file_wrong() -> None:
    assert read_upload("gym", "ann", "x", encode_gpx(ride_at(NOW_US)), 5_000_000).samples == 10


@pytest.mark.parametrize(
    ("limit", "value", "says"), [("MAX_FILE_BYTES", 100, "bytes, at most 100"), ("MAX_SAMPLES", 9, "10 samples, at most 9")]
)
def test_a_file_beyond_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str) -> None:
    monkeypatch.setattr(upload_file, limit, value)
    with pytest.raises(BadInputError, match=says) as caught:
        read(encode_gpx(ride_at(NOW_US - YEAR_US)))
    assert "split" in caught.value.cure


def test_64_mb_is_the_most(log: SqliteLog) -> None:
    with pytest.raises(BadInputError, match="67108865 bytes, at most 67108864"):
        read(bytes(64 * 1024 * 1024 + 1))


@pytest.mark.parametrize(("tenant", "athlete"), [("Gym", "ann"), ("gym", "Ann B"), ("gym", ""), ("gym", "@ann")])
def test_whose_file_it_is_must_be_an_id(tenant: str, athlete: str) -> None:
    with pytest.raises(BadInputError, match="is not an id"):
        read_upload(tenant, athlete, "x", WRITTEN["gpx"], NOW_US)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a.fit", "a.fit"), ("../../etc/a.fit", "a.fit"), ("C:\\x\\a.fit", "a.fit"), ("", "file"), ("a/", "file"), ("\ud800\n\x1b[1m", "[1m"),
     ("ü" * 300, "ü" * 200), ("   ", "file")],
)  # fmt: skip
def test_a_file_name_is_shown_without_folders_and_control_characters(name: str, shown: str) -> None:
    assert shown_name(name) == shown
    assert read(WRITTEN["gpx"], name).ref.name == shown


def test_a_damaged_file_gives_what_is_whole_and_says_so() -> None:
    upload = read(WRITTEN["fit"][: len(WRITTEN["fit"]) * 2 // 3])
    assert "cut off" in (upload.damage or "")
    assert 0 < upload.samples < read(WRITTEN["fit"]).samples


def test_laps_and_sport_of_a_file_are_kept_within_a_log_record() -> None:
    start_us = NOW_US - YEAR_US
    laps = tuple(start_us + i * 1_000_000 for i in range(MAX_LAPS + 3))
    upload = read(encode_tcx(ride_at(start_us, MAX_LAPS + 3, sport="running", lap_starts_us=laps)))
    assert upload.ref.lap_starts_us == laps[:MAX_LAPS]
    assert upload.skipped["lap_beyond_limit"] == 3
    assert upload.ref.sport == "running"
    assert all(len(r.body) <= (65_535 if r.kind == Kind.REFERENCE else 1024) for r in records_of(upload, NOW_US))


@pytest.mark.parametrize("field", [{"first_us": 3}, {"lap_starts_us": (2, 1)}, {"id": "F"}, {"name": ""}, {"format": "kml"}, {"what": 1}])
def test_a_reference_of_an_upload_that_cannot_be_is_refused(field: dict[str, object]) -> None:
    ref = UploadRef(tenant="gym", id="f-1", athlete="ann", name="x", format="fit", first_us=1, last_us=2)
    assert decode_reference(encode_reference(ref)) == ref
    assert (ref.origin, ref.subject) == ("gym/upload/f-1", "gym/ann")
    with pytest.raises(ValueError, match=next(iter(field))):
        UploadRef.model_validate({**ref.model_dump(), **field})


def test_many_files_at_once_wait_for_each_other(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "BUSY_S", 0.01)
    taken = Uploads(log, clock_us=lambda: NOW_US)
    with taken._reading, pytest.raises(StoreError, match=r"ride\.fit: not taken, other files") as caught:
        taken.accept("gym", "ann", "ride.fit", WRITTEN["fit"])
    assert "again" in caught.value.cure
    assert not taken.accept("gym", "ann", "ride.fit", WRITTEN["fit"]).known


def outcome(call: Callable[[], T]) -> T | BadInputError:
    """What a call gives, or its refusal."""
    try:
        return call()
    except BadInputError as error:
        return error


async def test_an_event_loop_reads_one_file_at_a_time_and_refuses_what_would_wait_too_long(log: SqliteLog) -> None:
    taken = Uploads(log, clock_us=lambda: NOW_US)
    with taken._reading:
        jobs = [asyncio.create_task(taken.take("gym", f"a{i}", "ride.fit", WRITTEN["fit"])) for i in range(uploads.MAX_WAITING)]
        await asyncio.sleep(0)
        assert taken.busy
        with pytest.raises(StoreError, match=r"ride\.fit: not taken, 4 other files are waiting"):
            await taken.take("gym", "bob", "ride.fit", WRITTEN["fit"])
        jobs[0].cancel()  # its asker went away; it is taken all the same
        await asyncio.sleep(0)
        assert taken.busy
    results = await asyncio.gather(*jobs[1:])
    assert not any(result.known for result in results)
    assert not taken.busy
    assert log.end() == uploads.MAX_WAITING * (results[0].frames + 1)
    with pytest.raises(BadInputError, match="empty"):
        await taken.take("gym", "bob", "ride.fit", b"")
    assert not taken.busy
    taken.close()


def fuzz(rounds: int, seed: int) -> tuple[int, int]:
    """Files taken and refused of `rounds` mutated ones of each format."""
    rng = random.Random(seed)
    accepted = refused = 0
    for raw in WRITTEN.values():
        for _ in range(rounds):
            upload = outcome(lambda: read(mutated(raw, rng), "fuzzed"))  # noqa: B023 - called at once
            if isinstance(upload, BadInputError):
                assert upload.message.startswith("fuzzed: ")
                assert upload.cure
                refused += 1
                continue
            accepted += 1
            assert EARLIEST_US <= upload.ref.first_us <= upload.ref.last_us <= NOW_US + 300_000_000
            records = decode_records(encode_records(records_of(upload, NOW_US)))
            assert decode_reference(records[0].body) == upload.ref
            for record in records[1:]:
                frame = decode_frame(record.body)
                assert isinstance(frame, Frame)
                assert (frame.device, frame.dated) == (upload.ref.id, True)
    return accepted, refused


def test_mutated_files_are_taken_or_refused_and_nothing_else() -> None:
    accepted, refused = fuzz(150, seed=4)
    assert accepted > 50
    assert refused > 20


@pytest.mark.nightly
def test_many_mutated_files_are_taken_or_refused_and_nothing_else() -> None:
    accepted, refused = fuzz(6_000, seed=5)
    assert min(accepted, refused) > 1_000


def sized(path: Path):
    """A file as a parameter; the large ones run in nightly."""
    return pytest.param(path, id=path.name, marks=pytest.mark.nightly if path.stat().st_size > 400_000 else ())


@pytest.mark.parametrize("path", [sized(path) for path in FILES])
def test_a_real_file_becomes_frames_or_is_refused_by_name(path: Path) -> None:
    raw = path.read_bytes()
    upload = outcome(lambda: read(raw, path.name))
    if isinstance(upload, BadInputError):
        assert upload.message.startswith(f"{path.name}: ")
        assert upload.cure
        return
    check_frames(upload, raw)
    assert upload.ref.format in {"fit", "gpx", "tcx"}
    assert all(len(r.body) <= (65_535 if r.kind == Kind.REFERENCE else 1024) for r in records_of(upload, NOW_US))


def test_a_device_of_an_upload_and_of_a_replay_are_never_the_same() -> None:
    raw = WRITTEN["fit"]
    assert identity_of(raw) != Identity(upload_id("ann", raw), identity_of(raw).boot)
    assert encode_fit(RIDE) == raw
