"""Segment boards: changes and exact ranks at 10 million athletes in columns, the product's own path at a million efforts, and baselines.

`mutations_per_s_per_core`: mixed changes (new efforts, better and worse, re-timed, flagged, removed, repeated) as they come from the store,
taken in groups of 2,000 into a board in columns of 200,000 athletes (quick: 100,000). `_packed_10m`: the same mix, and efforts kept off,
as columns on a board of 10 million. `rank_us_10m`, `top_10_us_10m` and `around_5_us_10m` are CPU microseconds of one answer there;
`rank_mb_10m` is the rank structure, `total_mb_10m` with the best time of each athlete and the version of each effort, `efforts_mb_10m`
everything, the tables of names too.

`product_*`: a board over a state file of a million efforts (quick: 100,000) of a fifth as many athletes: filling, memory, questions with
efforts read from the file, following what is committed, and the runner's side (one change after the other, awards, stored);
`product_cache_*`: through the API's cache of boards. In the baseline `objects_1m_*` (quick: `_100k_`): the same efforts, questions and
changes on a board of objects, whose answers must be the same.

`objects_*` of the figures: a board of objects of 100,000 athletes with twelve views kept up to date. More baselines with the same answers:
`count(*)` on a covering index (10 million rows, quick: a million), one sorted list of a million, and one dict sorted for each answer.
"""

from __future__ import annotations

import gc
import json
import random
import sqlite3
import tempfile
import tracemalloc
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.machine import cpu_s, machine
from broker.reference import AthleteRef
from processors.board_cache import BoardCache
from processors.board_views import Sex, View
from processors.directory import Directory
from processors.effort_store import SegmentEfforts, without_curve
from processors.packed_efforts import PackedEfforts, entry_of
from processors.packed_kernel import KEPT_OFF, REMOVED, Told
from processors.packed_standings import PackedStandings
from processors.results import CURVE_POINTS, Effort, Phase
from processors.results_db import put_effort
from processors.segment_board import OVERALL, SegmentBoard
from processors.state_db import StateDb
from processors.warm import warm_up

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
SEXES: Final[tuple[Sex, ...]] = ("f", "m", "x")
CURVE = tuple(range(1_000, 1_000 * (CURVE_POINTS + 1), 1_000))
GROUP = 2_000
MILLIONS = 10_000_000


def athletes(count: int) -> dict[str, AthleteRef]:
    """As many athletes of every age and sex."""
    refs = (AthleteRef(tenant="gym", id=f"a{i}", name="A", sex=SEXES[i % 3], birth_year=1940 + i % 70) for i in range(count))
    return {f"gym/{ref.id}": ref for ref in refs}


def effort(chance: random.Random, athlete: int, number: int, version: int) -> Effort:
    """A crossing in the last 60 days, lognormal like the times on a climb."""
    start_us = NOW_US - chance.randrange(60 * DAY_US)
    elapsed_ms = int(600_000 * chance.lognormvariate(0, 0.25))
    subject = f"gym/a{athlete}"
    return Effort(f"{number:026x}", "gym", "hill", subject, subject, 0, start_us, elapsed_ms, Phase.FINAL, 200, 150, None, CURVE, version)


def changes(chance: random.Random, held: list[Effort], people: int, count: int) -> list[Effort]:
    """Of ten: five new efforts (better ones among them), two re-timed, one flagged, one removed, one repeated."""
    made: list[Effort] = []
    for i in range(count):
        version = len(held) + i + 1
        if i % 10 < 5:
            made.append(effort(chance, chance.randrange(people), len(held) + i, version))
        elif i % 10 < 7:
            old = chance.choice(held)
            made.append(replace(old, elapsed_ms=old.elapsed_ms + chance.randint(-2_000, 2_000), version=version))
        elif i % 10 < 8:
            made.append(replace(chance.choice(held), ruling="flagged", version=version))
        elif i % 10 < 9:
            made.append(replace(chance.choice(held), removed=True, version=version))
        else:
            made.append(chance.choice(held))
    return made


def packed_records(chance: np.random.Generator, count: int, first: int) -> Told:
    """One effort each of the athletes from number `first` on."""
    return Told(
        np.arange(first, first + count, dtype=np.int32),
        chance.integers(0, 1 << 63, count, dtype=np.uint64),
        chance.integers(0, 1 << 40, count, dtype=np.uint64),
        NOW_US - chance.integers(0, 60 * DAY_US, count),
        np.arange(first + 1, first + 1 + count),
        (600_000 * chance.lognormal(0, 0.25, count)).astype(np.int64),
        np.full(count, int(Phase.FINAL), np.uint8),
    )


def mixed_records(chance: np.random.Generator, some: Told, count: int) -> Told:
    """Of ten: four new efforts of anybody, three re-timed, one kept off, one removed, one repeated."""
    which = chance.integers(0, len(some.version), count)
    made = Told(*(column[which].copy() for column in some))
    kind = np.arange(count) % 10
    new, retimed = kind < 4, (kind >= 4) & (kind < 7)
    fresh = packed_records(chance, int(new.sum()), 0)
    for column, values in zip(made, fresh._replace(athlete=chance.integers(0, MILLIONS, len(fresh.version))), strict=True):
        column[new] = values
    made.elapsed_ms[retimed] += chance.integers(-2_000, 2_000, int(retimed.sum()))
    made.state[kind == 7] += KEPT_OFF
    made.state[kind == 8] += REMOVED
    made.version[kind < 9] = np.arange(MILLIONS + 1, MILLIONS + 1 + int((kind < 9).sum()))
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
            if e.stands and span and span[0] <= e.start_us < span[1] and key < best.get(e.subject, (1 << 62, 0, "")):
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


def from_entries(quick: bool) -> float:
    """Changes a CPU-second, as they come from the store, into a board of 200,000 athletes (quick: 100,000)."""
    chance = random.Random(6)
    people, count = (100_000, 60_000) if quick else (200_000, 200_000)
    first = [effort(chance, i % people, i, i + 1) for i in range(people + people // 4)]
    news = changes(chance, first, people, count)
    entries = [entry_of(e) for e in news]
    board = PackedEfforts()
    board.load((entry_of(e) for e in first), len(first))
    start = cpu_s()
    for i in range(0, count, GROUP):
        board.take(entries[i : i + GROUP])
    rate = count / (cpu_s() - start)
    naive = Sorted()
    for e in [*first, *news]:
        naive.apply(e)
    of = {e.id: e.subject for e in [*first, *news]}
    assert [of[key[2]] for key in PackedStandings(board).slice(0, 2_000)] == naive.order({})[:2_000]
    return rate


def at_ten_million(quick: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of a board of 10 million athletes, and of the plain ways to rank."""
    chance = np.random.default_rng(7)
    board = PackedEfforts()
    board.reserve(MILLIONS, MILLIONS + (200_000 if quick else 1_000_000))
    board.athletes = MILLIONS  # known by number alone here
    load_s, some = 0.0, packed_records(chance, 1, 0)
    board.take_told(some)
    for number in range(0, MILLIONS, 500_000):
        records = packed_records(chance, 500_000, number)
        start = cpu_s()
        board.take_told(records)
        load_s += cpu_s() - start
        some = Told(*(np.concatenate([a, b[::10]]) for a, b in zip(some, records, strict=True)))
    news = mixed_records(chance, some, 200_000 if quick else 1_000_000)
    start = cpu_s()
    for i in range(0, len(news.version), GROUP):
        board.take_told(Told(*(column[i : i + GROUP] for column in news)))
    rate = len(news.version) / (cpu_s() - start)
    rows = PackedStandings(board)
    asked = [int(a) for a in chance.integers(0, MILLIONS, 20_000) if board.best_ms[a] >= 0]
    asked_ms = [int(board.best_ms[a]) for a in asked]

    def around(i: int) -> object:
        key = rows.key_of_number(asked[i])
        assert key is not None
        place = rows.index(key)
        return rows.slice(place - 5, place + 6)

    def ranked(i: int) -> int:
        return board.pages.rank(int(board.best_ms[asked[i]]))

    figures = {
        "mutations_per_s_per_core_packed_10m": round(rate),
        "rank_us_10m": round(cpu_us(ranked, 15_000), 2),
        "top_10_us_10m": round(cpu_us(lambda _: rows.slice(0, 10), 2_000), 1),
        "around_5_us_10m": round(cpu_us(around, 20)),
        "rank_mb_10m": round(board.rank_bytes / 1e6, 1),
        "total_mb_10m": round((board.rank_bytes + board.best_bytes) / 1e6, 1),
        "efforts_mb_10m": round(board.nbytes / 1e6, 1),
        "load_us_per_effort_10m": round(load_s / MILLIONS * 1e6, 2),
    }
    times = board.best_ms[board.best_ms >= 0]
    standing = np.sort(times)
    assert all(ranked(i) == np.searchsorted(standing, np.int32(asked_ms[i])) + 1 for i in range(1_000))
    return figures, ranked_plainly(times[: 1_000_000 if quick else MILLIONS].tolist(), asked_ms[:1_000])


def of_product(folder: Path, quick: bool) -> tuple[dict[str, float], dict[str, float]]:
    """The API's read path and the runner's write path on one large board, and the same on a board of objects."""
    count = 100_000 if quick else 1_000_000
    people, more = count // 5, 4_000 if quick else 20_000
    chance = random.Random(13)
    store = StateDb(folder / "state.db")
    store.db.execute("BEGIN")
    first = [effort(chance, chance.randrange(people), i, i + 1) for i in range(count)]
    for e in first:
        put_effort(store.db, e)
    store.db.execute("COMMIT")
    pages = [f"gym/a{chance.randrange(people)}" for _ in range(200)]
    news = [e for e in changes(chance, first, people, more) if e.version > count]
    news = [replace(e, version=count + n + 1) for n, e in enumerate(news)]
    del first
    cache = BoardCache(folder / "state.db", Directory(folder / "state.db"))
    sides: dict[str, dict[str, float]] = {}
    answers: dict[str, list[object]] = {}
    for side, packed_from in (("columns", 0), ("objects", 1 << 60)):
        gc.collect()
        board = SegmentBoard("hill", store=SegmentEfforts(store.db, "gym", "hill"), packed_from=packed_from)
        start = cpu_s()
        board.follow()
        sides[side] = {"fill_us_per_effort": round((cpu_s() - start) / count * 1e6, 2)}
        answers[side] = [board.top(OVERALL, 100), [board.around(OVERALL, s, 5) for s in pages], board.percentiles_ms()]
        sides[side] |= {
            "top_50_us": round(cpu_us(lambda _, b=board: b.top(OVERALL, 50), 100), 1),
            "rank_us": round(cpu_us(lambda i, b=board: b.rank(OVERALL, pages[i]), 200), 2),
            "around_5_us": round(cpu_us(lambda i, b=board: b.around(OVERALL, pages[i % 200], 5), 200), 1),
        }
        del board
        gc.collect()
        tracemalloc.start()  # numpy's arrays are counted too
        board = SegmentBoard("hill", store=SegmentEfforts(store.db, "gym", "hill"), packed_from=packed_from)
        board.follow()
        sides[side]["mb"] = round(tracemalloc.get_traced_memory()[0] / 1e6, 1)
        tracemalloc.stop()
        awarding = SegmentBoard("hill", store=SegmentEfforts(store.db, "gym", "hill"), packed_from=packed_from, awarding=True)
        awarding.follow()
        store.db.execute("BEGIN")
        start = cpu_s()
        told = [(awarding.apply(without_curve(e)), awarding.awarded(), put_effort(store.db, e))[:2] for e in news]
        sides[side]["apply_per_s_with_awards_and_store"] = round(len(news) / (cpu_s() - start))
        answers[side] += [told, awarding.top(OVERALL, 100)]
        start = cpu_s()
        board.follow()
        sides[side]["follow_per_s"] = round(len(news) / (cpu_s() - start))
        answers[side].append(board.top(OVERALL, 100))
        store.db.execute("ROLLBACK")
        del board, awarding
    assert repr(answers["columns"]) == repr(answers["objects"])
    start = cpu_s()
    with cache.board("gym", "hill") as held:
        assert held.is_packed
    fill_s = cpu_s() - start

    def read(i: int) -> None:
        with cache.board("gym", "hill") as held:
            held.around(OVERALL, pages[i], 5)

    figures = {f"product_{key}": value for key, value in sides["columns"].items()}
    figures |= {"product_cache_fill_s": round(fill_s, 2), "product_cache_around_5_us": round(cpu_us(read, 200), 1)}
    cache.close()
    store.close()
    return figures, {f"objects_1m_{key}" if not quick else f"objects_100k_{key}": value for key, value in sides["objects"].items()}


def ranked_plainly(times: list[int], asked_ms: list[int]) -> dict[str, float]:
    """CPU microseconds of a rank and of an update by SQLite and by one sorted list."""
    db = sqlite3.connect("")
    db.execute("CREATE TABLE best (athlete INTEGER PRIMARY KEY, ms INTEGER) WITHOUT ROWID")
    db.executemany("INSERT INTO best VALUES (?,?)", enumerate(times))
    db.execute("CREATE INDEX best_by_ms ON best (ms)")
    count = "SELECT count(*) FROM best WHERE ms<?"
    in_order = sorted(times)
    assert all(db.execute(count, (ms,)).fetchone()[0] == bisect_left(in_order, ms) for ms in asked_ms[:5])
    sorted_ms = in_order[:1_000_000]
    start = cpu_s()
    db.executemany("UPDATE best SET ms=? WHERE athlete=?", [(ms, i * 7) for i, ms in enumerate(asked_ms)])
    sqlite_update_us = (cpu_s() - start) / len(asked_ms) * 1e6
    name = "1m" if len(times) <= 1_000_000 else "10m"
    return {
        f"sqlite_count_rank_us_{name}": round(cpu_us(lambda i: db.execute(count, (asked_ms[i],)).fetchone(), 10)),
        f"sqlite_update_us_{name}": round(sqlite_update_us, 1),
        "sorted_list_rank_us_1m": round(cpu_us(lambda i: bisect_left(sorted_ms, asked_ms[i]), 1_000), 2),
        "sorted_list_update_us_1m": round(cpu_us(lambda i: _moved(sorted_ms, asked_ms[i]), 100), 1),
    }


def _moved(in_order: list[int], ms: int) -> None:
    insort(in_order, ms)
    del in_order[bisect_left(in_order, ms)]


def of_objects(quick: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of the board of objects; compared with the naive one at the end."""
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
    somebody = [s for s in (f"gym/a{chance.randrange(people)}" for _ in range(2_000)) if board.best(s)][:1_000]
    week = [row.subject for row in board.top(WEEK_OF_WOMEN, 1_000).rows]
    cursor = board.top(OVERALL, 1_000).cursor
    overall = naive.order(refs)
    assert overall[:1_000] == [row.subject for row in board.top(OVERALL, 1_000).rows]
    assert naive.order(refs, WEEK_OF_WOMEN)[:1_000] == week
    assert [row.subject for row in board.around(OVERALL, overall[50_000], 5)] == overall[49_995:50_006]
    sort_us = cpu_us(lambda _: naive.order(refs), 1)
    figures = {
        "objects_mutations_per_s_per_core": round(rates[0]),
        "objects_mutations_per_s_per_core_overall_only": round(rates[1]),
        "objects_apply_us": round(1e6 / rates[0], 1),
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
    return figures, baseline


def run(quick: bool) -> dict[str, object]:
    """Figures; the boards of all ways are compared at the end. The loops are compiled before anything is timed."""
    warm_up()
    objects, baseline = of_objects(quick)
    rate = from_entries(quick)
    packed, plain = at_ten_million(quick)
    with tempfile.TemporaryDirectory() as name:
        product, of_one_kind = of_product(Path(name), quick)
    figures = {"mutations_per_s_per_core": round(rate), **packed, **product, **objects}
    baseline |= plain | of_one_kind
    update_us = next(us for key, us in plain.items() if key.startswith("sqlite_update"))
    rank_us = next(us for key, us in plain.items() if key.startswith("sqlite_count"))
    baseline["ratio_rank_to_sqlite"] = round(rank_us / float(packed["rank_us_10m"]))
    baseline["ratio_update_to_sqlite"] = round(update_us / (1e6 / rate), 1)
    return {"name": "boards", "figures": figures, "baseline": baseline, "machine": machine()}


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
