"""Pictures of docs/accuracy.md: elapsed times and speeds beside the peers, a stretch of a way in town, ten minutes of a heart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.accuracy.figures import FLOOR, MATCHED, NEAREST, Figures, recorded
from benchmarks.accuracy.hearts import BOUNDS_BPM, hour_of
from benchmarks.accuracy.hearts import ours as heart_of
from benchmarks.accuracy.ours import Ours
from benchmarks.accuracy.positions import LIVE, NO_SPEED
from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS

FOLDER: Final = Path("docs/pictures")
SEED: Final = 703
HEART_SEED: Final = 706
_COLOURS: Final = {"peer": "#b8bcc2", "raw": "#d98a4b", "ours": "#1f6fb2", "truth": "#222222", "floor": "#7fb08a"}
_STYLE: Final[dict[str, Any]] = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "legend.frameon": False, "figure.dpi": 100,
}  # fmt: skip


def draw(found: Figures, folder: Path = FOLDER) -> list[Path]:
    """Write the pictures; their paths."""
    mpl.use("Agg")
    made: list[Path] = []
    with mpl.rc_context(_STYLE):
        for name, picture in (("accuracy-times", _times(found)), ("accuracy-signals", _signals())):
            made.append(folder / f"{name}.png")
            picture.savefig(made[-1], metadata={"Software": None})
            plt.close(picture)
    return made


def _times(found: Figures) -> Figure:
    """Bars: elapsed times of stretches, and speed where none is stated."""
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.2), layout="constrained")
    cells = [(sport, where) for sport in SPORTS for where in SURROUNDINGS]
    for way, colour, k in ((NEAREST, "peer", 0), ("crossing of raw fixes", "raw", 1), (MATCHED, "ours", 2), (FLOOR, "floor", 3)):
        left.bar(np.arange(6) + 0.2 * k - 0.3, [found.timings[way][cell].p95_s for cell in cells], 0.19, label=way, color=_COLOURS[colour])
    left.set_title("elapsed time, 95th percentile of the error, s")
    left.set_ylim(0, 1.6 * max(of.p95_s for of in found.timings[NEAREST].values()))
    for name, colour, k in (("constant velocity (FilterPy)", "peer", 0), (NO_SPEED, "ours", 1), (LIVE, "floor", 2)):
        right.bar(
            np.arange(6) + 0.26 * k - 0.26,
            [found.positions[name][cell].speed_mps for cell in cells],
            0.25,
            label=name,
            color=_COLOURS[colour],
        )
    right.set_title("speed, RMSE, m/s")
    for axes in (left, right):
        axes.set_xticks(range(6), ["\n".join(cell) for cell in cells])
        axes.legend(loc="upper left", fontsize=7)
    return picture


def _signals() -> Figure:
    """A way in town and a heart, as recorded and as we have them."""
    picture, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained", width_ratios=(1, 1.25))
    seen, _ = recorded(SEED, "run", "urban")
    final = Ours(seen, "run", with_speed=True).final()
    off = np.hypot(seen.east_m - seen.true_east_m, seen.north_m - seen.true_north_m)
    worst = float(seen.t_s[int(np.argmax(np.convolve(np.minimum(off, 40.0), np.ones(20), "same")))])
    part = slice(*np.searchsorted(seen.t_s, (worst - 60, worst + 60)).tolist())
    left.plot(seen.east_m[part], seen.north_m[part], ".-", color=_COLOURS["raw"], lw=0.6, ms=2.5, label="fixes")
    left.plot(seen.true_east_m[part], seen.true_north_m[part], color=_COLOURS["truth"], lw=1.4, label="truth")
    left.plot(final.east_m[part], final.north_m[part], color=_COLOURS["ours"], lw=1.6, label="ours, at the end")
    left.set_aspect("equal", adjustable="datalim")
    left.set_title("two minutes of a run in town, m")
    left.legend(loc="best", fontsize=7)
    hour = hour_of(HEART_SEED)
    t = np.arange(len(hour.true_bpm)) / 60
    right.plot(t, np.where(hour.stated_bpm > 0, hour.stated_bpm, np.nan), color=_COLOURS["raw"], lw=0.7, label="stated")
    right.plot(t, hour.true_bpm, color=_COLOURS["truth"], lw=1.3, label="truth")
    right.plot(t, heart_of(hour.stated_bpm), color=_COLOURS["ours"], lw=1.2, label="ours, streaming")
    for bound in BOUNDS_BPM:
        right.axhline(bound, color="#dddddd", lw=0.6, zorder=0)
    right.set_xlim(20, 40)
    right.set_ylim(60, 220)
    right.set_title("twenty minutes of a heart, bpm")
    right.set_xlabel("minute")
    right.legend(loc="upper left", fontsize=7, ncols=3)
    return picture
