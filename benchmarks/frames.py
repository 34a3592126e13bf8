"""Cost of frames: decoding many frames of one layout as one array, encoding one; beside JSON and msgpack maps of the same samples.

`decode_us_per_sample`: bytes of frames that ingest has checked -> one joined array and three SI columns. `checked_us_per_sample` is the
same through `decode_frame` with all its checks, as ingest does once. `join_us_per_sample` is the array and the columns alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import msgpack

from benchmarks.machine import cpu_s, machine
from broker.columns import join_records, si_column
from broker.frames import Clock, Frame, decode_frame, encode_frame
from broker.layouts import layout_named

SAMPLES = 30
MOTION = layout_named("motion.1")


def sample(i: int) -> dict[str, float | None]:
    """Sample i of a run along the river: every field of motion.1."""
    return {
        "tick_ms": i * 1000, "lat": 48.137 + i * 2.7e-5, "lon": 11.575 - i * 1.3e-5, "altitude_m": 519.2 + i * 0.2, "altitude_source": 1,
        "accuracy_m": 3.5, "speed_mps": 3.21, "heading_deg": 271.5, "distance_m": 1200.0 + 3.2 * i, "hr_bpm": 140 + i % 9,
        "cadence_rpm": 84, "power_w": 250 + i % 20,
    }  # fmt: skip


def frame(seq: int, device: str = "watch-7") -> Frame:
    """A frame of 30 samples."""
    records = b"".join(MOTION.pack(sample(i)) for i in range(SAMPLES))
    return Frame(MOTION.id, 0, device, 0x1234_5678_9ABC_DEF0, seq, 5_000_000 + seq * 30_000_000, 10**15, Clock.NETWORK, "gym/ann", records)


def cpu_us(work: Callable[[], object], repeats: int) -> float:
    """CPU microseconds of one call, the best of five rounds."""
    best = float("inf")
    for _ in range(5):
        start = cpu_s()
        for _ in range(repeats):
            work()
        best = min(best, cpu_s() - start)
    return best / repeats * 1e6


def decode_joined(raws: list[bytes]) -> float:
    """Record blocks out of frames known to be good, then columns."""
    return columns([msgpack.unpackb(raw, use_list=False)[9] for raw in raws])


def decode_checked(raws: list[bytes]) -> float:
    """The same with every check of a frame from outside."""
    frames = [f for f in map(decode_frame, raws) if isinstance(f, Frame)]
    return columns([f.records for f in frames])


def columns(blocks: list[bytes]) -> float:
    """One array and three SI columns."""
    records = join_records(MOTION.id, blocks)
    return float(si_column(MOTION, records, "speed_mps").sum() + si_column(MOTION, records, "hr_bpm").sum() + records["tick_ms"].sum())


def run(quick: bool) -> dict[str, object]:
    """Figures in CPU microseconds."""
    frames_a_batch, repeats = (500, 3) if quick else (2000, 10)
    raws = [encode_frame(frame(i)) for i in range(frames_a_batch)]
    blocks = [frame(0).records] * frames_a_batch
    rows = [sample(i) for i in range(SAMPLES)]
    texts = [json.dumps({"device": "watch-7", "seq": i, "samples": rows}).encode() for i in range(frames_a_batch)]
    maps = [msgpack.packb({"device": "watch-7", "seq": i, "samples": rows}) for i in range(frames_a_batch)]
    samples = frames_a_batch * SAMPLES
    return {
        "name": "frames",
        "figures": {
            "decode_us_per_sample": round(cpu_us(partial(decode_joined, raws), repeats) / samples, 4),
            "checked_us_per_sample": round(cpu_us(partial(decode_checked, raws), repeats) / samples, 4),
            "join_us_per_sample": round(cpu_us(partial(columns, blocks), repeats) / samples, 4),
            "encode_us_per_frame": round(cpu_us(partial(encode_frame, frame(0)), 500 * repeats), 2),
            "bytes_per_frame": len(raws[0]),
        },
        "baseline": {
            "json_decode_us_per_sample": round(cpu_us(lambda: [json.loads(text) for text in texts], repeats) / samples, 4),
            "msgpack_map_decode_us_per_sample": round(cpu_us(lambda: [msgpack.unpackb(raw) for raw in maps], repeats) / samples, 4),
            "json_encode_us_per_frame": round(cpu_us(partial(json.dumps, rows), 100 * repeats), 2),
            "msgpack_map_encode_us_per_frame": round(cpu_us(partial(msgpack.packb, rows), 100 * repeats), 2),
            "json_bytes_per_frame": len(texts[0]),
            "msgpack_map_bytes_per_frame": len(maps[0]),
        },
        "machine": machine(),
    }


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
