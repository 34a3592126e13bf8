"""Routes of activities, segments and the class: pages without gaps, thinned lines, uploads, imports, refusals with a cure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.logrecord import Kind
from broker.reference import SegmentRef, decode_reference
from processors import results_db
from processors.api import ApiOptions
from processors.api.activity_routes import columns
from processors.api.kinds import PREFIX
from processors.api.models import ActivityDetail, ActivityPage, SegmentDetail, TrackColumns
from processors.live_kernel import NO_POS
from processors.results import FinalTrack
from tests.api_stores import HOUR_US, LINE, NOW_US, Stores, add_activity, apply_references, client_of, stores


@pytest.fixture
def got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setattr("processors.api.services.APPLIED_S", 0.0)
    with stores(tmp_path, "gym", "hall") as made:
        yield made


async def test_pages_of_activities_join_also_where_many_start_at_once(got: Stores) -> None:
    got.state.db.execute("BEGIN")
    made = {add_activity(got.state, "gym", f"r{i}", NOW_US - 50 * HOUR_US - (i // 7) * 1_000_000) for i in range(40)}
    got.state.db.execute("COMMIT")
    found: list[str] = []
    before: int | None = NOW_US - 10 * HOUR_US
    with client_of(got, ApiOptions("gym")) as http:
        while before is not None:
            answer = await http.get(f"{PREFIX}/activities", params={"limit": 5, "before": before})
            page = ActivityPage.model_validate_json(answer.content)
            found += [a.id for a in page.activities]
            before = page.next_before_us
        assert len(found) == len(set(found)) == 40
        assert set(found) == made
        one = ActivityPage.model_validate_json((await http.get(f"{PREFIX}/activities?athlete=r3")).content)
        assert ([a.athlete for a in one.activities], one.next_before_us) == (["r3"], None)


@pytest.mark.parametrize("far", [10**30, -(10**30)])
async def test_a_place_beyond_all_numbers_is_before_or_behind_everything(far: int, got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        found = (await http.get(f"{PREFIX}/activities?before={far}")).json()["activities"]
        assert found == ((await http.get(f"{PREFIX}/activities")).json()["activities"] if far > 0 else [])
        assert (await http.get(f"{PREFIX}/events?after={abs(far)}")).json() == {"events": [], "last_seq": abs(far)}


async def test_activity_has_its_laps_efforts_and_places(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        listed = (await http.get(f"{PREFIX}/activities?athlete=ann")).json()["activities"]
        detail = ActivityDetail.model_validate_json((await http.get(f"{PREFIX}/activities/{listed[0]['id']}")).content)
        assert (detail.distance_m, detail.gain_m, detail.points, detail.laps[0].distance_m) == (10_000.0, 123.0, 45.0, 1_000.0)
        assert [(e.segment, e.rank, e.best, e.phase) for e in detail.efforts] == [("hill", 2, True, "final")]
        assert (detail.south, detail.east) == (48.0, 11.0)
        got.state.db.execute("BEGIN")
        results_db.put_reference(got.state.db, SegmentRef(tenant="gym", id="hill", name="x", points=LINE, removed=True), 99)
        got.state.db.execute("COMMIT")
        assert (await http.get(f"{PREFIX}/activities/{detail.id}")).json()["efforts"] == []
        assert (await http.get(f"{PREFIX}/segments/hill/board")).status_code == 404
        assert (await http.get(f"{PREFIX}/activities/nothing")).status_code == 404


@pytest.mark.parametrize(("points", "expected"), [(None, 10), (10, 10), (4, 4), (2, 2), (99, 10)])
def test_thinned_line_keeps_both_ends(points: int | None, expected: int) -> None:
    n = 10
    line = FinalTrack(
        tuple(range(n)), (NO_POS, -1, *[5] * 8), (NO_POS, 0, *[5] * 8), (-32768, *[10] * 9), (-1,) * n, (0,) * n, tuple(range(n))
    )
    made = columns("a", 7, line, points)
    assert isinstance(made, TrackColumns)
    assert (len(made.t_ms), made.t_ms[0], made.t_ms[-1], made.points_total) == (expected, 0, 9, 10)
    assert made.t_ms == sorted(set(made.t_ms))
    assert (made.lat[0], made.altitude_m[0], made.hr_bpm[0], made.power_w[0]) == (None, None, None, 0)
    if expected == 10:
        assert made.lat[1] == -1e-7


def gpx(points: int) -> bytes:
    rows = "".join(
        f'<trkpt lat="{48 + i * 0.0001:.5f}" lon="11.0"><ele>500</ele><time>2024-05-01T10:{i // 60:02}:{i % 60:02}Z</time></trkpt>'
        for i in range(points)
    )
    return f'<?xml version="1.0"?><gpx version="1.1" creator="t"><trk><name>Ridge</name><trkseg>{rows}</trkseg></trk></gpx>'.encode()


async def test_uploaded_file_is_durable_once(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        path = f"{PREFIX}/activities?athlete=ann&name=ride.gpx"
        answer = await http.post(path, content=gpx(120))
        assert answer.status_code == 202, answer.text
        assert (answer.json()["format"], answer.json()["samples"], answer.json()["repeated"]) == ("gpx", 120, False)
        _, records = got.log.read(0, 1000)
        assert {r.key for r in records if r.kind == Kind.FRAME} == {"gym/ann"}
        end = got.log.end()
        assert (await http.post(path, content=gpx(120))).json()["repeated"] is True
        assert got.log.end() == end
        for wrong in (b"", b"no recording", b"x" * 100_000):
            refused = await http.post(path, content=wrong)
            assert refused.status_code == 400
            assert refused.json()["cure"]


async def test_segments_from_a_file_get_ids_from_their_names_and_a_line_given_again_stays_the_same(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        for points, expected in ((120, "ridge"), (100, "ridge-2"), (120, "ridge"), (100, "ridge-2")):
            end = got.log.end()
            answer = await http.post(f"{PREFIX}/segments/import?sport=run", content=gpx(points))
            assert answer.status_code == 201, answer.text
            (written,) = answer.json()["segments"]
            assert written["id"] == expected
            apply_references(got)
        assert got.log.end() == end
        found = SegmentDetail.model_validate_json((await http.get(f"{PREFIX}/segments/ridge-2")).content)
        assert (found.name, found.sport, found.efforts, found.leader_ms) == ("Ridge", "run", 0, None)
        assert found.length_m == pytest.approx(99 * 11.1195, rel=0.01)
        assert (await http.delete(f"{PREFIX}/segments/ridge")).status_code == 200
        apply_references(got)
        assert (await http.get(f"{PREFIX}/segments/ridge")).status_code == 404
        (back,) = (await http.post(f"{PREFIX}/segments/import?sport=run", content=gpx(120))).json()["segments"]
        assert back["id"] == "ridge"
        refused = await http.post(f"{PREFIX}/segments/import", content=b"{}")
        assert (refused.status_code, bool(refused.json()["cure"])) == (400, True)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([[48.0, 11.0], [48.0001, 11.0]], "50 m"),
        ([[148.0, 11.0], [148.1, 11.0]], "swapped"),
        ([[5e6, 4e5], [5e6, 5e5]], "degrees"),
    ],
)
async def test_what_cannot_be_matched_is_refused_with_the_reason(points: list[list[float]], says: str, got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.put(f"{PREFIX}/segments/new", json={"name": "New", "points": points})
        assert answer.status_code == 400
        assert says in answer.json()["detail"]
        assert answer.json()["cure"]
        assert got.log.end() == 0


async def test_put_segment_is_a_checked_reference(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        points = [[48.0 + i * 0.0005, 11.0] for i in range(20)]
        assert (await http.put(f"{PREFIX}/segments/new", json={"name": "New", "points": points})).status_code == 200
        value = decode_reference(got.log.read(0, 1)[1][0].body)
        assert isinstance(value, SegmentRef)
        assert (value.tenant, value.id, value.name, value.points[0]) == ("gym", "new", "New", (480000000, 110000000))
        for body in ({"name": "", "points": points}, {"name": "N", "points": points, "tenant": "hall"}, {"name": "N"}):
            assert (await http.put(f"{PREFIX}/segments/new", json=body)).status_code == 422


@pytest.mark.parametrize("zones", [[110, 130, 150, 300], [29, 130, 150, 180], [110, 130, 150, 10**18]])
async def test_zones_no_heart_has_are_refused_by_name(zones: list[int], got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.put(f"{PREFIX}/athletes/new", json={"name": "New", "hr_zones_bpm": zones})
        assert answer.status_code == 422
        assert "hr_zones_bpm" in answer.text
        assert "30" in answer.text or "240" in answer.text
        assert got.log.end() == 0
        kept = await http.put(f"{PREFIX}/athletes/new", json={"name": "New", "hr_zones_bpm": [30, 130, 150, 240]})
        assert kept.status_code == 200


async def test_class_in_progress_leaves_out_who_has_ended(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        board = (await http.get(f"{PREFIX}/boards/live?by=distance")).json()
        assert [(line["rank"], line["athlete"]) for line in board["lines"]] == [
            (1, "hidden.person"), (2, "ann"), (3, "nicolas"), (4, "@box/strap9"),
        ]  # fmt: skip
        got.state.db.execute("DELETE FROM state WHERE key='gym/ann'")
        assert len((await http.get(f"{PREFIX}/boards/live?by=points")).json()["lines"]) == 3
        assert 0 <= board["t_us"] - NOW_US < 60_000_000
