"""What a machine's session wants done, in this order: written, waited for no longer, remembered, answered. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from broker.commands import CommandReason, CommandState, NoticeEvent, NoticeReason


@dataclass(frozen=True, slots=True)
class Write:
    """Send this and give the answer, or None, to `answered`."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Abort:
    """What is being written: wait for it no longer. It gets no `answered`."""


@dataclass(frozen=True, slots=True)
class Moves:
    """From here on a stop is owed, to be remembered durably before the next message; or it is owed no longer."""

    moving: bool


@dataclass(frozen=True, slots=True)
class Replied:
    """The final answer to an order."""

    ident: str
    state: CommandState
    reason: CommandReason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something the platform should know of this machine."""

    event: NoticeEvent
    reason: NoticeReason = NoticeReason.NONE
    detail: str = ""


Effect = Write | Abort | Moves | Replied | Noticed
