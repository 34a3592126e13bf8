"""What a view of a cluster costs: CPU of a state of each athlete in `live.state`, live at 1 Hz, into a real state file.

Pages as the live stage writes them: 64 partitions, a checkpoint each fifth of a second, so a fifth of the athletes of a partition share a
page; each athlete is in a page a second. `cpu_us_per_state` is all of `StateView`: decoding, the rows of state, activity, numbering and
attempts, commits and what SQLite moves out of its journal, in transactions of a tenth of a second. Those of a page stay together.
`scattered`: they share it with others each second. `late`: two seconds at once, as a view that is behind finds them. `passed`: those of
other parts' tenants, in a view of a 64th of the tenants whose athletes share all pages (`view.part`), without what it takes. Baseline of
the same run: the same records in tables ordered by key, a record a batch, as nothing is gathered then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from benchmarks.machine import cpu_s, machine
from broker.kafka_topics import LIVE_STATE
from broker.view_part import WHOLE, ViewPart
from processors import live_kernel as k
from processors.kafka_view import hold_much
from processors.live_pages import Facts, encode_page
from processors.live_row import I64, fresh_row
from processors.state_db import StateDb
from processors.state_view import Record, StateView

PARTITIONS: Final = 64
CHECKPOINTS: Final = 5  # a second
MATCHING_BYTES: Final = 300
CHANGING: Final = tuple(range(24, 70))  # columns of a row that are another athlete's, or another second's
TENANTS: Final = 640
PARTS: Final = 64
T_US: Final = 1_781_085_600_000_000
Page = tuple[int, bytes, bytes]  # partition, key, value


def subject_of(number: int, tenants: int) -> str:
    return f"bench{number % tenants}/athlete{number:06d}"


def facts(number: int, second: int, chance: np.random.Generator) -> Facts:
    """An athlete under way, with one device and an attempt on a segment."""
    name = f"{number:06d}"
    numbering = (
        f"bench/box{number % 100}:{name}", 7, f"bench/box{number % 100}", f"d{name}", ([0], [60 + second]), 0, 0, T_US, T_US + second,
    )  # fmt: skip
    return True, b"", chance.bytes(MATCHING_BYTES), (numbering,), (T_US, 1), T_US + second * 1_000_000 + 900_000_000


def pages(athletes: int, seconds: int, *, scattered: bool = False, tenants: int = 1) -> Iterator[list[Page]]:
    """The pages of each checkpoint. `scattered`: who shares a page is another each second."""
    chance = np.random.default_rng(5)
    base = fresh_row()
    base[k.START] = base[k.ANCHOR] = T_US
    lanes = [[n for n in range(athletes) if n % PARTITIONS == lane] for lane in range(PARTITIONS)]
    for second in range(seconds):
        if scattered:
            for lane in lanes:
                chance.shuffle(lane)
        for turn in range(CHECKPOINTS):
            made: list[Page] = []
            for partition, lane in enumerate(lanes):
                members = lane[turn::CHECKPOINTS]
                rows: I64 = np.tile(base, (len(members), 1))
                rows[:, CHANGING] = chance.integers(0, 1 << 40, (len(members), len(CHANGING)))
                rows[:, k.LAST_T] = T_US + second * 1_000_000
                of = [facts(n, second, chance) for n in members]
                value = encode_page(second * CHECKPOINTS + turn + 1, [subject_of(n, tenants) for n in members], rows, of)
                made.append((partition, b"p" + turn.to_bytes(4, "big"), value))
            yield made


def polls(athletes: int, seconds: int, *, scattered: bool = False, tenants: int = 1) -> list[list[Record]]:
    """The same as a view finds them, half a checkpoint at a time."""
    half = PARTITIONS // 2
    return [
        [Record(LIVE_STATE, partition, 0, key, value, ()) for partition, key, value in checkpoint[at : at + half]]
        for checkpoint in pages(athletes, seconds, scattered=scattered, tenants=tenants)
        for at in (0, half)
    ]


def taken_us(batches: Sequence[Sequence[Record]], athletes: int, *, plainly: bool = False, part: ViewPart = WHOLE) -> float:
    """CPU microseconds a state of taking batches, a transaction each, after the first second. `plainly`: a record by itself, ordered by
    key. `part`: whose are taken."""
    first = 2 * CHECKPOINTS
    with TemporaryDirectory() as folder:
        store = StateDb(Path(folder) / "state.db", by_arrival=not plainly)
        hold_much(store.db)
        view = StateView(store, part=part)
        began_s = 0.0
        for number, batch in enumerate(batches):
            if number == first:
                began_s = cpu_s()
            store.db.execute("BEGIN IMMEDIATE")
            for part in [[record] for record in batch] if plainly else [batch]:
                view.take(part)
            store.db.execute("COMMIT")
        store.close()
        states = sum(len(batch) for batch in batches[first:]) * athletes / (PARTITIONS * CHECKPOINTS)
        return (cpu_s() - began_s) / states * 1e6


def run(quick: bool) -> dict[str, object]:
    """Figures of one view."""
    athletes, seconds = (2_000, 3) if quick else (10_000, 7)
    found = polls(athletes, seconds)
    late = [*found[: 2 * CHECKPOINTS], *[[r for poll in found[at : at + 20] for r in poll] for at in range(10, len(found), 20)]]
    us, late_us = taken_us(found, athletes), taken_us(late, athletes)
    scattered_us = taken_us(polls(athletes, seconds, scattered=True), athletes)
    plain_us = taken_us(found, athletes, plainly=True)
    part = ViewPart(1, PARTS)
    share = sum(part.has(f"bench{n}") for n in range(TENANTS)) / TENANTS
    passed_us = (taken_us(polls(athletes, seconds, tenants=TENANTS), athletes, part=part) - share * us) / (1 - share)
    return {
        "name": "view",
        "figures": {
            "athletes": athletes,
            "cpu_us_per_state": round(us, 1),
            "cpu_us_per_state_scattered": round(scattered_us, 1),
            "cpu_us_per_state_late": round(late_us, 1),
            "cpu_us_per_state_passed": round(passed_us, 2),
            "taken_share": round(share, 3),
        },
        "baseline": {"cpu_us_per_state_by_record": round(plain_us, 1), "ratio": round(plain_us / us, 1)},
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
