"""What satellite receivers say, made from values: NMEA sentences and UBX NAV-PVT, for tests and for lane scripts' input."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SYNC = b"\xb5\x62"


@dataclass(frozen=True, slots=True)
class Instant:
    """A fix, and the time of day it is of."""

    lat_e7: int
    lon_e7: int
    altitude_cm: int = 12_345
    speed_mmps: int = 4_000
    course_cdeg: int = 8_440
    time_ms: int = 45_296_000
    date: tuple[int, int, int] = (2026, 11, 30)
    satellites: int = 9
    accuracy_cm: int = 150


def sentence(body: str) -> bytes:
    """A sentence with its checksum and end of line."""
    check = 0
    for byte in body.encode():
        check ^= byte
    return f"${body}*{check:02X}\r\n".encode()


def nmea(at: Instant, digits: int = 7, talker: str = "GN") -> bytes:
    """RMC and GGA; minutes with so many digits after the point."""
    clock = f"{at.time_ms // 3_600_000:02d}{at.time_ms // 60_000 % 60:02d}{at.time_ms // 1000 % 60:02d}.{at.time_ms % 1000:03d}"
    lat = _coordinate(at.lat_e7, 2, digits) + ("," + "NS"[at.lat_e7 < 0])
    lon = _coordinate(at.lon_e7, 3, digits) + ("," + "EW"[at.lon_e7 < 0])
    year, month, day = at.date
    knots = at.speed_mmps * 900 / 463 / 1000
    rmc = f"{talker}RMC,{clock},A,{lat},{lon},{knots:.3f},{at.course_cdeg / 100:.2f},{day:02d}{month:02d}{year % 100:02d},,,A"
    gga = f"{talker}GGA,{clock},{lat},{lon},1,{at.satellites:02d},{at.accuracy_cm / 500:.2f},{at.altitude_cm / 100:.2f},M,47.0,M,,"
    return sentence(rmc) + sentence(gga)


def ubx(kind: int, number: int, payload: bytes) -> bytes:
    """A message in its frame."""
    body = bytes((kind, number)) + len(payload).to_bytes(2, "little") + payload
    a = b = 0
    for byte in body:
        a = (a + byte) & 255
        b = (b + a) & 255
    return SYNC + body + bytes((a, b))


def nav_pvt(at: Instant, kind: int = 3, flags: int = 1) -> bytes:
    """NAV-PVT of 92 bytes."""
    seconds = at.time_ms // 1000
    year, month, day = at.date
    head = struct.pack(
        "<IHBBBBBBIi", at.time_ms, year, month, day, seconds // 3600, seconds // 60 % 60, seconds % 60, 7, 50, at.time_ms % 1000 * 1_000_000
    )
    place = struct.pack("<BBBBii", kind, flags, 0, at.satellites, at.lon_e7, at.lat_e7)
    heights = struct.pack("<iiII", at.altitude_cm * 10 + 47_000, at.altitude_cm * 10, at.accuracy_cm * 10, at.accuracy_cm * 15)
    motion = struct.pack("<iiiiiIIH", 0, 0, 0, at.speed_mmps, at.course_cdeg * 1000, 100, 500_000, 120)
    return ubx(1, 7, (head + place + heights + motion).ljust(92, b"\0"))


def _coordinate(value_e7: int, width: int, digits: int) -> str:
    degrees, part = divmod(abs(value_e7), 10_000_000)
    minutes = round(part * 60 / 10_000_000 * 10**digits)
    return f"{degrees:0{width}d}{minutes // 10**digits:02d}.{minutes % 10**digits:0{digits}d}"
