"""What may be a segment and why not; gates, index cells, and where a place is put on a line."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.reference import SegmentRef, encode_reference
from processors.geometry import units
from processors.kernels.legs import locate
from processors.kernels.match_columns import FINISH_EAST, FINISH_NORTH, FINISH_X, LENGTH, START_EAST, START_NORTH
from processors.matcher import Attempts, Fixes, advance
from processors.segment_rules import check_segment, segment_ref
from processors.segment_table import SegmentTable, lines_of, table_of
from processors.segments import Segment, SegmentIndex
from simulators.course import moved, synthetic_loop

LOOP = synthetic_loop()
LAP = list(zip(LOOP.lats_deg, LOOP.lons_deg, strict=True))


def line(*places: tuple[float, float], lat: float = 46.0, lon: float = 7.0) -> list[tuple[float, float]]:
    """Degrees of places in metres east and north."""
    return [moved(lat, lon, *place) for place in places]


def ref_of(points: Sequence[tuple[float, float]], name: str = "s", sport: str = "any") -> SegmentRef:
    return segment_ref("gym", name, name, sport, points)


def test_a_part_of_a_road_is_a_segment():
    ref = ref_of(LAP[:80], sport="run")
    assert (ref.tenant, ref.id, ref.name, ref.sport) == ("gym", "s", "s", "run")
    assert ref.points[0] == units(*LAP[0])
    assert ref.points[-1] == units(*LAP[79])
    assert check_segment(ref) == ref


def test_a_closed_lap_and_a_way_there_and_back_are_segments():
    assert check_segment(ref_of(LAP)).points[0] == ref_of(LAP).points[-1]
    ref_of(line((0, 0), (0, 800), (6, 800), (6, 0)))


def test_repeated_points_are_dropped_and_long_recordings_thinned():
    doubled = [point for point in LAP[:80] for _ in range(3)]
    assert ref_of(doubled) == ref_of(LAP[:80])
    wave = line(*((k * 1.0, 15 * math.sin(k / 60)) for k in range(60_000)))
    ref = ref_of(wave)
    assert len(ref.points) < 3_000
    assert len(encode_reference(ref)) < 61_000


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([], "0.0 m long"),
        (line((0, 0), (0, 49)), "49.0 m long, at least 50 m"),
        (line(*((0, 0),) * 5), "0.0 m long"),
        (line((0, 0), (0, 15_000), (0, 30_000), (0, 45_000)) + line(*((0, k * 15_000.0) for k in range(4, 15))), "210 km long"),
        (line((0, 0), (0, 100), (0, 60_000)), "to the next are 60 km"),
        (LAP + LAP[1:40], "touches its own start again after 2399"),
        (line((0, 0), (0, 100), (50, 100), (50, -50), (0, -50), (0, 100)), "touches its own start again"),
        ([(96.0, 7.0), (96.1, 7.1)], "latitude and longitude look swapped"),
        ([(46_000_000, 7_000_000), (46_001_000, 7_000_000)], "1e6 or 1e7 units"),
        ([(460_000_000, 70_000_000), (460_010_000, 70_000_000)], "1e6 or 1e7 units"),
        ([(5_780_348.5, 779_236.4), (5_780_448.5, 779_236.4)], "metres of a projection"),
        ([(385.0, -120.2), (407.0, -120.9)], "wrong precision"),
        ([(46.0, 7.0), (0.0, 0.0)], "when they have no position"),
        ([(46.0, float("nan"))], "not a number"),
        ([(86.0, 7.0), (86.1, 7.0)], "to a pole"),
    ],
)
def test_what_is_no_segment_is_refused_with_its_reason_and_a_cure(points: list[tuple[float, float]], says: str):
    with pytest.raises(BadInputError, match=says) as caught:
        ref_of(points)
    assert caught.value.cure
    assert "segment 's'" in caught.value.message


def test_a_reference_made_elsewhere_is_checked_too():
    short = SegmentRef(tenant="gym", id="s", name="s", points=(units(46.0, 7.0), units(46.0001, 7.0)))
    with pytest.raises(BadInputError, match="at least 50 m"):
        check_segment(short)
    gone = short.model_copy(update={"removed": True, "points": ()})
    assert check_segment(gone) is gone


def test_bad_names_and_ids_are_refused():
    with pytest.raises(BadInputError, match="id"):
        segment_ref("gym", "NOT AN ID", "s", "any", LAP)
    with pytest.raises(BadInputError, match="sport"):
        segment_ref("gym", "s", "s", "swim", LAP)


def test_the_gate_of_a_bend_stands_across_the_bend():
    radius = 36.5  # of a running track
    bend = line(*((radius * math.cos(a), radius * math.sin(a)) for a in (k * 0.05 for k in range(40))))
    start = Segment.of(ref_of(bend)).start
    finish = Segment.of(ref_of(bend)).finish
    assert math.degrees(math.acos(start.north)) < 3.0
    assert math.degrees(math.acos(finish.east * -math.sin(39 * 0.05) + finish.north * math.cos(39 * 0.05))) < 3.0


def placed(table: SegmentTable, x_m: float, y_m: float, from_m: float, reach_m: float, expected_m: float) -> tuple[float, float]:
    """Way from the start and distance off, on the only line of a table."""
    at_m, off_m2, *_ = locate(table.kernel.gates, table.kernel.legs, 0, 0, 0, 0, 0, x_m, y_m, from_m, from_m + reach_m, expected_m)
    return at_m, math.sqrt(off_m2)


def test_a_place_is_put_on_the_near_part_of_the_line_that_was_expected():
    there_and_back = table_of(lines_of([ref_of(line((0, 0), (0, 500), (8, 500), (8, 0)))]))
    assert placed(there_and_back, 4.0, 480.0, 470.0, 60.0, 481.0)[0] == pytest.approx(480.0, abs=0.5)
    assert placed(there_and_back, 4.0, 480.0, 490.0, 60.0, 527.0)[0] == pytest.approx(528.0, abs=0.5)
    at_m, off_m = placed(there_and_back, 0.0, 450.0, 470.0, 60.0, 471.0)
    assert at_m == pytest.approx(470.0, abs=0.01)  # never back
    assert off_m == pytest.approx(20.0, abs=0.1)


@given(st.floats(1, 84), st.floats(-179.99, 179.99), st.floats(0, 6.28), st.floats(-44, 44), st.floats(1, 400), st.floats(-1.2, 1.2))
def test_every_step_through_a_start_gate_finds_its_segment(
    lat: float, lon: float, heading: float, aside: float, step_m: float, turn: float
):
    """Wherever the gate is passed, however long the step, however slanted: up to 44 m from the middle, 60 degrees off the way."""
    way = (math.sin(heading), math.cos(heading))
    step = (math.sin(heading + turn * 0.8), math.cos(heading + turn * 0.8))
    index = SegmentIndex.build([ref_of(line((0, 0), (way[0] * 900, way[1] * 900), lat=lat, lon=lon))])
    places = [moved(lat, lon, -way[1] * aside + step[0] * m, way[0] * aside + step[1] * m) for m in (-0.4 * step_m, 0.6 * step_m)]
    attempts = Attempts()
    lats, lons = zip(*(units(*place) for place in places), strict=True)
    fixes = Fixes.of([0, 1_000_000], lats, lons, [5_000, 5_000])
    if abs(lon) + 0.01 / math.cos(math.radians(lat)) < 180.0:
        advance(attempts, index, fixes)
        assert [going.segment for going in attempts.going()] == ["s"]


def test_a_line_is_kept_within_three_metres_and_its_gates_and_length_as_they_were():
    bends = line(*((k * 2.0, 40.0 * math.sin(k / 30.0)) for k in range(1_500)))
    ref = ref_of(bends)
    table, whole = table_of(lines_of([ref])), Segment.of(ref)
    gates = table.gates[0]
    assert gates[LENGTH] == pytest.approx(whole.length_m * 1000, abs=1)
    assert len(table.legs) < len(ref.points) / 2
    assert (gates[START_EAST], gates[START_NORTH]) == pytest.approx((whole.start.east * 1e9, whole.start.north * 1e9), abs=200)
    assert (gates[FINISH_EAST], gates[FINISH_NORTH]) == pytest.approx((whole.finish.east * 1e9, whole.finish.north * 1e9), abs=200)
    for x, y, at in zip(whole.x_m, whole.y_m, whole.along_m, strict=True):
        found_m, off_m = placed(table, x, y, max(at - 30.0, 0.0), 60.0, at)
        assert off_m < 3.2
        assert abs(found_m - at) < 6.0


def test_long_legs_fall_into_pieces_and_the_longest_line_keeps_its_place():
    ref = ref_of([(46.0 + k % 2 * 0.05, 7.0 + k * 0.15) for k in range(15)])
    table = table_of(lines_of([ref]))
    assert int(table.gates[0, LENGTH]) == pytest.approx(180_000_000, rel=0.01)
    assert (table.legs[:, 2] > 0).all()
    assert int(table.legs[:, 2].astype(int).sum()) == pytest.approx(table.gates[0, LENGTH] / 100, abs=1)
    assert int(table.legs[:, 0].astype(int).sum()) == pytest.approx(table.gates[0, FINISH_X] / 100, abs=1)


def test_an_index_keeps_the_last_of_each_id_and_none_that_is_removed():
    old, new = ref_of(LAP[:50], "a"), ref_of(LAP[:60], "a")
    gone = ref_of(LAP[:50], "b").model_copy(update={"removed": True})
    empty = SegmentRef(tenant="gym", id="c", name="c")
    index = SegmentIndex.build([old, ref_of(LAP[:50], "b"), gone, new, empty])
    assert list(index.segments) == ["a"]
    shapes = [SegmentIndex.build([ref]).segments["a"].shape for ref in (old, new)]
    assert index.segments["a"].shape == shapes[1] != shapes[0]
    with pytest.raises(ValueError, match="one tenant"):
        SegmentIndex.build([old, old.model_copy(update={"tenant": "other", "id": "x"})])


def test_an_index_for_a_sport_leaves_out_what_is_for_others():
    index = SegmentIndex.build([ref_of(LAP[:50], "all"), ref_of(LAP[:50], "feet", "run"), ref_of(LAP[:50], "bikes", "ride")])
    assert list(index.for_sport("run").segments) == ["all", "feet"]
    assert list(index.for_sport("other").segments) == ["all"]
    assert index.for_sport("ride") is index.for_sport("ride")


def test_an_index_changed_step_by_step_is_the_one_built_at_once() -> None:
    """Added, moved, removed and brought back, also as one sport sees them."""
    first, moved = ref_of(LAP[:50], "a"), ref_of(LAP[20:70], "a", "run")
    steps = [first, ref_of(LAP[:50], "b", "ride"), moved, first.model_copy(update={"removed": True, "points": ()}), moved]
    index = SegmentIndex.build([])
    for done, step in enumerate(steps, 1):
        assert index.for_sport("run") is index.for_sport("run")  # kept, and changed with the whole
        index = index.changed([step])
        whole = SegmentIndex.build(steps[:done])
        assert index == whole
        for sport in ("run", "ride", "other"):
            assert index.for_sport(sport) == whole.for_sport(sport)
