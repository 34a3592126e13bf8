"""Copies of frames: their names, the date they carry, and frames made again from a folded track."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from broker.errors import BadInputError
from broker.frames import Frame, decode_frame, encode_frame
from broker.kafka import partition_of
from broker.kafka_records import encode_log_record
from broker.kafka_topics import FRAMES
from broker.logrecord import Kind, LogRecord
from processors.copies import DATE_HEADER, Date, copy_key, date_of, encode_date, frames_of, is_copy, stamp_of
from processors.live_kernel import LAST_T, SAMPLES, START
from processors.live_pages import LivePages
from processors.quix_live import LiveOnKafka
from processors.samples import TakenFrame
from processors.track_folder import FolderBlobs
from processors.tracks import decode_track, encode_track, tracks_of
from tests.any_way import US, ride
from tests.memory_cluster import Cells, Feed, Process, Topics


def test_a_copy_is_stored_under_its_stamp_and_its_partition() -> None:
    key = copy_key("gym/@box/strap", 7)
    assert is_copy(key)
    assert stamp_of(key) == "gym/@box/strap"
    assert not is_copy("gym/anna")
    assert stamp_of("gym/anna") == "gym/anna"


def test_the_date_of_a_boot_travels_and_a_wrong_one_names_its_place() -> None:
    date = (1 << 63, -5)
    assert date_of([("kind", b"frame"), (DATE_HEADER, encode_date(date))], "here") == date
    assert date_of([("kind", b"frame")], "here") is None
    with pytest.raises(BadInputError, match=r"telemetry\.frames 3"):
        date_of([(DATE_HEADER, b"yesterday")], "telemetry.frames 3")


@pytest.mark.parametrize("seed", range(8))
def test_frames_made_again_from_a_folded_track_fold_into_the_same_track(seed: int) -> None:
    rng = random.Random(seed)
    own = rng.random() < 0.5
    origin = "gym/strap" if own else "gym/box/strap"
    sent: list[Frame] = []
    for boot in (3, 4):
        sent += ride(rng, "strap", boot, rng.choice([0, 400]), 60, own=own, layout=rng.choice(["motion", "beats"]))
    other = ride(rng, "watch", 9, 10, 30)
    taken = [TakenFrame(origin, "box", f, b"", f.utc_offset_us or 0) for f in sent]
    taken += [TakenFrame("gym/watch", "box", f, b"", f.utc_offset_us or 0) for f in other]
    rng.shuffle(taken)
    folded = [decode_track(encode_track(track)) for track in tracks_of(taken).values()]
    again = [decode_frame(encode_frame(f)) for track in folded for f in frames_of(track, origin, "gym/@strap")]
    assert all(isinstance(f, Frame) and f.dated and f.self_numbered == own for f in again)
    made = [TakenFrame(origin, "box", f, b"", f.utc_offset_us or 0) for f in again if isinstance(f, Frame)]
    assert {(f.boot, f.seq, f.records) for f in again if isinstance(f, Frame)} == {(f.boot, f.seq, f.records) for f in sent}
    expected = {layout: t.fingerprint() for layout, t in tracks_of([t for t in taken if t.origin == origin]).items()}
    assert {layout: t.fingerprint() for layout, t in tracks_of(made).items()} == expected


def test_copies_that_come_before_their_binding_is_known_leave_the_state_of_the_device_as_it_is(tmp_path: Path) -> None:
    """The date of a boot is another one, which its device itself may have to know: it has an activity under way."""
    topics, cells = Topics(2), dict[int, Cells]()
    here = partition_of(b"gym/@strap", 2)
    athlete = next(name for name in ("gym/anna", "gym/bob", "gym/carl", "gym/dora") if partition_of(name.encode(), 2) != here)
    blobs = FolderBlobs(tmp_path / "tracks")
    process = Process(lambda: LiveOnKafka(Feed([]), blobs, tmp_path / "work", lambda: 0, partitions=2), topics, cells, {})

    def take(frames: list[Frame], key: str, *dates: Date) -> None:
        for number, frame in enumerate(frames):
            made = encode_log_record(LogRecord(Kind.FRAME, key, "gym", "box", frame.t0_us + 60 * US, encode_frame(frame)))
            headers = [*made.headers, *((DATE_HEADER, encode_date(date)) for date in dates[number : number + 1])]
            topics.send(FRAMES, made.key, made.value, headers, here)
        process.step(1000)
        process.checkpoint()

    def under_way() -> list[int]:
        """Start, last sample and number of samples of the activity of the device."""
        found = {entry.key: entry.row for entry in LivePages(cells[here]).restore()}
        return np.frombuffer(found["gym/@strap"], np.int64)[[START, LAST_T, SAMPLES]].tolist()

    take(ride(random.Random(1), "strap", 1, 0, 60), "gym/@strap")
    before = under_way()
    assert before[2] > 0
    process.kill()  # the state of the device is not in memory any more
    undated, dated = ride(random.Random(1), "strap", 9, 100, 20, subject=athlete, undated=3)[2:]
    assert dated.utc_offset_us is not None
    take([undated, dated], athlete, (9, dated.utc_offset_us + US), (3, dated.utc_offset_us))
    assert under_way() == before
    for shard in process.shards.values():
        shard.close()
