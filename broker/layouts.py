"""Layouts: the fixed record of each frame kind, read from `layouts.yaml` and compiled for each reader.

CPython packs through `struct`, the processors decode through a numpy dtype (`broker.columns`), MicroPython loads `micropython_source()`.
Invariant: every layout starts with `tick_ms` (u16), and ids and names are unique.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from broker.errors import BadInputError

_STRUCT_CODES: Final = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: `value = raw * scale + offset`, except that `absent` means no value."""

    name: str
    type: str
    unit: str
    scale: float = 1.0
    offset: float = 0.0
    absent: int | None = None
    values: Mapping[int, str] | None = None

    @property
    def code(self) -> str:
        """The `struct` code of the raw value."""
        return _STRUCT_CODES[self.type]

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest raw value that can be stored."""
        bits = int(self.type[1:])
        return (0, (1 << bits) - 1) if self.type[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)

    def to_raw(self, value: float | None) -> int:
        """The raw value of an SI value; None, NaN and values outside the field's range become `absent`.

        A field without an absent value raises BadInputError instead.
        """
        low, high = self.limits
        scaled = math.nan if value is None else (value - self.offset) / self.scale
        if math.isfinite(scaled):
            raw = round(scaled)
            if low <= raw <= high and raw != self.absent:
                return raw
        if self.absent is None:
            raise BadInputError(
                f"field {self.name}: {value!r} does not fit", cure=f"give {low}..{high} in units of {self.scale} {self.unit}"
            )
        return self.absent

    def to_si(self, raw: int) -> float | None:
        """The SI value of a raw value, or None when absent."""
        return None if raw == self.absent else raw * self.scale + self.offset


@dataclass(frozen=True, slots=True)
class Layout:
    """A record layout. `record` packs and unpacks raw values in field order."""

    id: int
    name: str
    about: str
    fields: tuple[Field, ...]
    record: struct.Struct

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return self.record.size

    def field(self, name: str) -> Field:
        """The field of that name; KeyError when the layout has none."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def pack(self, values: Mapping[str, float | None]) -> bytes:
        """One record from SI values; fields not given are absent. Unknown names raise BadInputError."""
        unknown = values.keys() - {f.name for f in self.fields}
        if unknown:
            raise BadInputError(f"layout {self.name} has no field {min(unknown)!r}", cure="see broker/layouts.yaml")
        return self.record.pack(*(f.to_raw(values.get(f.name)) for f in self.fields))

    def unpack(self, records: bytes) -> list[dict[str, float | None]]:
        """All records as SI values (slow: for tools and tests; the processors use columns)."""
        return [{f.name: f.to_si(raw) for f, raw in zip(self.fields, row, strict=True)} for row in self.record.iter_unpack(records)]


class _FieldModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    type: str
    unit: str
    scale: float | int = 1.0
    offset: float | int = 0.0
    absent: int | None = None
    values: dict[int, str] | None = None


class _LayoutModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    id: int
    name: str
    about: str
    fields: list[_FieldModel]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    layouts: list[_LayoutModel]


def parse_layouts(text: str, source: str) -> dict[int, Layout]:
    """Layouts by id from YAML `text`; BadInputError names `source` and what is wrong."""
    try:
        models = _File.model_validate(yaml.safe_load(text)).layouts
    except (yaml.YAMLError, ValidationError) as error:
        raise BadInputError(f"{source}: {error}", cure="follow the form described on top of broker/layouts.yaml") from error
    layouts: dict[int, Layout] = {}
    for model in models:
        problem = _problem(model, layouts)
        if problem:
            raise BadInputError(f"{source}: layout {model.name}: {problem}", cure="see the rules on top of broker/layouts.yaml")
        fields = tuple(Field(f.name, f.type, f.unit, float(f.scale), float(f.offset), f.absent, f.values) for f in model.fields)
        record = struct.Struct("<" + "".join(f.code for f in fields))
        layouts[model.id] = Layout(model.id, model.name, model.about, fields, record)
    return layouts


def _problem(model: _LayoutModel, known: Mapping[int, Layout]) -> str | None:
    if not 1 <= model.id <= 0xFFFF or model.id in known:
        return f"id {model.id} is taken or outside 1..65535"
    if model.name in {layout.name for layout in known.values()}:
        return "name is taken"
    for field in model.fields:
        if field.type not in _STRUCT_CODES:
            return f"field {field.name}: unknown type {field.type!r}"
        if field.scale == 0:
            return f"field {field.name}: scale 0"
    if not model.fields or (model.fields[0].name, model.fields[0].type) != ("tick_ms", "u16"):
        return "first field must be tick_ms u16"
    return None


@cache
def all_layouts() -> Mapping[int, Layout]:
    """The released layouts by id."""
    return parse_layouts((resources.files("broker") / "layouts.yaml").read_text("utf-8"), "broker/layouts.yaml")


def layout_named(name: str) -> Layout:
    """The released layout of that name; BadInputError lists the known ones."""
    for layout in all_layouts().values():
        if layout.name == name:
            return layout
    known = ", ".join(layout.name for layout in all_layouts().values())
    raise BadInputError(f"no layout {name!r}", cure=f"use one of {known}")


def micropython_source(layouts: Sequence[Layout] | None = None) -> str:
    """A Python module with plain tuples that MicroPython can import: `LAYOUTS = {id: (name, struct_format, size, fields)}`.

    `fields` is a tuple of `(name, byte_offset, struct_code, absent or None, scale, offset)`.
    """
    lines = ['"""Generated from broker/layouts.yaml; do not edit."""', "LAYOUTS = {"]
    for layout in layouts if layouts is not None else all_layouts().values():
        rows: list[str] = []
        position = 0
        for field in layout.fields:
            rows.append(f"        ({field.name!r}, {position}, {field.code!r}, {field.absent}, {field.scale!r}, {field.offset!r}),\n")
            position += struct.calcsize("<" + field.code)
        lines.append(f"    {layout.id}: ({layout.name!r}, {layout.record.format!r}, {layout.size}, (\n{''.join(rows)}    )),")
    return "\n".join([*lines, "}", ""])


def micropython_module(layout: Layout) -> str:
    """The module of one layout for the device kit, which imports only those it fills: `ID, NAME, SIZE, ABSENT` and a code for each field.

    A code is `byte offset << 4 | 8 if signed | (bytes - 1)`; `ABSENT` is a record with no value, its tick 0.
    """
    absent = layout.record.pack(*(0 if field.absent is None else field.absent for field in layout.fields))
    lines = ['"""Generated from broker/layouts.yaml; do not edit. SI value = raw * scale + offset."""', ""]
    escaped = "".join(f"\\x{byte:02x}" for byte in absent)
    lines += [f"ID = {layout.id}", f'NAME = "{layout.name}"', f"SIZE = {layout.size}", f'ABSENT = b"{escaped}"']
    position = 0
    for field in layout.fields:
        width = struct.calcsize("<" + field.code)
        code = position << 4 | (8 if field.type[0] == "i" else 0) | width - 1
        lines.append(f"{field.name.upper()} = 0x{code:X}  # {field.type}, {field.unit} * {field.scale:g} + {field.offset:g}")
        position += width
    return "\n".join([*lines, ""])
