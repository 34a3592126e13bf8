"""Every event there is: name, topic, key, what it says of whom, and how long it is kept.

One topic per entity, so that what happens to an entity stays in order: `paceline.{domain}.{entity}.v1`.
A new type is one entry here, one model, one schema and one example.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from broker.errors import BadInputError
from broker.events import models
from broker.events.models import Data


class Personal(StrEnum):
    """What a data-protection officer asks first."""

    PSEUDONYMOUS = "pseudonymous"  # subject ids and what they did
    HEALTH = "health"  # also heart rate or power


class Effect(StrEnum):
    """What an event does to the state of its entity."""

    OPENS = "opens"  # it begins; whatever is known better stays
    SETS = "sets"
    ENDS = "ends"
    TELLS = "tells"  # a moment: leaves the state alone


@dataclass(frozen=True, slots=True)
class EventType:
    """One type of event. `entity_field` and `key_field` name fields of its data; `void` names the field that, when zero or empty, ends the
    entity; `minor` counts the releases of its schema."""

    domain: str
    entity: str
    event: str
    model: type[Data]
    entity_field: str
    key_field: str
    personal: Personal
    retention_days: int
    meaning: str
    effect: Effect
    void: str = ""
    minor: int = 0

    @property
    def name(self) -> str:
        """The CloudEvents `type`."""
        return f"paceline.{self.domain}.{self.entity}.{self.event}.v1"

    @property
    def topic(self) -> str:
        """The Kafka topic."""
        return f"paceline.{self.domain}.{self.entity}.v1"

    @property
    def schemaversion(self) -> str:
        """Major and minor; the major is that of the name."""
        return f"1.{self.minor}"


def _all() -> tuple[EventType, ...]:
    health, pseudonymous = Personal.HEALTH, Personal.PSEUDONYMOUS
    opens, sets, ends, tells = Effect.OPENS, Effect.SETS, Effect.ENDS, Effect.TELLS
    activity = ("activity", "subject")
    effort = ("effort", "subject")
    board = ("board", "board")
    record = ("record", "subject")
    award = ("award", "subject")
    credit = ("credit", "subject")
    rows = (
        ("user", "activity", "started", models.ActivityStarted, activity, pseudonymous, 30, opens, "A workout is under way."),
        ("user", "activity", "closed", models.Activity, activity, health, 30, sets, "A workout is finished; what it came to."),
        (
            "user",
            "activity",
            "corrected",
            models.ActivityCorrected,
            activity,
            health,
            30,
            sets,
            "A finished workout came to something else.",
        ),
        ("user", "activity", "removed", models.ActivityRemoved, activity, pseudonymous, 30, ends, "A workout does not count any more."),
        ("user", "record", "set", models.RecordSet, record, pseudonymous, 365, sets, "The best effort of a subject on a segment."),
        ("user", "record", "withdrawn", models.RecordWithdrawn, record, pseudonymous, 365, ends, "No effort on the segment is left."),
        ("user", "award", "given", models.AwardGiven, award, pseudonymous, 365, sets, "An effort is awarded something."),
        ("user", "award", "withdrawn", models.AwardWithdrawn, award, pseudonymous, 365, ends, "An award does not hold any more."),
        ("social", "effort", "recorded", models.Effort, effort, health, 90, sets, "A segment was crossed from start to finish."),
        ("social", "effort", "corrected", models.EffortCorrected, effort, health, 90, sets, "A crossing is known better."),
        ("social", "effort", "removed", models.EffortRemoved, effort, pseudonymous, 90, ends, "A crossing does not count any more."),
        ("social", "board", "changed", models.BoardChanged, board, pseudonymous, 90, sets, "The first ten of a board, after a change."),
        ("social", "board", "lead_taken", models.LeadTaken, board, pseudonymous, 90, tells, "Another subject leads a board."),
        ("promo", "distance", "credited", models.DistanceCredited, credit, pseudonymous, 365, sets, "Distance of a workout, for its day."),
        ("promo", "distance", "corrected", models.DistanceCorrected, credit, pseudonymous, 365, sets, "Credited distance moved; 0: gone."),
    )
    void = {"board": "top", "distance": "distance_m"}
    minor = {
        ("activity", "closed"): 1, ("activity", "corrected"): 1,  # 1: the strain of it
        ("effort", "recorded"): 1, ("effort", "corrected"): 1,  # 1: how far it is believed
    }  # fmt: skip
    return tuple(
        EventType(
            domain=domain, entity=entity, event=event, model=model, entity_field=fields[0], key_field=fields[1], personal=personal,
            retention_days=days, meaning=meaning, effect=effect, void=void.get(entity, "") if effect is sets else "",
            minor=minor.get((entity, event), 0),
        )
        for domain, entity, event, model, fields, personal, days, effect, meaning in rows
    )  # fmt: skip


CATALOGUE: Final = {kind.name: kind for kind in _all()}


def event_type(name: str, where: str = "event") -> EventType:
    """The type of that name; BadInputError names `where` when there is none."""
    found = CATALOGUE.get(name)
    if found is None:
        raise BadInputError(f"{where}: type {name!r} is unknown", cure=f"use one of: {', '.join(CATALOGUE)}")
    return found
