"""Messages to devices over ANT (pure): one at a time, acknowledged by the device itself, repeated a few times, then given up.

A stick that scans cannot send on the scanning channel: a second channel, never opened, is given the device's id and sends when the device
is next heard. That channel is made anew for each device and after each silence, step by step, each step confirmed by the stick: a message
must never go to the machine beside. Eight bytes go as an acknowledged message, more as a burst. Every transfer ends in one `Delivered`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.ant_bursts import cut
from gateway.ant_framing import Id, Message
from gateway.ant_messages import PAYLOAD_BYTES, ChannelId, Code, Event, Response, acknowledged

CONTROL_CHANNEL: Final = 1
STEP_S: Final = 0.5  # for the stick to confirm a step
TRANSFER_S: Final = 3.0  # a device that is there is heard four times a second
ATTEMPTS: Final = 4
AGAIN_S: Final = 0.25
MAX_WAITING: Final = 64
_TRANSFERS: Final = frozenset({Id.ACKNOWLEDGED, Id.BURST})


@dataclass(frozen=True, slots=True)
class Route:
    """The way to a device: the channel, and what makes that channel its own (empty: it is)."""

    channel: int
    steps: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """The transfer `ticket` is over. `ok`: the device has acknowledged it."""

    ticket: int
    ok: bool
    reason: str = ""


@dataclass(slots=True)
class _Transfer:
    who: ChannelId
    content: bytes
    ticket: int
    due_s: float
    attempts: int = 0
    channel: int = -1
    steps: deque[Message] | None = None  # left before the content; None: the next attempt has not begun
    awaiting: bool = False  # something was sent and its answer is due by `due_s`


class Transfers:
    """What waits to be sent through one stick. `route(who)` gives the way now, None when the device is not in reach."""

    __slots__ = ("_done", "_route", "_set", "_waiting", "repeats")

    def __init__(self, route: Callable[[ChannelId], Route | None]) -> None:
        self._route = route
        self._waiting: deque[_Transfer] = deque()
        self._done: list[Delivered] = []
        self._set: ChannelId | None = None  # whose the control channel is, as confirmed by the stick
        self.repeats = 0

    def add(self, who: ChannelId, content: bytes, ticket: int, now_s: float) -> None:
        """Send `content` (at least one byte) when those before are over; refused at once when too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._done.append(Delivered(ticket, ok=False, reason=f"{MAX_WAITING} messages wait already"))
        else:
            self._waiting.append(_Transfer(who, content.ljust(PAYLOAD_BYTES, b"\xff"), ticket, now_s))

    def forget(self, ticket: int) -> None:
        """Nobody waits for this one any more: it is not sent if it has not been yet."""
        kept = [t for t in self._waiting if t.ticket != ticket or t.attempts]
        self._waiting = deque(kept)

    def deadline_s(self) -> float | None:
        """When `due` has something to say although nothing was heard."""
        if self._done:
            return 0.0
        return self._waiting[0].due_s if self._waiting else None

    def due(self, now_s: float) -> tuple[list[Message], list[Delivered]]:
        """What must be sent now, and what is over."""
        messages: list[Message] = []
        while self._waiting and self._waiting[0].due_s <= now_s:
            transfer = self._waiting[0]
            if transfer.awaiting:  # in vain
                self._again(transfer, now_s)
            if transfer.steps is None and not self._begin(transfer):
                continue
            if transfer.steps:
                messages.append(transfer.steps[0])
                transfer.due_s = now_s + STEP_S
            elif len(transfer.content) == PAYLOAD_BYTES:
                messages.append(acknowledged(transfer.channel, transfer.content))
                transfer.due_s = now_s + TRANSFER_S
            else:
                messages += cut(transfer.channel, transfer.content)
                transfer.due_s = now_s + TRANSFER_S
            transfer.awaiting = True
        done, self._done = self._done, []
        return messages, done

    def heard(self, heard: Response | Event, now_s: float) -> None:
        """Follow what the stick says of the transfer under way."""
        transfer = self._waiting[0] if self._waiting else None
        if transfer is None or not transfer.awaiting or heard.channel != transfer.channel:
            return
        match heard:
            case Response(to=to, code=code) if transfer.steps and to == transfer.steps[0].id:
                if code == Code.OK or to == Id.UNASSIGN:  # what was not assigned need not be unassigned
                    transfer.steps.popleft()
                    transfer.awaiting, transfer.due_s = False, now_s
                    if not transfer.steps and transfer.channel == CONTROL_CHANNEL:
                        self._set = transfer.who
                else:
                    self._again(transfer, now_s + AGAIN_S)
            case Event(code=Code.TRANSFER_DONE) if not transfer.steps:
                self._end(ok=True)
            case Event(code=Code.TRANSFER_FAILED) if not transfer.steps:
                transfer.steps, transfer.awaiting, transfer.due_s = None, False, now_s
            case Response(to=to, code=code) if code != Code.OK and to in _TRANSFERS:
                self._again(transfer, now_s + AGAIN_S)
            case _:
                pass

    def lost(self, who: ChannelId) -> list[Delivered]:
        """The device is out of reach: what waits for it is over."""
        gone = [t for t in self._waiting if t.who == who]
        self._waiting = deque(t for t in self._waiting if t.who != who)
        return [Delivered(t.ticket, ok=False, reason="the device is not heard any more") for t in gone]

    def restart(self) -> None:
        """The stick starts afresh: nothing that waits will be sent."""
        self._set = None
        while self._waiting:
            self._end(ok=False, reason="the stick has started afresh")

    def _begin(self, transfer: _Transfer) -> bool:
        route = self._route(transfer.who)
        if route is None or transfer.attempts >= ATTEMPTS:
            self._end(ok=False, reason="no answer from the device" if transfer.attempts else "the device is not heard")
            return False
        self.repeats += transfer.attempts > 0
        transfer.attempts += 1
        transfer.channel = route.channel
        transfer.steps = deque(() if self._set == transfer.who else route.steps)
        if transfer.steps:
            self._set = None
        return True

    def _again(self, transfer: _Transfer, due_s: float) -> None:
        """This attempt came to nothing; what the stick may still hold of it is thrown away with the channel."""
        self._set = None
        transfer.steps, transfer.awaiting, transfer.due_s = None, False, due_s

    def _end(self, *, ok: bool, reason: str = "") -> None:
        self._done.append(Delivered(self._waiting.popleft().ticket, ok, reason))
