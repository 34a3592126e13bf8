"""Boards on Kafka: what a partition's state costs, and how soon a large board is open again.

The stage itself over a real RocksDB, without a Kafka: `cpu_us_per_mutation` is all that `take` and a checkpoint do, up to where records are
handed to the producer. A board of a million efforts of a fifth as many athletes (quick: 20,000). `open_s`: CPU-seconds until the first
change of that board is told, by a replica that has its disk. `changelog_bytes_per_mutation_*`: what a checkpoint hands to the changelog,
keys and values, of new efforts and corrections of any age, 1,000 (`hot`) or one (`quiet`) a checkpoint; `pages_bytes_*` is the part of it
that is pages. `pages_of_rows_s`: CPU-seconds of making pages, once, of the state of an older program. Baseline of the same run: the way
before pages, every row read into a working copy when the partition opens.

`hot_*`: one board, every mutation of it, whole in one partition (baseline) and cut into eight shards, in groups of 1,000 as they come from
Kafka, each with a checkpoint. `hot_own_us` is what its own partition spends on a mutation: dealing it, and hearing what moved at the front;
`hot_shard_us` what the shard does that has it. What a process spends on reading and sending records of Kafka comes to both.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import msgpack
from rocksdict import Options, Rdict, ReadOptions

from benchmarks.boards import changes, effort
from benchmarks.machine import cpu_s, machine
from broker.kafka_topics import BOARD_WORDS
from processors.hot_board import NONE_HOT, HotRule, shard_key
from processors.packed_efforts import warm_up
from processors.quix_boards import BoardsOnKafka, BoardsShard
from processors.results import Effort
from processors.results_db import effort_row
from processors.row_mirror import row_key
from processors.shards import Message, Shard
from processors.stage_words import EffortNow, encode_board_word
from processors.working_copy import WorkingCopy

GROUP: Final = 1_000
SHARDS: Final = 8


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
        for key, value in self._db.items(from_key=prefix, read_opt=bounds):
            assert isinstance(key, bytes)
            yield key, value

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
    """Counts what is sent, and holds what goes to boards again."""

    def __init__(self) -> None:
        self.records = 0
        self.words: list[tuple[bytes, bytes]] = []

    def send(
        self, topic: str, key: bytes, value: bytes | None, headers: Sequence[tuple[str, bytes]] = (), partition: int | None = None
    ) -> None:
        del headers, partition
        self.records += 1
        if topic == BOARD_WORDS and value is not None:
            self.words.append((key, value))


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


class Lane(NamedTuple):
    """One partition with its cells."""

    shard: Shard
    cells: RocksCells

    def take(self, words: Sequence[Message]) -> float:
        """CPU-seconds of taking words, and of a checkpoint."""
        return fed(self.shard, self.cells, words, len(words)) if words else 0.0


def hot_board(folder: Path, words: Sequence[Message], first: int) -> tuple[float, float, float, int]:
    """CPU-seconds of the words from `first` on: whole in one partition; in its own partition when it is cut, and in all its shards; and how
    many efforts are at the front in the end."""

    def lane(name: str, rule: HotRule) -> Lane:
        cells = RocksCells(folder / name)
        return Lane(BoardsOnKafka(rule).open(0, cells, sent), cells)

    sent = Sent()
    whole_s = own_s = shards_s = 0.0
    whole, own = lane("whole", NONE_HOT), lane("own", HotRule(["*"], SHARDS))
    shards = [lane(f"shard{n}", NONE_HOT) for n in range(SHARDS)]
    keys = {shard_key("gym", "hill", n): n for n in range(SHARDS)}
    for at in range(0, len(words), GROUP):
        group = words[at : at + GROUP]
        counts = at >= first
        whole_s += counts * whole.take(group)
        sent.words.clear()
        own_s += counts * own.take(group)
        dealt: list[list[Message]] = [[] for _ in shards]
        for key, value in sent.words:
            dealt[keys[key]].append(Message(0, key, value, ()))
        sent.words.clear()
        shards_s += counts * sum(shard.take(part) for shard, part in zip(shards, dealt, strict=True))
        fronts = [Message(0, key, value, ()) for key, value in sent.words]
        own_s += counts * own.take(fronts)
    assert isinstance(whole.shard, BoardsShard)
    expected = whole.shard.board("gym", "hill")
    hot = own.shard
    assert isinstance(hot, BoardsShard)
    front = hot.front("gym", "hill")
    assert [row.effort.id for row in front.top(limit=10).rows] == [row.effort.id for row in expected.top(limit=10).rows]
    for one in (whole, own, *shards):
        one.cells.close()
    return whole_s, own_s, shards_s, len(front)


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
        del held
        before = 5 * some // GROUP * GROUP
        hot = [effort(chance, chance.randrange(people), n, 0) for n in range(before)]
        hot += changes(chance, hot, people, some)
        whole_s, own_s, shards_s, front = hot_board(Path(folder), messages(hot, 1), before)
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
            "hot_own_us": round(own_s / some * 1e6, 1),
            "hot_shard_us": round(shards_s / some * 1e6, 1),
            "hot_mutations_per_s_of_own": round(some / own_s),
            "hot_front": front,
        },
        "baseline": {
            "open_rows_s": round(rows_s, 2),
            "ratio_open": round(rows_s / open_s, 1),
            "whole_us": round(whole_s / some * 1e6, 1),
            "whole_mutations_per_s": round(some / whole_s),
            "ratio_whole_to_own": round(whole_s / own_s, 1),
            "ratio_all_of_hot_to_whole": round((own_s + shards_s) / whole_s, 2),
            "changelog_bytes_per_mutation_rows_hot": round(hot_bytes - hot_pages),
        },
        "machine": machine(),
    }


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=1))
