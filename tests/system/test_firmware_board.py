"""A whole board on MicroPython with the heap locked: registers, FIFOs, interrupts, receivers, DSP and records, and not a byte allocated for any sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.frames import Frame, decode_frame
from tests.firmware import run
from tests.motion_made import pulse, walk
from tests.receiver_bytes import Instant, nav_pvt, nmea

SCRIPT = Path(__file__).parents[1] / "lanes" / "board_samples.py"
SECONDS = 30


def samples() -> str:
    """What the sensors of somebody feel who walks with 110 steps a minute and a heart of 96, on a bike computer's clock; east of Fiji."""
    walking = walk(55, 110, 50)[: SECONDS * 50]
    light = pulse(SECONDS, lambda _: 96)
    lines: list[str] = []
    for i, ((x, y, z), glow) in enumerate(zip(walking, light, strict=False)):
        words = [glow, x * 4096 // 1000, y * 4096 // 1000, z * 4096 // 1000, int(i % 40 == 0)]
        line = " ".join(map(str, words))
        if i % 50 == 0:
            at = Instant(-170_000_000 + i, 1_799_999_000 - i, time_ms=45_296_000 + i * 20)
            line += " R " + (nmea(at) + nav_pvt(at)).hex()
        lines.append(line)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("board") / "bmi270.bin"
    path.write_bytes(bytes(range(256)) * 32)
    return str(path)


def test_no_sample_of_a_whole_board_allocates(config: str) -> None:
    given = samples()
    there = run("micropython", SCRIPT, config, stdin=given.encode(), heap="4m")
    assert there == run("micropython", SCRIPT, config, "bytecode", stdin=given.encode(), heap="4m")
    assert there == run("cpython", SCRIPT, config, stdin=given.encode())
    *seconds, places, frame = there.splitlines()
    hr_dbpm, steps, cadence_spm, _, pulses, drpm, fixes, _ = map(int, seconds[-1].split())
    assert abs(hr_dbpm - 960) <= 15
    assert abs(steps - 48) <= 3
    assert abs(cadence_spm - 110) <= 2
    assert (pulses, drpm) == (len(seconds) * 50 // 40 + 1, 750)
    assert fixes == 2 * len(seconds)
    lat, lon, nmea_lat, nmea_lon = map(int, places.split())
    assert abs(lat - nmea_lat) <= 1
    assert abs(lon - nmea_lon) <= 1
    decoded = decode_frame(bytes.fromhex(frame))
    assert isinstance(decoded, Frame)
    assert len(decoded.records) == len(seconds) * 26
