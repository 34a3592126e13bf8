"""docs/accuracy.md out of the figures."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy.figures import Figures
from benchmarks.accuracy.lines import Line, lines_of
from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS

_HEAD = """# Accuracy
How near the truth the kernels come, beside others over the same recordings. Written by `python -m benchmarks.accuracy`; the bench of the
same figures is `paceline bench accuracy`. Seeds 700-709, 45 minutes a track; all was tuned on other seeds (from 9000 on).

What is compared is synthetic: tracks whose truth is known (`benchmarks/accuracy/tracks.py`), and hearts (`hearts.py`) with artefacts of our
choice. Peers are written again from their sources or books, not run: rules shaped like Traccar's, the filter of FilterPy's book, the rules
of GoldenCheetah and Strava in their words. The kernels measured here are not yet behind the live stage, which has simpler ones; climb at
the end is that of finishing as it stands.
"""


def page(found: Figures) -> str:
    """The whole page in Markdown."""
    parts = [_HEAD, _lines(lines_of(found)), _positions(found), _climbs(found), _hearts(found), _timings(found), _LIMITS]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def _lines(lines: Sequence[Line]) -> str:
    rows = [
        [line.words, f"{line.ours:.3g}", f"{'>=' if line.at_least else '<='} {line.limit:g}", "yes" if line.met else "**no**",
         f"{line.peer:.3g} ({line.peer_name})"]
        for line in lines
    ]  # fmt: skip
    return "## Lines\n" + _table(("figure", "ours", "line", "met", "best peer"), rows)


def _positions(found: Figures) -> str:
    cells = [(sport, where) for sport in SPORTS for where in SURROUNDINGS]
    rows = [
        [name, *(f"{of[cell].position_ratio:.2f} / {of[cell].distance_pct:.2f} / {of[cell].speed_mps:.2f}" for cell in cells)]
        for name, of in found.positions.items()
    ]
    about = "Position RMSE over that of the raw fixes / distance error, % / speed RMSE, m/s. Our distance is an integral of speed.\n\n"
    return "## Position, distance, speed\n" + about + _table(("method", *(" ".join(cell) for cell in cells)), rows)


def _climbs(found: Figures) -> str:
    cells = [(sport, kind) for kind in ("baro", "gnss") for sport in SPORTS]
    rows = [[name, *(f"{of[cell]:.1f}" for cell in cells)] for name, of in found.climbs.items()]
    return "## Climb\nError, %.\n\n" + _table(("method", *(f"{kind} {sport}" for sport, kind in cells)), rows)


def _hearts(found: Figures) -> str:
    rows = [[name, *(f"{value:.1f}" for value in row)] for name, row in found.hearts.items()]
    return "## Heart rate\nForty hours.\n\n" + _table(("method", "RMSE, bpm", "wrong zone, %", "highest rate off, bpm"), rows)


def _timings(found: Figures) -> str:
    cells = [(sport, where) for sport in SPORTS for where in ("clean", *SURROUNDINGS)]
    rows = [[name, *(f"{of[cell][0]:.2f} / {of[cell][1]:.2f}" for cell in cells)] for name, of in found.timings.items()]
    about = "Elapsed time off, s: p50 / p95 over 240 stretches of 0.25-3 km a cell. *Clean* is a perfect receiver.\n\n"
    return "## Elapsed time\n" + about + _table(("method", *(" ".join(cell) for cell in cells)), rows)


_LIMITS = """## Limits
A slow error of the receiver (over 60-120 s) cannot be filtered, so positions gain 15-25 % and no more; under it a time from gate to gate is
no better than that error divided by the speed. The generator's stated speed has no bias; real ones may lag or under-read. No recording on
foot or by bike with a truth of centimetres was found; two devices on one body are compared in [figures/pairs.md](figures/pairs.md).
Lines that are not met, and why: [next-steps.md](next-steps.md).
"""
