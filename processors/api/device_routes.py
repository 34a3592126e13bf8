"""Routes of devices and of bindings: what is heard, whom it counts for, and naming the unknown with one request."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from pydantic import ValidationError

from broker.errors import BadInputError
from broker.reference import AthleteRef, BindingRef, Reference
from processors.api import models
from processors.api.access import Viewer
from processors.api.problems import not_found
from processors.api.services import Parts, PartsOf, Staff, applied, writer_of
from processors.live_kernel import APPENDED, NEVER, START
from processors.live_wakes import CLOSE_AFTER_US
from processors.snapshot import devices_of, local, staff_name
from processors.stores import ReadStore

router = APIRouter(tags=["devices"])
_CURE = "GET /api/v1/bindings lists them"


@router.get("/devices")
async def list_devices(parts: PartsOf, viewer: Staff) -> models.DeviceList:
    """Every device that was heard, with its frames and whom it counts for now."""
    nodes = parts.services.nodes()
    now_us = parts.services.clock_us()

    def read(store: ReadStore) -> models.DeviceList:
        stamped = store.stamped(viewer.tenant)
        lines = [_line(viewer, one, stamped, now_us) for one in devices_of(store, nodes, viewer.tenant)]
        return models.DeviceList(devices=lines)

    return await parts.reads.run(read)


def _line(viewer: Viewer, one: dict[str, object], stamped: dict[str, str], now_us: int) -> models.DeviceLine:
    about = [b for b in viewer.known.bindings.values() if b.device == one["device"] and b.node in {"", one["node"]} and b.covers(now_us)]
    binding = max(about, key=lambda b: b.id, default=None)
    subject = binding.subject if binding is not None else stamped.get(str(one["device"]))
    return models.DeviceLine.model_validate(
        {
            **one,
            "athlete": None if subject is None else local(subject),
            "athlete_name": None if subject is None else staff_name(viewer.known, subject),
            "binding": None if binding is None else binding.id,
        }
    )


@router.get("/bindings")
async def list_bindings(viewer: Staff) -> models.BindingList:
    """All bindings that were not undone, the latest first."""
    standing = sorted((b for b in viewer.known.bindings.values() if not b.removed), key=lambda b: b.id, reverse=True)
    return models.BindingList(bindings=[_binding(viewer, b) for b in standing])


def _binding(viewer: Viewer, b: BindingRef) -> models.BindingLine:
    name = staff_name(viewer.known, b.subject)
    return models.BindingLine(id=b.id, node=b.node, device=b.device, athlete=b.athlete, athlete_name=name, from_us=b.from_us, to_us=b.to_us)


@router.post("/bindings", status_code=201)
async def bind(parts: PartsOf, viewer: Staff, body: models.BindingNew) -> models.Written:
    """Say whom a device counts for: from its activity under way (else from now) on, unless `from_us` says otherwise."""
    writer = writer_of(parts)
    from_us = (
        body.from_us
        if body.from_us is not None
        else await parts.reads.run(lambda store: _begun(store, viewer.tenant, body, parts.services.clock_us()))
    )
    values: list[Reference] = []
    try:
        if body.name is not None and viewer.known.athlete(f"{viewer.tenant}/{body.athlete}") is None:
            values.append(AthleteRef(tenant=viewer.tenant, id=body.athlete, name=body.name))
        made = BindingRef(
            tenant=viewer.tenant,
            id=writer.new_binding_id(viewer.tenant),
            node=body.node,
            device=body.device,
            athlete=body.athlete,
            from_us=from_us,
            to_us=body.to_us,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "binding"
        raise BadInputError(f"{where}: {first['msg'].removeprefix('Value error, ')}", cure="see docs/athletes.md") from error
    return await _written(parts, [*values, made], made.id)


def _begun(store: ReadStore, tenant: str, body: models.BindingNew, now_us: int) -> int:
    """When the activity under way of a device nobody knows began, else now."""
    row = store.row(f"{tenant}/@{body.node}/{body.device}" if body.node else f"{tenant}/@{body.device}")
    under_way = row is not None and row[START] != NEVER and row[APPENDED] > now_us - CLOSE_AFTER_US
    return int(row[START]) if row is not None and under_way else now_us


@router.post("/bindings/{ident}/end")
async def end(parts: PartsOf, viewer: Staff, ident: str, body: models.BindingEnd | None = None) -> models.Written:
    """From now (or `to_us`) on the device counts for nobody by this binding; what was before stays."""
    found = _standing(viewer, ident)
    to_us = parts.services.clock_us() if body is None or body.to_us is None else body.to_us
    if found.from_us is not None and to_us <= found.from_us:
        raise BadInputError(f"to_us {to_us} is not after the start of binding {ident}", cure="undo it with DELETE instead")
    return await _written(parts, [found.model_copy(update={"to_us": to_us})], ident)


@router.delete("/bindings/{ident}")
async def undo(parts: PartsOf, viewer: Staff, ident: str) -> models.Written:
    """As if it had never been: what counted by it counts for the device again."""
    return await _written(parts, [_standing(viewer, ident).model_copy(update={"removed": True})], ident)


def _standing(viewer: Viewer, ident: str) -> BindingRef:
    found = viewer.known.bindings.get(ident)
    if found is None or found.removed:
        raise not_found(f"binding {ident!r}", _CURE)
    return found


async def _written(parts: Parts, values: list[Reference], ident: str) -> models.Written:
    position = await asyncio.to_thread(writer_of(parts).put_all, values)
    return models.Written(id=ident, position=position, applied=await applied(parts, values[0].tenant, position))
