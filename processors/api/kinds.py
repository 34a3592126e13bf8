"""What the bodies of all routes are made of."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

PREFIX: Final = "/api/v1"

Sport = Literal["any", "run", "ride"]
Sex = Literal["f", "m", "x"]
Show = Literal["yes", "no", "nickname"]
Period = Literal["all", "year", "month", "week", "today"]
Degrees = tuple[float, float]  # latitude, longitude
PhaseName = Literal["provisional", "settled", "final"]


class Out(BaseModel):
    """What we send."""

    model_config = ConfigDict(frozen=True)


class In(BaseModel):
    """What is sent to us: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
