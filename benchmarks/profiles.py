"""Cost of decoding one packet of a sensor: a heart-rate packet with one beat interval, a bike packet with five fields.

`*_packet_us`: the table engine, bytes -> fields. `*_reader_us`: the whole reader, bytes -> samples. The baseline decodes the same
packets with code written by hand for that profile, as the libraries of the field do: what is paid for profiles being data.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial

from benchmarks.machine import cpu_s, machine
from device_profiles.catalogue import catalogue
from device_profiles.profile import Profile
from device_profiles.reader import Reader

HEART = bytes.fromhex("16437203")
BIKE = bytes.fromhex("54080000000000000000003100")


def heart_by_hand(packet: bytes) -> dict[str, object]:
    """Heart rate, contact, energy and beat intervals."""
    flags, at = packet[0], 1
    found: dict[str, object] = {"contact": flags >> 1 & 3}
    if flags & 1:
        (found["hr_bpm"],) = struct.unpack_from("<H", packet, at)
        at += 2
    else:
        found["hr_bpm"] = packet[at]
        at += 1
    if flags & 8:
        (found["energy_kj"],) = struct.unpack_from("<H", packet, at)
        at += 2
    if flags & 16:
        found["rr_s"] = [ticks / 1024 for (ticks,) in struct.iter_unpack("<H", packet[at:])]
    if flags & 6 == 4:
        del found["hr_bpm"]
    return found


_BIKE_FIELDS = (
    (1, "<H", "speed_average_kmh", 100), (2, "<H", "cadence_rpm", 2), (3, "<H", "cadence_average_rpm", 2), (4, "u24", "distance_m", 1),
    (5, "<h", "resistance", 1), (6, "<h", "power_w", 1), (7, "<h", "power_average_w", 1), (8, "energy", "energy_kcal", 1),
    (9, "B", "hr_bpm", 1), (10, "B", "metabolic_equivalent", 10), (11, "<H", "elapsed_s", 1), (12, "<H", "remaining_s", 1),
)  # fmt: skip


def bike_by_hand(packet: bytes) -> dict[str, object]:
    """Every field of indoor bike data that the flags name."""
    (flags,) = struct.unpack_from("<H", packet)
    at = 2
    found: dict[str, object] = {}
    if not flags & 1:
        found["speed_kmh"] = struct.unpack_from("<H", packet, at)[0] / 100
        at += 2
    for bit, code, name, divisor in _BIKE_FIELDS:
        if not flags >> bit & 1:
            continue
        if code == "u24":
            found[name] = int.from_bytes(packet[at : at + 3], "little")
            at += 3
        elif code == "energy":
            found[name], found["energy_kcal_per_h"], found["energy_kcal_per_min"] = struct.unpack_from("<HHB", packet, at)
            at += 5
        else:
            (raw,) = struct.unpack_from(code, packet, at)
            found[name] = raw if divisor == 1 else raw / divisor
            at += struct.calcsize(code)
    return found


def cpu_us(work: Callable[[], object], repeats: int) -> float:
    """CPU microseconds of one call, the best of nine rounds."""
    best = float("inf")
    for _ in range(9):
        start = cpu_s()
        for _ in range(repeats):
            work()
        best = min(best, cpu_s() - start)
    return round(best / repeats * 1e6, 2)


def run(quick: bool) -> dict[str, object]:
    """Figures in CPU microseconds a packet."""
    repeats = 10_000 if quick else 100_000
    heart, bike = _named("heart_rate_measurement"), _named("indoor_bike_data")
    assert heart.decoder.decode(HEART)[0] == heart_by_hand(HEART)
    assert bike.decoder.decode(BIKE)[0] == bike_by_hand(BIKE)
    figures = {
        "hr_packet_us": cpu_us(partial(heart.decoder.decode, HEART), repeats),
        "bike_packet_us": cpu_us(partial(bike.decoder.decode, BIKE), repeats),
        "hr_reader_us": cpu_us(partial(Reader(heart).feed, HEART, 0), repeats),
        "bike_reader_us": cpu_us(partial(Reader(bike).feed, BIKE, 0), repeats),
    }
    baseline = {
        "hr_by_hand_us": cpu_us(partial(heart_by_hand, HEART), repeats),
        "bike_by_hand_us": cpu_us(partial(bike_by_hand, BIKE), repeats),
    }
    return {"name": "profiles", "figures": figures, "baseline": baseline, "machine": machine()}


def _named(name: str) -> Profile:
    profile = catalogue().named(name)
    assert profile is not None
    return profile


if __name__ == "__main__":
    import sys

    print(json.dumps(run("--quick" in sys.argv), indent=2))
