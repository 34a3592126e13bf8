"""Boards in memory: changes and reads of one segment board of 100,000 athletes, beside sorting everything for each answer.

`mutations_per_s_per_core`: efforts applied (new, re-timed and removed ones) with twelve views kept up to date; `_overall_only` without
them. Reads are CPU microseconds on the overall board and on a view of sex and week. Baseline: one dict of best efforts that is sorted for
each answer, what a board is in its simplest form; it answers the same questions, and the answers are compared.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace

from benchmarks.machine import cpu_s, machine
from broker.reference import AthleteRef
from processors.board_views import View
from processors.results import CURVE_POINTS, Effort, Phase
from processors.segment_board import OVERALL, SegmentBoard

NOW_US = 1_781_085_600_000_000
DAY_US = 86_400_000_000
ZONE = "Europe/Berlin"
WEEK_OF_WOMEN = View.at(NOW_US, ZONE, sex="f", period="week")
KEPT = tuple(
    View.at(NOW_US, ZONE, sex=sex, age_class=of_class, period=period)
    for sex in ("f", "m")
    for of_class in (None, "25-34")
    for period in ("all", "week", "today")
)
CURVE = tuple(range(1_000, 1_000 * (CURVE_POINTS + 1), 1_000))


def athletes(count: int) -> dict[str, AthleteRef]:
    """As many athletes of every age and sex."""
    refs = (AthleteRef(tenant="gym", id=f"a{i}", name="A", sex="fmx"[i % 3], birth_year=1940 + i % 70) for i in range(count))
    return {f"gym/{ref.id}": ref for ref in refs}


def effort(chance: random.Random, athlete: int, number: int, version: int) -> Effort:
    """A crossing in the last 60 days, lognormal like the times on a climb."""
    start_us = NOW_US - chance.randrange(60 * DAY_US)
    elapsed_ms = int(600_000 * chance.lognormvariate(0, 0.25))
    subject = f"gym/a{athlete}"
    return Effort(f"{number:026x}", "gym", "hill", subject, subject, 0, start_us, elapsed_ms, Phase.FINAL, 200, 150, None, CURVE, version)


def changes(chance: random.Random, held: list[Effort], people: int, count: int) -> list[Effort]:
    """Six of ten are new efforts, three re-time one, one removes one."""
    made: list[Effort] = []
    for i in range(count):
        version = len(held) + i + 1
        if i % 10 < 6:
            made.append(effort(chance, chance.randrange(people), len(held) + i, version))
        elif i % 10 < 9:
            old = chance.choice(held)
            made.append(replace(old, elapsed_ms=old.elapsed_ms + chance.randint(-2_000, 2_000), version=version))
        else:
            made.append(replace(chance.choice(held), removed=True, version=version))
    return made


class Sorted:
    """The naive board: everything is sorted for each answer."""

    def __init__(self) -> None:
        self.efforts: dict[str, Effort] = {}

    def apply(self, e: Effort) -> None:
        held = self.efforts.get(e.id)
        if held is None or held.version < e.version:
            self.efforts[e.id] = e

    def order(self, refs: dict[str, AthleteRef], view: View = OVERALL) -> list[str]:
        best: dict[str, tuple[int, int, str]] = {}
        for e in self.efforts.values():
            key = (e.elapsed_ms, e.start_us, e.id)
            span = view.span_us(refs.get(e.subject))
            if not e.removed and span and span[0] <= e.start_us < span[1] and key < best.get(e.subject, (1 << 62, 0, "")):
                best[e.subject] = key
        return sorted(best, key=best.__getitem__)


def cpu_us(work: Callable[[int], object], repeats: int) -> float:
    """CPU microseconds of one call, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        start = cpu_s()
        for i in range(repeats):
            work(i)
        best = min(best, cpu_s() - start)
    return best / repeats * 1e6


def apply_all(board: SegmentBoard, efforts: list[Effort]) -> float:
    """Changes a CPU-second."""
    start = cpu_s()
    for e in efforts:
        board.apply(e)
    return len(efforts) / (cpu_s() - start)


def run(quick: bool) -> dict[str, object]:
    """Figures; the boards of both ways are compared at the end."""
    people, efforts, count = 100_000, 150_000, 10_000 if quick else 50_000
    chance = random.Random(4)
    refs = athletes(people)
    first = [effort(chance, i % people, i, i + 1) for i in range(efforts)]
    board, plain = SegmentBoard("hill", refs), SegmentBoard("hill", refs)
    start = cpu_s()
    board.load(first)
    load_s = cpu_s() - start
    plain.load(first)
    start = cpu_s()
    for view in KEPT:
        board.size(view)
    view_s = (cpu_s() - start) / len(KEPT)
    news = changes(chance, first, people, count)
    rates = apply_all(board, news), apply_all(plain, news)
    naive = Sorted()
    for e in [*first, *news]:
        naive.apply(e)
    somebody = [f"gym/a{chance.randrange(people)}" for _ in range(1_000)]
    week = [row.subject for row in board.top(WEEK_OF_WOMEN, 1_000).rows]
    cursor = board.top(OVERALL, 1_000).cursor
    overall = naive.order(refs)
    assert overall[:1_000] == [row.subject for row in board.top(OVERALL, 1_000).rows]
    assert naive.order(refs, WEEK_OF_WOMEN)[:1_000] == week
    assert [row.subject for row in board.around(OVERALL, overall[50_000], 5)] == overall[49_995:50_006]
    sort_us = cpu_us(lambda _: naive.order(refs), 1)
    figures = {
        "mutations_per_s_per_core": round(rates[0]),
        "mutations_per_s_per_core_overall_only": round(rates[1]),
        "apply_us": round(1e6 / rates[0], 1),
        "top_10_us": round(cpu_us(lambda _: board.top(OVERALL, 10), 1_000), 1),
        "top_100_us": round(cpu_us(lambda _: board.top(OVERALL, 100, cursor), 200), 1),
        "top_10_of_view_us": round(cpu_us(lambda _: board.top(WEEK_OF_WOMEN, 10), 1_000), 1),
        "around_5_us": round(cpu_us(lambda i: board.around(OVERALL, somebody[i], 5), 1_000), 1),
        "around_5_of_view_us": round(cpu_us(lambda i: board.around(WEEK_OF_WOMEN, week[i % len(week)], 5), 1_000), 1),
        "rank_us_100k": round(cpu_us(lambda i: board.rank(OVERALL, somebody[i]), 1_000), 2),
        "reference_us": round(cpu_us(lambda i: board.reference(OVERALL, somebody[i]), 1_000), 2),
        "view_made_us": round(view_s * 1e6),
        "load_us_per_effort": round(load_s / efforts * 1e6, 2),
    }
    baseline = {
        "sorted_read_us": round(sort_us),
        "sorted_mutations_per_s_per_core": round(1e6 / sort_us, 1),  # each change shown on the board
        "ratio_around": round(sort_us / float(figures["around_5_us"])),
        "ratio_mutation": round(rates[0] / (1e6 / sort_us)),
    }
    return {"name": "boards", "figures": figures, "baseline": baseline, "machine": machine()}


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
