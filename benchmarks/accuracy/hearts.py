"""Heart rates whose truth is known, what a strap or a watch makes of them, and who repairs them best.

An hour of intervals: targets of 1-6 minutes from 95 to 185 bpm, followed with a time constant of 25 s, and breath. The device rounds,
drops out (0 bpm), spikes, locks on the step rate for 15-90 s and freezes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmarks.accuracy.staged import hearts as staged
from benchmarks.accuracy.tracks import Array, gauss_markov
from processors.kernels.columns import fresh_row
from processors.kernels.compiled import compiled
from processors.kernels.heart import beat

HOUR_S: Final = 3_600
BOUNDS_BPM: Final = (114.0, 133.0, 152.0, 171.0)
MOST_BPM: Final = 200.0


@dataclass(frozen=True, slots=True)
class Hour:
    """True and stated heart rate, once a second; `clean_bpm` is what would be stated without any artefact."""

    true_bpm: Array
    stated_bpm: Array
    clean_bpm: Array


def hour_of(seed: int) -> Hour:
    """An hour of a heart and what was recorded of it."""
    rng = np.random.default_rng(seed)
    wanted, i = np.zeros(HOUR_S), 0
    while i < HOUR_S:
        n = int(rng.uniform(60, 360))
        wanted[i : i + n] = rng.uniform(95, 185)
        i += n
    true = np.zeros(HOUR_S)
    true[0] = 100.0
    for i in range(1, HOUR_S):
        true[i] = true[i - 1] + (wanted[i] - true[i - 1]) / 25.0
    true = true + gauss_markov(1.0, 12.0, 1.0, rng.standard_normal(HOUR_S))
    stated = true + 0.7 * rng.standard_normal(HOUR_S)
    clean = np.rint(stated)
    steps = 168.0 + gauss_markov(3.0, 60.0, 1.0, rng.standard_normal(HOUR_S))
    for rate, least_s, most_s, kind in ((1.5, 15, 90, "lock"), (2, 10, 40, "frozen"), (6, 3, 20, "dropout"), (25, 1, 2, "spike")):
        for _ in range(rng.poisson(rate)):
            start = int(rng.integers(60, HOUR_S - 100))
            part = slice(start, start + int(rng.uniform(least_s, most_s + 1)))
            if kind == "lock":
                stated[part] = steps[part]
            elif kind == "frozen":
                stated[part] = stated[start]
            else:
                stated[part] = 0.0 if kind == "dropout" else rng.uniform(30, 250)
    return Hour(true, np.rint(stated), clean)


@compiled
def _ours(row: Array, stated: Array, out: Array) -> None:
    for i in range(len(stated)):
        out[i] = beat(row, float(i), stated[i])


def ours(stated: Array) -> Array:
    """The kernel, second by second; while it knows nothing, what it said last."""
    out = np.zeros(len(stated))
    _ours(np.array(fresh_row()), stated, out)
    known = np.maximum.accumulate(np.where(np.isnan(out), 0, np.arange(len(out))))
    return out[known]


def interpolated(stated: Array) -> Array:
    """Offline: nothing but absent and impossible rates replaced by a straight line (GoldenCheetah's FixHRSpikes)."""
    good = np.flatnonzero((stated > 0) & (stated <= MOST_BPM))
    return np.interp(np.arange(len(stated)), good, stated[good])


def _windows(stated: Array, n: int) -> Array:
    return np.lib.stride_tricks.sliding_window_view(np.pad(stated, n // 2, mode="edge"), n)


def median_of_five(stated: Array) -> Array:
    """Offline: the median of five."""
    return np.median(_windows(stated, 5), axis=1)


def hampel(stated: Array) -> Array:
    """Offline: `interpolated`, then what is over three deviations from the median of eleven replaced by it (Hampel)."""
    line = interpolated(stated)
    windows = _windows(line, 11)
    median = np.median(windows, axis=1)
    deviation = 1.4826 * np.median(np.abs(windows - median[:, None]), axis=1)
    return np.where(np.abs(line - median) > 3.0 * np.maximum(deviation, 0.5), median, line)


OURS: Final = "ours, streaming"
STAGED: Final = "live stage, as shown (whole beats)"
METHODS: Final[dict[str, Callable[[Array], Array]]] = {
    "raw": np.array,
    "GoldenCheetah's rule (offline)": interpolated,
    "median of 5 (offline)": median_of_five,
    "GoldenCheetah's rule + Hampel 11 (offline)": hampel,
    OURS: ours,
    STAGED: staged,
}
CLEAN: Final = "a strap without artefacts, as stated"


def measure(seeds: range) -> dict[str, tuple[float, float, float]]:
    """Of each method: RMSE (bpm), share of time in a wrong zone (%), error of the highest rate (bpm); means over hours."""
    hours = [hour_of(seed) for seed in seeds]
    found: dict[str, tuple[float, float, float]] = {}
    for name in (*METHODS, CLEAN):
        rows: list[tuple[float, float, float]] = []
        for hour in hours:
            made = hour.clean_bpm if name == CLEAN else METHODS[name](hour.stated_bpm)
            wrong = np.searchsorted(BOUNDS_BPM, made, "right") != np.searchsorted(BOUNDS_BPM, hour.true_bpm, "right")
            rmse = float(np.sqrt(np.mean((made - hour.true_bpm) ** 2)))
            rows.append((rmse, float(wrong.mean() * 100), float(abs(made.max() - hour.true_bpm.max()))))
        rmse, wrong_pct, highest = np.mean(rows, axis=0).tolist()
        found[name] = (rmse, wrong_pct, highest)
    return found
