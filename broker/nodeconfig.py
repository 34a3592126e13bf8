"""What the platform wants of a node: the retained JSON document on `.../cfg`, and the state a node reports on `.../state`.

Unknown keys are errors: a node refuses such a document whole, keeps the one it runs and says why in its state.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from broker.errors import ConfigError
from broker.ids import is_id

_STRICT = ConfigDict(extra="forbid", frozen=True)


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{text!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    return text


DeviceName = Annotated[str, AfterValidator(_id)]
AthleteName = Annotated[str, AfterValidator(_id)]


class Binding(BaseModel):
    """Which athlete wears or uses a device, from `from_us` (inclusive) to `to_us` (exclusive), UTC microseconds; None is open."""

    model_config = _STRICT
    device: DeviceName
    athlete: AthleteName
    from_us: int | None = None
    to_us: int | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Binding:
        if self.from_us is not None and self.to_us is not None and self.from_us >= self.to_us:
            raise ValueError("from_us must be before to_us")
        return self


class UplinkTarget(BaseModel):
    """The broker a node shall send to instead of the one it was set up with."""

    model_config = _STRICT
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(ge=1, le=65_535)
    tls: bool = False


class NodeConfig(BaseModel):
    """The desired configuration of one node. `version` only grows; a node ignores older ones.

    A new `uplink` is on trial: when the node does not reach it within 60 s, it goes back to the configuration before.
    """

    model_config = _STRICT
    version: int = Field(ge=0)
    bindings: tuple[Binding, ...] = ()
    frame_ms: int = Field(default=250, ge=50, le=10_000)
    spool_cap_bytes: int | None = Field(default=None, ge=1_000_000)
    full_policy: Literal["reject_new", "drop_oldest"] | None = None
    uplink: UplinkTarget | None = None

    def athlete_at(self, device: str, utc_us: int | None) -> str | None:
        """Who uses `device` at `utc_us` (None: undated, only open-ended bindings count). The latest `from_us` wins."""
        best: Binding | None = None
        for b in self.bindings:
            if b.device != device:
                continue
            if utc_us is None:
                inside = b.to_us is None
            else:
                inside = (b.from_us is None or b.from_us <= utc_us) and (b.to_us is None or utc_us < b.to_us)
            if inside and (best is None or (b.from_us or 0) >= (best.from_us or 0)):
                best = b
        return best.athlete if best else None


class DeviceCount(BaseModel):
    """One device as its node counts it, in frames since the spool's epoch began."""

    model_config = _STRICT
    device: str
    taken: int = 0
    stored: int = 0
    refused: int = 0


class NodeState(BaseModel):
    """What a node says of itself: retained on `.../state`; the will is the same document with `online` false."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    online: bool
    epoch: str = ""
    cfg_version: int = 0
    cfg_error: str = ""
    spool_rows: int = 0
    spool_bytes: int = 0
    hours_left: float | None = None
    counters: dict[str, int] = Field(default_factory=dict)
    devices: tuple[DeviceCount, ...] = ()
    failing: dict[str, str] = Field(default_factory=dict)


def parse_node_config(raw: bytes, where: str) -> NodeConfig:
    """The configuration in `raw`; ConfigError names `where` and the field."""
    try:
        return NodeConfig.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise ConfigError(f"{where}: {field}: {first['msg']}", cure="see docs/wire.md, section cfg") from error
