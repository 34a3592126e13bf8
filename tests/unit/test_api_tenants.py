"""A token of one tenant sees and changes nothing of another: every route, every role, over real stores of two tenants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from fastapi import APIRouter

from broker.view_part import ViewPart, number_of
from processors.api import ApiOptions, create_app
from processors.api.app import Front, close_app
from processors.api.kinds import PREFIX
from processors.api.tokens import add_token
from processors.directory import alias_of
from processors.results import activity_id, effort_id
from tests.api_stores import HOUR_US, NOW_US, Stores, apply_references, client_of, stores

OURS, THEIRS = "gym", "otherhall"
WRITES = {"PUT", "POST", "DELETE"}
POLYLINE = b"climb\t_ulbH_ajnAoKcGoKcG"
LINE = [[48.0 + i * 0.001, 11.0] for i in range(10)]


class Case(NamedTuple):
    """A request to a route, with the ids of a tenant in it."""

    method: str
    path: str  # with {tenant-made} parts
    body: object = None
    screen: int = 200  # what a screen gets
    staff: int = 200


def activity(tenant: str, athlete: str = "ann") -> str:
    return activity_id(f"{tenant}/{athlete}", NOW_US - 2 * HOUR_US)


CASES: dict[tuple[str, str], Case] = {
    ("GET", "/health"): Case("GET", "/health"),
    ("GET", "/live"): Case("GET", "/live"),
    ("GET", "/live/stream"): Case("GET", "/live/stream"),  # its first events
    ("GET", "/activities"): Case("GET", "/activities"),
    ("GET", "/activities/{ident}"): Case("GET", "/activities/ACTIVITY"),
    ("GET", "/activities/{ident}/track"): Case("GET", "/activities/ACTIVITY/track"),
    ("POST", "/activities"): Case("POST", "/activities?athlete=ann", b"nothing a watch writes", 403, 400),
    ("GET", "/segments"): Case("GET", "/segments"),
    ("GET", "/segments/{ident}"): Case("GET", "/segments/hill"),
    ("PUT", "/segments/{ident}"): Case("PUT", "/segments/ridge", {"name": "Ridge", "points": LINE}, 403),
    ("DELETE", "/segments/{ident}"): Case("DELETE", "/segments/flat", None, 403),
    ("POST", "/segments/import"): Case("POST", "/segments/import", POLYLINE, 403, 201),
    ("GET", "/segments/{ident}/board"): Case("GET", "/segments/hill/board"),
    ("GET", "/segments/{ident}/board/around/{athlete}"): Case("GET", "/segments/hill/board/around/ann"),
    ("GET", "/segments/{ident}/live"): Case("GET", "/segments/hill/live"),
    ("GET", "/boards/live"): Case("GET", "/boards/live"),
    ("GET", "/athletes"): Case("GET", "/athletes"),
    ("GET", "/rulings"): Case("GET", "/rulings", None, 403),
    ("PUT", "/efforts/{ident}/ruling"): Case("PUT", "/efforts/EFFORT/ruling", {"decision": "flag"}, 403),
    ("DELETE", "/efforts/{ident}/ruling"): Case("DELETE", "/efforts/EFFORT/ruling", None, 403),
    ("PUT", "/activities/{ident}/ruling"): Case("PUT", "/activities/ACTIVITY/ruling", {"sport": "ride"}, 403),
    ("DELETE", "/activities/{ident}/ruling"): Case("DELETE", "/activities/ACTIVITY/ruling", None, 403),
    ("PUT", "/athletes/{ident}/merge"): Case("PUT", "/athletes/ann/merge", {"into": "nicolas"}, 403),
    ("DELETE", "/athletes/{ident}/merge"): Case("DELETE", "/athletes/old.ann/merge", None, 403),
    ("DELETE", "/athletes/{ident}/results"): Case("DELETE", "/athletes/nicolas/results", None, 403),
    ("GET", "/athletes/{ident}"): Case("GET", "/athletes/ann"),
    ("PUT", "/athletes/{ident}"): Case("PUT", "/athletes/new", {"name": "New"}, 403),
    ("DELETE", "/athletes/{ident}"): Case("DELETE", "/athletes/nicolas", None, 403),
    ("GET", "/athletes/{ident}/efforts"): Case("GET", "/athletes/ann/efforts"),
    ("GET", "/devices"): Case("GET", "/devices", None, 403),
    ("GET", "/bindings"): Case("GET", "/bindings", None, 403),
    ("POST", "/bindings"): Case("POST", "/bindings", {"node": "box", "device": "strap9", "athlete": "ann"}, 403, 201),
    ("POST", "/bindings/{ident}/end"): Case("POST", "/bindings/b1/end", {}, 403),
    ("DELETE", "/bindings/{ident}"): Case("DELETE", "/bindings/b1", None, 403),
    ("GET", "/events"): Case("GET", "/events", None, 403),
    ("POST", "/equipment/{device}"): Case("POST", "/equipment/strap1", {"order": {"action": "start"}}, 403, 202),
    ("GET", "/equipment"): Case("GET", "/equipment", None, 403),
    ("GET", "/equipment/{device}"): Case("GET", "/equipment/strap1", None, 403),
    ("GET", "/equipment/{device}/{ident}"): Case("GET", "/equipment/strap1/command-1", None, 403),
}
UNLOGGED = {("POST", "/equipment/{device}")}  # a command is no record of the log
HIDDEN = ("hidden.person", "Secret", "nicolas", "Nicolas")


@pytest.fixture
def got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setattr("processors.api.services.APPLIED_S", 0.0)  # no runner here that would apply a write
    with stores(tmp_path, OURS, THEIRS) as made:
        yield made


ALIASES = {("GET", "/api/health"), ("GET", "/api/live"), ("GET", "/api/live/stream")}  # the routes of the first page: the same endpoints
PAGE = {("GET", "/"), ("GET", "/{name}")}  # files of the page: test_api.py


def routes_of(got: Stores) -> set[tuple[str, str]]:
    """Every (method, path) the application answers, documented or not, whoever added it."""
    app = create_app(got.services, ApiOptions(OURS))
    close_app(app)
    found: set[tuple[str, str]] = set()
    for route in app.routes:
        contexts = getattr(route, "effective_route_contexts", None)
        for one in [route] if contexts is None else contexts():
            found |= {(method, one.path) for method in one.methods if method != "HEAD"}
    return found


async def ask(http: httpx.AsyncClient, case: Case, tenant: str, token: str, query: str = "") -> httpx.Response:
    path = PREFIX + case.path.replace("ACTIVITY", activity(tenant)).replace("EFFORT", effort_id(activity(tenant), "hill", 0))
    path += ("&" if "?" in path else "?") + query if query else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if isinstance(case.body, bytes):
        return await http.request(case.method, path, content=case.body, headers=headers)
    return await http.request(case.method, path, json=case.body, headers=headers)


def test_every_route_has_a_case(got: Stores) -> None:
    assert routes_of(got) == {(method, PREFIX + path) for method, path in CASES} | ALIASES | PAGE


def test_a_route_without_a_case_is_found(got: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    added = APIRouter()
    added.add_api_route("/leak", lambda: None, methods=["GET"], include_in_schema=False)
    monkeypatch.setattr("processors.api.app._page", lambda: added)
    assert ("GET", "/leak") in routes_of(got)


@pytest.mark.parametrize("named", sorted(CASES), ids=lambda c: f"{c[0]} {c[1]}")
async def test_a_tenant_is_alone(named: tuple[str, str], got: Stores, tmp_path: Path) -> None:
    case = CASES[named]
    tokens = tmp_path / "tokens.json"
    token = {(tenant, role): add_token(tokens, tenant, role) for tenant in (OURS, THEIRS) for role in ("staff", "screen")}
    with client_of(got, ApiOptions(OURS, "0.0.0.0", 8800, "site", tokens), "gym.example") as http:
        if named[1] != "/health":
            assert (await ask(http, case, OURS, "")).status_code == 401
            assert (await ask(http, case, OURS, "plt-00000000-guess")).status_code == 401
        for tenant, other in ((OURS, THEIRS), (THEIRS, OURS)):
            before = got.log.end()
            screen = await ask(http, case, tenant, token[tenant, "screen"])
            assert screen.status_code == case.screen, screen.text
            assert other not in screen.text
            assert not any(word in screen.text for word in HIDDEN)
            as_screen = await ask(http, case, tenant, token[tenant, "staff"], "as=screen")
            assert as_screen.status_code == case.screen, as_screen.text
            assert not any(word in as_screen.text for word in HIDDEN)
            assert (await ask(http, case, tenant, token[tenant, "screen"], "as=staff")).status_code == (
                200 if named[1] == "/health" else 400
            )
            assert got.log.end() == before
            staff = await ask(http, case, tenant, token[tenant, "staff"])
            assert staff.status_code == case.staff, staff.text
            assert other not in staff.text
            if named == ("GET", "/live/stream"):
                roles = [json.loads(one.text.split("data: ")[1].split("\n")[0])["role"] for one in (screen, as_screen, staff)]
                assert roles == ["screen", "screen", "staff"]
                assert "Secret" in staff.text
            if "ACTIVITY" in case.path or "EFFORT" in case.path:  # an id of the other tenant is no id
                crossed = await ask(http, case, other, token[tenant, "staff"])
                assert crossed.status_code == 404
                assert other not in crossed.text
            if named[0] in WRITES and named not in UNLOGGED and case.staff < 300:
                _, written = got.log.read(before, 100)
                assert written
                assert {record.tenant for record in written} == {tenant}


async def test_a_tenant_of_another_part_of_the_view_is_told_where_to_ask_on_every_route(got: Stores, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    token = {tenant: add_token(tokens, tenant, "staff") for tenant in (OURS, THEIRS)}
    here, elsewhere = (ViewPart(number_of(tenant, 3), 3) for tenant in (OURS, THEIRS))
    assert here != elsewhere
    with client_of(got, ApiOptions(OURS, "0.0.0.0", 8800, "site", tokens, part=here), "gym.example") as http:
        before = got.log.end()
        for named, case in sorted(CASES.items()):
            if named[1] != "/health":
                refused = await ask(http, case, THEIRS, token[THEIRS])
                assert (refused.status_code, refused.headers["paceline-part"]) == (421, str(elsewhere)), named
                assert f"whose view.part is {elsewhere}" in refused.json()["cure"]
        assert got.log.end() == before
        assert (await ask(http, CASES["GET", "/live"], OURS, token[OURS])).status_code == 200
    app = create_app(got.services, ApiOptions(THEIRS, part=here))
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Front(app)), base_url="http://127.0.0.1:8800") as http:
            for path in ("live", "segments/hill/board"):  # the second by the short way
                refused = await http.get(f"{PREFIX}/{path}")
                assert (refused.status_code, refused.headers["paceline-part"]) == (421, str(elsewhere))
    finally:
        close_app(app)


async def test_this_machine_sees_what_a_screen_sees_when_it_asks_for_that(got: Stores) -> None:
    app = create_app(got.services, ApiOptions(OURS))
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(Front(app)), base_url="http://127.0.0.1:8800") as http:
            for path in ("live", "segments/hill/board", "boards/live", "athletes"):
                assert "Secret" in (await http.get(f"{PREFIX}/{path}")).text
                for query in ("as=screen", "as=screen&as=screen", "limit=9&as=screen"):
                    answer = await http.get(f"{PREFIX}/{path}?{query}")
                    assert answer.status_code == 200
                    assert "Nick-gym" in answer.text
                    assert not any(word in answer.text for word in HIDDEN)
                for query in ("as=Screen", "as=", "as=staff", "as=screen&as=staff"):
                    refused = await http.get(f"{PREFIX}/{path}?{query}")
                    assert (refused.status_code, refused.json()["cure"]) == (400, "ask as=screen, or leave it out")
            assert (await http.put(f"{PREFIX}/athletes/ann?as=screen", json={"name": "Ann"})).status_code == 403
    finally:
        close_app(app)


async def test_what_is_another_tenants_cannot_be_changed(got: Stores, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    staff = {"Authorization": f"Bearer {add_token(tokens, 'third', 'staff')}"}
    with client_of(got, ApiOptions(OURS, "0.0.0.0", 8800, "site", tokens), "gym.example") as http:
        for method, path in (
            ("DELETE", "segments/hill"),
            ("DELETE", "bindings/b1"),
            ("POST", "bindings/b1/end"),
            ("DELETE", "athletes/ann"),
            ("DELETE", "athletes/ann/results"),
            ("DELETE", "athletes/old.ann/merge"),
        ):
            assert (await http.request(method, f"{PREFIX}/{path}", headers=staff)).status_code == 404
        for path in ("segments/hill", "segments/hill/board", "segments/hill/live", "athletes/ann", f"activities/{activity(OURS)}"):
            assert (await http.get(f"{PREFIX}/{path}", headers=staff)).status_code == 404
        assert (await http.get(f"{PREFIX}/athletes", headers=staff)).json() == {"athletes": []}
    assert got.log.end() == 0


async def test_a_command_goes_to_the_asker_s_box_and_nobody_else_sees_it(got: Stores, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    staff = {tenant: {"Authorization": f"Bearer {add_token(tokens, tenant, 'staff')}"} for tenant in (OURS, THEIRS, "third")}
    body = {"order": {"action": "speed_mps", "value": 2}, "id": "shared-id-1"}
    with client_of(got, ApiOptions(OURS, "0.0.0.0", 8800, "site", tokens), "gym.example") as http:
        assert (await http.post(f"{PREFIX}/equipment/strap1", json=body, headers=staff[OURS])).status_code == 202
        assert (await http.get(f"{PREFIX}/equipment/strap1/shared-id-1", headers=staff[THEIRS])).status_code == 404
        assert (
            await http.post(f"{PREFIX}/equipment/strap1", json=body, headers=staff[THEIRS])
        ).status_code == 202  # an id is a tenant's own
        assert (await http.post(f"{PREFIX}/equipment/strap1", json=body, headers=staff["third"])).status_code == 409
        assert (await http.get(f"{PREFIX}/equipment", headers=staff["third"])).json() == {"commands": [], "notices": []}
    assert got.services.desk is not None
    due = got.services.desk.due(NOW_US + 1)
    assert [one.topic for one in due] == [f"pl/1/{OURS}/box/cmd", f"pl/1/{THEIRS}/box/cmd"]


async def test_a_screen_reaches_the_nameless_by_alias_only(got: Stores, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    screen = {"Authorization": f"Bearer {add_token(tokens, OURS, 'screen')}"}
    alias = alias_of(f"{OURS}/hidden.person")
    with client_of(got, ApiOptions(OURS, "0.0.0.0", 8800, "site", tokens), "gym.example") as http:
        listed = (await http.get(f"{PREFIX}/athletes", headers=screen)).json()["athletes"]
        assert {(a["id"], a["name"], a["sex"]) for a in listed} == {
            (alias, "", None),
            ("ann", "Ann of gym", None),
            (alias_of(f"{OURS}/nicolas"), "Nick-gym", None),
        }
        around = await http.get(f"{PREFIX}/segments/hill/board/around/{alias}?k=0", headers=screen)
        assert [(line["athlete"], line["name"], line["rank"]) for line in around.json()["lines"]] == [(alias, "", 1)]
        for path in ("segments/hill/board/around/{}", "athletes/{}", "athletes/{}/efforts", "activities?athlete={}"):
            assert (await http.get(f"{PREFIX}/{path.format('hidden.person')}", headers=screen)).status_code == 404
            assert (await http.get(f"{PREFIX}/{path.format(alias)}", headers=screen)).status_code == 200
        state = (await http.get(f"{PREFIX}/live", headers=screen)).json()
        assert (state["role"], state["devices"], state["devices_total"]) == ("screen", [], 2)


async def test_a_written_athlete_counts_once_the_stores_have_it(got: Stores, tmp_path: Path) -> None:
    with client_of(got, ApiOptions(OURS)) as http:
        answer = await http.put(f"{PREFIX}/athletes/ann", json={"name": "Ann", "show": "no"})
        assert answer.json()["applied"] is False
        apply_references(got)
        assert (await http.get(f"{PREFIX}/athletes/ann")).json()["name"] == "Ann"
