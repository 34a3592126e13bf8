"""The device's DSP on MicroPython with the heap locked: no sample allocates, and machine code, bytecode and CPython come to the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware import run
from tests.motion_made import exercise, pulse, stillness, walk
from tests.motion_recordings import STEPS, pulse_recording, step_recording

SCRIPT = Path(__file__).parents[1] / "lanes" / "dsp_samples.py"


def signals() -> dict[str, tuple[str, str, int]]:
    """Samples as text, what they are, and their rate."""
    motion = [*walk(60, 110), *stillness(5), *exercise(8, 2.0, rate_hz=100), *[(16_000, -16_000, 16_000), (-32_768, 32_767, 0)] * 200]
    made = {
        "walk": ("motion", "\n".join(f"{x} {y} {z}" for x, y, z in motion), 100),
        "pulse": ("pulse", " ".join(map(str, [*pulse(20, lambda at: 70 + at), 0, (1 << 18) - 1, *pulse(12, lambda _: 60)])), 50),
        "crank": ("turns", " ".join(str(i * 666_667 % (1 << 30)) for i in range(1, 3000)), 0),
    }
    for name in STEPS[-1:]:
        made[name] = ("motion", "\n".join(f"{x} {y} {z}" for x, y, z in step_recording(name, 50)[0]), 50)
        made["pulse recording"] = ("pulse", " ".join(map(str, pulse_recording("data"))), 50)
    return made


@pytest.mark.parametrize("name", signals())
def test_no_sample_allocates_and_all_come_to_the_same(name: str) -> None:
    what, text, rate_hz = signals()[name]
    there = run("micropython", SCRIPT, what, str(rate_hz), stdin=text.encode(), heap="4m")
    assert there == run("micropython", SCRIPT, what, str(rate_hz), "bytecode", stdin=text.encode(), heap="4m")
    assert there == run("cpython", SCRIPT, what, str(rate_hz), stdin=text.encode())
    assert len(there.splitlines()) > 20


def test_machine_code_and_bytecode_are_equal_for_drawn_arguments() -> None:
    assert int(run("micropython", SCRIPT.with_name("twins.py"), "1500", heap="4m")) == 18_000
