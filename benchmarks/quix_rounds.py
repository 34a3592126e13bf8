"""Small rounds of the live stage: `python -m benchmarks.quix_rounds` gives the CPU of one with a few frames of each of 64 partitions.

As at a low rate, where a round is what came within some 20 ms. `together`: as the engine hands them over; `each`: one partition after the
other. Without Kafka: cells in memory, a checkpoint each SAVES rounds that is not counted. The best of three.
"""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.machine import machine
from benchmarks.quix import Nowhere, encoded_frames
from broker.kafka import partition_of
from broker.kafka_topics import FRAME_PARTITIONS
from processors.collector import waiting_collector
from processors.kernel_jobs import finish_together
from processors.quix_live import LiveShard
from processors.reference_data import ReferenceData
from processors.row_mirror import MemoryCells
from processors.shards import Message
from processors.sharing import Place
from processors.track_folder import FolderBlobs
from processors.warm import warm_up

ROUNDS: Final = 32
SAVES: Final = 8
PASSES: Final = 4  # the first two, in which activities begin, are not counted
Round = dict[int, list[Message]]


def run() -> dict[str, Any]:
    """Milliseconds of CPU a round, by frames a partition."""
    warm_up()
    figures: dict[str, Any] = {}
    for frames in (1, 2, 4, 8):
        seen: dict[str, list[float]] = {"together": [], "each": []}
        for _ in range(3):
            for way, rounds_ms in seen.items():
                with TemporaryDirectory() as folder:
                    rounds_ms.append(_round_ms(Path(folder), frames * FRAME_PARTITIONS, together=way == "together"))
        figures[f"{frames} a partition"] = {f"{way}_ms": round(min(rounds_ms), 2) for way, rounds_ms in seen.items()}
    return {"name": "quix_rounds", "figures": figures, "machine": machine()}


def _round_ms(folder: Path, frames: int, *, together: bool) -> float:
    shards = [
        LiveShard(
            Place(n, FRAME_PARTITIONS), MemoryCells(), Nowhere(), ReferenceData(), FolderBlobs(folder / "tracks"), folder / "work",
            lambda: 0, tells=False,
        )
        for n in range(FRAME_PARTITIONS)
    ]  # fmt: skip
    used_s = 0.0
    for number, parts in enumerate(_rounds(frames)):
        began_s = time.thread_time()
        with waiting_collector():
            if together:
                finish_together(shards[n].steps(part) for n, part in parts.items())
            else:
                for n, part in parts.items():
                    shards[n].take(part)
        used_s += time.thread_time() - began_s if number >= 2 * ROUNDS // PASSES else 0.0
        for shard in shards if number % SAVES == 0 else ():
            shard.flush()
    for shard in shards:
        shard.close()
    return used_s / (ROUNDS - 2 * ROUNDS // PASSES) * 1000


def _rounds(frames: int) -> list[Round]:
    """Rounds of so many frames over all partitions, each athlete once a pass."""
    offsets = [0] * FRAME_PARTITIONS
    sent = encoded_frames("round", frames * ROUNDS // PASSES, PASSES)
    made: list[Round] = []
    for _ in range(ROUNDS):
        parts: Round = {}
        for record in islice(sent, frames):
            n = partition_of(record.key, FRAME_PARTITIONS)
            parts.setdefault(n, []).append(Message(offsets[n], record.key, record.value, record.headers))
            offsets[n] += 1
        made.append(parts)
    return made


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
