"""A whole hall through the whole way: 30 straps at 1 Hz, 8 machines at 4 Hz and an ANT stick that hears 40 devices, heard by one gateway.

Twenty seconds here, ten minutes in nightly, the same code. Every sample that went out over a link must stand in the tracks once. The CPU of
the gateway is printed; its bar (a tenth of a core) is asserted in nightly only, on a machine that does nothing else.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from paceline.demo import Demo, DemoOptions, DemoResult, run_demo
from paceline.sensor_gym import SensorPlan

HALL = SensorPlan(straps=30, machines=8, ant="hr:30,trainer:3,treadmill:1,power:4,stride:2")
ANT_DEVICES = 40
BLE_DEVICES = 41  # and two meters, and the strap of nobody
SETTLED_S = 12.0  # connects and searches are over by then; what they cost is not what a hall costs
CPU_BAR = 0.10


@dataclass(slots=True)
class Gauge:
    """CPU of the gateway over the time everybody is connected."""

    points: list[tuple[float, float]] = field(default_factory=list)

    def note(self, pid: int) -> None:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        self.points.append((time.monotonic(), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")))

    @property
    def share(self) -> float:
        if len(self.points) < 2:  # a machine so busy that nobody looked
            return math.nan
        (began_s, before_s), (ended_s, after_s) = self.points[0], self.points[-1]
        return (after_s - before_s) / (ended_s - began_s)


async def hall(folder: Path, seconds: float) -> tuple[DemoResult, Gauge]:
    demo = Demo(DemoOptions(seconds=seconds, athletes=1, port=0, sensors=HALL), folder)
    gauge = Gauge()

    def show(elapsed: float, snapshot: Mapping[str, object]) -> None:
        if elapsed >= SETTLED_S:
            gauge.note(demo._supervisor.pids()["gateway"])

    return await run_demo(demo, lambda _: None, show), gauge


def check(result: DemoResult, gauge: Gauge, seconds: float) -> None:
    sensors = result.figures["sensors"]
    print(f"hall of {sensors['devices']} sensors, {seconds:.0f} s: {sensors}; gateway {100 * gauge.share:.1f} % of a core")
    assert result.clean, result.examples
    assert not any(result.restarts.values())
    assert sensors["devices"] == ANT_DEVICES + BLE_DEVICES
    assert sensors["stored"] == sensors["samples"] > 60 * (seconds - SETTLED_S)


def test_every_sample_of_a_hall_is_stored_once(tmp_path: Path) -> None:
    result, gauge = asyncio.run(hall(tmp_path, 20.0))
    check(result, gauge, 20.0)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_every_sample_of_ten_minutes_of_a_hall_is_stored_once_for_a_tenth_of_a_core(tmp_path: Path) -> None:
    result, gauge = asyncio.run(hall(tmp_path, 600.0))
    check(result, gauge, 600.0)
    assert gauge.share <= CPU_BAR
