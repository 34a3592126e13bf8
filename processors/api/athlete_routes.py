"""Routes of athletes: who there is, changes, and one's efforts."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic import ValidationError

from broker.errors import BadInputError
from broker.ids import check_id
from broker.reference import AthleteRef
from processors.api import models
from processors.api.access import Viewer
from processors.api.activity_routes import effort_lines
from processors.api.problems import not_found
from processors.api.services import Parts, PartsOf, Staff, Viewing, applied, writer_of
from processors.results import Effort
from processors.results_db import effort
from processors.stores import ReadStore

router = APIRouter(tags=["athletes"])
_CURE = "GET /api/v1/athletes lists them"


@router.get("/athletes")
async def list_athletes(parts: PartsOf, viewer: Viewing) -> models.AthleteList:
    """Everybody somebody described, and everybody frames came for, by name."""
    seen = await parts.reads.run(lambda store: store.athletes_of(viewer.tenant))
    known = {subject for subject, athlete in viewer.known.athletes.items() if not athlete.removed}
    lines = [_line(viewer, subject) for subject in known | set(seen)]
    return models.AthleteList(athletes=sorted(lines, key=lambda a: (a.name.lower(), a.id)))


def _line(viewer: Viewer, subject: str) -> models.AthleteLine:
    athlete = viewer.known.athlete(subject)
    told = athlete if viewer.staff else None
    return models.AthleteLine(
        id=viewer.athlete_of(subject),
        name=viewer.name_of(subject),
        show="yes" if athlete is None else athlete.show,
        nickname=None if told is None else told.nickname,
        sex=None if told is None else told.sex,
        birth_year=None if told is None else told.birth_year,
        hr_max_bpm=None if told is None else told.hr_max_bpm,
        hr_zones_bpm=None if told is None else told.hr_zones_bpm,
        weight_kg=None if told is None else told.weight_kg,
        clubs=[] if told is None else list(told.clubs),
        follows=[] if told is None else list(told.follows),
        blocks=[] if told is None else list(told.blocks),
        known=athlete is not None,
    )


@router.get("/athletes/{ident}")
async def get_athlete(parts: PartsOf, viewer: Viewing, ident: str) -> models.AthleteLine:
    """One of them."""
    subject = viewer.subject_of(ident)
    if viewer.known.athlete(subject) is None and not await parts.reads.run(lambda store: store.was_seen(subject)):
        raise not_found(f"athlete {ident!r}", _CURE)
    return _line(viewer, subject)


@router.put("/athletes/{ident}")
async def put_athlete(parts: PartsOf, viewer: Staff, ident: str, body: models.AthletePut) -> models.Written:
    """Describe an athlete, new or known."""
    check_id(ident, "athlete")
    try:
        ref = AthleteRef(tenant=viewer.tenant, id=ident, **body.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInputError(f"athlete {ident}: {first['msg']}", cure="see docs/athletes.md") from error
    return await _written(parts, ref)


@router.delete("/athletes/{ident}")
async def delete_athlete(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """Forget who an athlete is; what he or she did stays under the id."""
    found = viewer.known.athlete(viewer.subject_of(ident))
    if found is None:
        raise not_found(f"athlete {ident!r}", _CURE)
    return await _written(parts, found.model_copy(update={"removed": True}))


async def _written(parts: Parts, ref: AthleteRef) -> models.Written:
    position = await asyncio.to_thread(writer_of(parts).put, ref)
    return models.Written(id=ref.id, position=position, applied=await applied(parts, ref.tenant, position))


@router.get("/athletes/{ident}/efforts")
async def list_efforts(parts: PartsOf, viewer: Viewing, ident: str, segment: str | None = None) -> models.EffortList:
    """The efforts of an athlete (on a segment), by segment, the fastest first."""
    subject = viewer.subject_of(ident)

    def read(store: ReadStore) -> models.EffortList:
        segments = sorted(viewer.known.segments) if segment is None else [segment]
        found = [e for one in segments for e in _efforts(store, viewer.tenant, one, subject)]
        return models.EffortList(efforts=effort_lines(store, parts.reads, viewer, found))

    return await parts.reads.run(read)


def _efforts(store: ReadStore, tenant: str, segment: str, subject: str) -> list[Effort]:
    query = "SELECT id FROM effort WHERE tenant=? AND segment=? AND subject=? AND removed=0"
    found = [effort(store.db, ident) for (ident,) in store.db.execute(query, (tenant, segment, subject)).fetchall()]
    return sorted((e for e in found if e is not None), key=lambda e: (e.elapsed_ms, e.start_us, e.id))
