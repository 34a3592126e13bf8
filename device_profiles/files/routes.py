"""Lines drawn or recorded, as users have them: GPX tracks and routes, GeoJSON lines, encoded polylines, and any recording.

What a file is, its bytes say. Text with one encoded polyline a line may name each: `name<TAB>polyline`; lines that start with `#` are
comments. A GPX track is one route even in several pieces, as long as each begins within 60 m of the end of the one before. Places without
a line (waypoints, points, polygons) are passed over; a damaged file and a position that is no number or off the globe are refused, because
half a line is another line.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast

from device_profiles.errors import FileError
from device_profiles.files.polyline import decode_polyline
from device_profiles.files.reading import decode_recording
from device_profiles.files.xml_stream import ElementReader, feed_xml, number

MAX_ROUTE_BYTES: Final = 32 * 1024 * 1024
MAX_ROUTES: Final = 10_000
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_CURE: Final = "give a GPX, GeoJSON, FIT or TCX file, or text with one encoded polyline a line"
_UNALTERED: Final = "export it again"
_DEGREES: Final = "positions must be WGS-84 degrees; GeoJSON writes longitude first"
_JOIN_DEG: Final = 60.0 / 111_195.0
_MAX_NESTING: Final = 8  # of collections in collections


@dataclass(frozen=True, slots=True)
class Route:
    """A line: `(lat, lon)` in WGS-84 degrees, and the altitude in metres at each, None where there is none. `name` may be empty."""

    name: str
    points: list[tuple[float, float]]
    altitudes_m: list[float | None]


def read_routes(path: str | Path, *, precision: int | None = None, max_bytes: int = MAX_ROUTE_BYTES) -> list[Route]:
    """The routes in the file at `path`, as `decode_routes`. A lone route without a name gets the file's."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError(path.name, "not a regular file", _CURE)
        if status.st_size > max_bytes:
            raise _too_large(path.name, status.st_size, max_bytes)
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise FileError(path.name, f"cannot be read: {detail}", "check the path and the permissions of the file") from error
    routes = decode_routes(content, path.name, precision=precision, max_bytes=max_bytes)
    return [replace(routes[0], name=path.stem)] if len(routes) == 1 and not routes[0].name else routes


def decode_routes(
    content: bytes, source: str, *, precision: int | None = None, max_bytes: int = MAX_ROUTE_BYTES
) -> list[Route]:  # fmt: skip
    """The routes, at least one, each of two or more points, in the bytes of a file called `source`.

    `precision`: decimals of encoded polylines, 5 or 6; None takes 5, and 6 where 5 leads off the globe. FileError says what was found
    and the cure.
    """
    if len(content) > max_bytes:
        raise _too_large(source, len(content), max_bytes)
    text = content.removeprefix(_UTF8_MARK).lstrip()
    if not text:
        raise FileError(source, "the file is empty", _CURE)
    if content[8:12] == b".FIT":
        routes = _of_recording(content, source)
    elif text.startswith(b"<") or content.startswith((b"\xff\xfe", b"\xfe\xff")):
        routes = _of_xml(content, text, source)
    elif text[:1] in b"{[" and b'"' in text[:4096]:
        routes = _of_geojson(text, source)
    else:
        routes = _of_lines(text, source, precision)
    routes = [route for route in routes if len(route.points) > 1]
    if not routes:
        raise FileError(source, "it has no line of two or more points", _CURE)
    if len(routes) > MAX_ROUTES:
        raise FileError(source, f"{len(routes)} lines are more than the limit of {MAX_ROUTES}", "split the file")
    for route in routes:
        _check(route, source)
    return routes


def _too_large(source: str, size: int, max_bytes: int) -> FileError:
    return FileError(source, f"{size} bytes are more than the limit of {max_bytes}", "split the file, or raise max_bytes")


def _check(route: Route, source: str) -> None:
    for k, (lat, lon) in enumerate(route.points):
        if not (math.isfinite(lat) and math.isfinite(lon) and -90 <= lat <= 90 and -180 <= lon <= 180):
            of = f" of {route.name[:80]!r}" if route.name else ""
            raise FileError(source, f"point {k + 1}{of} is not on the globe: latitude {lat:.10g}, longitude {lon:.10g}", _DEGREES)


def _of_recording(content: bytes, source: str) -> list[Route]:
    recording = decode_recording(content, source, max_bytes=max(len(content), 1), strict=True)
    placed = [(p.lat, p.lon, p.altitude_m) for p in recording.points if p.lat is not None and p.lon is not None]
    return [Route("", [(lat, lon) for lat, lon, _ in placed], [altitude for _, _, altitude in placed])]


def _of_xml(content: bytes, text: bytes, source: str) -> list[Route]:
    reader = _RouteReader(source)
    try:
        damage = feed_xml(BytesIO(text if text.startswith(b"<") else content), reader)
    except ModuleNotFoundError as error:
        raise FileError(source, f"GPX files need {error.name}", "pip install 'paceline[gateway]'") from error
    except _OtherRootError as other:
        if other.root == "TrainingCenterDatabase":
            return _of_recording(content, source)
        raise FileError(source, f"XML whose root is <{other.root[:64]}>, not <gpx> or <TrainingCenterDatabase>", _CURE) from None
    if damage:
        raise FileError(source, damage, _UNALTERED)
    return reader.routes


class _OtherRootError(Exception):
    """The document is no GPX."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.root = root


class _RouteReader(ElementReader):
    """Tracks and routes of a GPX file, with their names and altitudes; times are not asked for."""

    texts = frozenset({"name", "ele"})

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.routes: list[Route] = []
        self._line: Route | None = None
        self._name = ""
        self._first = 0

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.path) == 1 and name != "gpx":
            raise _OtherRootError(name)
        if len(self.path) == 2 and name in {"trk", "rte"}:
            self._name, self._first = "", len(self.routes)
            self._open_line()
        elif name in {"trkpt", "rtept"} and self._line is not None:
            lat, lon = (number(attributes.get(key, "")) for key in ("lat", "lon"))
            if lat is None or lon is None:
                raise FileError(self.source, f"point {len(self._line.points) + 1} has no latitude and longitude", _UNALTERED)
            if name == "trkpt" and self._piece_begins and self._is_apart(lat, lon):
                self._open_line()
            self._piece_begins = False
            self._line.points.append((lat, lon))
            self._line.altitudes_m.append(None)

    def closed(self, name: str, text: str) -> None:
        if self._line is None:
            return
        if name == "ele" and self.path[-2:-1] in (["trkpt"], ["rtept"]):
            altitude = number(text)
            self._line.altitudes_m[-1] = altitude if altitude is not None and math.isfinite(altitude) else None
        elif name == "trkseg":
            self._piece_begins = True
        elif len(self.path) == 3 and name == "name":
            self._name = text
        elif len(self.path) == 2 and name in {"trk", "rte"}:
            named = [route for route in self.routes[self._first :] if route.points]
            names = [self._name if len(named) == 1 or not self._name else f"{self._name} ({k + 1})" for k in range(len(named))]
            self.routes[self._first :] = [replace(route, name=title) for route, title in zip(named, names, strict=True)]
            self._line = None

    def _open_line(self) -> None:
        self._piece_begins = False
        self._line = Route("", [], [])
        self.routes.append(self._line)

    def _is_apart(self, lat: float, lon: float) -> bool:
        if self._line is None or not self._line.points:
            return False
        last_lat, last_lon = self._line.points[-1]
        east = (lon - last_lon) * math.cos(math.radians(min(max(lat, -90.0), 90.0)))
        return math.hypot(lat - last_lat, east) > _JOIN_DEG


def _of_geojson(text: bytes, source: str) -> list[Route]:
    try:
        document: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, ValueError) else "nested too deep"
        raise FileError(source, f"not well-formed JSON: {detail}", _UNALTERED) from error
    if isinstance(document, dict) and "crs" in document and "CRS84" not in str(cast("Any", document)["crs"]):
        raise FileError(source, "its coordinates are in a reference system of their own ('crs')", "export it as WGS 84 (EPSG:4326)")
    return list(_lines_of(document, "", source, 0))


def _lines_of(value: Any, name: str, source: str, depth: int) -> Iterator[Route]:
    """The lines in a GeoJSON object, in its order."""
    if not isinstance(value, dict) or depth > _MAX_NESTING:
        raise FileError(source, "JSON that is no GeoJSON: an object with a 'type' is missing", _CURE)
    found = cast("dict[str, Any]", value)
    match found.get("type"):
        case "FeatureCollection" | "GeometryCollection" as kind:
            parts = found.get("features" if kind == "FeatureCollection" else "geometries")
            if not isinstance(parts, list):
                raise FileError(source, f"a GeoJSON {kind} without its list", _UNALTERED)
            for part in cast("list[Any]", parts):
                yield from _lines_of(part, name, source, depth + 1)
        case "Feature":
            if found.get("geometry") is not None:
                yield from _lines_of(found["geometry"], _name_of(found), source, depth + 1)
        case "LineString":
            yield _line(found.get("coordinates"), name, source)
        case "MultiLineString":
            lines = found.get("coordinates")
            if not isinstance(lines, list):
                raise FileError(source, "a GeoJSON MultiLineString without coordinates", _UNALTERED)
            for k, line in enumerate(cast("list[Any]", lines)):
                yield _line(line, f"{name} ({k + 1})" if name else "", source)
        case "Point" | "MultiPoint" | "Polygon" | "MultiPolygon":
            return
        case other:
            raise FileError(source, f"JSON that is no GeoJSON: 'type' is {str(other)[:40]!r}", _CURE)


def _name_of(feature: dict[str, Any]) -> str:
    properties = feature.get("properties")
    for key in ("name", "title"):
        name = cast("dict[str, Any]", properties).get(key) if isinstance(properties, dict) else None
        if isinstance(name, str) and name.strip():
            return name.strip()
    return ""


def _line(coordinates: Any, name: str, source: str) -> Route:
    if not isinstance(coordinates, list):
        raise FileError(source, "a GeoJSON LineString without coordinates", _UNALTERED)
    route = Route(name, [], [])
    for k, position in enumerate(cast("list[Any]", coordinates)):
        values = cast("list[Any]", position) if isinstance(position, list) else []
        if len(values) < 2 or not all(_is_number(value) for value in values[:3]):
            raise FileError(
                source, f"position {k + 1} of a line is {str(cast('object', position))[:60]}, not [longitude, latitude]", _UNALTERED
            )
        route.points.append((_float(values[1]), _float(values[0])))
        altitude = _float(values[2]) if len(values) > 2 else math.inf
        route.altitudes_m.append(altitude if math.isfinite(altitude) else None)
    return route


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    """Also of the whole numbers of any length that JSON allows."""
    return float(value) if isinstance(value, float) or abs(value) < 10**15 else math.inf


def _of_lines(text: bytes, source: str, precision: int | None) -> list[Route]:
    try:
        lines = text.decode().splitlines()
    except UnicodeDecodeError as error:
        raise FileError(source, f"neither FIT, GPX, GeoJSON nor text: it starts with {text[:12]!r}", _CURE) from error
    routes: list[Route] = []
    for k, line in enumerate(lines):
        name, _, encoded = line.rpartition("\t")
        if not encoded.strip() or line.lstrip().startswith("#"):
            continue
        try:
            points = _decoded(encoded.strip(), precision)
        except ValueError as error:
            raise FileError(source, f"line {k + 1} is no encoded polyline: {error}", _CURE) from error
        routes.append(Route(name.strip(), points, [None] * len(points)))
    return routes


def _decoded(encoded: str, precision: int | None) -> list[tuple[float, float]]:
    points = decode_polyline(encoded, precision or 5)
    if precision is None and any(abs(lat) > 90 or abs(lon) > 180 for lat, lon in points):
        return decode_polyline(encoded, 6)
    return points
