"""The bodies of what people decide of efforts, activities and athletes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from processors.api.kinds import In, Out


class EffortRulingPut(In):
    """PUT /efforts/{id}/ruling. Staff only. `decision` null: the platform judges; `hidden`: its athlete wants it seen nowhere."""

    decision: Literal["flag", "clear"] | None = None
    hidden: bool = False
    why: str = Field(default="", max_length=200)


class ActivityRulingPut(EffortRulingPut):
    """PUT /activities/{id}/ruling. Staff only. `sport` null: what the recording says."""

    sport: Literal["run", "ride", "other"] | None = None


class RulingLine(Out):
    """What people say of the effort or activity `id`."""

    id: str
    decision: Literal["flag", "clear"] | None
    hidden: bool
    sport: Literal["run", "ride", "other"] | None
    why: str


class RulingList(Out):
    """GET /rulings. Staff only."""

    rulings: list[RulingLine]


class MergePut(In):
    """PUT /athletes/{id}/merge: the athlete is the same person as `into`. Staff only."""

    into: str = Field(min_length=1, max_length=32)
