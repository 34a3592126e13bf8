"""How long certificates and enrolment codes hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CaRules(BaseModel):
    """A node renews at two thirds of the life of its certificate; for `grace_days` after the end its key is still enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    life_days: float = Field(default=90, gt=0, le=825)
    grace_days: float = Field(default=90, ge=0, le=3_650)
    code_hours: float = Field(default=24, gt=0, le=720)
