"""docs/accuracy.md out of the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.accuracy.devices import STRETCHES, missing
from benchmarks.accuracy.figures import Elapsed, Figures
from benchmarks.accuracy.lines import Line, limits_of, lines_of
from benchmarks.accuracy.tracks import SPORTS, SURROUNDINGS

_HEAD = """# Accuracy
How near the truth the kernels come, beside others over the same recordings. Written by `python -m benchmarks.accuracy`, pictures too; the
bench of the same figures is `paceline bench accuracy`. Seeds 700-709, 45 minutes a track; all was tuned on other seeds (from 9000 on).

What is compared is synthetic: tracks whose truth is known (`benchmarks/accuracy/tracks.py`), and hearts (`hearts.py`) with artefacts of our
choice; and real recordings of two devices on one body. FilterPy and SciPy are run as they are; the rules of Traccar, GoldenCheetah and
Strava are written again from their sources and words. *Live stage* is the product's own: what it shows and sums, through the wire's whole
numbers; *ours* is the kernel alone; *at the end* what finishing makes of a recording.
"""


def page(found: Figures) -> str:
    """The whole page in Markdown."""
    lines = lines_of(found)
    parts = [
        _HEAD,
        _lines(lines),
        _open(lines, limits_of(found)),
        _TIMES,
        _positions(found),
        _climbs(found),
        _hearts(found),
        _timings(found),
    ]
    return "\n".join([*parts, _SIGNALS, _devices(found), _LIMITS])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]) + "\n"


def _lines(lines: Sequence[Line]) -> str:
    rows = [
        [line.words, f"{line.ours:.3g}", f"{'>=' if line.at_least else '<='} {line.limit:g}", "yes" if line.met else "**no**",
         f"{line.peer:.3g} ({line.peer_name})"]
        for line in lines
    ]  # fmt: skip
    return "## Lines\n" + _table(("figure", "ours", "line", "met", "best peer"), rows)


def _open(lines: Sequence[Line], limits: Mapping[str, str]) -> str:
    rows = [
        f"- **{line.words}**: {line.ours:.3g} for {line.limit:g}. {limits.get(line.key, '')}".rstrip() for line in lines if not line.met
    ]
    return "## Lines that are not met, and what is behind them\n" + ("\n".join(rows) or "None.") + "\n"


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
    rows = [[name, *(_elapsed(of.get(cell)) for cell in cells)] for name, of in found.timings.items()]
    about = (
        "Elapsed time off, s: p50 / p95 over 240 stretches of 0.25-3 km a cell, of those that have one (per cent in brackets when it is\n"
        "not all). *Clean* is a perfect receiver. The last row is the floor: a receiver whose only error is the slow one.\n\n"
    )
    return "## Elapsed time\n" + about + _table(("method", *(" ".join(cell) for cell in cells)), rows)


def _elapsed(of: Elapsed | None) -> str:
    if of is None:
        return "-"
    return f"{of.p50_s:.2f} / {of.p95_s:.2f}" + (f" ({of.share * 100:.0f})" if of.share < 1 else "")


def _devices(found: Figures) -> str:
    about = (
        f"Stretches of 0.25-3 km ({STRETCHES} drawn over the track) cut from what the first recorded, timed in what the second did: share\n"
        "that is found, and how far elapsed times are apart. Segment by segment through the whole platform:\n"
        "[figures/pairs.md](figures/pairs.md).\n"
    )
    parts = ["## Two devices on one body", about]
    rows = [
        [pair, way, f"{of.recall:.3f}", f"{of.p50_s:.2f} / {of.p95_s:.2f}"]
        for pair, ways in found.devices.items()
        for way, of in ways.items()
    ]
    parts.append(_table(("recordings", "timed by", "recall", "p50 / p95, s"), rows))
    if found.laps is not None:
        recall, _, passes = found.laps
        parts.append(f"Laps of a 400 m track (pace 2, 1 s): {recall * 100:.1f} % of {passes} passes of stretches of 300-380 m are found.\n")
    gone = missing()
    if gone:
        parts.append("Not at hand, so not compared: " + ", ".join(f"`{name}`" for name in gone) + ".\n")
    return "\n".join(parts)


_TIMES = "![Elapsed times and speeds beside the peers](pictures/accuracy-times.png)\n"
_SIGNALS = "![A way in town and a heart, as recorded and as we have them](pictures/accuracy-signals.png)\n"
_LIMITS = """## Limits
A slow error of the receiver (over 60-120 s) cannot be filtered, so positions gain 15-25 % and no more; under it a time from gate to gate is
no better than that error divided by the speed. The generator's stated speed has no bias; real ones may lag or under-read. No recording on
foot or by bike with a truth of centimetres was found; the two devices tell how far receivers disagree, not which is right.
"""
