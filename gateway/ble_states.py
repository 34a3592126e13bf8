"""The states of one device between sight and data, and what may lead from one to another: the whole machine as one table. Pure.

    near --wanted--> waiting --attempt--> connecting --up--> live
    waiting <--failed-- connecting            live --lost--> waiting
    any --unwanted--> refused                 any --unseen--> gone

Everything that changes a state goes through `after`; an event that its state does not know is an error of ours and raises.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a device stands."""

    WAITING = "waiting"  # wanted: for its turn, a slot or the end of a back-off
    CONNECTING = "connecting"
    LIVE = "live"
    REFUSED = "refused"
    GONE = "gone"  # not heard any more; forgotten


class Event(StrEnum):
    """What happens to a device."""

    WANTED = "wanted"
    UNWANTED = "unwanted"
    ATTEMPT = "attempt"
    UP = "up"
    FAILED = "failed"
    LOST = "lost"
    UNSEEN = "unseen"


TABLE: Final[dict[tuple[State, Event], State]] = {
    (State.WAITING, Event.WANTED): State.WAITING,
    (State.WAITING, Event.UNWANTED): State.REFUSED,
    (State.WAITING, Event.ATTEMPT): State.CONNECTING,
    (State.WAITING, Event.UNSEEN): State.GONE,
    (State.CONNECTING, Event.WANTED): State.CONNECTING,
    (State.CONNECTING, Event.UP): State.LIVE,
    (State.CONNECTING, Event.FAILED): State.WAITING,
    (State.CONNECTING, Event.LOST): State.WAITING,
    (State.LIVE, Event.WANTED): State.LIVE,  # some straps advertise while they are connected: room for a second box
    (State.LIVE, Event.LOST): State.WAITING,
    (State.REFUSED, Event.WANTED): State.WAITING,
    (State.REFUSED, Event.UNWANTED): State.REFUSED,
    (State.REFUSED, Event.UNSEEN): State.GONE,
}
HELD: Final = frozenset({State.CONNECTING, State.LIVE})  # uses a slot of its adapter


def after(state: State, event: Event) -> State:
    """The state that follows. ValueError for an event that cannot happen there."""
    found = TABLE.get((state, event))
    if found is None:
        raise ValueError(f"a device that is {state} cannot be {event}")
    return found
