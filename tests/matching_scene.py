"""A small world to match in: segments over each other on a loop, noisy laps with gaps, velocities now and then; and its whole outcome.

As a program it prints the outcome as the interpreter makes it, without numba: `python -m tests.matching_scene`.
"""

from __future__ import annotations

import random
import sys
from hashlib import blake2b

if __name__ == "__main__":
    sys.modules["numba"] = None  # pyright: ignore[reportArgumentType]

from processors.attempts import Arena, Attempts
from processors.geometry import units
from processors.kernels.compiled import COMPILED
from processors.matcher import NO_SPEED, Fixes, advance_all, settle
from processors.segment_rules import segment_ref
from processors.segments import SegmentIndex
from simulators.course import moved, synthetic_loop

LOOP = synthetic_loop()
T0_US = 1_760_000_000_000_000


def index() -> SegmentIndex:
    """Forty segments, five of them changed since, one removed."""
    points = list(zip(LOOP.lats_deg, LOOP.lons_deg, strict=True))
    cuts = {f"s{k:02}": (k * 7 % 200, k * 7 % 200 + 15 + k * 3 % 25) for k in range(40)}
    refs = [segment_ref("gym", name, name, "any", points[a : b + 1]) for name, (a, b) in cuts.items()]
    moved_refs = [ref.model_copy(update={"points": ref.points[1:]}) for ref in refs[:5]]
    return SegmentIndex.build(refs).changed([*moved_refs, refs[7].model_copy(update={"removed": True})])


def fixes(seed: int, seconds: int) -> Fixes:
    """Laps at about 5 m/s: noise, spikes, silences, repeated and absent words."""
    rng = random.Random(seed)
    rows: list[tuple[int, int, int, int, int, int]] = []
    t_s = 0.0
    while t_s < seconds:
        t_s += rng.choice((0.1, 1.0, 1.0, 1.0, 1.0, 1.0, 5.0, 0.0)) if rng.random() < 0.998 else rng.choice((30.0, 119.0, 130.0))
        place = LOOP.at(5.0 * t_s + 300.0 * seed)
        spread = 300.0 if rng.random() < 0.002 else 3.0
        lat, lon = units(*moved(place.lat_deg, place.lon_deg, rng.gauss(0, spread), rng.gauss(0, spread)))
        speed = (rng.randrange(-5_000, 5_000), rng.randrange(-5_000, 5_000)) if rng.random() < 0.3 else (NO_SPEED, NO_SPEED)
        rows.append((T0_US + round(t_s * 1e6), lat, lon, rng.choice((-1, 0, 300, 900, 25_000)), speed[0], speed[1]))
    return Fixes.of(*(list(column) for column in zip(*rows, strict=True)))


def outcome() -> str:
    """A fingerprint of tables, of all that is told of three subjects in one batch after the other, and of every state between."""
    segments = index()
    arena = Arena()
    attempts = [Attempts(arena) for _ in range(3)]
    tracks = [fixes(seed, 900) for seed in range(3)]
    seen = blake2b(b"".join(a.tobytes() for a in (segments.lower.gates, segments.lower.legs, segments.upper.legs, segments.lower.entries)))
    for lo in range(0, max(map(len, tracks)), 97):
        parts = [track.part(lo, lo + 97) for track in tracks]
        joined = Fixes.joined(parts)
        ends = [sum(len(part) for part in parts[: k + 1]) for k in range(3)]
        seen.update(repr(advance_all(attempts, segments, joined, ends)).encode())
        seen.update(b"".join(one.encode() for one in attempts))
    for one in attempts:
        seen.update(repr(settle(one, segments, T0_US + 10**12)).encode() + one.encode())
    return seen.hexdigest()


if __name__ == "__main__":
    assert not COMPILED
    print(outcome())
