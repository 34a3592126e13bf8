"""What travels over HTTP about commands to equipment. The orders, states and reasons are those of `broker.commands`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from broker.commands import CommandId, CommandReason, Id, Notice, Order
from processors.api.kinds import In, Out


class CommandNew(In):
    """POST /equipment/{device}. It is for the athlete bound to the device now; with `athlete`, only if that is who is bound.

    `node`: when several boxes hear the device. `id`: your own, so that the same request twice is one command; else one is drawn.
    `good_for_s`: how long it may wait.
    """

    order: Annotated[Order, Field(discriminator="action")]
    athlete: Id | None = None
    node: Id | None = None
    id: CommandId | None = None
    good_for_s: float = Field(default=20, ge=1, le=590)


class CommandLine(Out):
    """A command and how far it is. `sent`: no box has answered. `reason` of `refused` and `lost`; `detail` is for people."""

    id: str
    device: str
    node: str
    athlete: str
    order: Annotated[Order, Field(discriminator="action")]
    sent_us: int
    expires_us: int
    state: Literal["sent", "accepted", "done", "refused", "lost"]
    reason: CommandReason | None
    detail: str
    answered_us: int | None


class NoticeLine(Out):
    """What a box told of a machine without having been asked, and when that came here."""

    node: str
    heard_us: int
    notice: Notice


class EquipmentLog(Out):
    """GET /equipment and /equipment/{device}?limit=: commands and notices, each the newest first."""

    commands: list[CommandLine]
    notices: list[NoticeLine]
