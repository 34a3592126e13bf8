"""Track blobs, range sets and boards: lossless, canonical, order-safe."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import StoreError
from broker.frames import Frame, encode_frame
from broker.layouts import all_layouts, layout_named
from processors.boards import Board
from processors.ranges import RangeSet
from processors.samples import TakenFrame
from processors.stage import Mutation
from processors.tracks import cut, decode_track, encode_track, merge, split_at_gaps, tracks_of

LAYOUTS = list(all_layouts().values())


@st.composite
def taken_frames(draw: st.DrawFn) -> list[TakenFrame]:
    made = []
    for seq in range(draw(st.integers(1, 12))):
        layout = draw(st.sampled_from(LAYOUTS))
        records = draw(st.binary(min_size=layout.size, max_size=layout.size)) * draw(st.integers(1, 5))
        boot = draw(st.sampled_from([0, 7, 1 << 63]))
        frame = Frame(layout.id, 1, draw(st.sampled_from(["a", "b"])), boot, seq, draw(st.integers(0, 10**9)), 0, 2, "gym/anna", records)
        made.append(TakenFrame(f"gym/{frame.device}", "box", frame, encode_frame(frame), draw(st.integers(0, 10**15))))
    return made


@given(taken_frames(), st.integers(0, 100))
def test_tracks_do_not_depend_on_arrival_and_survive_the_blob(frames: list[TakenFrame], seed: int) -> None:
    want = tracks_of(frames)
    shuffled = frames.copy()
    random.Random(seed).shuffle(shuffled)
    for layout, track in tracks_of(shuffled).items():
        assert track.fingerprint() == want[layout].fingerprint()
        assert decode_track(encode_track(track)).fingerprint() == track.fingerprint()


@given(taken_frames(), st.integers(0, 12))
def test_merging_a_blob_with_later_frames_is_the_track_of_all(frames: list[TakenFrame], split: int) -> None:
    blobs = [decode_track(encode_track(track)) for track in tracks_of(frames[:split]).values()]
    assert {i: t.fingerprint() for i, t in tracks_of(frames[split:], blobs).items()} == {
        i: t.fingerprint() for i, t in tracks_of(frames).items()
    }


@given(taken_frames(), st.integers(1, 10**15))
def test_parts_of_a_track_make_it_again(frames: list[TakenFrame], gap_us: int) -> None:
    for track in tracks_of(frames).values():
        parts = split_at_gaps(track, gap_us)
        assert merge(parts).fingerprint() == track.fingerprint()
        assert all((np.diff(part.t_us) <= gap_us).all() for part in parts)
        assert cut(track, int(track.t_us[0]), int(track.t_us[-1])).fingerprint() == track.fingerprint()


def test_a_ride_takes_about_eight_bytes_a_sample() -> None:
    motion = layout_named("motion.1")
    rng = random.Random(1)
    frames = []
    for seq in range(120):
        rows = [
            {"tick_ms": i * 1000, "lat": 45 + 3e-5 * (seq * 30 + i), "lon": 7.0, "altitude_m": 100 + seq * 0.2, "speed_mps": 3 + rng.random(),
             "hr_bpm": 140 + rng.randint(-2, 2), "power_w": 200 + rng.randint(-20, 20), "distance_m": 3.0 * (seq * 30 + i)}
            for i in range(30)
        ]  # fmt: skip
        frame = Frame(motion.id, 1, "a", 1, seq, seq * 30_000_000, 0, 2, "", b"".join(motion.pack(row) for row in rows))
        frames.append(TakenFrame("gym/a", "box", frame, encode_frame(frame), 0))
    track = tracks_of(frames)[motion.id]
    assert len(encode_track(track)) / len(track) < 8.5


def test_a_damaged_blob_is_named() -> None:
    frame = Frame(1, 1, "a", 1, 0, 0, 0, 2, "", bytes(26))
    blob = encode_track(tracks_of([TakenFrame("gym/a", "box", frame, encode_frame(frame), 0)])[1])
    with pytest.raises(StoreError, match="track of gym/anna"):
        decode_track(blob[:-5], "track of gym/anna")


@given(st.lists(st.integers(0, 60), max_size=150))
def test_a_range_set_is_a_set(numbers: list[int]) -> None:
    made, want = RangeSet(), set()
    for n in numbers:
        assert made.add(n) is (n not in want)
        want.add(n)
    again = RangeSet.decode(made.encode())
    assert {n for first, last in again.ranges() for n in range(first, last + 1)} == want
    assert len(again) == len(want)
    assert again.holes == (max(want) + 1 - len(want) if want else 0)
    assert all((n in again) is (n in want) for n in range(62))
    assert all(b[0] > a[1] + 1 for a, b in pairwise(again.ranges()))


mutations = st.lists(
    st.builds(
        lambda subject, activity, version: Mutation(
            "live/gym", f"gym/{subject}", activity, version, version * 31 % 7 * 1000, version * 17 % 5, removed=version % 4 == 0
        ),
        st.sampled_from("abc"),
        st.integers(0, 3),
        st.integers(0, 20),
    ),
    max_size=40,
)  # fmt: skip


@given(mutations, st.integers(0, 100))
def test_any_order_and_repetition_of_mutations_gives_the_same_board(batch: list[Mutation], seed: int) -> None:
    one, other = Board(), Board()
    for m in batch:
        one.apply(m)
    again = batch + batch[::2]
    random.Random(seed).shuffle(again)
    for m in again:
        other.apply(m)
    for by in ("distance", "points"):
        assert one.standings(by) == other.standings(by)


def test_ties_share_a_rank_and_the_next_rank_is_skipped() -> None:
    board = Board()
    for subject, distance in (("gym/c", 5), ("gym/b", 9), ("gym/a", 9), ("gym/d", 1)):
        board.apply(Mutation("live/gym", subject, 0, 1, distance, 0))
    assert [(s.rank, s.subject) for s in board.standings()] == [(1, "gym/a"), (1, "gym/b"), (3, "gym/c"), (4, "gym/d")]


def test_removal_restores_the_activity_before() -> None:
    board = Board()
    board.apply(Mutation("live/gym", "gym/a", 1, 1, 500, 0))
    board.apply(Mutation("live/gym", "gym/a", 2, 2, 900, 0))
    board.apply(Mutation("live/gym", "gym/a", 2, 3, 0, 0, removed=True))
    assert [s.distance_um for s in board.standings()] == [500]
    assert board.apply(Mutation("live/gym", "gym/a", 2, 2, 900, 0)) is False
