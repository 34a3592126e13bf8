"""Samples of the whole live kernel a second and core: numba, a C -O2 loop of the same code (`c_twin`), and the interpreter, on the same
frames.

A sample carries position, speed, altitude, heart rate, beat interval and power. Each of the three leaves the same rows, bit for bit; a
run in which they do not is an error. Without a C compiler `ratio_to_c` is missing.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.c_twin import compiler, library
from benchmarks.machine import machine
from processors.kernels import athlete, beats, climb, heart, load, plane, position, power, travel
from processors.kernels.columns import COLUMNS, fresh_row
from processors.kernels.compiled import COMPILED

MODULES: Final = (plane, position, travel, climb, heart, load, beats, power, athlete)
TUNINGS: Final = (position.RIDE, climb.BAROMETER, load.MAN)
FRAME: Final = 15


def frames(athletes: int, seconds: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Slots, ends and sample columns: frames of 15 s of each athlete in turn, riding at about 8 m/s in wide curves."""
    rng = np.random.default_rng(seed)
    blocks = seconds // FRAME
    slots = np.tile(np.arange(athletes, dtype=np.float64), blocks)
    ends = np.arange(1, len(slots) + 1, dtype=np.float64) * FRAME
    block, who, second = (axis.ravel() for axis in np.indices((blocks, athletes, FRAME)))
    t = 1.7e9 + block * FRAME + second
    angle = (block * FRAME + second) / (200.0 + who % 50)
    n = len(t)
    lat = 460_000_000 + np.rint(1_500_000 * np.sin(angle) + rng.normal(0, 250, n))
    lon = 70_000_000 + np.rint(2_000_000 * np.cos(angle) + rng.normal(0, 250, n))
    columns = [
        t, lat, lon, np.full(n, 4.0), np.abs(8 + rng.normal(0, 0.3, n)), 300 + 20 * np.sin(angle * 3) + rng.normal(0, 0.2, n),
        np.rint(140 + 15 * np.sin(angle) + rng.normal(0, 1, n)), np.rint(430 + rng.normal(0, 12, n)), np.rint(220 + rng.normal(0, 40, n)),
    ]  # fmt: skip
    return slots, ends, columns


def by_numba(
    athletes: int, slots: np.ndarray, ends: np.ndarray, columns: list[np.ndarray], tunings: Sequence[Sequence[float]] = TUNINGS
) -> tuple[np.ndarray, float]:
    """The rows, and the CPU-seconds it took."""
    rows = np.tile(np.array(fresh_row()), (athletes, 1))
    given = [np.array(tuning) for tuning in tunings]
    start = time.process_time()
    athlete.run(rows, slots, ends, len(slots), *given, *columns)
    return rows, time.process_time() - start


def by_c(
    loaded: ctypes.CDLL,
    athletes: int,
    slots: np.ndarray,
    ends: np.ndarray,
    columns: list[np.ndarray],
    tunings: Sequence[Sequence[float]] = TUNINGS,
) -> tuple[np.ndarray, float]:
    """The rows, and the CPU-seconds it took."""
    rows = np.tile(np.array(fresh_row()), (athletes, 1))
    tables = [np.array(tuning) for tuning in tunings]
    given = [ctypes.c_void_p(a.ctypes.data) for a in (rows, slots, ends)]
    rest = [ctypes.c_void_p(a.ctypes.data) for a in (*tables, *columns)]
    start = time.process_time()
    loaded.run(*given, ctypes.c_long(len(slots)), *rest)
    return rows, time.process_time() - start


_PLAIN: Final = """
import sys; sys.modules["numba"] = None
import json, time
from benchmarks.kernel import TUNINGS, frames
from processors.kernels import athlete
from processors.kernels.columns import fresh_row
athletes, seconds = int(sys.argv[1]), int(sys.argv[2])
slots, ends, columns = frames(athletes, seconds)
lists = [column.tolist() for column in columns]
rows = [fresh_row() for _ in range(athletes)]
start = time.process_time()
athlete.run(rows, slots.tolist(), ends.tolist(), len(slots), *TUNINGS, *lists)
print(json.dumps({"cpu_s": time.process_time() - start, "rows": [[v.hex() for v in row] for row in rows]}))
"""


def by_interpreter(athletes: int, seconds: int) -> tuple[np.ndarray, float]:
    """The rows over `frames(athletes, seconds)` in a process without numba, and the CPU-seconds it took."""
    done = subprocess.run([sys.executable, "-c", _PLAIN, str(athletes), str(seconds)], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    return np.array([[float.fromhex(value) for value in row] for row in said["rows"]]), said["cpu_s"]


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to the last bit; what is unknown in one is unknown in the other."""
    return bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


def run(quick: bool) -> dict[str, object]:
    """Figures per core: samples a CPU-second, the best of five rounds."""
    if not COMPILED:
        raise ModuleNotFoundError("the kernel benchmark races numba", name="numba")
    athletes, seconds = (1_000, 120) if quick else (1_000, 600)
    given = frames(athletes, seconds)
    samples = len(given[2][0])
    by_numba(athletes, *given)
    rounds = [by_numba(athletes, *given) for _ in range(5)]
    fastest = min(took for _, took in rounds)
    plain_rows, plain_s = by_interpreter(20, seconds)
    assert same_bits(plain_rows, by_numba(20, *frames(20, seconds))[0]), "the interpreter and numba differ"
    figures: dict[str, float] = {
        "samples_per_s_per_core": round(samples / fastest),
        "plain_python_samples_per_s": round(20 * (seconds // FRAME) * FRAME / plain_s),
        "state_bytes": COLUMNS * 8,
    }
    baseline: dict[str, float] = {}
    if compiler() is not None:
        with tempfile.TemporaryDirectory() as folder:
            loaded = library(MODULES, "run", Path(folder))
            raced = [by_c(loaded, athletes, *given) for _ in range(5)]
        assert same_bits(raced[0][0], rounds[0][0]), "C and numba differ"
        c_s = min(took for _, took in raced)
        baseline["c_samples_per_s"] = round(samples / c_s)
        figures["ratio_to_c"] = round(c_s / fastest, 3)
    return {"name": "kernel", "figures": figures, "baseline": baseline, "machine": machine()}


if __name__ == "__main__":
    print(json.dumps(run("--quick" in sys.argv), indent=2))
