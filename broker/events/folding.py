"""How a consumer gets from events to the present: the last state of each entity, however often its events came.

This is also what "the same events" means for us: two runs over the same frames in another order may tell other intermediate steps, but fold
to the same. The topic keeps the events of an entity in order; a repeat is known by its id and passed over. `change` is no state: it
tells how a state came to be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.events.catalogue import Effect
from broker.events.envelope import Event

Place = tuple[str, str]  # topic and entity
State = dict[str, Any]


class Present:
    """The present state of every entity; takes events one by one, those of an entity in the order of their topic. Keeps all ids it saw."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._standing: dict[Place, Event] = {}

    def apply(self, event: Event) -> bool:
        """Take an event; False when it is a repeat or changes no state."""
        if event.id in self._ids:
            return False
        self._ids.add(event.id)
        place, effect = (event.topic, event.entity), event.kind.effect
        if effect is Effect.TELLS or (effect is Effect.OPENS and place in self._standing):
            return False
        if effect is Effect.ENDS or _void(event):
            return self._standing.pop(place, None) is not None
        self._standing[place] = event
        return True

    def state(self, topic: str, entity: str) -> State | None:
        """The state of an entity; None when there is none (any more)."""
        event = self._standing.get((topic, entity))
        return None if event is None else event.data.model_dump(mode="json", exclude={"change"})

    def states(self) -> dict[Place, State]:
        """All that are there now, by topic and entity, in their order."""
        found = {place: self.state(*place) for place in sorted(self._standing)}
        return {place: state for place, state in found.items() if state is not None}


def fold(events: Iterable[Event]) -> dict[Place, State]:
    """The present state after these events, by topic and entity: their `data` without `change`."""
    present = Present()
    for event in events:
        present.apply(event)
    return present.states()


def _void(event: Event) -> bool:
    """Whether it leaves nothing of its entity: an empty board, a credit of 0 m."""
    return event.kind.void != "" and not getattr(event.data, event.kind.void)
