"""The part of the schema about commands and their answers (`schema.py` has the rest)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from device_profiles.schema_words import Byte, Divisor, Doc, HexText, IntegerName, Ints, Name, Number


class ArgDoc(Doc):
    """One argument of a command. The raw value is (value - add) * div / mul, rounded."""

    name: Name
    type: IntegerName
    at: Annotated[int, Field(ge=0, le=30)] | None = None
    mul: Number = 1
    div: Divisor = 1
    add: Number = 0
    min: Number
    max: Number
    unit: str = ""
    default: Number | None = None
    round: Literal["nearest", "down"] = "nearest"
    enum: dict[int, str] = Field(default_factory=dict[int, str])
    about: str = ""


class CommandDoc(Doc):
    """Bytes that ask the device for something: an op code (BLE) or a page (ANT+), then the arguments."""

    op: Byte | None = None
    page: Byte | None = None
    before: HexText = ""
    length: Annotated[int, Field(ge=1, le=64)] | None = None
    fill: Byte = 255
    args: list[ArgDoc] = Field(default_factory=list[ArgDoc])
    toggles: bool = False
    about: str = ""

    @model_validator(mode="after")
    def _first(self) -> Self:
        if (self.op is None) == (self.page is None) and not self.before:
            raise ValueError("a command has an `op` (BLE) or a `page` (ANT+)")
        if self.page is not None and self.length is None and any(arg.at is not None for arg in self.args):
            raise ValueError("a command with arguments at fixed places needs `length`")
        return self


class ReplyDoc(Doc):
    """How the device answers a command."""

    op: Byte | None = None
    page: Byte | None = None
    request_at: Annotated[int, Field(ge=0, le=30)] = 1
    result_at: Annotated[int, Field(ge=0, le=30)] = 2
    ok: Ints = Field(default_factory=lambda: [1])
    pending: Ints = Field(default_factory=list[int])
    results: dict[int, str] = Field(default_factory=dict[int, str])
    timeout_s: Annotated[Number, Field(gt=0, le=120)] = 30


class EnvelopeDoc(Doc):
    """Bytes around every command, and a checksum over all of it."""

    before: HexText
    checksum: Literal["none", "xor"] = "none"
