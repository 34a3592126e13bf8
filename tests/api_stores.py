"""Real stores filled for tests of the API: tenants with athletes, segments, efforts, activities, live rows, attempts and events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from broker.commands import Command, CommandState, Notice, NoticeEvent, NoticeReason, Reply
from broker.frames import Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.logrecord import Kind, LogRecord
from broker.nodeconfig import DeviceCount, NodeState
from broker.reference import AthleteRef, BindingRef, MergeRef, Reference, RulingRef, SegmentRef
from processors import live_kernel as k
from processors import results_db
from processors.api import ApiOptions, Services, create_app
from processors.api.app import close_app
from processors.api.opening import open_services
from processors.equipment import EquipmentDesk
from processors.live_row import PLACE, pair
from processors.live_state import Matching
from processors.log import SqliteLog
from processors.matcher import Fixes, advance
from processors.results import Effort, FinalTrack, Lap, Phase, Summary, activity_id, effort_id
from processors.segments import SegmentIndex
from processors.state_db import StateDb

NOW_US = 1_790_000_000_000_000
"""When every API of these tests begins; its clock runs from there, however long other tests took before."""
HOUR_US = 3_600_000_000
LINE = tuple((480000000 + i * 1000, 110000000) for i in range(61))  # 667 m northwards
MOTION = layout_named("motion.1")


def clock_from_now() -> Callable[[], int]:
    """A clock that shows NOW_US now."""
    began_ns = time.monotonic_ns()
    return lambda: NOW_US + (time.monotonic_ns() - began_ns) // 1000


def segment(tenant: str, ident: str = "hill", name: str = "") -> SegmentRef:
    return SegmentRef(tenant=tenant, id=ident, name=name or f"{ident} of {tenant}", points=LINE)


def an_effort(
    tenant: str, athlete: str, elapsed_ms: int, *, ident: str = "hill", ordinal: int = 0, version: int = 10, start_us: int = 0
) -> Effort:
    subject = f"{tenant}/{athlete}"
    start_us = start_us or NOW_US - HOUR_US
    activity = activity_id(subject, NOW_US - 2 * HOUR_US)
    curve = tuple(elapsed_ms * i // 64 for i in range(1, 65))
    return Effort(
        effort_id(activity, ident, ordinal), tenant, ident, subject, activity, ordinal, start_us, elapsed_ms, Phase.FINAL, 300, 150, None, curve, version
    )  # fmt: skip


def live_row(subject: str, distance_m: float, hr_bpm: int = 150) -> tuple[str, str, bytes]:
    row = k.fresh_row()
    row[k.START], row[k.LAST_T], row[k.APPENDED] = NOW_US - HOUR_US, NOW_US, NOW_US
    row[k.HR], row[k.HR_T], row[k.DIST_UM], row[k.SPEED] = hr_bpm, NOW_US, round(distance_m * 1e6), 321
    row[PLACE], row[k.POINTS], row[k.MOVING_US] = pair(480000000, 110000000), 60_000_000 * 12, 600_000_000
    return "live", subject, np.asarray(row).tobytes()


def under_way(ref: SegmentRef) -> bytes:
    """The matcher state of somebody 300 m up the hill after 100 s."""
    index = SegmentIndex.build([ref])
    state = Matching(NOW_US - HOUR_US)
    t_us = [NOW_US - 110_000_000 + i * 1_000_000 for i in range(110)]
    lat = [480000000 - 3000 + i * 270 for i in range(110)]
    advance(state.attempts, index, Fixes.of(t_us, lat, [110000000] * 110, [300] * 110))
    return state.encode()


def references_of(tenant: str) -> list[Reference]:
    return [
        AthleteRef(tenant=tenant, id="ann", name=f"Ann of {tenant}", sex="f", birth_year=1990, hr_max_bpm=180),
        AthleteRef(tenant=tenant, id="hidden.person", name=f"Secret of {tenant}", show="no", sex="m"),
        AthleteRef(tenant=tenant, id="nicolas", name=f"Nicolas of {tenant}", show="nickname", nickname=f"Nick-{tenant}"),
        segment(tenant),
        segment(tenant, "flat"),
        BindingRef(tenant=tenant, id="b1", node="box", device="strap1", athlete="ann"),
        *(
            RulingRef(tenant=tenant, id=of, why=f"looked at in {tenant}")
            for of in (an_effort(tenant, "ann", 1).id, an_effort(tenant, "ann", 1).activity)
        ),
        MergeRef(tenant=tenant, id="old.ann", into="ann"),
    ]


def fill(state: StateDb, tenant: str) -> None:
    """Everything a tenant can have."""
    db = state.db
    db.execute("BEGIN")
    for position, value in enumerate(references_of(tenant), start=1):
        results_db.put_reference(db, value, position)
    for athlete, elapsed_ms in (("ann", 200_000), ("hidden.person", 190_000), ("nicolas", 210_000)):
        results_db.put_effort(db, an_effort(tenant, athlete, elapsed_ms))
        add_activity(state, tenant, athlete, NOW_US - 2 * HOUR_US)
    db.executemany(
        "INSERT INTO state (stage, key, row) VALUES (?,?,?)",
        [
            live_row(f"{tenant}/ann", 4000), live_row(f"{tenant}/hidden.person", 5000),
            live_row(f"{tenant}/nicolas", 3000), live_row(f"{tenant}/@box/strap9", 2000),
        ],
    )  # fmt: skip
    results_db.put_attempts(db, [(f"{tenant}/ann", under_way(segment(tenant))), (f"{tenant}/hidden.person", under_way(segment(tenant)))])
    numbering = "INSERT INTO numbering (subject, origin, boot, node, device, frames, missing) VALUES (?,?,?,?,?,?,?)"
    db.execute(numbering, (f"{tenant}/ann", f"{tenant}/box/strap1", "01", "box", "strap1", 40, 0))
    db.execute(numbering, (f"{tenant}/@box/strap9", f"{tenant}/box/strap9", "01", "box", "strap9", 20, 1))
    board = {
        "board": f"{tenant}/hill",
        "segment": "hill",
        "top": [{"rank": 1, "subject": f"{tenant}/hidden.person", "elapsed_ms": 190_000}],
    }
    change = {"subject": f"{tenant}/hidden.person", "rank_before": None, "rank_after": 1}
    body = json.dumps({"data": {**board, "change": change}}).encode()
    kind = "paceline.social.board.changed.v1"
    results_db.put_events(db, [(f"event-{tenant}", kind, "paceline.social.board.v1", f"{tenant}/hill", tenant, NOW_US, body)])
    db.execute("COMMIT")


def add_activity(state: StateDb, tenant: str, athlete: str, start_us: int, version: int = 10) -> str:
    subject = f"{tenant}/{athlete}"
    ident = activity_id(subject, start_us)
    lap = Lap(start_us, 1_000_000, 100_000, 140, None)
    summary = Summary(
        ident, subject, start_us, start_us + 3_000_000_000, "run", 1_000_000, 3_000_000, 2_900_000, 12_300, 140, 170, None, 45_000,
        (1, 2, 3, 4, 5), (lap,), (480000000, 110000000, 480060000, 110000000), (f"{tenant}/box/strap1",), 3000,
    )  # fmt: skip
    n = 500
    track = FinalTrack(
        tuple(i * 1000 for i in range(n)), tuple(480000000 + i * 100 for i in range(n)), (110000000,) * n, (5200,) * (n - 1) + (-32768,),
        (140,) * n, (-1,) * n, tuple(i * 11 for i in range(n)),
    )  # fmt: skip
    results_db.put_final(state.db, results_db.FinalRow(summary, start_us, version), track)
    return ident


@dataclass(frozen=True, slots=True)
class Stores:
    """An API over real stores, asked without a socket."""

    services: Services
    state: StateDb
    log: SqliteLog
    folder: Path


def nodes(*tenants: str) -> dict[tuple[str, str], NodeState]:
    counts = (DeviceCount(device="strap1", taken=42, stored=40), DeviceCount(device="strap9", taken=20, stored=20))
    return {(tenant, "box"): NodeState(online=True, spool_rows=2, hours_left=50.0, devices=counts) for tenant in tenants}


@contextmanager
def stores(folder: Path, *tenants: str) -> Generator[Stores]:
    state = StateDb(folder / "state.db")
    for tenant in tenants:
        fill(state, tenant)
    said = nodes(*tenants)
    desk = EquipmentDesk(folder / "equipment.db")
    for tenant in tenants:
        commanded(desk, tenant)
    with (
        SqliteLog.open(folder / "log.db") as log,
        open_services(
            log,
            folder / "state.db",
            folder / "nodes",
            tenants[0],
            nodes=lambda: said,
            latency=lambda: {"p50": 1.0, "p95": 2.0, "p99": 3.0},
            clock_us=clock_from_now(),
            desk=desk,
        ) as services,
    ):
        yield Stores(services, state, log, folder)
    desk.close()
    state.close()


def commanded(desk: EquipmentDesk, tenant: str) -> None:
    """A command of Ann's trainer, answered, and a notice of it."""
    made = {"id": "command-1", "device": "strap1", "athlete": "ann", "expires_us": NOW_US + 60_000_000, "order": {"action": "stop"}}
    desk.send(tenant, "box", Command.model_validate(made), NOW_US)
    done = Reply(id="command-1", device="strap1", state=CommandState.DONE, detail=f"answered in {tenant}", at_us=NOW_US)
    desk.answered(tenant, "box", done, NOW_US + 1)
    stopped = Notice(device="strap1", athlete="ann", event=NoticeEvent.STOPPED, reason=NoticeReason.SHUTDOWN, detail=f"told in {tenant}")
    desk.answered(tenant, "box", stopped, NOW_US + 2)


class _Transport(httpx.ASGITransport):
    """An event stream is answered with its first events; then the reader leaves."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/live/stream"):
            return await super().handle_async_request(request)
        status, said, body, gone, asked = (
            0,
            list[tuple[bytes, bytes]](),
            b"",
            asyncio.Event(),
            iter([{"type": "http.request", "body": b"", "more_body": False}]),
        )

        async def receive() -> dict[str, Any]:
            for message in asked:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status, said, body
            status, said = message.get("status", status), message.get("headers", said)
            body += message.get("body", b"")
            if b"data: " in body:
                gone.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method, "scheme": "http", "path": request.url.path,
            "raw_path": request.url.raw_path, "query_string": request.url.query, "root_path": "", "client": ("127.0.0.1", 9),
            "server": (request.url.host, request.url.port), "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }  # fmt: skip
        await asyncio.wait_for(self.app(scope, receive, send), 30)
        return httpx.Response(status, headers=[one for one in said if one[0] != b"content-length"], content=body)


@contextmanager
def client_of(got: Stores, options: ApiOptions, asked_as: str = "127.0.0.1:8800") -> Generator[httpx.AsyncClient]:
    app = create_app(got.services, options)
    try:
        yield httpx.AsyncClient(transport=_Transport(app), base_url=f"http://{asked_as}")
    finally:
        close_app(app)


def apply_references(got: Stores) -> None:
    """What the runner does with REFERENCE records, for tests without one."""
    from broker.reference import decode_reference

    first, records = got.log.read(0, 10_000)
    got.state.db.execute("BEGIN")
    for position, record in enumerate(records, start=first):
        if record.kind == Kind.REFERENCE:
            results_db.put_reference(got.state.db, decode_reference(record.body), 1000 + position)
    got.state.db.execute("COMMIT")


def frame_record(tenant: str, athlete: str, seq: int) -> LogRecord:
    records = MOTION.pack({"tick_ms": 0, "lat": 48.0, "lon": 11.0, "hr_bpm": 140})
    frame = Frame(MOTION.id, 0, "strap1", 7, seq, seq * 1_000_000, NOW_US, Clock.NETWORK, f"{tenant}/{athlete}", records)
    return LogRecord(Kind.FRAME, f"{tenant}/{athlete}", tenant, "box", NOW_US, encode_frame(frame))
