"""One channel of an ANT stick: its state as a table, and what was heard on it (pure).

Everything that moves a channel is in `_MOVES`; a cause that is not there for the present state changes nothing (a repeated answer, an event
that crossed our command). After a start of the stick every channel is unassigned, whatever it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from gateway.ant_framing import Id
from gateway.ant_messages import ChannelId, Code, Data, Event


class State(Enum):
    """Where a channel is."""

    UNASSIGNED = auto()
    ASSIGNED = auto()  # may be configured, and opened
    SEARCHING = auto()
    TRACKING = auto()  # in step with one master
    SCANNING = auto()  # hears all masters


class Cause(Enum):
    """What moves a channel."""

    ASSIGN = auto()
    UNASSIGN = auto()
    OPEN = auto()
    SCAN = auto()
    HEARD = auto()
    LOST = auto()
    CLOSED = auto()


_MOVES: Final[Mapping[tuple[State, Cause], State]] = {
    (State.UNASSIGNED, Cause.ASSIGN): State.ASSIGNED,
    (State.ASSIGNED, Cause.UNASSIGN): State.UNASSIGNED,
    (State.ASSIGNED, Cause.OPEN): State.SEARCHING,
    (State.ASSIGNED, Cause.SCAN): State.SCANNING,
    (State.SEARCHING, Cause.HEARD): State.TRACKING,
    (State.SEARCHING, Cause.CLOSED): State.ASSIGNED,
    (State.TRACKING, Cause.LOST): State.SEARCHING,
    (State.TRACKING, Cause.CLOSED): State.ASSIGNED,
    (State.SCANNING, Cause.CLOSED): State.ASSIGNED,
}
_COMMANDS: Final[Mapping[int, Cause]] = {
    Id.ASSIGN: Cause.ASSIGN,
    Id.UNASSIGN: Cause.UNASSIGN,
    Id.OPEN: Cause.OPEN,
    Id.OPEN_SCAN: Cause.SCAN,
}
_EVENTS: Final[Mapping[int, Cause]] = {Code.BACK_TO_SEARCH: Cause.LOST, Code.CHANNEL_CLOSED: Cause.CLOSED}
_COUNTED: Final[Mapping[int, str]] = {
    Code.MISSED: "missed",
    Code.BACK_TO_SEARCH: "lost",
    Code.COLLISION: "collisions",
    Code.SEARCH_TIMEOUT: "searches_ended",
    Code.TRANSFER_RECEIVE_FAILED: "bursts_failed",
    Code.QUEUE_OVERFLOW: "overflows",
    Code.SERIAL_OVERFLOW: "overflows",
}


class Channel:
    """The channel `number`. `who` is whom it listens to, once that is known; never set while it scans."""

    __slots__ = ("counts", "number", "search", "state", "who")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = State.UNASSIGNED
        self.who: ChannelId | None = None
        self.search = -1  # which entry of the stick's search list it looks for, where a stick cannot scan
        self.counts: Counter[str] = Counter()

    def granted(self, command: int) -> None:
        """The stick has done what the command asked of this channel."""
        self._move(_COMMANDS.get(command))

    def take(self, heard: Data | Event) -> State:
        """Follow what was heard of this channel; the state after it."""
        if isinstance(heard, Data):
            if heard.id is not None and self.state is not State.SCANNING:
                self.who = heard.id
            self._move(Cause.HEARD)
        else:
            if (name := _COUNTED.get(heard.code)) is not None:
                self.counts[name] += 1
            self._move(_EVENTS.get(heard.code))
        return self.state

    def _move(self, cause: Cause | None) -> None:
        if cause is not None:
            self.state = _MOVES.get((self.state, cause), self.state)
        if cause is Cause.CLOSED:
            self.who = None

    def restart(self) -> None:
        """The stick has forgotten this channel; what was counted stays."""
        self.state, self.who, self.search = State.UNASSIGNED, None, -1
