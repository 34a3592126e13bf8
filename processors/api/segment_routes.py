"""Routes of segments: the list, one with its line, changes, boards, and who is on one now."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from broker.errors import BadInputError
from broker.ids import check_id
from broker.reference import SegmentRef
from device_profiles.errors import FileError
from device_profiles.files.routes import decode_routes
from processors.api import kinds, live_models, models
from processors.api.access import Viewer
from processors.api.activity_routes import whole_body
from processors.api.board_reads import DEFAULT_LINES, asked_for, board_around, segment_of
from processors.api.services import PartsOf, Reader, Staff, Viewing, applied, writer_of
from processors.attempts_view import racing
from processors.reads import Reads
from processors.segment_import import segments_given
from processors.segment_rules import segment_ref
from processors.snapshot import attempt_json, masked_attempts
from processors.stores import ReadStore

router = APIRouter(tags=["segments"])
LEGEND_US: Final = 90 * 86_400_000_000
MAX_IMPORT_BYTES: Final = 16 * 1024 * 1024
Best = tuple[int, int, int, str]
"""Efforts, athletes, the best time in ms, and whose it is."""


@router.get("/segments")
async def list_segments(parts: PartsOf, viewer: Viewing) -> models.SegmentList:
    """All segments, by name."""
    return await parts.reads.run(lambda store: _listed(store, viewer))


def _listed(store: ReadStore, viewer: Viewer) -> models.SegmentList:
    bests = bests_of(store, viewer.tenant)
    standing = [s for s in viewer.known.segments.values() if not s.removed]
    lines = [models.SegmentLine(**_line(viewer, s, bests.get(s.id))) for s in standing]
    return models.SegmentList(segments=sorted(lines, key=lambda s: (s.name.lower(), s.id)))


def bests_of(store: ReadStore, tenant: str, segment: str | None = None) -> dict[str, Best]:
    """How many efforts stand on each segment of a tenant, of how many athletes, and the best. Devices nobody knows do not count."""
    where, of = ("", ()) if segment is None else ("AND segment=?", (segment,))
    query = (
        "SELECT segment, count(*), count(DISTINCT subject), min(elapsed_ms), subject FROM effort "
        f"WHERE tenant=? {where} AND stands=1 AND subject NOT LIKE '%/@%' GROUP BY segment"
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in store.db.execute(query, (tenant, *of))}


def _line(viewer: Viewer, s: SegmentRef, best: Best | None) -> dict[str, Any]:
    efforts, athletes, leader_ms, leader = best or (0, 0, None, "")
    return {
        "id": s.id, "name": s.name, "sport": s.sport, "length_m": round(viewer.known.index.segments[s.id].length_m, 2),
        "start": _degrees(s.points[0]), "end": _degrees(s.points[-1]), "efforts": efforts, "athletes": athletes,
        "leader_name": viewer.name_of(leader) if leader else None, "leader_ms": leader_ms,
    }  # fmt: skip


def _degrees(point: tuple[int, int]) -> tuple[float, float]:
    return point[0] / 1e7, point[1] / 1e7


@router.get("/segments/{ident}")
async def get_segment(parts: PartsOf, viewer: Viewing, ident: str) -> models.SegmentDetail:
    """One segment with its line."""
    s = segment_of(viewer, ident)
    bests = await parts.reads.run(lambda store: bests_of(store, viewer.tenant, ident))
    legend = await parts.reads.run(lambda _store: legend_of(parts.reads, viewer, ident, parts.services.clock_us()))
    return models.SegmentDetail(**_line(viewer, s, bests.get(ident)), points=[_degrees(point) for point in s.points], legend=legend)


def legend_of(reads: Reads, viewer: Viewer, segment: str, now_us: int) -> models.LocalLegend | None:
    """The local legend of a segment at an instant."""
    with reads.boards.board(viewer.tenant, segment) as board:
        found = board.most_efforts(now_us - LEGEND_US, now_us + 1)
    if found is None:
        return None
    subject, efforts = found
    return models.LocalLegend(athlete=viewer.athlete_of(subject), name=viewer.name_of(subject), efforts=efforts)


@router.put("/segments/{ident}")
async def put_segment(parts: PartsOf, viewer: Staff, ident: str, body: models.SegmentPut) -> models.Written:
    """Make or change a segment. What cannot be matched is refused with the reason."""
    check_id(ident, "segment")
    ref = await asyncio.to_thread(segment_ref, viewer.tenant, ident, body.name, body.sport, body.points)
    position = await asyncio.to_thread(writer_of(parts).put, ref)
    return models.Written(id=ident, position=position, applied=await applied(parts, viewer.tenant, position))


@router.delete("/segments/{ident}")
async def delete_segment(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """Remove a segment with its board; putting it again brings the efforts back."""
    ref = segment_of(viewer, ident).model_copy(update={"removed": True})
    position = await asyncio.to_thread(writer_of(parts).put, ref)
    return models.Written(id=ident, position=position, applied=await applied(parts, viewer.tenant, position))


@router.get(
    "/segments/{ident}/board",
    response_model=models.BoardPage,
    responses={304: {"description": "The reader has this version (If-None-Match)."}},
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in (
                ("sex", {"enum": ["f", "m", "x"]}),
                ("age", {"type": "string", "description": "age class such as 25-34"}),
                ("weight", {"type": "string", "description": "weight class such as 65-74"}),
                ("club", {"type": "string", "description": "members of a club only"}),
                ("following", {"type": "string", "description": "an athlete and whom he or she follows; staff only"}),
                ("period", {"enum": ["all", "year", "month", "week", "today"], "default": "all"}),
                ("zone", {"type": "string", "description": "IANA time zone of the period"}),
                ("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": DEFAULT_LINES}),
                ("cursor", {"type": "string", "description": "next_cursor of the page before"}),
            )
        ]
    },
)
async def get_board(parts: PartsOf, access: Reader, request: Request, ident: str) -> Response:
    """A page of a segment's board, with an ETag."""
    given = request.headers.get("if-none-match", "").encode("latin-1")
    status, headers, body = await parts.boards.answer(access, ident, request.scope["query_string"], given)
    answer = Response(body, status)
    answer.raw_headers = headers
    return answer


@router.get("/segments/{ident}/board/around/{athlete}")
async def get_around(
    parts: PartsOf,
    viewer: Viewing,
    request: Request,
    ident: str,
    athlete: str,
    k: Annotated[int, Query(ge=0, le=500)] = 2,
    sex: kinds.Sex | None = None,
    age: str | None = None,
    weight: str | None = None,
    club: str | None = None,
    following: str | None = None,
    period: kinds.Period = "all",
    zone: str | None = None,
) -> models.BoardPage:
    """The line of an athlete with `k` above and below it; no lines when he or she is not on that view."""
    del sex, age, weight, club, following, period, zone  # as for the board
    query = "&".join(part for part in request.url.query.split("&") if not part.startswith("k="))
    asked = asked_for(query.encode(), parts.services.clock_us(), parts.options.zone, viewer.tenant)
    return await parts.reads.run(lambda _store: board_around(parts.reads, viewer, ident, athlete, asked, k))


@router.get("/segments/{ident}/live")
async def get_segment_live(parts: PartsOf, viewer: Viewing, ident: str) -> models.SegmentLive:
    """Who is on a segment now, the furthest first."""
    segment_of(viewer, ident)
    now_us = parts.services.clock_us()

    def read(store: ReadStore) -> list[dict[str, Any]]:
        found = [attempt_json(viewer.known, r) for r in racing(store, viewer.known, parts.reads.boards, now_us, ident)]
        return found if viewer.staff else masked_attempts(found, viewer.known)

    found = await parts.reads.run(read)
    return models.SegmentLive(segment=ident, t_us=now_us, attempts=[live_models.LiveAttempt(**one) for one in found])


@router.post("/segments/import", status_code=201)
async def import_segments(
    parts: PartsOf,
    viewer: Staff,
    request: Request,
    name: Annotated[str, Query(max_length=80)] = "",
    sport: kinds.Sport = "any",
) -> models.SegmentsImported:
    """Make a segment of each line in a GPX, GeoJSON, FIT or TCX file or a text of encoded polylines (the body as it is): all or none.

    `name` is for a line that has none. Ids are made from the names; a line that is a segment already stays that segment.
    """
    raw = await whole_body(request, MAX_IMPORT_BYTES)
    given = await asyncio.to_thread(imported, viewer, raw, name, sport)
    positions = {ref.id: viewer.known.version for ref, _ in given}
    new = {ref.id: ref for ref, known in given if not known}
    done = True
    if new:
        last = await asyncio.to_thread(writer_of(parts).put_all, list(new.values()))
        done = await applied(parts, viewer.tenant, last)
        positions |= {ident: last - len(new) + 1 + i for i, ident in enumerate(new)}
    written = [models.Written(id=ref.id, position=positions[ref.id], applied=done) for ref, _ in given]
    return models.SegmentsImported(segments=written)


def imported(viewer: Viewer, raw: bytes, name: str, sport: str) -> list[tuple[SegmentRef, bool]]:
    """The checked segments of a file, and whether each stands already. BadInputError with reason and cure for the first that may not."""
    try:
        routes = decode_routes(raw, "the file", max_bytes=MAX_IMPORT_BYTES)
    except FileError as error:
        raise BadInputError(str(error.detail), cure=error.cure) from error
    refs: list[tuple[SegmentRef, bool]] = []
    for given in segments_given(viewer.tenant, [(r.name or name, r.points) for r in routes], viewer.known.segments.values(), sport):
        if given.ref is None:
            raise given.refusal or BadInputError("a line of the file is no segment")
        refs.append((given.ref, given.known))
    return refs
