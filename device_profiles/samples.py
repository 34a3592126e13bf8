"""What a sensor's packet came to: samples in SI units, named by the layout that will carry them.

A `Sample` names its layout by text, because profiles know nothing of `broker`; a test holds every profile to fields that its layout has.
Invariant: what a sensor did not measure is absent from `values`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One instant: `values` in the units of the layout's fields, `age_us` before the packet's arrival (a beat is older than its packet)."""

    layout: str
    age_us: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says of itself, as far as it is known: quirks are matched by it. Empty means not known."""

    name: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""
    hardware: str = ""
    firmware: str = ""
