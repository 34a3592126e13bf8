"""Reads of a segment's board: answered from memory while nothing changed, and with 304 when the reader has that already.

The version of a body is that of the board and of the reference data (names, sex, age); with the view and the role it makes the ETag.
Whether it still holds is two index look-ups after a commit, and a few us otherwise. A body is built once however many wait for it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from typing import Final, Literal, NamedTuple, cast
from urllib.parse import parse_qsl

from broker.errors import BadInputError
from broker.reference import SegmentRef
from processors.api import models
from processors.api.access import Viewer
from processors.api.problems import RefusedError, not_found
from processors.api.tokens import Access, Role
from processors.board_views import Period, Sex, View
from processors.directory import alias_of
from processors.reads import Reads
from processors.results_db import board_version
from processors.segment_board import BoardPage, BoardRow, SegmentBoard
from processors.stores import ReadStore

MAX_BODIES: Final = 2_048
DEFAULT_LINES: Final = 50
KNOWN: Final = (
    "sex",
    "age",
    "weight",
    "club",
    "following",
    "period",
    "zone",
    "limit",
    "cursor",
    "as",
    "token",
)  # the last two say who asks
_JSON: Final = (b"content-type", b"application/json")
_REVALIDATE: Final = (b"cache-control", b"private, no-cache")
_PROCESS: Final = alias_of("")  # aliases are of this process: so are the bodies that hold them
FOREVER_US: Final = 1 << 62

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
_Name = tuple[str, Role, str, bytes]  # tenant, role, segment, query


class Versions(NamedTuple):
    """What a body depends on."""

    board: int
    reference: int


class Asked(NamedTuple):
    """What a query asks for."""

    view: View
    limit: int
    cursor: str | None


@dataclass(slots=True)
class _Held:
    versions: Versions
    until_us: int
    stamp: int
    etag: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]]


class BoardReads:
    """Of one event loop."""

    def __init__(self, reads: Reads, zone: str, clock_us: Callable[[], int]) -> None:
        self._reads = reads
        self._zone = zone
        self._clock_us = clock_us
        self._watch = ReadStore(reads.state)
        self._bodies: OrderedDict[_Name, _Held] = OrderedDict()
        self._building: dict[_Name, asyncio.Task[_Held]] = {}

    def close(self) -> None:
        self._watch.close()

    async def answer(self, access: Access, segment: str, query: bytes, if_none_match: bytes) -> Answer:
        """Status, headers and body. RefusedError (404) without such a segment, BadInputError for what cannot be asked."""
        if b"token=" in query or b"as=" in query:
            query = b"&".join(part for part in query.split(b"&") if not part.startswith((b"token=", b"as=")))
        name = (access.tenant, access.role, segment, query)
        held = self._bodies.get(name)
        if held is None or not self._holds(held, name):
            held = await self._built(name)
        if if_none_match and (if_none_match == held.etag or matches(if_none_match, held.etag)):
            return HTTPStatus.NOT_MODIFIED, held.headers[:2], b""
        return HTTPStatus.OK, held.headers, held.body

    def _holds(self, held: _Held, name: _Name) -> bool:
        if self._clock_us() >= held.until_us:
            return False
        stamp = self._watch.stamp()
        if stamp != held.stamp:
            if versions_of(self._watch, name[0], name[2]) != held.versions:
                return False
            held.stamp = stamp
        return True

    async def _built(self, name: _Name) -> _Held:
        """The body, made once for all who wait for it now."""
        task = self._building.get(name)
        if task is None:
            task = self._building[name] = asyncio.create_task(self._build(name))
            task.add_done_callback(lambda done: self._end(name, done))
        return await asyncio.shield(task)

    def _end(self, name: _Name, done: asyncio.Task[_Held]) -> None:
        del self._building[name]
        if not done.cancelled():
            done.exception()  # who waits gets it; nobody may be waiting any more

    async def _build(self, name: _Name) -> _Held:
        stamp = self._watch.stamp()
        held = await self._reads.run(lambda store: self._made(store, name, stamp))
        self._bodies[name] = held
        self._bodies.move_to_end(name)
        if len(self._bodies) > MAX_BODIES:
            self._bodies.popitem(last=False)
        return held

    def _made(self, store: ReadStore, name: _Name, stamp: int) -> _Held:
        tenant, role, segment, query = name
        asked = asked_for(query, self._clock_us(), self._zone, tenant)
        versions = versions_of(store, tenant, segment)  # before reading: what is built is at least as new
        viewer = Viewer(Access(tenant, role), self._reads.directory.of(tenant))
        page = board_page(self._reads, viewer, segment, asked)
        view = repr((tenant, role, segment, asked, _PROCESS if role == "screen" else ""))
        etag = f'"{versions.board}-{versions.reference}-{blake2b(view.encode(), digest_size=6).hexdigest()}"'.encode()
        body = page.model_dump_json().encode()
        headers = [(b"etag", etag), _REVALIDATE, _JSON, (b"content-length", b"%d" % len(body))]
        return _Held(versions, asked.view.window_us[1], stamp, etag, body, headers)


def versions_of(store: ReadStore, tenant: str, segment: str) -> Versions:
    """The versions of a board and of the reference data of its tenant."""
    query = "SELECT coalesce(max(version), 0) FROM reference WHERE tenant=?"
    return Versions(board_version(store.db, tenant, segment), store.db.execute(query, (tenant,)).fetchone()[0])


def matches(if_none_match: bytes, etag: bytes) -> bool:
    """Whether one of the listed tags (weak or strong, or *) is `etag` (RFC 9110, 13.1.2)."""
    return any(tag.strip().removeprefix(b"W/") in {etag, b"*"} for tag in if_none_match.split(b","))


def asked_for(query: bytes, now_us: int, zone: str, tenant: str) -> Asked:
    """The view and page of a query string. BadInputError names the parameter."""
    given: dict[str, str] = {}
    for key, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if key not in KNOWN:
            raise BadInputError(f"a board cannot be asked for {key!r}", cure=f"use {', '.join(KNOWN[:-2])}")
        if value:
            given[key] = value
    try:
        limit = int(given.get("limit", str(DEFAULT_LINES)))
    except ValueError as error:
        raise BadInputError(f"limit {given['limit']!r} is no number", cure="ask for 1-1000 lines a page") from error
    view = View.at(
        now_us,
        given.get("zone", zone),
        sex=cast("Sex | None", given.get("sex")),  # View refuses what is none
        age_class=_class(given.get("age")),
        weight_class=_class(given.get("weight")),
        club=given.get("club"),
        following=f"{tenant}/{given['following']}" if "following" in given else None,
        period=cast("Period", given.get("period", "all")),
    )
    return Asked(view, limit, given.get("cursor"))


def _class(given: str | None) -> str | None:
    return None if given is None else given.replace(" ", "+")  # an unescaped + reads as a blank


def segment_of(viewer: Viewer, segment: str) -> SegmentRef:
    """A segment that stands. RefusedError (404) when there is none."""
    found = viewer.known.segment(segment)
    if found is None:
        raise not_found(f"segment {segment!r}", "GET /api/v1/segments lists them")
    return found


def board_page(reads: Reads, viewer: Viewer, segment: str, asked: Asked) -> models.BoardPage:
    """A page of a board as this viewer may see it."""
    found = segment_of(viewer, segment)
    _check_may_ask(viewer, asked.view)
    with reads.boards.board(viewer.tenant, segment) as board:
        return _page(viewer, found, asked.view, board, board.top(asked.view, asked.limit, asked.cursor))


def board_around(reads: Reads, viewer: Viewer, segment: str, athlete: str, asked: Asked, k: int) -> models.BoardPage:
    """The lines around an athlete; none when he or she is not on that view."""
    subject = viewer.subject_of(athlete)
    found = segment_of(viewer, segment)
    _check_may_ask(viewer, asked.view)
    with reads.boards.board(viewer.tenant, segment) as board:
        page = BoardPage(board.around(asked.view, subject, k), None, board.size(asked.view))
        return _page(viewer, found, asked.view, board, page)


def _check_may_ask(viewer: Viewer, view: View) -> None:
    if view.following is not None and not viewer.staff:
        raise RefusedError(
            HTTPStatus.FORBIDDEN, "whom somebody follows is not for a screen", "ask without `following`, or with a staff token"
        )


def _page(viewer: Viewer, segment: SegmentRef, view: View, board: SegmentBoard, page: BoardPage) -> models.BoardPage:
    return models.BoardPage(
        segment=segment.id,
        segment_name=segment.name,
        version=board.version,
        sex=view.sex,
        age=view.age_class,
        weight=view.weight_class,
        club=view.club,
        following=None if view.following is None else viewer.athlete_of(view.following),
        period=view.period,
        total=page.size,
        efforts=board.efforts(view),
        percentiles_ms=list(board.percentiles_ms(view)),
        lines=[line_of(viewer, row) for row in page.rows],
        next_cursor=page.cursor,
    )


def line_of(viewer: Viewer, row: BoardRow) -> models.BoardLine:
    """One line as this viewer may see it."""
    e = row.effort
    return models.BoardLine(
        rank=row.rank,
        athlete=viewer.athlete_of(e.subject),
        name=viewer.name_of(e.subject),
        elapsed_ms=e.elapsed_ms,
        gap_ms=row.gap_leader_ms,
        start_us=e.start_us,
        activity=e.activity,
        effort=e.id,
        phase=phase_of(e.phase),
        hr_avg_bpm=e.hr_avg_bpm,
        power_avg_w=e.power_avg_w,
    )


def phase_of(phase: int) -> Literal["provisional", "settled", "final"]:
    """The word for a phase."""
    words: tuple[Literal["provisional", "settled", "final"], ...] = ("provisional", "settled", "final")
    return words[phase]
