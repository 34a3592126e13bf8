"""Encoded polylines: a line of positions as printable text, 5 bits a character, as map services write them.

Each coordinate is rounded to `precision` decimal places and stored as the difference from the one before: zigzag, then groups of five
bits from the lowest, each plus 63, with bit 5 set on all but the last. Latitude comes first. Refuses characters outside `?` to `~`, a text
that breaks off within a number or between latitude and longitude, and numbers longer than 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_FIRST: Final = 63
_LAST: Final = 126
_MAX_SHIFT: Final = 30  # six groups of five bits, and two bits of the seventh


def encode_polyline(points: Iterable[tuple[float, float]], precision: int = 5) -> str:
    """The text of `(lat, lon)` degrees, rounded half away from zero to `precision` decimals."""
    scale = 10**precision
    out: list[str] = []
    last_lat = last_lon = 0
    for lat_deg, lon_deg in points:
        lat, lon = _rounded(lat_deg * scale), _rounded(lon_deg * scale)
        _put(lat - last_lat, out)
        _put(lon - last_lon, out)
        last_lat, last_lon = lat, lon
    return "".join(out)


def decode_polyline(text: str, precision: int = 5) -> list[tuple[float, float]]:
    """The `(lat, lon)` degrees of a text. ValueError says what is wrong and at which character."""
    scale = 10**precision
    points: list[tuple[float, float]] = []
    lat = lon = at = 0
    while at < len(text):
        change, at = _take(text, at)
        lat += change
        if at == len(text):
            raise ValueError(f"it breaks off after character {at}: a latitude without its longitude")
        change, at = _take(text, at)
        lon += change
        points.append((lat / scale, lon / scale))
    return points


def _rounded(value: float) -> int:
    return int(value + 0.5) if value >= 0 else -int(0.5 - value)


def _put(change: int, out: list[str]) -> None:
    left = ~(change << 1) if change < 0 else change << 1
    while left >= 32:
        out.append(chr((left & 31 | 32) + _FIRST))
        left >>= 5
    out.append(chr(left + _FIRST))


def _take(text: str, at: int) -> tuple[int, int]:
    """One number and where the next one starts."""
    value = shift = 0
    while at < len(text):
        bits = ord(text[at]) - _FIRST
        if not 0 <= bits <= _LAST - _FIRST:
            raise ValueError(f"character {at + 1} is {text[at]!r}: only '?' to '~' occur in an encoded polyline")
        value |= (bits & 31) << shift
        at += 1
        if bits < 32:
            return (~(value >> 1) if value & 1 else value >> 1), at
        shift += 5
        if shift > _MAX_SHIFT:
            raise ValueError(f"the number that ends at character {at} is longer than 32 bits")
    raise ValueError(f"it breaks off within a number after character {at}")
