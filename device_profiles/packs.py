"""Tables of profiles as bytes, for devices: 8 bytes a field, names and scales once in all. `engine.Pack` reads them, there and here.

A pack holds the profiles a device uses, with at most 255 different names. Layout, little-endian (counts are bytes):
- version, then how many profiles, names, conditions, scales, bits, sentinels and gates there are;
- conditions (mask u32, want u32), scales (mul s32, pre s32, div u32), bits (first u8, how many s8);
- names (length, ASCII), sentinels (count, s64 each), gates (name, only, count, s32 each);
- each profile: length of the rest (u16), name (length, ASCII), key, page byte, page mask, blocks;
- each block: page (u16, 0xFFFF for every packet), rows; each row: type (0x80: repeated), at, condition, scale, sentinels, bits, gate, name.
An index of 0 means none, 1 is the first; names count from 0.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from typing import TypeVar

from device_profiles.engine import PACK_VERSION
from device_profiles.errors import ProfileError
from device_profiles.profile import Profile
from device_profiles.values import Gate, Row

_K = TypeVar("_K", bound=Hashable)


def pack(profiles: Sequence[Profile]) -> bytes:
    """The pack of some profiles. ProfileError if they are too many for one, or have a number that does not fit."""
    pools = _Pools()
    try:
        bodies = b"".join(_profile(profile, pools) for profile in profiles)
        head = bytes(
            (
                PACK_VERSION,
                len(profiles),
                *map(len, (pools.names, pools.conditions, pools.scales, pools.bits, pools.sentinels, pools.gates)),
            )
        )
        return head + pools.encode() + bodies
    except (struct.error, ValueError, OverflowError) as error:
        raise ProfileError(f"these {len(profiles)} profiles do not fit one pack: {error}\n  cure: make packs of fewer profiles") from error


def micropython_source(profiles: Sequence[Profile]) -> str:
    """A module for a device: `from profile_pack import PACK`, then `engine.Pack(PACK).decoder(name)`."""
    names = ", ".join(profile.name for profile in profiles)
    return f"# Generated from the profiles of Paceline: {names}\nPACK = {pack(profiles)!r}\n"


class _Pools:
    """What rows share, each once, in the order of first use."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.conditions: dict[tuple[int, int], int] = {}
        self.scales: dict[tuple[int, int, int], int] = {}
        self.bits: dict[tuple[int, int], int] = {}
        self.sentinels: dict[tuple[int, ...], int] = {}
        self.gates: dict[Gate, int] = {}

    def row(self, row: Row) -> bytes:
        """The 8 bytes of a row."""
        name, code, at, repeat, mask, want, mul, pre, div, nas, bit, bits, gate = row
        if gate is not None:
            _index(self.names, gate[0])
        return bytes(
            (
                code | 0x80 * repeat,
                at,
                1 + _index(self.conditions, (mask, want)) if mask else 0,
                1 + _index(self.scales, (mul, pre, div)) if div else 0,
                1 + _index(self.sentinels, nas) if nas else 0,
                1 + _index(self.bits, (bit, bits)) if bits else 0,
                1 + _index(self.gates, gate) if gate is not None else 0,
                _index(self.names, name),
            )
        )

    def encode(self) -> bytes:
        """The pools, in the order the header counts them but for names, which stand after what has a fixed size."""
        parts = [struct.pack("<II", *pair) for pair in self.conditions]
        parts += [struct.pack("<iiI", *scale) for scale in self.scales]
        parts += [struct.pack("<Bb", *pair) for pair in self.bits]
        parts += [bytes([len(name)]) + name.encode("ascii") for name in self.names]
        parts += [struct.pack(f"<B{len(nas)}q", len(nas), *nas) for nas in self.sentinels]
        parts += [struct.pack(f"<BBB{len(values)}i", self.names[name], only, len(values), *values) for name, values, only in self.gates]
        return b"".join(parts)


def _profile(profile: Profile, pools: _Pools) -> bytes:
    table = profile.table
    blocks = [(0xFFFF, table.always), *table.pages.items()]
    body = bytes([len(profile.name)]) + profile.name.encode("ascii") + bytes((table.key, table.page_at, table.page_mask, len(blocks)))
    for page, rows in blocks:
        body += struct.pack("<HB", page, len(rows)) + b"".join(map(pools.row, rows))
    return struct.pack("<H", len(body)) + body


def _index(pool: dict[_K, int], key: _K) -> int:
    return pool.setdefault(key, len(pool))
