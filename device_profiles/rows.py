"""Field documents -> the rows that the engine reads (`engine.Decoder` says what a row is).

Invariant: every scale is integers whose products a double holds exactly, so that two interpreters never differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Final

from device_profiles import engine
from device_profiles.engine import NEXT, SAME, SIZES
from device_profiles.profile import FieldInfo
from device_profiles.schema import FieldDoc, GateDoc, PartDoc, ProfileDoc
from device_profiles.schema_commands import CommandDoc, ReplyDoc
from device_profiles.values import Row

Fail = Callable[[tuple[str | int, ...], str, str], Exception]
CODES: Final = {
    "u8": engine.U8, "s8": engine.S8, "u16": engine.U16, "s16": engine.S16, "u24": engine.U24, "s24": engine.S24, "u32": engine.U32,
    "s32": engine.S32, "u48": engine.U48, "u64": engine.U64, "u16be": engine.U16BE, "s16be": engine.S16BE, "u24be": engine.U24BE,
    "u32be": engine.U32BE, "s32be": engine.S32BE, "sfloat": engine.SFLOAT, "float": engine.FLOAT, "float32": engine.FLOAT32,
    "datetime7": engine.DATETIME, "utf8": engine.UTF8, "bytes": engine.BYTES, "flags": engine.FLAGS,
}  # fmt: skip
EXACT: Final = 1 << 53


@dataclass(slots=True)
class Names:
    """What is known of the fields of a profile: what they are, on which pages they stand (-1: in every packet), where integers roll
    over."""

    infos: dict[str, FieldInfo] = field(default_factory=dict[str, FieldInfo])
    pages: dict[str, set[int]] = field(default_factory=dict[str, set[int]])
    wraps: dict[str, float] = field(default_factory=dict[str, float])
    gates: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def compile_rows(docs: Sequence[FieldDoc], key: int, page: int, names: Names, fail: Fail) -> tuple[Row, ...]:
    """Rows of one page, or of every packet (page -1). `key` is that of the engine's header."""
    rows: list[Row] = []
    ends: list[tuple[int, int]] = []
    for i, doc in enumerate(docs):
        mask, want = condition(doc.when)
        after_end = any(not mask & other & (want ^ wanted) for other, wanted in ends)  # unless they never stand in one packet
        if after_end and doc.at is None and doc.type != "flags":
            raise fail((i,), "stands after a field that reaches to the end of the packet", "put it before that field")
        if doc.when is not None and not 1 <= key <= 4:
            raise fail((i, "if"), "there are no flags to look at", "say `flags: u8` (u16, u24, u32) in the profile")
        if doc.type == "flags" and not 1 <= key <= 4:
            raise fail((i, "type"), "there are no flags to look at", "say `flags: u8` (u16, u24, u32) in the profile")
        if mask >> 8 * key and doc.when is not None:
            raise fail((i, "if"), f"the flags have only {8 * key} bits", "name a bit that exists")
        rows += _rows(doc, i, page, mask, want, names, fail)
        if doc.repeat is not None or (doc.type in ("utf8", "bytes") and doc.length is None):
            ends.append((mask, want))
    return tuple(rows)


def condition(text: str | None) -> tuple[int, int]:
    """`"5 & !0"` -> mask and wanted value of the flags."""
    mask = want = 0
    for part in [] if text is None else text.split(" & "):
        bit = 1 << int(part.lstrip("!"))
        mask |= bit
        want |= 0 if part.startswith("!") else bit
    return mask, want


def scale(mul: float, div: float, add: float) -> tuple[int, int, int]:
    """Scale as written -> integers (mul, pre, div) with value = (raw * mul + pre) / div; div 0 if the raw value is the value."""
    factor, offset = Fraction(str(mul)) / Fraction(str(div)), Fraction(str(add))
    below = lcm(factor.denominator, offset.denominator)
    if factor == 1 and not offset:
        return 1, 0, 0
    return int(factor * below), int(offset * below), below


def shift(doc: ProfileDoc, offset: int) -> ProfileDoc:
    """The profile with every fixed place `offset` bytes further on."""

    def moved(fields: Sequence[FieldDoc]) -> list[FieldDoc]:
        return [one.model_copy(update={"at": one.at + offset}) if one.at is not None else one for one in fields]

    page = None if doc.page is None else doc.page.model_copy(update={"byte": doc.page.byte + offset})
    reply: ReplyDoc | None = doc.reply
    if reply is not None:
        reply = reply.model_copy(update={"request_at": reply.request_at + offset, "result_at": reply.result_at + offset})
    commands: dict[str, CommandDoc] = dict(doc.commands)
    pages = {number: moved(rows) for number, rows in doc.pages.items()}
    return doc.model_copy(update={"page": page, "fields": moved(doc.fields), "pages": pages, "reply": reply, "commands": commands})


def _rows(doc: FieldDoc, i: int, page: int, mask: int, want: int, names: Names, fail: Fail) -> Iterator[Row]:
    at = NEXT if doc.at is None else doc.at
    if doc.skip is not None:
        yield ("", engine.SKIP, NEXT, False, mask, want, 1, 0, 0, None, 0, doc.skip, None)
    elif doc.pack is not None:
        for k, part in enumerate(doc.parts):
            place = at if k == 0 else SAME
            yield _row(part, doc.pack, place, mask, want, page, names, lambda p, d, c, k=k: fail((i, "parts", k, *p), d, c))
    elif doc.group:
        for k, one in enumerate(doc.group):
            if one.name is None or one.type in ("utf8", "bytes", "flags") or one.when is not None or one.at is not None or one.group:
                raise fail(
                    (i, "group", k), "a group has plain fields of fixed length only", "give it a name and a type, no `if` and no `at`"
                )
            yield _row(
                one, one.type or "", NEXT, mask, want, page, names, lambda p, d, c, k=k: fail((i, "group", k, *p), d, c), repeat=True
            )
    else:
        if doc.repeat is not None and doc.type in ("utf8", "bytes", "flags"):
            raise fail((i, "repeat"), f"{doc.type} cannot be repeated", "leave `repeat` out")
        yield _row(doc, doc.type or "", at, mask, want, page, names, lambda p, d, c: fail((i, *p), d, c), repeat=doc.repeat is not None)


def _row(
    doc: FieldDoc | PartDoc, type_name: str, at: int, mask: int, want: int, page: int, names: Names, fail: Fail, *, repeat: bool = False
) -> Row:
    name = doc.name or ""
    code = CODES[type_name]
    mul, pre, div = scale(doc.mul, doc.div, doc.add)
    bits = _bits(doc, code, fail)
    width = abs(bits[1]) or 8 * SIZES[code]
    if code < engine.SFLOAT and div and (1 << width) * abs(mul) + abs(pre) >= EXACT:
        raise fail(("mul",), "the scaled value does not fit a double exactly", "use a smaller `mul`, or scale in `samples`")
    if code in (engine.DATETIME, engine.UTF8, engine.BYTES) and (div or doc.na):
        raise fail((), f"a {type_name} has no scale and no `na`", "leave them out")
    before = names.infos.get(name, FieldInfo(name))  # what a name says once holds wherever it stands
    if before.unit not in ("", doc.unit):
        raise fail(("unit",), f"{name!r} has another unit elsewhere in this profile", "give one of them another name")
    plausible = before.plausible if doc.plausible is None else (doc.plausible[0], doc.plausible[1])
    names.infos[name] = FieldInfo(name, doc.unit, doc.enum or before.enum, plausible, getattr(doc, "about", "") or before.about)
    names.pages.setdefault(name, set()).add(page)
    if code < engine.SFLOAT and not repeat:
        names.wraps[name] = (1 << width) * mul / (div or 1)
    return (name, code, at, repeat, mask, want, mul, pre, div, tuple(doc.na) or None, *bits, _gate(doc.state_gate, name, names))


def _bits(doc: FieldDoc | PartDoc, code: int, fail: Fail) -> tuple[int, int]:
    if isinstance(doc, FieldDoc) and doc.length is not None:
        return 0, doc.length
    if doc.bits is None:
        if doc.signed:
            raise fail(("signed",), "is for `bits`", "use a signed type")
        return 0, 0
    bit, bits = doc.bits
    if not (0 <= bit < 64 and 1 <= bits <= 53) or (code != engine.FLAGS and bit + bits > 8 * SIZES[code]):
        raise fail(("bits",), f"{bits} bits from bit {bit} do not lie in the value", "bits are [first, how many], counted from the lowest")
    return bit, -bits if doc.signed else bits


def _gate(doc: GateDoc | None, name: str, names: Names) -> tuple[str, tuple[int, ...], bool] | None:
    if doc is None:
        return None
    names.gates.append((name, doc.field))
    return (doc.field, tuple(doc.refused or doc.only or ()), doc.refused is None)
