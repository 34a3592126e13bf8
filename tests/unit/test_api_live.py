"""The live view: one snapshot for all readers of a tenant, the latest for each, what a screen sees, and streams that end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import StoreError
from processors.api import live
from processors.api.live import EventStream, Latest
from processors.api.live_models import LiveState
from processors.board_moves import KEPT, BoardMoves
from processors.directory import alias_of
from processors.results_db import put_events
from processors.snapshot import for_screens
from processors.stores import ReadStore
from tests.api_stores import NOW_US, stores


class Counting:
    """A view whose snapshot says how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken: Exception | None = None

    def snapshot(self, tenant: str) -> dict[str, Any]:
        if self.broken:
            raise self.broken
        self.asked += 1
        return {"tenant": tenant, "asked": self.asked, "t_us": 1}


def masked(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "screen": True}


async def test_readers_share_a_snapshot() -> None:
    view = Counting()
    latest = Latest(view, "gym", masked)
    bodies = {body for _, body in await asyncio.gather(*(latest.get("staff") for _ in range(100)))}
    assert bodies == {b'{"tenant":"gym","asked":1,"t_us":1}'}
    assert view.asked == 1


async def test_each_role_gets_its_own_body() -> None:
    latest = Latest(Counting(), "gym", masked)
    assert "screen" not in json.loads((await latest.get("staff"))[1])
    assert json.loads((await latest.get("screen"))[1])["screen"] is True
    assert "screen" not in json.loads((await latest.get("staff"))[1])


class Connection:
    """An ASGI connection that takes messages only while `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.gone = asyncio.Event()
        self.events: list[dict[str, Any]] = []
        self.ended = False

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.open.wait()
        if message["type"] == "http.response.body":
            if message["body"].startswith(b"id:"):
                self.events.append(json.loads(message["body"].split(b"data: ")[1]))
            self.ended = not message["more_body"]


def streaming(latest: Latest, at: Connection, cut: list[object], allowed: Any = lambda: True) -> asyncio.Task[None]:
    answer = EventStream(latest, "staff", allowed, cut.append)
    return asyncio.create_task(answer({"client": "someone"}, at.receive, at.send))


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_slow_reader_skips_forward_and_a_stop_ends_the_stream() -> None:
    latest = Latest(Counting(), "gym", masked)
    quick, slow = Connection(), Connection()
    tasks = [streaming(latest, one, []) for one in (quick, slow)]
    await until(lambda: slow.events)
    slow.open.clear()
    had = len(slow.events)
    await until(lambda: len(quick.events) >= had + 5)
    slow.open.set()
    await until(lambda: len(slow.events) >= had + 2)
    skipped = [b["asked"] - a["asked"] for a, b in zip(slow.events, slow.events[1:], strict=False)]
    assert max(skipped) >= 3
    latest.close()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert quick.ended
    assert slow.ended


async def test_reader_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STUCK_S", 0.3)
    latest = Latest(Counting(), "gym", masked)
    stuck, well = Connection(), Connection()
    cut: list[object] = []
    task, other = streaming(latest, stuck, cut), streaming(latest, well, [])
    await until(lambda: stuck.events)
    stuck.open.clear()
    await asyncio.wait_for(task, 60)
    assert cut == ["someone"]
    await until(lambda: well.events)
    well.gone.set()
    await asyncio.wait_for(other, 60)


async def test_nothing_is_taken_when_nobody_reads() -> None:
    view = Counting()
    latest = Latest(view, "gym", masked)
    reader = Connection()
    task = streaming(latest, reader, [])
    await until(lambda: reader.events)
    reader.gone.set()
    await asyncio.wait_for(task, 60)
    async with asyncio.timeout(60):
        asked = -1
        while view.asked != asked:  # a look may be under way when the last reader leaves
            asked = view.asked
            await asyncio.sleep(0.6)


async def test_stream_ends_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.2)
    valid = True
    reader = Connection()
    task = streaming(Latest(Counting(), "gym", masked), reader, [], lambda: valid)
    await until(lambda: reader.events)
    valid = False
    await asyncio.wait_for(task, 60)
    assert reader.ended


@pytest.mark.parametrize("broken", [StoreError("gone", cure="wait"), KeyError("athletes"), ZeroDivisionError()], ids=repr)
async def test_stream_outlives_whatever_fails_for_a_moment(broken: Exception, caplog: pytest.LogCaptureFixture) -> None:
    view = Counting()
    latest = Latest(view, "gym", masked)
    reader = Connection()
    task = streaming(latest, reader, [])
    await until(lambda: reader.events)
    view.broken = broken
    await until(lambda: "live view of gym" in caplog.text)
    view.broken = None
    had = len(reader.events)
    await until(lambda: len(reader.events) > had)
    latest.close()
    await asyncio.wait_for(task, 60)


def test_snapshot_is_what_the_models_say_for_both_roles(tmp_path: Path) -> None:
    with stores(tmp_path, "gym", "hall") as got:
        state = got.services.view.snapshot("gym")
        seen = LiveState.model_validate(state)
        assert set(state) == set(LiveState.model_fields)
        assert [(a.athlete, a.rank, a.zone, a.unknown) for a in seen.athletes] == [
            ("hidden.person", 1, 3, False), ("ann", 2, 4, False), ("nicolas", 3, 3, False), ("@box/strap9", 4, 3, True),
        ]  # fmt: skip
        assert (seen.athletes[3].node, seen.athletes[3].device) == ("box", "strap9")
        assert (
            seen.efforts,
            seen.events,
            got.services.view.snapshot("hall")["board_changes"],
            seen.activities,
            seen.frames_stored,
            seen.frames_sent,
        ) == (
            3,
            1,
            1,
            0,
            60,
            62,
        )
        assert (seen.devices_total, seen.devices_equal) == (2, 1)
        (move,) = seen.moves
        assert (move.name, move.rank, move.from_rank, move.segment_name) == ("Secret of gym", 1, None, "hill of gym")
        mine = next(a for a in seen.attempts if a.athlete == "ann")
        assert (mine.gap_leader_ms, mine.next_name, mine.next_rank) == (mine.gap_next_ms, "Secret of gym", 1)
        assert mine.gap_own_ms is not None
        assert mine.gap_leader_ms is not None
        assert mine.gap_own_ms < mine.gap_leader_ms  # her own best is slower than the leader's
        best_ms = 200_000
        so_far_ms = mine.elapsed_ms - mine.gap_own_ms  # of her best, at this metre
        assert mine.projected_ms == mine.elapsed_ms * best_ms // so_far_ms
        shown = for_screens(state, got.services.reads.directory.of("gym"))
        screen = LiveState.model_validate(shown)
        alias = alias_of("gym/hidden.person")
        assert (screen.athletes[0].subject, screen.athletes[0].name) == (f"gym/{alias}", "")
        assert screen.moves[0].athlete == alias
        assert next(a for a in screen.attempts if a.athlete == "ann").next_subject == f"gym/{alias}"
        assert "hidden" not in json.dumps(shown)


def test_moves_are_the_last_ones_of_the_tenant_latest_first(tmp_path: Path) -> None:
    def event(i: int, tenant: str) -> tuple[str, str, str, str, str, int, bytes]:
        change = {"subject": f"{tenant}/a{i}", "rank_before": None, "rank_after": 1}
        body = json.dumps({"data": {"segment": "hill", "top": [], "change": change}}).encode()
        return (f"{tenant}{i}", "paceline.social.board.changed.v1", "t", "k", tenant, NOW_US + i, body)

    with stores(tmp_path, "gym") as got:
        store = ReadStore(tmp_path / "state.db")
        moves = BoardMoves("hall")
        moves.follow(store)
        put_events(got.state.db, [event(i, tenant) for i in range(30) for tenant in ("hall", "gym")])
        moves.follow(store)
        assert [move.subject for move in moves.latest] == [f"hall/a{i}" for i in range(29, 29 - KEPT, -1)]
        late = BoardMoves("hall")
        late.follow(store)
        assert (list(late.latest), late.events, late.changes) == (list(moves.latest), 30, 30)
        store.close()
