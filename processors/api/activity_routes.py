"""Routes of activities: the list, one with its laps and efforts, its line, and uploads."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request

from broker.frames import MAX_TIME_US
from processors.api import models
from processors.api.access import Viewer
from processors.api.board_reads import phase_of
from processors.api.problems import RefusedError, not_found
from processors.api.services import PartsOf, Staff, Viewing
from processors.live_kernel import NO_POS
from processors.plausibility import WORDS
from processors.reads import Reads
from processors.results import Effort, FinalTrack, Summary
from processors.results_db import FinalRow, awards_of, efforts_of_activity, final, final_track, finals, finals_of_tenant
from processors.segment_board import OVERALL, SegmentBoard
from processors.snapshot import local, segment_name
from processors.stores import ReadStore

router = APIRouter(tags=["activities"])
MAX_UPLOAD_BYTES: Final = 64 * 1024 * 1024
ABSENT_ALTITUDE: Final = -32768
_CURE: Final = "GET /api/v1/activities lists them"


@router.get("/activities")
async def list_activities(
    parts: PartsOf,
    viewer: Viewing,
    athlete: str | None = None,
    before: int | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> models.ActivityPage:
    """Finished activities (of an athlete), the latest first, that start before a time (UTC microseconds)."""
    subject = None if athlete is None else viewer.subject_of(athlete)
    rows = await parts.reads.run(lambda store: _page(store, viewer, subject, before, limit + 1))
    page = rows[:limit]
    # who starts in the same instant belongs to the same page: `before` could not tell them apart
    page += [row for row in rows[limit:] if row.summary.start_us == page[-1].summary.start_us]
    more = len(page) < len(rows)
    return models.ActivityPage(
        activities=[models.ActivityLine(**line_of(viewer, row.summary, row.version)) for row in page if _may_see(viewer, row)],
        next_before_us=page[-1].summary.start_us if more else None,
    )


def _page(store: ReadStore, viewer: Viewer, subject: str | None, before: int | None, limit: int) -> list[FinalRow]:
    before_us = MAX_TIME_US if before is None else min(max(before, -MAX_TIME_US), MAX_TIME_US)

    def read(most: int) -> list[FinalRow]:
        if subject is not None:
            one = [row for who in viewer.known.decisions.merged(subject) for row in finals(store.db, who, before_us=before_us, limit=most)]
            return sorted(one, key=lambda row: (-row.summary.start_us, row.summary.id))[:most]
        return finals_of_tenant(store.db, viewer.tenant, before_us=before_us, limit=most)

    rows = read(limit)
    while len(rows) == limit and rows[-1].summary.start_us == rows[-2].summary.start_us:
        limit *= 2
        rows = read(limit)
    return rows


@router.get("/activities/{ident}")
async def get_activity(parts: PartsOf, viewer: Viewing, ident: str) -> models.ActivityDetail:
    """A finished activity with its laps and its efforts on segments."""
    found = await parts.reads.run(lambda store: _detail(store, parts.reads, viewer, ident))
    if found is None:
        raise not_found(f"activity {ident!r}", _CURE)
    return found


def _detail(store: ReadStore, reads: Reads, viewer: Viewer, ident: str) -> models.ActivityDetail | None:
    row = _final(store, viewer, ident)
    if row is None:
        return None
    s = row.summary
    south, west, north, east = (None,) * 4 if s.bounds is None else (value / 1e7 for value in s.bounds)
    efforts = [e for e in efforts_of_activity(store.db, ident) if not e.removed and e.tenant == viewer.tenant]
    return models.ActivityDetail(
        **line_of(viewer, s, row.version),
        zones_ms=s.zones_ms,
        laps=[
            models.LapLine(
                start_us=lap.start_us,
                elapsed_ms=lap.elapsed_ms,
                distance_m=lap.distance_cm / 100,
                hr_avg_bpm=lap.hr_avg_bpm,
                power_avg_w=lap.power_avg_w,
            )
            for lap in s.laps
        ],
        efforts=effort_lines(store, reads, viewer, efforts),
        south=south,
        west=west,
        north=north,
        east=east,
        sources=[_source(origin) for origin in s.origins] if viewer.staff else [],
        counted=[
            models.CountedLine.model_validate({"channel": c.channel, "source": _source(c.origin), "from_us": c.from_us, "to_us": c.to_us})
            for c in (s.counted if viewer.staff else ())
        ],
        samples=s.samples,
        trimp=None if s.trimp is None else s.trimp / 1000,
        work_j=s.work_j,
        normalised_power_w=s.normalised_power_w,
        rmssd_ms=s.rmssd_ms,
    )


def _source(origin: str) -> str:
    return origin.partition("/")[2]


def _final(store: ReadStore, viewer: Viewer, ident: str) -> FinalRow | None:
    """A finished activity of this viewer's tenant."""
    row = final(store.db, ident)
    return row if row is not None and row.summary.subject.startswith(f"{viewer.tenant}/") and _may_see(viewer, row) else None


def _may_see(viewer: Viewer, row: FinalRow) -> bool:
    """Staff see all; a screen does not see what is hidden."""
    ruling = None if viewer.staff else viewer.known.decisions.ruling(viewer.tenant, row.summary.id)
    return ruling is None or not ruling.hidden


def line_of(viewer: Viewer, s: Summary, version: int) -> dict[str, Any]:
    """The values of an `ActivityLine`."""
    return {
        "id": s.id, "athlete": viewer.athlete_of(s.subject), "name": viewer.name_of(s.subject), "sport": s.sport,
        "start_us": s.start_us, "end_us": s.end_us, "distance_m": s.distance_cm / 100, "elapsed_ms": s.elapsed_ms,
        "moving_ms": s.moving_ms, "gain_m": s.gain_cm / 100, "hr_avg_bpm": s.hr_avg_bpm, "hr_max_bpm": s.hr_max_bpm,
        "power_avg_w": s.power_avg_w, "points": s.points / 1000, "version": version,
    }  # fmt: skip


def effort_lines(store: ReadStore, reads: Reads, viewer: Viewer, efforts: list[Effort]) -> list[models.EffortLine]:
    """Efforts with their places on the boards; those of segments that were removed are left out, and for a screen hidden ones."""
    made: list[models.EffortLine] = []
    for e in efforts:
        hidden = not viewer.staff and viewer.known.decisions.ruled(e.tenant, e.id, e.activity) == "hidden"
        if hidden or viewer.known.segment(e.segment) is None:
            continue
        with reads.boards.board(viewer.tenant, e.segment) as board:
            made.append(_effort_line(viewer, board, e, awards_of(store.db, e.id)))
    return made


def _why(viewer: Viewer, e: Effort) -> list[str]:
    """What speaks against an effort, for people; staff also reads what was written when it was ruled on."""
    said = [WORDS.get(word, word) for word in e.doubts]
    if viewer.staff:
        rulings = (viewer.known.decisions.ruling(viewer.tenant, of) for of in (e.id, e.activity))
        said += [ruling.why for ruling in rulings if ruling is not None and ruling.why]
    return said


def _effort_line(viewer: Viewer, board: SegmentBoard, e: Effort, awards: tuple[str, ...]) -> models.EffortLine:
    best = board.best(e.subject)
    is_best = best is not None and best.id == e.id
    return models.EffortLine(
        id=e.id,
        segment=e.segment,
        segment_name=segment_name(viewer.known, e.segment),
        athlete=viewer.athlete_of(e.subject),
        name=viewer.name_of(e.subject),
        activity=e.activity,
        start_us=e.start_us,
        elapsed_ms=e.elapsed_ms,
        accuracy_ms=e.accuracy_ms,
        phase=phase_of(e.phase),
        hr_avg_bpm=e.hr_avg_bpm,
        power_avg_w=e.power_avg_w,
        rank=board.rank(OVERALL, e.subject) if is_best else None,
        own_rank=board.own_rank(e.id),
        best=is_best,
        doubts=list(e.doubts),
        why=_why(viewer, e),
        plausibility_pct=e.plausibility_pct,
        kept_off=not e.stands,
        ruling=e.ruling or None,
        awards=list(awards),
    )


@router.get("/activities/{ident}/track")
async def get_track(
    parts: PartsOf, viewer: Viewing, ident: str, points: Annotated[int | None, Query(ge=2, le=100_000)] = None
) -> models.TrackColumns:
    """The line of an activity; with `points` at most so many, evenly taken, the first and the last among them."""
    found = await parts.reads.run(lambda store: _track(store, viewer, ident, points))
    if found is None:
        raise not_found(f"track of activity {ident!r}", _CURE)
    return found


def _track(store: ReadStore, viewer: Viewer, ident: str, points: int | None) -> models.TrackColumns | None:
    row = _final(store, viewer, ident)
    track = final_track(store.db, ident) if row is not None else None
    return None if row is None or track is None else columns(ident, row.summary.start_us, track, points)


def columns(ident: str, start_us: int, track: FinalTrack, points: int | None) -> models.TrackColumns:
    """The columns in SI units, thinned to `points`."""
    total = len(track.t_ms)
    at = range(total) if points is None or total <= points else [i * (total - 1) // (points - 1) for i in range(points)]
    return models.TrackColumns(
        activity=ident,
        start_us=start_us,
        points_total=total,
        t_ms=[track.t_ms[i] for i in at],
        lat=[None if track.lat[i] == NO_POS else track.lat[i] / 1e7 for i in at],
        lon=[None if track.lon[i] == NO_POS else track.lon[i] / 1e7 for i in at],
        altitude_m=[None if track.altitude_dm[i] == ABSENT_ALTITUDE else track.altitude_dm[i] / 10 for i in at],
        hr_bpm=[None if track.hr_bpm[i] < 0 else track.hr_bpm[i] for i in at],
        power_w=[None if track.power_w[i] < 0 else track.power_w[i] for i in at],
        distance_m=[None if track.distance_dm[i] < 0 else track.distance_dm[i] / 10 for i in at],
    )


@router.post("/activities", status_code=202)
async def upload(parts: PartsOf, viewer: Staff, request: Request, athlete: str, name: str = "upload") -> models.UploadAccepted:
    """Take in a FIT, GPX or TCX file (the body as it is) for an athlete; `name` is what messages call it."""
    uploads = parts.services.uploads
    if uploads is None:
        raise RefusedError(503, "this API only reads", "ask the one of the platform (`paceline run`)")
    if uploads.busy:
        raise RefusedError(503, "other files are being read", "send it again in a minute")
    raw = await whole_body(request, MAX_UPLOAD_BYTES)
    got = await uploads.take(viewer.tenant, local(viewer.subject_of(athlete)), name, raw)
    return models.UploadAccepted.model_validate(
        {
            "id": got.id, "athlete": athlete, "format": got.format, "sport": got.sport, "first_us": got.first_us, "last_us": got.last_us,
            "samples": got.samples, "frames": got.frames, "repeated": got.known, "skipped": dict(got.skipped), "damage": got.damage,
        }
    )  # fmt: skip


async def whole_body(request: Request, most: int) -> bytes:
    """The body of a request. RefusedError (413) when it is longer than `most` bytes, (400) when it is empty."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise RefusedError(413, f"the body is longer than {math.floor(most / 1e6)} MB", "send less at once")
        parts.append(part)
    if not size:
        raise RefusedError(400, "the body is empty", "send the file as the body, such as with `curl --data-binary @FILE`")
    return b"".join(parts)
