"""Accuracy against known truth, ours beside peers in the same run: `paceline bench accuracy`, `python -m benchmarks.accuracy`."""

from __future__ import annotations


def run(quick: bool) -> dict[str, object]:
    """A key for each line of docs/accuracy.md and `peer_` of it; quick is two seeds of ten minutes."""
    from benchmarks.accuracy.figures import measure_all
    from benchmarks.accuracy.lines import lines_of
    from benchmarks.machine import machine

    lines = lines_of(measure_all(range(700, 702), range(700, 702), 600.0, 100) if quick else measure_all())
    figures: dict[str, float] = {line.key: round(line.ours, 4) for line in lines}
    baseline = {f"peer_{line.key}": round(line.peer, 4) for line in lines}
    return {"name": "accuracy", "figures": figures, "baseline": baseline, "machine": machine()}
