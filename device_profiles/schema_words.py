"""The words of the schema: names, types, conditions, UUIDs and bytes as a profile writes them."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

INTEGERS: Final = ("u8", "s8", "u16", "s16", "u24", "s24", "u32", "s32", "u48", "u64", "u16be", "s16be", "u24be", "u32be", "s32be")
TypeName = Literal[
    "u8", "s8", "u16", "s16", "u24", "s24", "u32", "s32", "u48", "u64", "u16be", "s16be", "u24be", "u32be", "s32be",
    "sfloat", "float", "float32", "datetime7", "utf8", "bytes", "flags",
]  # fmt: skip
IntegerName = Literal["u8", "s8", "u16", "s16", "u24", "s24", "u32", "s32", "u48", "u64", "u16be", "s16be", "u24be", "u32be", "s32be"]
NAME: Final = r"^[a-z][a-z0-9_]{0,47}$"
Name = Annotated[str, Field(pattern=NAME)]
_CONDITION: Final = re.compile(r"!?\d+( & !?\d+)*")


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number is expected")
    return value


def _divisor(value: object) -> object:
    if not _number(value):
        raise ValueError("nothing is divided by 0")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]
Divisor = Annotated[int | float, BeforeValidator(_divisor)]


def _condition(value: object) -> object:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _CONDITION.fullmatch(text):
        raise ValueError('a condition is a flag bit that is set, one that is not, or several: "3", "!0", "5 & !0"')
    return text


def _uuid(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('write the UUID in quotes, such as "2A37": YAML would read a number')
    text = value.lower()
    if re.fullmatch(r"[0-9a-f]{4}", text):
        return f"0000{text}-0000-1000-8000-00805f9b34fb"
    if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text):
        raise ValueError("a UUID has 4 hexadecimal digits, or 32 with dashes")
    return text


def _hex(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("write the bytes in quotes, as hexadecimal digits: YAML would read a number")
    try:
        return bytes.fromhex(value).hex()
    except ValueError as error:
        raise ValueError("bytes are an even number of hexadecimal digits") from error


def listed(value: Any) -> list[object]:
    """One thing may stand for a list of one."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


Condition = Annotated[str, BeforeValidator(_condition)]
Uuid = Annotated[str, BeforeValidator(_uuid)]
HexText = Annotated[str, BeforeValidator(_hex)]
Ints = Annotated[list[int], BeforeValidator(listed)]
Byte = Annotated[int, Field(ge=0, le=255)]
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]


class Doc(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, frozen=True)
