"""How a consumer gets from events to the present: the last state of each entity, whatever the order and however often they came.

This is also what "the same events" means for us: two runs over the same frames in another order may tell other intermediate steps, but fold
to the same. Per entity the greatest `Event.rank` wins; an opening event counts only while nothing better holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from broker.events.catalogue import Effect
from broker.events.envelope import Event

Place = tuple[str, str]  # topic and entity
State = dict[str, Any]
_PATH: Final = "change"


class Present:
    """The present state of every entity seen; takes events one by one, in any order."""

    def __init__(self) -> None:
        self._opened: dict[Place, Event] = {}
        self._told: dict[Place, Event] = {}

    def apply(self, event: Event) -> bool:
        """Take an event; False when it is a repeat, or older than what is known, or a mere moment."""
        if event.kind.effect is Effect.TELLS:
            return False
        held = self._opened if event.kind.effect is Effect.OPENS else self._told
        place = (event.topic, event.entity)
        known = held.get(place)
        if known is not None and known.rank >= event.rank:
            return False
        held[place] = event
        return True

    def state(self, topic: str, entity: str) -> State | None:
        """The state of an entity; None when there is none (any more)."""
        place = (topic, entity)
        opened, told = self._opened.get(place), self._told.get(place)
        if told is not None and not _ends(told):
            return _state(told)
        if opened is not None and (told is None or opened.rank > told.rank):
            return _state(opened)
        return None

    def states(self) -> dict[Place, State]:
        """All that are there now, by topic and entity."""
        found = {place: self.state(*place) for place in sorted({*self._opened, *self._told})}
        return {place: state for place, state in found.items() if state is not None}


def fold(events: Iterable[Event]) -> dict[Place, State]:
    """The present state after these events, by topic and entity: their `data` without `change`."""
    present = Present()
    for event in events:
        present.apply(event)
    return present.states()


def _ends(event: Event) -> bool:
    return event.kind.effect is Effect.ENDS or (event.kind.void != "" and not getattr(event.data, event.kind.void))


def _state(event: Event) -> State:
    return event.data.model_dump(mode="json", exclude={_PATH})
