"""Copies of frames: their names, the date they carry, and frames made again from a folded track."""

from __future__ import annotations

import random

import pytest

from broker.errors import BadInputError
from broker.frames import Frame, decode_frame, encode_frame
from processors.copies import DATE_HEADER, copy_key, date_of, encode_date, frames_of, is_copy, stamp_of
from processors.samples import TakenFrame
from processors.tracks import decode_track, encode_track, tracks_of
from tests.any_way import ride


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
