"""Reference data: segments, athletes, bindings and what uploads say of themselves, as durable changes in the log and as rows of the stores.

A change carries the whole new value (or `removed`), so the last one of an (entity, tenant, id) is all there is to know of it. Changes are
log records of kind REFERENCE: a replay sees each at its place between the frames. Unknown keys refuse the document.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from broker.errors import BadInputError
from broker.ids import is_id
from broker.topics import UPLOAD_NODE

MAX_POINTS: Final = 3_000  # of a segment: a record body holds 65,535 bytes
ZONES_BPM: Final = (30, 240)  # lower bounds of zones that come in from now on; a log may hold others
MAX_FOLLOWS: Final = 500  # and as many blocked: both fit into a record
MAX_LAPS: Final = 2_000  # of an uploaded file, for the same reason
_STRICT = ConfigDict(extra="forbid", frozen=True)


def _id(text: str) -> str:
    if not is_id(text):
        raise ValueError(f"{text!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    return text


Id = Annotated[str, AfterValidator(_id)]
Position = tuple[int, int]  # latitude and longitude in 1e-7 degrees


class SegmentRef(BaseModel):
    """A stretch of road or path in its direction of travel. Geometry is checked by `processors.segment_rules` before it gets here."""

    model_config = _STRICT
    entity: Literal["segment"] = "segment"
    tenant: Id
    id: Id
    name: str = Field(min_length=1, max_length=80)
    sport: Literal["any", "run", "ride"] = "any"
    points: tuple[Position, ...] = Field(default=(), max_length=MAX_POINTS)
    removed: bool = False


class AthleteRef(BaseModel):
    """Who an athlete is, as far as boards and screens need it. `show`: whether and how a screen others see may name him or her."""

    model_config = _STRICT
    entity: Literal["athlete"] = "athlete"
    tenant: Id
    id: Id
    name: str = Field(min_length=1, max_length=80)
    show: Literal["yes", "no", "nickname"] = "yes"
    nickname: str = Field(default="", max_length=40)
    sex: Literal["f", "m", "x"] | None = None
    birth_year: int | None = Field(default=None, ge=1900, le=2100)
    hr_max_bpm: int = Field(default=190, ge=100, le=240)
    hr_zones_bpm: tuple[int, int, int, int] | None = None  # lower bounds of zones 2-5; None: 60, 70, 80, 90 % of hr_max_bpm
    weight_kg: float | None = Field(default=None, ge=20, le=300, allow_inf_nan=False)
    clubs: tuple[Id, ...] = Field(default=(), max_length=50)
    follows: tuple[Id, ...] = Field(default=(), max_length=MAX_FOLLOWS)  # athletes
    blocks: tuple[Id, ...] = Field(default=(), max_length=MAX_FOLLOWS)  # athletes: neither sees the other among those followed
    removed: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.show == "nickname" and not self.nickname:
            raise ValueError("show = 'nickname' needs a nickname")
        if self.hr_zones_bpm is not None and sorted(set(self.hr_zones_bpm)) != list(self.hr_zones_bpm):
            raise ValueError("hr_zones_bpm must be four rising heart rates")
        return self

    @property
    def shown(self) -> str:
        """The name a screen that others see may show; empty when it may show none."""
        return {"yes": self.name, "nickname": self.nickname, "no": ""}[self.show]

    @property
    def zones_bpm(self) -> tuple[int, int, int, int]:
        """Lower bounds of heart-rate zones 2-5."""
        return self.hr_zones_bpm or tuple(-(-self.hr_max_bpm * share // 100) for share in (60, 70, 80, 90))  # pyright: ignore[reportReturnType]


class BindingRef(BaseModel):
    """Whom a device counts for, from `from_us` (inclusive) to `to_us` (exclusive), UTC microseconds; None is open.

    It wins over the subject a frame was stamped with; of several that cover an instant, the one with the greatest id. `node` empty: a
    device that numbers its own samples (`tenant/device` is its origin), else the one behind that node.
    """

    model_config = _STRICT
    entity: Literal["binding"] = "binding"
    tenant: Id
    id: Id
    node: str = Field(default="", max_length=32)
    device: Id
    athlete: Id
    from_us: int | None = None
    to_us: int | None = None
    removed: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.from_us is not None and self.to_us is not None and self.from_us >= self.to_us:
            raise ValueError("from_us must be before to_us")
        if self.node:
            _id(self.node)
        return self

    @property
    def origin(self) -> str:
        """The origin of the frames it is about."""
        return f"{self.tenant}/{self.node}/{self.device}" if self.node else f"{self.tenant}/{self.device}"

    @property
    def subject(self) -> str:
        """Whom they count for."""
        return f"{self.tenant}/{self.athlete}"

    def covers(self, t_us: int) -> bool:
        """Whether it holds at that instant."""
        return not self.removed and self.spans(t_us)

    def spans(self, t_us: int) -> bool:
        """Whether it holds at that instant, or would if it were not undone."""
        return (self.from_us is None or self.from_us <= t_us) and (self.to_us is None or t_us < self.to_us)

    def gives_back(self, t_us: int) -> bool:
        """Whether it says that a stamp with its athlete at that instant is out of date: it was undone, or had ended, and the box did not
        know yet."""
        return self.spans(t_us) if self.removed else self.to_us is not None and self.to_us <= t_us


class UploadRef(BaseModel):
    """An uploaded file, as far as frames have no place for it. `id` is the device of its frames, so `origin` is where its samples are.

    `sport` is the word of the file (None when it has none), `lap_starts_us` the starts of its laps, rising, `first_us` and `last_us` the
    span of its samples; all UTC microseconds. `athlete` is who it was uploaded for; a binding of its device overrides that.
    """

    model_config = _STRICT
    entity: Literal["upload"] = "upload"
    tenant: Id
    id: Id
    athlete: Id
    name: str = Field(min_length=1, max_length=200)
    sport: str | None = Field(default=None, max_length=40)
    lap_starts_us: tuple[int, ...] = Field(default=(), max_length=MAX_LAPS)
    format: Literal["fit", "gpx", "tcx"]
    first_us: int
    last_us: int
    removed: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.first_us > self.last_us:
            raise ValueError("first_us must not be after last_us")
        if sorted(set(self.lap_starts_us)) != list(self.lap_starts_us):
            raise ValueError("lap_starts_us must rise")
        return self

    @property
    def origin(self) -> str:
        """The origin of its frames."""
        return f"{self.tenant}/{UPLOAD_NODE}/{self.id}"

    @property
    def subject(self) -> str:
        """Whom it was uploaded for."""
        return f"{self.tenant}/{self.athlete}"


class RulingRef(BaseModel):
    """What people say of an effort or an activity; `id` is that of it. An activity's holds for its efforts that have none of their own.

    `decision`: "flag" keeps it off boards, "clear" puts it on them whatever the platform thinks of it. `hidden`: its athlete wants it
    seen nowhere. `sport`: what the activity was (no word for an effort).
    """

    model_config = _STRICT
    entity: Literal["ruling"] = "ruling"
    tenant: Id
    id: Id
    decision: Literal["flag", "clear"] | None = None
    hidden: bool = False
    sport: Literal["run", "ride", "other"] | None = None
    why: str = Field(default="", max_length=200)
    removed: bool = False


class MergeRef(BaseModel):
    """Athlete `id` is the same person as `into`: the efforts of both are one person's, as long as it is not removed."""

    model_config = _STRICT
    entity: Literal["merge"] = "merge"
    tenant: Id
    id: Id
    into: Id
    removed: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.id == self.into:
            raise ValueError("into must be another athlete")
        return self


class ErasureRef(BaseModel):
    """The results of athlete `id` are erased, and those to come are nobody's. For good: it cannot be taken back."""

    model_config = _STRICT
    entity: Literal["erasure"] = "erasure"
    tenant: Id
    id: Id


Reference = SegmentRef | AthleteRef | BindingRef | UploadRef | RulingRef | MergeRef | ErasureRef
_ANY: Final[TypeAdapter[Reference]] = TypeAdapter(Annotated[Reference, Field(discriminator="entity")])


def encode_reference(value: Reference) -> bytes:
    """The body of a REFERENCE record."""
    made = value.model_dump_json(exclude_defaults=True)
    return f'{{"entity":"{value.entity}",{made[1:]}'.encode()


def decode_reference(raw: bytes, where: str = "reference") -> Reference:
    """Inverse of `encode_reference`; BadInputError names `where` and the field."""
    try:
        return _ANY.validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise BadInputError(f"{where}: {field}: {first['msg']}", cure="see docs/segments.md and docs/athletes.md") from error
