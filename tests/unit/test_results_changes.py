"""Changes of reference data and odd turns of frames: each way here once ended in something else than the plain one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from broker.reference import AthleteRef, UploadRef
from processors.results_db import box_around, boxes_meet
from tests.any_way import MOTION, Course, both_ways, bound, differing, motion, outcome, segment

DEGREE = 10_000_000


def test_a_source_that_was_silent_may_have_lost_its_turn(tmp_path: Path) -> None:
    """Of two sources that measure at one instant after a silence, and of one that measured in the silence, the canonical order decides."""
    watch = [motion(0, 0, "watch"), motion(100, 1, "watch")]
    for at_s in (100, 60):
        band = motion(at_s, 0, "band", hr=170)
        both_ways(tmp_path / str(at_s), [*watch, band], [watch[0], band, watch[1]])


def test_who_loses_samples_to_a_third_binding_is_run_again(tmp_path: Path) -> None:
    frames = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 60, 5)]
    refs = [bound("b0", "carl"), bound("b1", "anna", 20, 40), bound("b2", "dora", None, 10), bound("b2", "dora", None, 100)]
    kept = both_ways(tmp_path, [*refs, *frames], [*refs[:3], *frames, 5, refs[3]])
    assert not any("anna" in line or "carl" in line for line in kept)


def test_a_binding_shorter_than_a_frame_divides_it(tmp_path: Path) -> None:
    frames = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 60, 5)]
    short = bound("b1", "anna", 21, 23)
    kept = both_ways(tmp_path, [short, *frames], [*frames, 5, short])
    assert "activity gym/anna 21000000" in kept


def test_a_binding_that_moves_to_another_device_gives_back_the_first(tmp_path: Path) -> None:
    frames = [motion(t_s, t_s, name, subject="") for t_s in range(0, 30, 5) for name in ("strap", "belt")]
    first, then = bound("b1", "anna"), bound("b1", "anna", device="belt")
    both_ways(tmp_path, [then, *frames], [first, *frames, 700, then])


def test_a_stamp_of_a_box_that_did_not_know_the_end_of_a_binding_counts_for_the_device(tmp_path: Path) -> None:
    """Configurations travel for a second or two, longer while the uplink is down; what is stamped with the old one is not hers."""
    before = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 20, 5)]
    stamped = [motion(t_s, t_s, "strap") for t_s in range(20, 60, 5)]
    opened, ended = bound("b1", "anna", 0), bound("b1", "anna", 0, 40)
    kept = both_ways(tmp_path, [ended, *before, *stamped], [*before, opened, *stamped[:4], 5, ended, *stamped[4:]])
    assert {name for name in kept if name.startswith("activity")} == {"activity gym/anna 0", "activity gym/@strap 40000000"}


def test_an_undone_binding_gives_back_what_was_stamped_with_it(tmp_path: Path) -> None:
    stamped = [motion(t_s, t_s, "strap") for t_s in range(20, 60, 5)]
    before = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 20, 5)]
    opened = bound("b1", "anna", 0)
    undone = opened.model_copy(update={"removed": True})
    kept = both_ways(tmp_path, [*before, opened, undone, *stamped], [*before, opened, *stamped, 700, undone])
    assert {name for name in kept if name.startswith("activity")} == {"activity gym/@strap 0"}


def test_a_device_that_names_its_athlete_itself_keeps_doing_so_before_a_binding_to_her(tmp_path: Path) -> None:
    own = [motion(t_s, t_s, "watch") for t_s in range(0, 60, 5)]
    kept = both_ways(tmp_path, [bound("b1", "anna", 30, device="watch"), *own], [*own, 5, bound("b1", "anna", 30, device="watch")])
    assert {name for name in kept if name.startswith("activity")} == {"activity gym/anna 0"}


def test_undated_samples_change_hands_too(tmp_path: Path) -> None:
    """The device has no date at first; the binding comes once all is over."""
    frames = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 60, 5)]
    frames = [replace(f, utc_offset_us=None, clock=0) if f.seq < 30 else f for f in frames]
    kept = both_ways(tmp_path, [bound("b1", "anna"), *frames], [*frames, 700, bound("b1", "anna")])
    assert "activity gym/anna 0" in kept


def test_the_highest_heart_rate_counts_for_what_was_done_before_it_was_known(tmp_path: Path) -> None:
    anna = AthleteRef(tenant="gym", id="anna", name="Anna", hr_max_bpm=150)
    gone = anna.model_copy(update={"removed": True})
    frames = [motion(t_s, t_s, "strap", subject="") for t_s in (*range(0, 60, 5), *range(2000, 2060, 5))]
    owned = bound("b1", "anna")
    both_ways(tmp_path / "known", [anna, owned, *frames], [*frames, 700, owned, 700, anna])
    both_ways(tmp_path / "gone", [owned, *frames], [anna, owned, *frames[:5], gone, *frames[5:]])


def test_the_sex_counts_for_the_impulse_of_what_was_done_before_it_was_known(tmp_path: Path) -> None:
    anna = AthleteRef(tenant="gym", id="anna", name="Anna")
    frames = [motion(t_s, t_s, "watch") for t_s in range(0, 60, 5)]
    both_ways(tmp_path, [anna.model_copy(update={"sex": "f"}), *frames], [anna, *frames, 700, anna.model_copy(update={"sex": "f"})])


def test_an_activity_that_vanishes_leaves_the_one_before_it(tmp_path: Path) -> None:
    """Frames that come then and belong to the one before are late for it, and do not begin another one."""
    own = [motion(t_s, t_s, "watch") for t_s in (*range(0, 40, 5), *range(500, 540, 5))]
    borrowed = [motion(t_s, t_s, "strap", subject="") for t_s in range(1200, 1240, 5)]
    lent = bound("b1", "anna")
    back = lent.model_copy(update={"removed": True})
    both_ways(tmp_path, [*own, *borrowed], [lent, *own[:8], *borrowed, back, 5, *own[8:]])


def test_a_later_file_does_not_leave_the_activity_under_way_open(tmp_path: Path) -> None:
    own = [motion(t_s, t_s, "watch") for t_s in range(0, 40, 5)]
    late = [motion(t_s, 1000 + t_s, "strap", subject="") for t_s in range(1200, 1240, 5)]
    kept = both_ways(tmp_path, [*own, *late, bound("b1", "anna")], [bound("b1", "anna"), *late, *own])
    assert sum(line.endswith("True)") for name, line in kept.items() if name.startswith("activity gym/anna")) == 2


def test_what_an_unbound_device_did_is_not_kept_once_it_is_somebody_s(tmp_path: Path) -> None:
    frames = [motion(t_s, t_s, "strap", subject="") for t_s in range(0, 60, 5)]
    kept = both_ways(tmp_path, [bound("b1", "anna"), *frames], [*frames, 700, bound("b1", "anna")])
    assert sum(name.startswith("result") for name in kept) == 3  # the summary, its line, and what was told


def test_the_words_of_a_file_may_come_after_its_samples(tmp_path: Path) -> None:
    frames = [replace(motion(t_s, t_s, "f-1"), flags=0, clock=4) for t_s in range(0, 60, 5)]
    said = UploadRef(tenant="gym", id="f-1", athlete="anna", name="a.fit", format="fit", sport="cycling", first_us=0, last_us=1)
    found: list[dict[str, str]] = []
    for name, first in (("before", True), ("after", False)):
        course = Course(tmp_path / name, 10)
        records = [course.frame(f, "upload") for f in frames]
        course.take([course.reference(said), *records] if first else records)
        course.settle(700)
        course.take([] if first else [course.reference(said)])
        course.end()
        course.close()
        found.append(outcome(tmp_path / name / "state.db"))
    assert found[0] == found[1], differing(*found)


def test_a_segment_beside_the_date_line_finds_activities_on_both_sides() -> None:
    """Bounds of an activity across the line have a west greater than their east."""
    across = box_around([(0, 180 * DEGREE - 5000), (0, -180 * DEGREE + 5000)])
    assert boxes_meet(across, (-10, 180 * DEGREE - 100, 10, 180 * DEGREE - 50))
    assert boxes_meet(across, (-10, -180 * DEGREE + 50, 10, -180 * DEGREE + 100))
    assert boxes_meet(across, (-10, 180 * DEGREE - 100, 10, -180 * DEGREE + 100))
    assert not boxes_meet(across, (-10, 0, 10, 100))
    assert not boxes_meet(across, (DEGREE, 180 * DEGREE - 100, DEGREE, 180 * DEGREE))
    fiji = box_around([(0, 179 * DEGREE), (0, 179 * DEGREE + 5000)])
    assert boxes_meet(fiji, (-10, 178 * DEGREE, 10, -179 * DEGREE))
    assert not boxes_meet(fiji, (-10, -179 * DEGREE, 10, -178 * DEGREE))


def test_a_new_segment_is_matched_in_rides_under_way_that_came_by_and_only_in_those(tmp_path: Path) -> None:
    course = Course(tmp_path, 100)
    far = [replace(motion(t_s, t_s, "band", subject="gym/bob"), records=_beats()) for t_s in range(0, 60, 5)]
    course.take([course.frame(f, "box") for f in (*(motion(t_s, t_s, "watch") for t_s in range(0, 60, 5)), *far)])
    course.take([course.reference(segment("hill", 40, 140))])
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        asked = [key for (key,) in db.execute("SELECT key FROM wake WHERE name LIKE 'rebuild:%'")]
    assert asked == ["gym/anna"]
    course.settle(1)
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        assert db.execute("SELECT subject, removed FROM effort").fetchall() == [("gym/anna", 0)]
    course.close()


def _beats() -> bytes:
    return b"".join(MOTION.pack({"tick_ms": i * 1000, "hr_bpm": 120}) for i in range(5))
