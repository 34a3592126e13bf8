"""Board reads: pages, filters, ETags that change with everything a body depends on and with nothing else, and one way for both routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.reference import AthleteRef, SegmentRef
from processors import results_db
from processors.api import ApiOptions, create_app
from processors.api.app import Front, close_app
from processors.api.board_reads import matches
from processors.api.kinds import PREFIX
from processors.api.models import BoardPage
from tests.api_stores import HOUR_US, NOW_US, Stores, an_effort, client_of, segment, stores

BOARD = f"{PREFIX}/segments/hill/board"


@pytest.fixture
def got(tmp_path: Path) -> Iterator[Stores]:
    with stores(tmp_path, "gym") as made:
        yield made


def change(got: Stores, *values: Any, version: int = 50) -> None:
    """Commit efforts and references as the runner would."""
    got.state.db.execute("BEGIN")
    for value in values:
        if isinstance(value, AthleteRef | SegmentRef):
            results_db.put_reference(got.state.db, value, version)
        else:
            results_db.put_effort(got.state.db, value)
    got.state.db.execute("COMMIT")


def order(answer: httpx.Response) -> list[tuple[int, str]]:
    return [(line.rank, line.athlete) for line in BoardPage.model_validate_json(answer.content).lines]


async def test_reader_with_the_version_gets_no_body(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        first = await http.get(BOARD)
        again = await http.get(BOARD, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
        assert (await http.get(BOARD, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_etag_changes_with_efforts_names_and_the_segment_only(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        tags = [(await http.get(BOARD)).headers["etag"]]
        for changed in (
            an_effort("gym", "nicolas", 100_000, ordinal=1, version=51),
            AthleteRef(tenant="gym", id="ann", name="Anna"),
            segment("gym", name="Hell"),
        ):
            change(got, changed, version=51 + len(tags))
            answer = await http.get(BOARD, headers={"If-None-Match": tags[-1]})
            assert answer.status_code == 200
            tags.append(answer.headers["etag"])
        assert len(set(tags)) == 4
        change(got, an_effort("gym", "ann", 1, ident="flat", version=90))
        assert (await http.get(BOARD, headers={"If-None-Match": tags[-1]})).status_code == 304
        page = BoardPage.model_validate_json((await http.get(BOARD)).content)
        assert (page.segment_name, page.lines[0].athlete, page.lines[2].name) == ("Hell", "nicolas", "Anna")


async def test_board_follows_corrections_and_removals(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        assert order(await http.get(BOARD)) == [(1, "hidden.person"), (2, "ann"), (3, "nicolas")]
        slower = an_effort("gym", "hidden.person", 205_000, version=60)
        change(got, slower)
        assert order(await http.get(BOARD)) == [(1, "ann"), (2, "hidden.person"), (3, "nicolas")]
        change(got, replace(slower, removed=True, version=61))
        assert order(await http.get(BOARD)) == [(1, "ann"), (2, "nicolas")]
        change(got, an_effort("gym", "nicolas", 200_000, ordinal=3, version=62, start_us=NOW_US))
        assert order(await http.get(BOARD)) == [(1, "ann"), (1, "nicolas")]


@pytest.mark.parametrize(
    ("query", "athletes"),
    [
        ("sex=f", ["ann"]),
        ("sex=m", ["hidden.person"]),
        ("age=35-44", ["ann"]),
        ("age=75+", []),
        ("period=week&zone=Europe/Berlin", None),
        ("limit=1", ["hidden.person"]),
        ("sex=&age=", ["hidden.person", "ann", "nicolas"]),
    ],
)
async def test_filters(query: str, athletes: list[str] | None, got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.get(f"{BOARD}?{query}")
        assert answer.status_code == 200
        if athletes is not None:
            assert [athlete for _, athlete in order(answer)] == athletes


async def test_filters_of_weight_club_and_following_count_and_name_the_legend(got: Stores) -> None:
    change(
        got,
        AthleteRef(tenant="gym", id="ann", name="Ann", weight_kg=61, clubs=("pier",), follows=("nicolas",)),
        AthleteRef(tenant="gym", id="nicolas", name="Nicolas", weight_kg=80.5, clubs=("pier",)),
        an_effort("gym", "nicolas", 400_000, ordinal=5, version=50),
        replace(an_effort("gym", "nicolas", 90_000, ordinal=6, version=50), kept_off=True),
        replace(an_effort("gym", "ann", 90_000, ordinal=6, version=50), removed=True),
    )
    with client_of(got, ApiOptions("gym")) as http:
        for query, athletes in (
            ("weight=55-64", ["ann"]), ("weight=95%2B", []), ("club=pier", ["ann", "nicolas"]), ("club=nobody", []),
            ("following=ann", ["ann", "nicolas"]), ("following=nicolas&period=year", ["nicolas"]),
        ):  # fmt: skip
            assert [athlete for _, athlete in order(await http.get(f"{BOARD}?{query}"))] == athletes, query
        page = BoardPage.model_validate_json((await http.get(f"{BOARD}?club=pier")).content)
        assert (page.total, page.efforts, page.club) == (2, 3, "pier")
        assert page.percentiles_ms == [page.lines[0].elapsed_ms] * 3 + [page.lines[1].elapsed_ms] * 2
        around = (await http.get(f"{BOARD}/around/ann?k=1&following=ann")).json()
        assert [line["athlete"] for line in around["lines"]] == ["ann", "nicolas"]
        assert around["following"] == "ann"
        assert (await http.get(f"{BOARD}?following=ann&as=screen")).status_code == 403
        detail = (await http.get(f"{PREFIX}/segments/hill")).json()
        assert detail["legend"] == {"athlete": "nicolas", "name": "Nicolas", "efforts": 2}
        assert (detail["efforts"], detail["leader_ms"]) == (4, order_ms(await http.get(BOARD)))
        told = (await http.get(f"{PREFIX}/athletes/ann")).json()
        assert (told["weight_kg"], told["clubs"], told["follows"]) == (61, ["pier"], ["nicolas"])
        masked = (await http.get(f"{PREFIX}/athletes/ann?as=screen")).json()
        assert (masked["weight_kg"], masked["clubs"], masked["follows"], masked["blocks"]) == (None, [], [], [])
        efforts = (await http.get(f"{PREFIX}/athletes/nicolas/efforts?segment=hill")).json()["efforts"]
        assert [(e["elapsed_ms"] == 90_000, e["own_rank"], e["best"]) for e in efforts] == [
            (True, None, False),
            (False, 1, True),
            (False, 2, False),
        ]


async def test_whom_somebody_without_an_effort_follows_changes_the_board(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        for version, follows in ((60, ("nicolas",)), (61, ("ann", "nicolas")), (62, ())):
            change(got, AthleteRef(tenant="gym", id="watcher", name="W", follows=follows), version=version)
            assert sorted(athlete for _, athlete in order(await http.get(f"{BOARD}?following=watcher"))) == list(follows)


def order_ms(answer: httpx.Response) -> int:
    return BoardPage.model_validate_json(answer.content).lines[0].elapsed_ms


async def test_an_old_effort_is_on_the_board_of_all_time_only(got: Stores) -> None:
    change(got, an_effort("gym", "ann", 1_000, ordinal=7, version=70, start_us=NOW_US - 24 * 30 * HOUR_US))
    with client_of(got, ApiOptions("gym")) as http:
        assert order(await http.get(BOARD))[0] == (1, "ann")
        assert all(line["elapsed_ms"] != 1_000 for line in (await http.get(f"{BOARD}?period=week")).json()["lines"])


async def test_pages_join_without_gap_or_repeat(got: Stores) -> None:
    change(got, *[an_effort("gym", f"r{i:03}", 300_000 + i // 3, version=80) for i in range(100)])
    with client_of(got, ApiOptions("gym")) as http:
        whole = [line["athlete"] for line in (await http.get(f"{BOARD}?limit=1000")).json()["lines"]]
        paged: list[str] = []
        cursor = ""
        while True:
            page = (await http.get(BOARD, params={"limit": 7, "cursor": cursor})).json()
            paged += [line["athlete"] for line in page["lines"]]
            if page["next_cursor"] is None:
                break
            cursor = page["next_cursor"]
        assert paged == whole
        assert len(whole) == 103
        around = (await http.get(f"{BOARD}/around/r050?k=3")).json()["lines"]
        at = whole.index("r050")
        assert [line["athlete"] for line in around] == whole[at - 3 : at + 4]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("sex=w", "no sex 'w'"),
        ("age=7", "no age class"),
        ("period=decade", "no period"),
        ("weight=7", "no weight class"),
        ("club=The%20Club", "no club"),
        ("zone=Mars", "time zone"),
        ("limit=0", "limit 0"),
        ("limit=many", "limit 'many'"),
        ("cursor=zzz", "cursor"),
        ("colour=red", "'colour'"),
    ],
)
async def test_what_cannot_be_asked_says_why(query: str, says: str, got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.get(f"{BOARD}?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert says in answer.json()["detail"]
        assert answer.json()["cure"]


async def test_the_short_way_answers_like_the_route(got: Stores) -> None:
    app = create_app(got.services, ApiOptions("gym"))
    slow = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    quick = httpx.AsyncClient(transport=httpx.ASGITransport(Front(app)), base_url="http://localhost")
    for path, headers in (
        (BOARD, {}),
        (f"{BOARD}?sex=f", {"If-None-Match": "*"}),
        (f"{BOARD}?sex=q", {}),
        (f"{PREFIX}/segments/nothing/board", {}),
        (BOARD, {"Host": "evil.example"}),
        (BOARD, {"Authorization": "Bearer nothing"}),
        (f"{PREFIX}/segments/hill/board/around/ann", {}),
    ):
        one, other = await slow.get(path, headers=headers), await quick.get(path, headers=headers)
        assert (one.status_code, one.content) == (other.status_code, other.content)
        assert {k: v for k, v in one.headers.items() if k != "content-length"} == {
            k: v for k, v in other.headers.items() if k != "content-length"
        }
    close_app(app)


async def test_a_body_is_built_once_for_all_who_wait(got: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(got.services, ApiOptions("gym"))
    boards = app.state.parts.boards
    built: list[object] = []
    made = boards._made
    monkeypatch.setattr(boards, "_made", lambda *args: (built.append(args), made(*args))[1])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Front(app)), base_url="http://localhost") as http:
        await asyncio.gather(*(http.get(BOARD) for _ in range(50)))
        await http.get(BOARD)
        assert len(built) == 1
        change(got, an_effort("gym", "ann", 1, ident="flat", version=99))
        await http.get(BOARD)
        assert len(built) == 1  # somebody committed, but nothing of this board
        change(got, an_effort("gym", "ann", 1, version=100))
        await http.get(BOARD)
        assert len(built) == 2
    close_app(app)


@pytest.mark.parametrize(
    ("header", "does"), [(b'"a"', True), (b'W/"a"', True), (b'"b", "a"', True), (b"*", True), (b'"b"', False), (b"a", False)]
)
def test_if_none_match(header: bytes, does: bool) -> None:
    assert matches(header, b'"a"') is does
