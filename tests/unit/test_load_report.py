"""The report of a load: what it says passes and fails, and when a storm is over."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from simulators.histogram import Histogram
from simulators.load_report import ACK, SENT, Bars, LoadCounts, LoadReport, PartTimes, Watched, put_together, recovered_s

BARS = Bars({ACK: 500.0, "board": 500.0})


def times(*late_ms: float, start_us: int = 0) -> PartTimes:
    """A frame a second, so late."""
    made = PartTimes(start_us, start_us)
    for second, ms in enumerate(late_ms):
        made.record(start_us + second * 1_000_000, start_us + second * 1_000_000 + round(ms * 1000))
    return made


def report(ack: PartTimes, sent: PartTimes | None = None, **more: object) -> LoadReport:
    count = ack.whole.count
    whole = LoadReport(LoadCounts(made=count, stored=count), {SENT: sent or times(*[1] * count), ACK: ack}, 10, 1.0, 5, 1, 1, 1)
    return replace(whole, **more)


def test_a_load_that_was_held_passes() -> None:
    told = report(times(*[20] * 10)).to_json(BARS)
    assert (told["verdict"], told["wrong"]) == ("PASS", [])
    assert told["parts_ms"]["ack"]["p99"] == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (report(times(20), counts=LoadCounts(made=7, stored=6, lost=1)), "1 of 7 frames were lost"),
        (report(times(20), counts=LoadCounts(made=6, stored=6, not_taken=2)), "2 of 8 frames were lost"),
        (report(times(20), counts=LoadCounts(made=7, stored=6, refused=1)), "1 frames were refused"),
        (report(times(*[20] * 9, 900)), "ack: p99 90"),
        (report(times(20), sent=times(400)), "the load itself was late"),
        (report(times(20), watched={"board": Watched(times(20), seen=1, owed=3)}), "board: 2 frames never came"),
        (report(times(20), watched={"board": Watched(times(20), seen=1, doubled=2)}), "board: 2 frames came twice"),
        (report(times(20), watched={"board": Watched(times())}), "board: nothing of the load"),
        (report(times(20), watched={"board": Watched(times(700), seen=1)}), "board: p99 70"),
        (report(PartTimes(0, 0)), "ack: nothing was timed there"),
        (report(times(20), watched={"board": Watched(PartTimes(0, 1), seen=1)}), "board: nothing was timed there"),
        (report(times(20, 20), storm_s=0.0), "ack: p99 under 500 ms not again"),
        (report(times(*[20] * 5, *[900] * 40, *[20] * 9), storm_s=5.0), "only after 40 s"),
    ],
)
def test_what_was_not_held_is_named(bad: LoadReport, says: str) -> None:
    told = bad.to_json(BARS)
    assert told["verdict"] == "FAIL"
    assert [wrong for wrong in told["wrong"] if says in wrong], told["wrong"]


def test_a_part_that_may_hold_a_frame_twice_is_not_blamed_for_it() -> None:
    told = report(times(20), watched={"log": Watched(times(20), seen=1, doubled=2, may_double=True)}).to_json(BARS)
    assert told["verdict"] == "PASS"


def test_a_storm_is_judged_by_how_soon_it_is_over_and_not_by_the_whole() -> None:
    told = report(times(*[20] * 5, *[3000] * 4, *[20] * 9), storm_s=5.0, back_s=3.5).to_json(BARS)
    assert told["verdict"] == "PASS"
    assert told["storm"] == {"at_s": 5.0, "all_back_s": 3.5, "recovered_s": {"ack": 4.0}}


def test_a_storm_is_over_once_five_seconds_in_a_row_are_good() -> None:
    def of(*ms: float) -> dict[int, Histogram]:
        return times(*ms).seconds

    assert recovered_s(of(900, 900, 20, 20, 900, 20, 20, 20, 20, 20), 0.5, 500) == 4.5
    assert recovered_s(of(20, 20, 20, 20, 20), 0.5, 500) == 0
    assert recovered_s(of(900, 20, 20, 20, 20), 0.0, 500) is None


def test_frames_of_the_warming_up_are_in_no_percentile() -> None:
    made = PartTimes(0, 2_000_000)
    for due_us, late_us in ((1_000_000, 9_000_000), (2_000_000, 10_000)):
        made.record(due_us, due_us + late_us)
    assert (made.whole.count, made.whole.max_us) == (1, 10_000)
    assert set(made.seconds) == {1, 2}


def test_processes_are_put_together_as_they_told_it() -> None:
    parts = [report(times(20, 30), back_s=1.0, storm_s=0.0), report(times(900), back_s=2.0, storm_s=0.0)]
    told = [json.loads(json.dumps(part.to_process())) for part in parts]
    for part, each in zip(parts, told, strict=True):
        again = {name: PartTimes.from_json(0, 0, value) for name, value in each["parts"].items()}
        assert {name: t.to_json() for name, t in again.items()} == {name: t.to_json() for name, t in part.parts.items()}
        assert LoadCounts(**each["counts"]) == part.counts
    whole = put_together(parts)
    assert (whole.counts.made, whole.cpu_s, whole.back_s, whole.processes) == (3, 2.0, 2.0, 2)
    assert whole.parts[ACK].whole.max_us == 900_000
    assert put_together([parts[0], replace(parts[1], back_s=None)]).back_s is None
