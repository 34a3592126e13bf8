"""What bodies and bicycles do: power and drag of a rider, energy cost of a runner, the heart's answer. Pure formulas in SI units.

Sources: cycling power balance: Martin, Milliken, Cobb, McFadden, Coggan, Validation of a mathematical model for road cycling power,
J. Appl. Biomech. 14, 1998. Running cost on slopes: Minetti, Moia, Roi, Susta, Ferretti, Energy cost of walking and running at extreme
uphill and downhill slopes, J. Appl. Physiol. 93, 2002. Share of heart-rate reserve = share of oxygen-uptake reserve: Swain,
Leutholtz, Med. Sci. Sports Exerc. 29, 1997. That the heart follows a step of intensity exponentially is the usual first-order model;
the time constants are drawn per athlete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

GRAVITY_MPS2: Final = 9.80665
MAX_RUN_GRADIENT: Final = 0.45  # Minetti's measurements end here
_SUBSTEP_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Bike:
    """Rider and machine as one mass. `drag_area_m2` is CdA, `rolling` the coefficient Crr, `efficiency` that of the drive train."""

    mass_kg: float = 80.0
    drag_area_m2: float = 0.32
    rolling: float = 0.005
    efficiency: float = 0.976
    air_kgpm3: float = 1.2
    wheel_kg: float = 1.7  # rotating inertia as extra mass (I / r^2 of both wheels, about 0.14 kg m2 at 0.31 m, Martin's value)


def resistance_n(bike: Bike, speed_mps: float, gradient: float) -> float:
    """The force against the rider without wind: air, rolling and slope. Negative when the slope drives."""
    slope = math.atan(gradient)
    air = 0.5 * bike.air_kgpm3 * bike.drag_area_m2 * speed_mps * speed_mps
    return air + bike.mass_kg * GRAVITY_MPS2 * (bike.rolling * math.cos(slope) + math.sin(slope))


def ride(bike: Bike, speed_mps: float, power_w: float, gradient: float, dt_s: float, *, max_speed_mps: float = 18.0) -> float:
    """The speed after `dt_s` of constant power; the rider brakes at `max_speed_mps` and never rolls backwards.

    Integrates kinetic energy, in which the equation has no singularity at a standstill, in substeps of at most 0.25 s.
    """
    steps = max(1, math.ceil(dt_s / _SUBSTEP_S))
    h = dt_s / steps
    inertia = 0.5 * (bike.mass_kg + bike.wheel_kg)
    energy = inertia * speed_mps * speed_mps
    top = inertia * max_speed_mps * max_speed_mps
    for _ in range(steps):
        speed = math.sqrt(energy / inertia)
        energy += h * (power_w * bike.efficiency - speed * resistance_n(bike, speed, gradient))
        energy = min(max(energy, 0.0), top)
    return math.sqrt(energy / inertia)


def run_cost_jpkgm(gradient: float) -> float:
    """Metabolic cost of running a metre, J/(kg m); gradients beyond +-0.45 count as 0.45 (Minetti 2002)."""
    i = min(max(gradient, -MAX_RUN_GRADIENT), MAX_RUN_GRADIENT)
    return ((((155.4 * i - 30.4) * i - 43.3) * i + 46.3) * i + 19.5) * i + 3.6


def run_speed_mps(metabolic_wpkg: float, gradient: float) -> float:
    """The steady speed that uses `metabolic_wpkg`; downhill at most 1.3 times the flat speed (legs brake, not lungs)."""
    flat = metabolic_wpkg / run_cost_jpkgm(0.0)
    return min(metabolic_wpkg / run_cost_jpkgm(gradient), 1.3 * flat)


def approach(value: float, target: float, tau_s: float, dt_s: float) -> float:
    """First-order approach of `value` to `target`; exact for any `dt_s`, so never beyond the target."""
    return target + (value - target) * math.exp(-dt_s / tau_s)
