"""Routes of decisions: what is written, what shows then, and what a screen no longer sees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.reference import ErasureRef, MergeRef, RulingRef, decode_reference
from processors import results_db
from processors.api import ApiOptions
from processors.api.kinds import PREFIX
from processors.awards import Awarded
from processors.results import activity_id
from tests.api_stores import HOUR_US, NOW_US, Stores, add_activity, an_effort, apply_references, client_of, stores

EFFORT = an_effort("gym", "ann", 200_000)


@pytest.fixture
def got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setattr("processors.api.services.APPLIED_S", 0.0)  # no runner here that would apply a write
    with stores(tmp_path, "gym") as made:
        yield made


def written(got: Stores) -> list[object]:
    return [decode_reference(record.body) for record in got.log.read(0, 100)[1]]


async def test_a_ruling_is_written_listed_and_undone(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        before = {one["id"] for one in (await http.get(f"{PREFIX}/rulings")).json()["rulings"]}
        body = {"decision": "flag", "why": "by car"}
        assert (await http.put(f"{PREFIX}/efforts/{EFFORT.id}/ruling", json=body)).json()["id"] == EFFORT.id
        assert written(got) == [RulingRef(tenant="gym", id=EFFORT.id, decision="flag", why="by car")]
        apply_references(got)
        (said,) = [one for one in (await http.get(f"{PREFIX}/rulings")).json()["rulings"] if one["id"] == EFFORT.id]
        assert said == {"id": EFFORT.id, "decision": "flag", "hidden": False, "sport": None, "why": "by car"}
        assert (await http.delete(f"{PREFIX}/efforts/{EFFORT.id}/ruling")).status_code == 200
        apply_references(got)
        assert {one["id"] for one in (await http.get(f"{PREFIX}/rulings")).json()["rulings"]} == before - {EFFORT.id}
        assert (await http.delete(f"{PREFIX}/efforts/{EFFORT.id}/ruling")).status_code == 404
        assert (await http.put(f"{PREFIX}/efforts/{'0' * 26}/ruling", json=body)).status_code == 404
        assert (await http.put(f"{PREFIX}/efforts/{EFFORT.id}/ruling", json={"decision": "burn"})).status_code == 422
        assert (await http.put(f"{PREFIX}/efforts/{EFFORT.id}/ruling", json={"sport": "run"})).status_code == 422


async def test_the_athlete_sees_why_an_effort_stands_nowhere_and_what_it_was_awarded(got: Stores) -> None:
    got.state.db.execute("BEGIN")
    results_db.put_effort(got.state.db, replace(EFFORT, version=50, ruling="flagged", doubts=("vehicle",), plausibility_pct=10))
    second = an_effort("gym", "ann", 220_000, ordinal=1, version=51)
    results_db.put_effort(got.state.db, second)
    results_db.put_awards(got.state.db, Awarded("gym/ann", second.id, (), ("top_10", "own_1")), "gym", "hill")
    got.state.db.execute("COMMIT")
    with client_of(got, ApiOptions("gym")) as http:
        body = {"decision": "flag", "why": "by car"}
        assert (await http.put(f"{PREFIX}/efforts/{EFFORT.id}/ruling", json=body)).status_code == 200
        apply_references(got)
        flagged, stands = (await http.get(f"{PREFIX}/athletes/ann/efforts?segment=hill")).json()["efforts"]
        assert (flagged["ruling"], flagged["kept_off"], flagged["doubts"], flagged["own_rank"]) == ("flagged", True, ["vehicle"], None)
        assert "by car" in flagged["why"]
        assert "by car" not in (await http.get(f"{PREFIX}/athletes/ann/efforts?segment=hill&as=screen")).text
        assert (stands["ruling"], stands["kept_off"], stands["awards"], stands["best"]) == (None, False, ["top_10", "own_1"], True)
        lines = (await http.get(f"{PREFIX}/segments/hill/board")).json()["lines"]
        assert [line["elapsed_ms"] for line in lines if line["athlete"] == "ann"] == [220_000]


async def test_a_hidden_activity_is_for_staff_only(got: Stores) -> None:
    ident = activity_id("gym/ann", NOW_US - 2 * HOUR_US)
    with client_of(got, ApiOptions("gym")) as http:
        assert (await http.put(f"{PREFIX}/activities/{ident}/ruling", json={"hidden": True})).status_code == 200
        apply_references(got)
        for path in (f"activities/{ident}", f"activities/{ident}/track"):
            assert (await http.get(f"{PREFIX}/{path}")).status_code == 200
            assert (await http.get(f"{PREFIX}/{path}?as=screen")).status_code == 404
        listed = {one["id"] for one in (await http.get(f"{PREFIX}/activities")).json()["activities"]}
        shown = {one["id"] for one in (await http.get(f"{PREFIX}/activities?as=screen")).json()["activities"]}
        assert listed - shown == {ident}


@pytest.mark.parametrize("kind", ["efforts", "activities"])
async def test_a_screen_sees_no_hidden_effort_in_any_list(got: Stores, kind: str) -> None:
    ident = {"efforts": EFFORT.id, "activities": EFFORT.activity}[kind]
    with client_of(got, ApiOptions("gym")) as http:
        for path in ("athletes/ann/efforts", f"activities/{EFFORT.activity}"):
            assert EFFORT.id in (await http.get(f"{PREFIX}/{path}?as=screen")).text
        assert (await http.put(f"{PREFIX}/{kind}/{ident}/ruling", json={"hidden": True})).status_code == 200
        apply_references(got)
        for path in ("athletes/ann/efforts", "athletes/ann/efforts?segment=hill", f"activities/{EFFORT.activity}"):
            assert EFFORT.id in (await http.get(f"{PREFIX}/{path}")).text
            screen = f"{path}{'&' if '?' in path else '?'}as=screen"
            assert EFFORT.id not in (await http.get(f"{PREFIX}/{screen}")).text


async def test_athletes_who_are_one_have_one_list_of_activities(got: Stores) -> None:
    got.state.db.execute("BEGIN")
    for hours in (5, 9):
        add_activity(got.state, "gym", "nicolas", NOW_US - hours * HOUR_US)
    got.state.db.execute("COMMIT")
    with client_of(got, ApiOptions("gym")) as http:
        assert (await http.put(f"{PREFIX}/athletes/nicolas/merge", json={"into": "ann"})).status_code == 200
        assert written(got) == [MergeRef(tenant="gym", id="nicolas", into="ann")]
        apply_references(got)
        starts: list[int] = []
        before = ""
        while True:
            page = (await http.get(f"{PREFIX}/activities?athlete=ann&limit=1{before}")).json()
            starts += [one["start_us"] for one in page["activities"]]
            if page["next_before_us"] is None:
                break
            before = f"&before={page['next_before_us']}"
        assert starts == sorted([NOW_US - hours * HOUR_US for hours in (2, 2, 5, 9)], reverse=True)
        assert (await http.delete(f"{PREFIX}/athletes/nicolas/merge")).status_code == 200
        apply_references(got)
        assert len((await http.get(f"{PREFIX}/activities?athlete=ann")).json()["activities"]) == 1
        assert (await http.put(f"{PREFIX}/athletes/ann/merge", json={"into": "ann"})).status_code == 400
        assert (await http.put(f"{PREFIX}/athletes/ann/merge", json={"into": "stranger"})).status_code == 404


async def test_erasing_forgets_the_name_and_asks_for_the_rest(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        assert (await http.delete(f"{PREFIX}/athletes/ann/results")).status_code == 200
        gone, erased = written(got)
        assert erased == ErasureRef(tenant="gym", id="ann")
        assert "Ann of gym" not in repr(gone)
        apply_references(got)
        assert (await http.get(f"{PREFIX}/athletes/ann")).json()["name"] in {"", "ann"}
        assert (await http.delete(f"{PREFIX}/athletes/stranger/results")).status_code == 404


async def test_nobody_is_merged_with_somebody_erased_whose_fate_would_be_shared_for_good(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        assert (await http.delete(f"{PREFIX}/athletes/ann/results")).status_code == 200
        apply_references(got)
        for one, into in (("nicolas", "ann"), ("ann", "nicolas")):
            refused = await http.put(f"{PREFIX}/athletes/{one}/merge", json={"into": into})
            assert (refused.status_code, "erased" in refused.text) == (400, True)
        assert [value for value in written(got) if isinstance(value, MergeRef)] == []
