"""Routes of equipment: command a machine, and what became of it. Staff only, and only for the athlete bound to the machine now.

The box checks everything once more, with what it knows itself (docs/equipment.md); what is refused here never reaches it.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Annotated, Final

from fastapi import APIRouter, Query

from broker.commands import Command
from broker.ids import is_id
from broker.reference import BindingRef
from processors.api import equipment_models as models
from processors.api.access import Viewer
from processors.api.models import Problem
from processors.api.problems import KIND, RefusedError, not_found
from processors.api.services import Parts, PartsOf, Staff
from processors.equipment import EquipmentDesk, SentCommand

router = APIRouter(tags=["equipment"], responses={409: {"model": Problem, "content": {KIND: {}}}})
Limit = Annotated[int, Query(ge=1, le=500)]
_CURE: Final = "GET /api/v1/devices lists them"


@router.post("/equipment/{device}", status_code=202)
async def command(parts: PartsOf, viewer: Staff, device: str, body: models.CommandNew) -> models.CommandLine:
    """Command a machine. The answer says only that the command is on its way: ask for it by its id."""
    desk = _desk(parts)
    now_us = parts.services.clock_us()
    if body.id is not None and (known := await asyncio.to_thread(desk.find, viewer.tenant, body.id)) is not None:
        return _line(_same(known, device, body))
    if not is_id(device):
        raise not_found(f"device {device!r}", _CURE)
    binding = _bound(viewer, device, body, now_us)
    node = body.node or binding.node or await _hearing(parts, viewer, device)
    made = Command(
        id=body.id or str(uuid.uuid4()),
        device=device,
        athlete=binding.athlete,
        expires_us=now_us + round(body.good_for_s * 1e6),
        order=body.order,
    )
    return _line(_same(await asyncio.to_thread(desk.send, viewer.tenant, node, made, now_us), device, body))


@router.get("/equipment")
async def list_all(parts: PartsOf, viewer: Staff, limit: Limit = 50) -> models.EquipmentLog:
    """The latest commands and notices of all machines."""
    return await _log(parts, viewer, None, limit)


@router.get("/equipment/{device}")
async def list_of_device(parts: PartsOf, viewer: Staff, device: str, limit: Limit = 50) -> models.EquipmentLog:
    """The latest commands and notices of one machine; empty for one that was never commanded."""
    return await _log(parts, viewer, device, limit)


@router.get("/equipment/{device}/{ident}")
async def get_command(parts: PartsOf, viewer: Staff, device: str, ident: str) -> models.CommandLine:
    """One command and its answer."""
    found = await asyncio.to_thread(_desk(parts).find, viewer.tenant, ident)
    if found is None or found.command.device != device:
        raise not_found(f"command {ident!r} to {device!r}", f"GET /api/v1/equipment/{device} lists them")
    return _line(found)


def _desk(parts: Parts) -> EquipmentDesk:
    if parts.services.desk is None:
        raise RefusedError(503, "this API commands no equipment", "ask the one of the platform (`paceline run`)")
    return parts.services.desk


def _same(sent: SentCommand, device: str, body: models.CommandNew) -> SentCommand:
    """`sent`, when it is what the request asks for: a stop must not be taken for sent because its id was used before."""
    made = sent.command
    if (made.device, made.order) != (device, body.order) or body.athlete not in {None, made.athlete}:
        raise RefusedError(409, f"the id {made.id!r} was used for another command", "draw a new id for each command")
    return sent


def _bound(viewer: Viewer, device: str, body: models.CommandNew, now_us: int) -> BindingRef:
    """The binding that makes the machine somebody's now."""
    about = [b for b in viewer.known.bindings.values() if b.device == device and b.covers(now_us)]
    about = [b for b in about if body.node is None or b.node in {"", body.node}]
    binding = max(about, key=lambda b: b.id, default=None)
    if binding is None:
        raise RefusedError(409, f"nobody is bound to {device!r} now", "bind an athlete to it first: POST /api/v1/bindings")
    if body.athlete is not None and body.athlete != binding.athlete:
        raise RefusedError(409, f"{device!r} is bound to somebody else than {body.athlete!r} now", "see GET /api/v1/bindings")
    return binding


async def _hearing(parts: Parts, viewer: Viewer, device: str) -> str:
    """The one node that hears a device."""
    said = parts.services.nodes()
    counted = await parts.reads.run(lambda store: {node for node, heard, _ in store.counted(viewer.tenant) if heard == device})
    told = {node for (of, node), state in said.items() if of == viewer.tenant and any(d.device == device for d in state.devices)}
    heard = sorted(counted | told)
    online = [node for node in heard if (state := said.get((viewer.tenant, node))) is not None and state.online]
    if len(online) == 1:
        return online[0]
    if not heard:
        raise not_found(f"device {device!r}", _CURE)
    if not online:
        raise RefusedError(409, f"the box that hears {device!r} is away: {', '.join(heard)}", "see that it has power and network")
    raise RefusedError(409, f"several boxes hear {device!r}: {', '.join(online)}", "say which one with `node`")


async def _log(parts: Parts, viewer: Viewer, device: str | None, limit: int) -> models.EquipmentLog:
    desk = _desk(parts)
    sent = await asyncio.to_thread(desk.of_device, viewer.tenant, device, limit)
    heard = await asyncio.to_thread(desk.notices, viewer.tenant, device, limit)
    return models.EquipmentLog(
        commands=[_line(one) for one in sent],
        notices=[models.NoticeLine(node=one.node, heard_us=one.heard_us, notice=one.notice) for one in heard],
    )


def _line(sent: SentCommand) -> models.CommandLine:
    made, reply = sent.command, sent.reply
    return models.CommandLine.model_validate(
        {
            "id": made.id,
            "device": made.device,
            "node": sent.node,
            "athlete": made.athlete,
            "order": made.order.model_dump(),
            "sent_us": sent.sent_us,
            "expires_us": made.expires_us,
            "state": sent.state,
            "reason": None if reply is None else reply.reason,
            "detail": "" if reply is None else reply.detail,
            "answered_us": sent.answered_us,
        }
    )
