"""Command and reply documents -> what `commands.py` follows."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from device_profiles.engine import SIZES
from device_profiles.profile import Arg, Command, ReplyRule
from device_profiles.rows import CODES
from device_profiles.schema_commands import ArgDoc, CommandDoc, EnvelopeDoc, ReplyDoc

Fail = Callable[[tuple[str | int, ...], str, str], Exception]


def compile_command(name: str, doc: CommandDoc, envelope: EnvelopeDoc | None, fail: Fail) -> Command:
    """Give every argument its place, and lay out the bytes around them."""
    first = doc.op if doc.op is not None else doc.page
    start = (b"" if first is None else bytes([first])) + bytes.fromhex(doc.before)
    cursor = len(start)
    args: list[Arg] = []
    for i, arg in enumerate(doc.args):
        at = cursor if arg.at is None else arg.at
        args.append(_arg(arg, at, i, fail))
        cursor = at + SIZES[CODES[arg.type]]
    length = doc.length or max([len(start), *(arg.at + SIZES[CODES[arg.type]] for arg in args)])
    if len(start) > length or cursor > length:
        raise fail(("length",), f"the arguments need {max(cursor, len(start))} bytes", "make `length` larger")
    return Command(
        name=name,
        request=first if first is not None else start[0],
        start=start + bytes([doc.fill]) * (length - len(start)),
        args=tuple(args),
        before=bytes.fromhex(envelope.before) if envelope else b"",
        checksum=envelope is not None and envelope.checksum == "xor",
        toggles=doc.toggles,
        about=doc.about,
    )


def compile_reply(doc: ReplyDoc, first_at: int) -> ReplyRule:
    """The rule of answers. `first_at` is the byte of the op code or page."""
    first = doc.op if doc.op is not None else doc.page
    return ReplyRule(
        first=-1 if first is None else first,
        first_at=first_at,
        request_at=doc.request_at,
        result_at=doc.result_at,
        ok=tuple(doc.ok),
        pending=tuple(doc.pending),
        results=doc.results,
        timeout_s=float(doc.timeout_s),
    )


def _arg(doc: ArgDoc, at: int, i: int, fail: Fail) -> Arg:
    factor = Fraction(str(doc.mul)) / Fraction(str(doc.div))
    if factor <= 0:
        raise fail(("args", i, "mul"), "a scale of 0 or less", "use positive `mul` and `div`")
    bits = 8 * SIZES[CODES[doc.type]]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if doc.type.startswith("s") else (0, (1 << bits) - 1)
    for word, value in (("min", doc.min), ("max", doc.max)):
        if not low <= round((Fraction(str(value)) - Fraction(str(doc.add))) / factor) <= high:
            raise fail(("args", i, word), f"{value} does not fit a {doc.type} at this scale", "narrow the limit to what the type holds")
    return Arg(
        doc.name,
        doc.type,
        at,
        factor.numerator,
        factor.denominator,
        doc.add,
        doc.min,
        doc.max,
        doc.unit,
        doc.default,
        doc.round,
        doc.enum,
        doc.about,
    )
