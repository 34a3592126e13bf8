"""Commands to a device as bytes, and its answers as values.

Refused with CommandError: a command the profile does not have, an argument that is missing, unknown, no number, or outside its limits.
Limits are those of the standard and of the device; what an athlete may be asked for is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from device_profiles.engine import SIZES
from device_profiles.errors import CommandError
from device_profiles.profile import Arg, Profile
from device_profiles.rows import CODES


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `op` is the op code or page it answers, `result` the device's code and `text` its meaning. `pending`: it is still at
    work."""

    op: int
    ok: bool
    result: int
    pending: bool = False
    text: str = ""


def encode(profile: Profile, command: str, args: Mapping[str, float] | None = None) -> bytes:
    """The bytes of a command. Arguments are in the units of the profile; those with a default may be left out."""
    known = profile.commands.get(command)
    if known is None:
        raise CommandError(
            f"{profile.name} has no command {command!r}\n  cure: use one of {', '.join(profile.commands) or 'no command at all'}"
        )
    given = dict(args or {})
    payload = bytearray(known.start)
    for arg in known.args:
        raw = _raw(command, arg, given.pop(arg.name, arg.default))
        size = SIZES[CODES[arg.type]]
        payload[arg.at : arg.at + size] = raw.to_bytes(
            size, "big" if arg.type.endswith("be") else "little", signed=arg.type.startswith("s")
        )
    if given:
        raise CommandError(
            f"{command} has no argument {', '.join(sorted(given))}\n  cure: use {', '.join(arg.name for arg in known.args) or 'none'}"
        )
    whole = known.before + bytes(payload)
    if known.checksum:
        check = 0
        for byte in whole:
            check ^= byte
        whole += bytes([check])
    return whole


def parse_reply(profile: Profile, payload: bytes) -> Reply | None:
    """The answer in a packet; None if the packet is none, or too short to be one."""
    rule = profile.reply
    if rule is None or len(payload) <= max(rule.first_at, rule.request_at, rule.result_at):
        return None
    if rule.first >= 0 and payload[rule.first_at] != rule.first:
        return None
    result = payload[rule.result_at]
    return Reply(payload[rule.request_at], result in rule.ok, result, result in rule.pending, rule.results.get(result, ""))


def _raw(command: str, arg: Arg, value: float | None) -> int:
    if value is None:
        raise CommandError(f"{command} needs {arg.name}\n  cure: give {arg.name}={arg.min}..{arg.max} {arg.unit}".rstrip())
    if not math.isfinite(value) or not arg.min <= value <= arg.max:
        raise CommandError(f"{command}: {arg.name}={value} is outside {arg.min}..{arg.max} {arg.unit}\n  cure: stay within the limits")
    exact = (Fraction(str(value)) - Fraction(str(arg.add))) * arg.div / arg.mul
    return math.floor(exact) if arg.round == "down" else math.floor(exact + Fraction(1, 2))
