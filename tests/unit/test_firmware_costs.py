"""The table of what the device kit costs: its page, its limits, and that all it measures runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from paceline.device.board import load_example, names_in
from tests.firmware import LANES, run
from tests.firmware_costs import PAGE, SCRIPT, grown, inputs, names, page, table


def test_page_is_made_from_the_table() -> None:
    assert PAGE.read_text() == page(table())


def test_what_is_promised_of_a_device_holds() -> None:
    instructions, heap = table()["instructions"], table()["heap_bytes"]
    assert instructions["kit.ed25519: signature of 200 bytes checked"] <= 100_000_000
    per_second = {
        "dsp.magnitude: sample at 100 Hz": 100,
        "dsp.steps: magnitude at 25 Hz": 25,
        "dsp.cadence: magnitude at 25 Hz, its second's look spread over it": 25,
        "dsp.reps: sample at 100 Hz": 100,
        "dsp.ppg: sample at 50 Hz, its second's look spread over it": 50,
        "drivers.max30102: sample, 16 at a time": 50,
        "drivers.bmi270: sample, 16 at a time": 100,
        "drivers.ubx: fix of 100 bytes": 1,
        "kit.frame: record of tick and six fields": 1,
    }
    load = sum(instructions[name] * times for name, times in per_second.items())
    print(f"a wristband with all sensors: {load / 1e6:.1f} million instructions a second")
    assert load <= 8_000_000
    assert heap["all of them"] <= 96 * 1024


@pytest.mark.parametrize("name", names_in("devices"))
def test_a_device_that_runs_keeps_within_a_small_heap(name: str) -> None:
    running = table()["running_bytes"]
    steady_kb = 72 if name in ("strap_bridge", "wristband") else 64
    assert running[f"{name}: steady"] <= steady_kb * 1024
    at_most = running["asyncio and the port, before anything"] + running[f"{name}: at most"]
    assert at_most <= load_example(name).budget.heap_bytes <= 96 * 1024


@pytest.mark.parametrize("lane", LANES)
def test_what_is_measured_runs_on_every_lane(lane: str, tmp_path: Path) -> None:
    for name, data in inputs().items():
        (tmp_path / name).write_bytes(data)
    assert names(run(lane, SCRIPT, str(tmp_path), heap="4m")) == list(table()["instructions"])


def test_growth_is_told_and_so_is_what_is_in_one_only() -> None:
    was = {"instructions": {"a": 100.0, "b": 100.0, "c": 1.0}, "heap_bytes": {"free for the device then": 1000.0}}
    now = {"instructions": {"a": 105.0, "b": 106.0, "d": 1.0}, "heap_bytes": {"free for the device then": 900.0}}
    assert grown(was, was) == []
    assert grown(was, now) == [
        "instructions: c is in one only",
        "instructions: d is in one only",
        "instructions: b was 100.0 and is 106.0",
        "heap_bytes: free for the device then was 1,000.0 and is 900.0",
    ]
