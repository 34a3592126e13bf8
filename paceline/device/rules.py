"""What the fields of profiles come to, as a module for devices (`sensor_rules`): their sample rules, in raw units of the layouts.

Generated at each build; `ble/reading.py` follows it. A rule is JSON: text lies in flash, and only those of sensors that are near are read
into the heap (all eight of a strap bridge took 10 KB). Refuses profiles that need more than a device does: hooks, kept fields, pages to be
believed, values by word, lists beside lists.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from broker.errors import ConfigError
from broker.layouts import Layout, layout_named
from device_profiles.engine import FLAGS
from device_profiles.profile import Derive, Profile, SampleRule, Source

_BASE: Final = "0000", "-0000-1000-8000-00805f9b34fb"
_CODES: Final = {"u8": (1, 0), "i8": (1, 1), "u16": (2, 0), "i16": (2, 1), "u32": (4, 0), "i32": (4, 1), "u64": (8, 0)}  # bytes, signed


def rules_module(profiles: Sequence[Profile]) -> str:
    """The source of `sensor_rules`: SERVICES and RULES. ConfigError names the profile that a device cannot read."""
    services: dict[int, list[tuple[int, str]]] = {}
    rules: dict[str, str] = {}
    for profile in profiles:
        services.setdefault(_short(profile.service), []).append((_short(profile.key), profile.name))
        rules[profile.name] = rule_text(profile)
    lines = ["# Generated from the profiles of Paceline; do not edit.", "SERVICES = {"]
    lines += [f"    0x{service:04X}: {tuple(found)!r}," for service, found in services.items()]
    lines += ["}", "RULES = {", *(f"    {name!r}: {rule!r}," for name, rule in rules.items()), "}"]
    return "\n".join(lines) + "\n"


def rule_text(profile: Profile) -> str:
    """The rule of one profile as a device reads it, JSON."""
    return json.dumps(json.loads(json.dumps(rule_of(profile)), parse_float=_whole), separators=(",", ":"))


def _whole(text: str) -> float:
    """A number without a fraction as an integer: it is no object on a device, and comes to the same."""
    number = float(text)
    return int(number) if number.is_integer() else number


def rule_of(profile: Profile) -> dict[str, Any]:
    """The rule of one profile, plain data."""
    unread = profile.hook or profile.keep or profile.toggle or any(derive.kind not in ("rate", "inverse") for derive in profile.derives)
    if profile.source != "ble" or unread or any(rule.once_per for rule in profile.samples):
        raise ConfigError(f"{profile.name}: a device cannot read it", cure="leave it to the box, which reads all profiles")
    return {
        "plausible": tuple((info.name, *info.plausible) for info in profile.fields.values() if info.plausible is not None),
        "rates": tuple(_rate(derive, profile) for derive in profile.derives if derive.kind == "rate"),
        "inverses": tuple((derive.name, derive.field, derive.per) for derive in profile.derives if derive.kind == "inverse"),
        "more": (profile.more_mask, profile.more_until, profile.period_ms) if profile.more_mask else None,
        "flags": tuple(row[0] for row in profile.table.always if row[1] == FLAGS),
        "samples": tuple(_sample(rule, profile) for rule in profile.samples),
    }


def code_of(layout: Layout, field: str) -> int:
    """The code of a field in the kit's tables: offset, signed or not, bytes less one (`kit/frame.py`)."""
    at = 0
    for one in layout.fields:
        size, signed = _CODES[one.type]
        if one.name == field:
            return at << 4 | signed << 3 | size - 1
        at += size
    raise ConfigError(f"layout {layout.name} has no field {field!r}", cure="see broker/layouts.yaml")


def _rate(derive: Derive, profile: Profile) -> tuple[Any, ...]:
    setting = (derive.scale, profile.settings.get(derive.scale, 1.0))
    factor, span = derive.tick * derive.per, derive.time_wrap * derive.tick
    hold_ms, gap_ms = derive.hold_us // 1000, derive.max_gap_us // 1000
    return derive.name, derive.field, derive.time, factor, setting, int(derive.wrap), span, hold_ms, gap_ms


def _sample(rule: SampleRule, profile: Profile) -> tuple[Any, ...]:
    layout = layout_named(rule.layout)
    scales = {field.name: (field.scale, field.offset) for field in layout.fields}
    constants = tuple((code_of(layout, name), _raw(scales[name], value)) for name, value in rule.constants.items())
    sources = tuple((code_of(layout, to), tuple(_source(source, scales[to], profile) for source in found)) for to, found in rule.sources)
    each = None
    if rule.each is not None:
        if rule.each.beside or not rule.each.aged:
            raise ConfigError(f"{profile.name}: a device cannot read its lists", cure="leave it to the box, which reads all profiles")
        each = (rule.each.field, code_of(layout, rule.each.to), rule.each.mul, rule.each.div, scales[rule.each.to][0])
    return layout.name.replace(".", "_"), constants, sources, each


def _source(source: Source, scale: tuple[float, float], profile: Profile) -> tuple[str, float, float, float, float, float]:
    if source.values:
        raise ConfigError(f"{profile.name}: {source.field} is translated by word", cure="leave it to the box, which reads all profiles")
    return source.field, source.mul, source.div, source.add, scale[1], scale[0]


def _raw(scale: tuple[float, float], value: float) -> int:
    return round((value - scale[1]) / scale[0])


def _short(uuid: str) -> int:
    if not (uuid.startswith(_BASE[0]) and uuid.endswith(_BASE[1])):
        raise ConfigError(f"{uuid}: a device knows the 16-bit UUIDs of the standard only", cure="leave it to the box")
    return int(uuid[4:8], 16)
