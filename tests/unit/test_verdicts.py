"""How far an effort is believed goes with it: into its row and back, into events, and into the order of versions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from broker.events.envelope import decode_structured
from processors.happenings import effort_changed
from processors.results import BELIEVED, Effort, Phase, Verdict
from processors.results_db import effort, put_effort
from processors.segment_board import SegmentBoard
from processors.state_db import StateDb
from tests.unit.test_results import SEGMENTS, Platform, run_frames_of

NOW_US = 1_790_000_000_000_000
EFFORT = Effort("e1", "gym", "hill", "gym/ann", "a1", 0, NOW_US, 60_000, Phase.FINAL, 400, None, None, (1, 2, 60_000), 5)
DOUBTED = replace(EFFORT, doubts=("vehicle", "speed"), plausibility_pct=12, kept_off=True, version=6)


def test_an_effort_is_believed_unless_something_is_said() -> None:
    assert Verdict(EFFORT.doubts, EFFORT.plausibility_pct, EFFORT.kept_off) == BELIEVED


def test_doubts_are_stored_and_read(tmp_path: Path) -> None:
    store = StateDb(tmp_path / "state.db")
    for one in (EFFORT, DOUBTED):
        put_effort(store.db, one)
        assert effort(store.db, "e1") == one
    store.close()


def test_a_doubt_that_comes_later_is_told_as_a_correction_and_one_that_stays_is_not() -> None:
    (event,) = effort_changed(EFFORT, DOUBTED, 6, NOW_US)
    said = event.data.model_dump()
    assert event.type == "paceline.social.effort.corrected.v1"
    assert event.phase == "correction"
    assert said["change"] == {"fields": ("doubts", "plausibility_pct", "kept_off"), "elapsed_delta_ms": 0}
    assert (said["doubts"], said["plausibility_pct"], said["kept_off"]) == (("vehicle", "speed"), 12, True)
    assert effort_changed(DOUBTED, replace(DOUBTED, version=7), 7, NOW_US) == []


def test_an_effort_told_before_doubts_were_known_reads_as_believed() -> None:
    document = json.loads(Path("docs/events/examples/paceline.social.effort.recorded.v1.json").read_text())
    document["schemaversion"] = "1.0"
    for name in ("doubts", "plausibility_pct", "kept_off"):
        del document["data"][name]
    said = decode_structured(json.dumps(document).encode()).data.model_dump()
    assert (said["doubts"], said["plausibility_pct"], said["kept_off"]) == ((), 100, False)


def test_two_states_of_one_version_that_differ_in_their_doubts_end_the_same_in_either_order() -> None:
    states = [replace(EFFORT, version=6), replace(DOUBTED, kept_off=False)]
    ends: set[Effort | None] = set()
    for order in (states, states[::-1]):
        board = SegmentBoard("hill")
        for one in order:
            board.apply(one)
        ends.add(board.best("gym/ann"))
    assert len(ends) == 1


def test_a_car_leads_no_board_live_or_at_the_end_and_the_athlete_is_told_why(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "a")
    platform.refer(*SEGMENTS)
    platform.take(run_frames_of("gym/bob", 4.0, device="band", seconds=300))
    platform.take(run_frames_of("gym/anna", 30.0, seconds=240))
    (live,) = (e for e in platform.efforts("long") if e.subject == "gym/anna")
    assert (live.phase, live.kept_off, live.doubts) == (Phase.SETTLED, True, ("speed",))
    platform.settle(700)
    (final,) = (e for e in platform.efforts("long") if e.subject == "gym/anna")
    assert (final.phase, final.kept_off) == (Phase.FINAL, True)
    assert {"vehicle", "speed"} <= set(final.doubts)
    (honest,) = (e for e in platform.efforts("long") if e.subject == "gym/bob")
    assert (honest.phase, honest.kept_off, honest.plausibility_pct) == (Phase.FINAL, False, 100)
    said = [(e.type.split(".")[2:4], e.data.model_dump()) for e in platform.events()]
    on = [(kind, d) for kind, d in said if d.get("segment") == "long"]
    assert {d["leader"]["subject"] for kind, d in on if kind == ["board", "lead_taken"]} == {"gym/bob"}
    assert {d["subject"] for kind, d in on if kind == ["record", "set"]} == {"gym/bob"}
    told = [d for kind, d in on if kind[0] == "effort" and d["subject"] == "gym/anna"]
    assert all(d["kept_off"] for d in told)
    assert told[-1]["doubts"] == final.doubts
    platform.close()
