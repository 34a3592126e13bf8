"""Boards on Kafka: what a partition's state costs, and how soon a large board is open again.

The stage itself over a real RocksDB, without a Kafka: `cpu_us_per_mutation` is all that `take` and a checkpoint do, up to where records are
handed to the producer. A board of a million efforts of a fifth as many athletes (quick: 20,000). `open_s`: CPU-seconds until the first
change of that board is told, by a replica that has its disk. `changelog_bytes_per_mutation_*`: what a checkpoint hands to the changelog,
keys and values, of new efforts and corrections of any age, 1,000 (`hot`) or one (`quiet`) a checkpoint; `pages_bytes_*` is the part of it
that is pages. `pages_of_rows_s`: CPU-seconds of making pages, once, of the state of an older program. Baseline of the same run: the way
before pages, every row read into a working copy when the partition opens.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgpack
from rocksdict import Options, Rdict, ReadOptions

from benchmarks.boards import changes, effort
from benchmarks.machine import cpu_s, machine
from processors.packed_efforts import warm_up
from processors.quix_boards import BoardsOnKafka, BoardsShard
from processors.results import Effort
from processors.results_db import effort_row
from processors.row_mirror import row_key
from processors.shards import Message, Shard
from processors.stage_words import EffortNow, encode_board_word
from processors.working_copy import WorkingCopy

GROUP: Final = 1_000


class RocksCells:
    """Cells in RocksDB, as the engine has them: written ones in memory up to a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._db = Rdict(str(folder), Options(raw_mode=True))
        self._written: dict[bytes, bytes | None] = {}
        self.rows_bytes = self.pages_bytes = 0  # handed to the changelog

    def get(self, key: bytes) -> bytes | None:
        return self._written[key] if key in self._written else self._db.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        self._written[key] = value

    def drop(self, key: bytes) -> None:
        self._written[key] = None

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        bounds = ReadOptions()
        bounds.set_iterate_lower_bound(prefix)
        bounds.set_iterate_upper_bound(prefix[:-1] + bytes([prefix[-1] + 1]))
        yield from self._db.items(from_key=prefix, read_opt=bounds)

    def commit(self) -> None:
        for key, value in self._written.items():
            size = len(key) + len(value or b"")
            if key.startswith(b"p"):
                self.pages_bytes += size
            else:
                self.rows_bytes += size
            if value is None:
                self._db.delete(key)
            else:
                self._db.put(key, value)
        self._written.clear()

    def close(self) -> None:
        self._db.close()


class Sent:
    """Counts what is sent."""

    def __init__(self) -> None:
        self.records = 0

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        del topic, key, value, headers, partition
        self.records += 1


def messages(efforts: Sequence[Effort], first: int) -> list[Message]:
    """Words of `stage.boards` about efforts."""
    return [Message(first + n, b"gym/hill", encode_board_word(EffortNow(e, e.start_us)), ()) for n, e in enumerate(efforts)]


def fed(shard: Shard, cells: RocksCells, words: Sequence[Message], group: int) -> float:
    """CPU-seconds of taking words, a checkpoint each `group`."""
    began_s = cpu_s()
    for at in range(0, len(words), group):
        shard.take(words[at : at + group])
        shard.flush()
        cells.commit()
    return cpu_s() - began_s


def per_mutation(shard: Shard, cells: RocksCells, words: Sequence[Message], group: int) -> tuple[float, float, float]:
    """CPU microseconds, bytes of all cells and of pages, each of one mutation."""
    rows, pages = cells.rows_bytes, cells.pages_bytes
    used_s = fed(shard, cells, words, group)
    of_pages = cells.pages_bytes - pages
    return used_s / len(words) * 1e6, (cells.rows_bytes - rows + of_pages) / len(words), of_pages / len(words)


def run(quick: bool) -> dict[str, object]:
    """Figures of one partition with one large board."""
    count, people, some = (20_000, 4_000, 1_000) if quick else (1_000_000, 200_000, 10_000)
    warm_up()
    chance = random.Random(5)
    with TemporaryDirectory() as folder:
        place = Path(folder) / "cells"
        cells = RocksCells(place)
        stage = BoardsOnKafka()
        held = [effort(chance, chance.randrange(people), n, n) for n in range(count)]
        for e in held:
            cells.put(row_key("effort", [e.id]), msgpack.packb(effort_row(e)))
        cells.commit()
        began_s = cpu_s()
        shard = stage.open(0, cells, Sent())
        from_rows_s = cpu_s() - began_s
        shard.flush()
        cells.commit()
        news = changes(chance, held, people, 2 * some + some // 10 + 1)
        hot_us, hot_bytes, hot_pages = per_mutation(shard, cells, messages(news[:some], count), GROUP)
        _, quiet_bytes, quiet_pages = per_mutation(shard, cells, messages(news[some : some + some // 10], count + some), 1)
        cells.close()
        cells, sent = RocksCells(place), Sent()
        began_s = cpu_s()
        again = stage.open(0, cells, sent)
        partition_s = cpu_s() - began_s
        first = effort(chance, 0, count * 2, 0)
        again.take(messages([first], 2 * count))
        open_s = cpu_s() - began_s
        assert sent.records > 0
        assert isinstance(again, BoardsShard)
        assert again.board("gym", "hill").size() > people // 2
        began_s = cpu_s()
        copy = WorkingCopy(Path(folder) / "copy.db", cells, ("effort", "award", "board"))
        rows_s = cpu_s() - began_s
        copy.close()
        cells.close()
    return {
        "name": "kafka_boards",
        "figures": {
            "efforts": count,
            "cpu_us_per_mutation": round(hot_us, 1),
            "changelog_bytes_per_mutation_hot": round(hot_bytes),
            "pages_bytes_per_mutation_hot": round(hot_pages),
            "changelog_bytes_per_mutation_quiet": round(quiet_bytes),
            "pages_bytes_per_mutation_quiet": round(quiet_pages),
            "open_partition_s": round(partition_s, 3),
            "open_s": round(open_s, 3),
            "pages_of_rows_s": round(from_rows_s, 1),
        },
        "baseline": {
            "open_rows_s": round(rows_s, 2),
            "ratio_open": round(rows_s / open_s, 1),
            "changelog_bytes_per_mutation_rows_hot": round(hot_bytes - hot_pages),
        },
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
