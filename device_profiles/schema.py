"""What a profile file may say, checked by pydantic; `docs/profiles.md` explains every word. A bad profile is refused with file, line and
field.

Shapes are checked here, and what one field decides alone; what needs the whole profile (names that must exist, fields after an open end) is
checked by `compiler.py`, with the same errors.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from device_profiles.schema_commands import CommandDoc, EnvelopeDoc, ReplyDoc
from device_profiles.schema_words import (
    INTEGERS,
    Byte,
    Condition,
    Divisor,
    Doc,
    HexText,
    IntegerName,
    Ints,
    Name,
    Number,
    Pair,
    Range,
    TypeName,
    Uuid,
    listed,
)


class GateDoc(Doc):
    """The field is withheld while `field` has one of `not`, or has none of `only`."""

    field: Name
    refused: Annotated[list[int] | None, BeforeValidator(listed)] = Field(default=None, alias="not")
    only: Annotated[list[int] | None, BeforeValidator(listed)] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.refused is None) == (self.only is None):
            raise ValueError("give either `not` or `only`")
        return self


class PartDoc(Doc):
    """Some bits of a `pack`, or a command argument's place: [at, length] from the lowest bit."""

    name: Name
    bits: Pair
    signed: bool = False
    mul: Number = 1
    div: Divisor = 1
    add: Number = 0
    unit: str = ""
    na: Ints = Field(default_factory=list[int])
    enum: dict[int, str] = Field(default_factory=dict[int, str])
    plausible: Range | None = None
    state_gate: GateDoc | None = None


def _part(value: object) -> object:
    if not isinstance(value, list):
        return value
    items = listed(value)
    if len(items) != 3:
        raise ValueError("a part is [name, first bit, bits] or a mapping")
    return {"name": items[0], "bits": items[1:]}


class FieldDoc(Doc):
    """One row: a named field, or `skip`, `pack` or `group`."""

    name: Name | None = None
    type: TypeName | None = None
    when: Condition | None = Field(default=None, alias="if")
    at: Annotated[int, Field(ge=0, le=250)] | None = None
    bits: Pair | None = None
    signed: bool = False
    length: Annotated[int, Field(ge=1, le=250)] | None = None
    mul: Number = 1
    div: Divisor = 1
    add: Number = 0
    unit: str = ""
    na: Ints = Field(default_factory=list[int])
    enum: dict[int, str] = Field(default_factory=dict[int, str])
    plausible: Range | None = None
    state_gate: GateDoc | None = None
    repeat: Literal["rest"] | None = None
    about: str = ""
    skip: Annotated[int, Field(ge=1, le=250)] | None = None
    pack: IntegerName | None = None
    parts: list[Annotated[PartDoc, BeforeValidator(_part)]] = Field(default_factory=list[PartDoc])
    group: list[FieldDoc] = Field(default_factory=list["FieldDoc"])

    @model_validator(mode="after")
    def _kind(self) -> Self:
        kinds = [self.name is not None, self.skip is not None, self.pack is not None, bool(self.group)]
        if kinds.count(True) != 1:
            raise ValueError("a field has exactly one of `name`, `skip`, `pack` and `group`")
        if (self.name is None) != (self.type is None):
            raise ValueError("`name` and `type` go together")
        if (self.pack is None) != (not self.parts):
            raise ValueError("`pack` and `parts` go together")
        if self.bits is not None and self.type not in (*INTEGERS, "flags"):
            raise ValueError("`bits` are taken from an integer or from the flags")
        if self.type == "flags" and (self.bits is None or self.when is not None):
            raise ValueError("a field of the flags needs `bits`, and has no `if`")
        if self.length is not None and self.type not in ("utf8", "bytes"):
            raise ValueError("`length` is for utf8 and bytes")
        if self.group and self.repeat is None:
            raise ValueError("a group needs `repeat: rest`")
        return self


class BleDoc(Doc):
    """Where a BLE value comes from."""

    service: Uuid | None = None
    characteristic: Uuid
    mode: Literal["notify", "indicate", "read", "write", "advert"] = "notify"
    period_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0


class AntDoc(Doc):
    """The channel of an ANT+ device. Period in 1/32768 s."""

    type: Annotated[int, Field(ge=1, le=127)]
    period: Annotated[int, Field(ge=1, le=65535)]
    rf: Annotated[int, Field(ge=0, le=124)] = 57


class PageDoc(Doc):
    """Which byte names the page. `toggle`: a bit of the same byte that must have been seen both ways before pages are believed (ANT+
    heart rate)."""

    byte: Annotated[int, Field(ge=0, le=32)] = 0
    mask: Byte = 255
    toggle: Byte = 0


class MoreDoc(Doc):
    """A record over several packets: it goes on while `bit` of the flags differs from `merge_until`."""

    bit: Annotated[int, Field(ge=0, le=31)]
    merge_until: Literal[0, 1] = 0


class DeriveDoc(Doc):
    """A value from several packets."""

    name: Name
    kind: Literal["rate", "accumulate", "interval", "toggles", "power_from_torque", "join", "inverse"]
    field: Name | None = None
    count: Name | None = None
    time: Name | None = None
    previous: Name | None = None
    high: Name | None = None
    tick: Annotated[Number, Field(gt=0)] = 1
    per: Number = 1
    scale: Name | None = None
    hold_s: Annotated[Number, Field(gt=0, le=60)] = 3
    max_gap_s: Annotated[Number, Field(gt=0)] | None = None
    unit: str = ""
    plausible: Range | None = None

    @model_validator(mode="after")
    def _needs(self) -> Self:
        events = ("count", "time")
        needed = {"rate": events, "interval": events, "power_from_torque": events, "join": ("field", "high")}.get(self.kind, ("field",))
        for word in needed:
            if getattr(self, word) is None:
                raise ValueError(f"kind {self.kind} needs `{word}`")
        return self


class SourceDoc(Doc):
    """Where a layout's field comes from: value * mul / div + add; or translated by `values`."""

    field: Name
    mul: Number = 1
    div: Divisor = 1
    add: Number = 0
    values: dict[int, int] = Field(default_factory=dict[int, int])


def _source(value: object) -> object:
    return [{"field": item} if isinstance(item, str) else item for item in listed(value)]


class EachDoc(Doc):
    """One sample for each value of a repeated field, with those of others beside it.

    `age: after`: the values are spans in seconds, the last ends with the packet; `every_ms`: they are so far apart, the last is new.
    """

    field: Name
    to: Name
    mul: Number = 1
    div: Divisor = 1
    age: Literal["none", "after"] = "none"
    every_ms: Annotated[Number, Field(gt=0, le=10_000)] | None = None
    beside: dict[Name, Name] = Field(default_factory=dict[str, str], alias="with")


class SamplesDoc(Doc):
    """How fields become samples of a layout."""

    layout: str
    set: dict[Name, Number] = Field(default_factory=dict[str, Number])
    map: dict[Name, Annotated[list[SourceDoc], BeforeValidator(_source)]] = Field(default_factory=dict[str, list[SourceDoc]])
    each: EachDoc | None = None
    once_per: Name | None = None


class UseDoc(Doc):
    """Takes over everything another profile says, `offset` bytes further on."""

    profile: Name
    offset: Annotated[int, Field(ge=0, le=32)] = 0


class GoldenDoc(Doc):
    """Packets and what they must come to. Several packets come `every_ms` apart; fields and samples are those of the last."""

    hex: Annotated[list[HexText], BeforeValidator(listed), Field(min_length=1)]
    fields: dict[str, Any]
    samples: list[dict[str, Any]] | None = None
    every_ms: Annotated[int, Field(ge=1)] | None = None
    about: str = ""


class ProfileDoc(Doc):
    """One profile as its file says it."""

    name: Name
    about: str = ""
    ble: BleDoc | None = None
    ant: AntDoc | None = None
    flags: Literal["u8", "u16", "u24", "u32"] | None = None
    more_data: MoreDoc | None = None
    page: PageDoc | None = None
    fields: list[FieldDoc] = Field(default_factory=list[FieldDoc])
    pages: dict[Byte, list[FieldDoc]] = Field(default_factory=dict[int, list[FieldDoc]])
    common: list[Byte] = Field(default_factory=list[int])
    keep: list[Name] = Field(default_factory=list[str])
    derive: list[DeriveDoc] = Field(default_factory=list[DeriveDoc])
    settings: dict[Name, Number] = Field(default_factory=dict[str, Number])
    samples: Annotated[list[SamplesDoc], BeforeValidator(listed)] = Field(default_factory=list[SamplesDoc])
    commands: dict[Name, CommandDoc] = Field(default_factory=dict[str, CommandDoc])
    reply: ReplyDoc | None = None
    envelope: EnvelopeDoc | None = None
    use: UseDoc | None = None
    hook: Name | None = None
    golden: list[GoldenDoc] = Field(default_factory=list[GoldenDoc])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.ble is None) == (self.ant is None):
            raise ValueError("a profile has exactly one of `ble` and `ant`")
        if self.page is not None and self.flags is not None:
            raise ValueError("a profile has `flags` or `page`, not both")
        if self.pages and self.page is None:
            raise ValueError("`pages` need `page`: which byte names them")
        if self.more_data is not None and self.flags is None:
            raise ValueError("`more_data` needs `flags`")
        return self


class FileDoc(Doc):
    """A profile file: profiles, and pages that several ANT+ profiles share by number."""

    profiles: list[ProfileDoc] = Field(default_factory=list[ProfileDoc])
    common_pages: dict[Byte, list[FieldDoc]] = Field(default_factory=dict[int, list[FieldDoc]])


class QuirkDoc(Doc):
    """What some devices do differently. Patterns as of a shell (`*`, `?`), without regard to case; all that are given must match."""

    profile: Name
    match: dict[Literal["name", "manufacturer", "model", "hardware", "firmware"], str] = Field(min_length=1)
    patch: dict[str, Any] = Field(min_length=1)
    about: str


class QuirksDoc(Doc):
    """The file `quirks.yaml`."""

    quirks: list[QuirkDoc] = Field(default_factory=list[QuirkDoc])
