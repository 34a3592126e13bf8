"""Routes of what people decide: rulings on efforts and activities, athletes who are one person, results to be erased. Staff only."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from broker.errors import BadInputError
from broker.reference import AthleteRef, ErasureRef, MergeRef, Reference, RulingRef
from processors.api import models, ruling_models
from processors.api.access import Viewer
from processors.api.problems import not_found
from processors.api.services import Parts, PartsOf, Staff, applied, writer_of
from processors.results_db import effort, final

router = APIRouter(tags=["decisions"])


@router.get("/rulings")
async def list_rulings(viewer: Staff) -> ruling_models.RulingList:
    """All rulings that stand, by id."""
    return ruling_models.RulingList(rulings=[_line(r) for r in viewer.known.decisions.rulings(viewer.tenant)])


@router.put("/efforts/{ident}/ruling")
async def put_effort_ruling(parts: PartsOf, viewer: Staff, ident: str, body: ruling_models.EffortRulingPut) -> models.Written:
    """Flag an effort, clear it, or hide it; the whole ruling is replaced. Without any word it is the platform's to judge."""
    found = await parts.reads.run(lambda store: effort(store.db, ident))
    if found is None or found.tenant != viewer.tenant:
        raise not_found(f"effort {ident!r}", "GET /api/v1/athletes/ID/efforts lists those of an athlete")
    return await _written(parts, RulingRef(tenant=viewer.tenant, id=ident, **body.model_dump()))


@router.put("/activities/{ident}/ruling")
async def put_activity_ruling(parts: PartsOf, viewer: Staff, ident: str, body: ruling_models.ActivityRulingPut) -> models.Written:
    """The same of a whole activity, for all its efforts without a decision of their own; `sport` says what it was."""
    found = await parts.reads.run(lambda store: final(store.db, ident))
    if found is None or not found.summary.subject.startswith(f"{viewer.tenant}/"):
        raise not_found(f"activity {ident!r}", "GET /api/v1/activities lists them")
    return await _written(parts, RulingRef(tenant=viewer.tenant, id=ident, **body.model_dump()))


@router.delete("/efforts/{ident}/ruling")
async def delete_effort_ruling(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """Undo a ruling as if it had never been."""
    return await _undone(parts, viewer, ident)


@router.delete("/activities/{ident}/ruling")
async def delete_activity_ruling(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """Undo a ruling as if it had never been."""
    return await _undone(parts, viewer, ident)


@router.put("/athletes/{ident}/merge")
async def put_merge(parts: PartsOf, viewer: Staff, ident: str, body: ruling_models.MergePut) -> models.Written:
    """An athlete is the same person as another one: the efforts of both are that one's from now on, those of the past too."""
    for one in (ident, body.into):
        await _known(parts, viewer, one)
    if ident == body.into:
        raise BadInputError(f"athlete {ident} cannot be merged into itself", cure="name two athletes")
    for one in (ident, body.into):  # the results of the other would go too, and not come back with the athlete
        if viewer.known.decisions.is_erased(viewer.subject_of(one)):
            raise BadInputError(f"the results of athlete {one} are erased", cure="merge with an athlete who was not erased")
    return await _written(parts, MergeRef(tenant=viewer.tenant, id=ident, into=body.into))


@router.delete("/athletes/{ident}/merge")
async def delete_merge(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """They were two after all: each gets the own efforts back."""
    found = viewer.known.decisions.merge(f"{viewer.tenant}/{ident}")
    if found is None:
        raise not_found(f"merge of athlete {ident!r}", "PUT /api/v1/athletes/ID/merge makes one")
    return await _written(parts, MergeRef(tenant=viewer.tenant, id=ident, into=found, removed=True))


@router.delete("/athletes/{ident}/results")
async def erase_results(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """Erase what an athlete did, and who he or she is, for good: efforts, activities, records and awards; what comes later is nobody's."""
    await _known(parts, viewer, ident)
    gone = AthleteRef(tenant=viewer.tenant, id=ident, name=ident, show="no", removed=True)
    return await _written(parts, gone, ErasureRef(tenant=viewer.tenant, id=ident))


async def _known(parts: Parts, viewer: Viewer, ident: str) -> None:
    subject = viewer.subject_of(ident)
    if viewer.known.athlete(subject) is None and not await parts.reads.run(lambda store: store.was_seen(subject)):
        raise not_found(f"athlete {ident!r}", "GET /api/v1/athletes lists them")


async def _undone(parts: Parts, viewer: Viewer, ident: str) -> models.Written:
    found = viewer.known.decisions.ruling(viewer.tenant, ident)
    if found is None:
        raise not_found(f"ruling on {ident!r}", "GET /api/v1/rulings lists them")
    return await _written(parts, found.model_copy(update={"removed": True}))


async def _written(parts: Parts, *refs: Reference) -> models.Written:
    position = await asyncio.to_thread(writer_of(parts).put_all, refs)
    return models.Written(id=refs[-1].id, position=position, applied=await applied(parts, refs[-1].tenant, position))


def _line(ruling: RulingRef) -> ruling_models.RulingLine:
    return ruling_models.RulingLine(id=ruling.id, decision=ruling.decision, hidden=ruling.hidden, sport=ruling.sport, why=ruling.why)
