"""Random numbers without state: each is a function of a key and a counter, so that pure code can be noisy and still repeat byte for byte.

`key_of` turns names into a 64-bit key; `mix` is the splitmix64 finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, 2014).
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import Final

_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15
_UNIT: Final = 1.0 / (1 << 53)


def key_of(*names: str | int) -> int:
    """A 64-bit key of a path of names, the same in every process and Python version."""
    return int.from_bytes(blake2b("\x1f".join(map(str, names)).encode(), digest_size=8).digest(), "little")


def mix(key: int, counter: int) -> int:
    """The `counter`-th 64-bit number of the stream `key`."""
    z = (key + (counter + 1) * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def uniform(key: int, counter: int, low: float = 0.0, high: float = 1.0) -> float:
    """Uniform in [low, high)."""
    return low + (high - low) * (mix(key, counter) >> 11) * _UNIT


def gauss(key: int, counter: int) -> float:
    """Standard normal (Box-Muller; uses the counters 2n and 2n + 1 of the stream)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, 2 * counter)))
    return radius * math.cos(2.0 * math.pi * uniform(key, 2 * counter + 1))


def gauss_markov(value: float, sigma: float, tau_s: float, dt_s: float, normal: float) -> float:
    """The next value of a first-order Gauss-Markov process with that stationary deviation; exact for any `dt_s`."""
    keep = math.exp(-dt_s / tau_s)
    return value * keep + sigma * math.sqrt(1.0 - keep * keep) * normal
