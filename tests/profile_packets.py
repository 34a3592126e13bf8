"""Packets for the tests of profiles: golden ones, golden ones with changes, and noise."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from device_profiles.profile import Profile

LONGEST = 40  # bytes; longer than any packet of a default BLE connection


def packets(profile: Profile, dice: Random, count: int) -> Iterator[bytes]:
    """All golden packets, then `count` made ones."""
    whole = [packet for golden in profile.golden for packet in golden.packets]
    yield from whole
    for _ in range(count):
        yield mutated(dice.choice(whole), dice) if whole and dice.random() < 0.7 else dice.randbytes(dice.randrange(LONGEST))


def mutated(packet: bytes, dice: Random) -> bytes:
    """A packet with up to three changes: a byte, a bit, an end cut off or made longer."""
    changed = bytearray(packet)
    for _ in range(dice.randint(1, 3)):
        what = dice.randrange(4)
        if what == 0 and changed:
            changed[dice.randrange(len(changed))] = dice.choice((0, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        elif what == 1 and changed:
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        elif what == 2:
            del changed[dice.randrange(len(changed) + 1) :]
        else:
            changed += dice.randbytes(dice.randrange(1, 9))
    return bytes(changed)
