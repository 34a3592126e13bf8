"""openant 1.3.4 as an oracle: fed by the same virtual stick, it makes the same of every page; and where it dies, we go on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from device_profiles.catalogue import catalogue
from device_profiles.reader import Reader
from simulators.ant_room import room
from simulators.ant_stick import StickFaults
from tests.ant_world import AntWorld
from tests.servers import PROJECT

PLAN = "hr,trainer,power,speed,cadence,speed_cadence,air"
LIMIT_S = 120.0
# type: page, (openant's group, its field, index of a list), our field
SAME = {
    120: (None, (("heart_rate", "heart_rate", None, "hr_bpm"), ("heart_rate", "beat_count", None, "beat_count"), ("heart_rate", "beat_time", None, "beat_time_s"))),
    17: (16, (("fe", "speed", None, "speed_mps"),)),
    11: (16, (("power", "instantaneous_power", None, "power_w"), ("power", "cadence", None, "cadence_rpm"))),
    123: (None, (("bike_speed", "bike_speed_event_time", 1, "wheel_time_s"), ("bike_speed", "cumulative_speed_revolution", 1, "wheel_revs"))),
    122: (None, (("bike_cadence", "bike_cadence_event_time", 1, "crank_time_s"), ("bike_cadence", "cumulative_cadence_revolution", 1, "crank_revs"))),
    121: (None, (("bike_speed", "bike_speed_event_time", 1, "wheel_time_s"), ("bike_cadence", "cumulative_cadence_revolution", 1, "crank_revs"))),
    25: (1, (("environment", "temperature", None, "ambient_temp_c"),)),
}  # fmt: skip


def openant(seconds: float, plan: str = PLAN, *, corrupt_every: int = 0, pages: int = 1_000_000) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.openant_child", plan, str(seconds), str(corrupt_every), str(pages)],
        check=False, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_openant_makes_the_same_of_every_page():
    *lines, last = openant(90, pages=24)
    assert last["reader_alive"]
    compared = dict.fromkeys(SAME, 0)
    readers: dict[int, Reader] = {}
    for line in lines:
        kind, raw = line["type"], bytes.fromhex(line["page"])
        profile = catalogue().ant(kind)
        assert profile is not None
        reader = readers.setdefault(kind, Reader(profile))
        reader.feed(raw, 0)
        page, fields = SAME[kind]
        if (page is not None and raw[0] != page) or raw[0] in (80, 81, 82):
            continue
        if kind == 121 and raw[0] & 0x0F > 5:
            continue  # it takes the low byte of the crank's time for a page number and drops such packets
        for group, theirs, at, ours in fields:
            value = line["values"][group][theirs]
            value = value if at is None else value[at]
            assert reader.fields[ours] == pytest.approx(value, abs=1e-6), f"type {kind} page {raw.hex()}: {ours}"
            compared[kind] += 1
    assert all(count >= 4 for count in compared.values()), compared


def test_one_corrupt_byte_ends_openant_and_costs_us_one_frame():
    *_, last = openant(60, "hr", corrupt_every=20)
    assert not last["reader_alive"], "openant has learnt to survive: tell docs/gateway.md"
    world = AntWorld(room("hr"), faults=StickFaults(corrupt_every=20))
    world.run(60)
    assert world.virtual.damaged >= 12
    assert world.pages == world.whole
