"""GPX 1.0 and 1.1: tracks with times to a `Recording`, and back.

Read below a track point wherever it stands: heart rate, cadence, speed, course, power, distance and accuracy, as they are named by
Garmin's TrackPointExtension (1 and 2) and power extension, by cluetrust and by Strava's plain elements.
Routes and waypoints are no recording.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import BinaryIO, Final

from device_profiles.files.collector import Collector
from device_profiles.files.recording import Point, Recording
from device_profiles.files.xml_stream import feed_xml, text_of_utc_us
from device_profiles.files.xml_track import TrackReader

_FIELDS: Final = {
    "ele": "altitude_m",
    "speed": "speed_mps",
    "course": "heading_deg",
    "hr": "hr_bpm",
    "heartrate": "hr_bpm",
    "cad": "cadence_rpm",
    "cadence": "cadence_rpm",
    "power": "power_w",
    "watts": "power_w",
    "PowerInWatts": "power_w",
    "distance": "distance_m",
    "accuracy": "accuracy_m",
    "hacc": "accuracy_m",
}


def read_gpx(stream: BinaryIO, source: str, *, strict: bool = False) -> Recording:
    """The recording in a GPX stream. FileError as `Collector.recording` says, and for a route without a track."""
    reader = _GpxReader(Collector(source, "gpx"))
    reader.to.damage = feed_xml(stream, reader)
    if reader.route_points and not len(reader.to):
        reader.to.skipped["point_without_time"] += reader.route_points
    return reader.to.recording(strict=strict, about=f" (a GPX file with {reader.tracks} tracks and {reader.route_points} route points)")


class _GpxReader(TrackReader):
    point = "trkpt"
    time = "time"
    fields = _FIELDS
    texts = frozenset(_FIELDS) | {"time", "type"}

    def __init__(self, collector: Collector) -> None:
        super().__init__(collector)
        self.tracks = 0
        self.route_points = 0

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        if self.in_point:
            return
        match name:
            case "trkpt":
                self.open_point()
                self.set("lat", attributes.get("lat", ""))
                self.set("lon", attributes.get("lon", ""))
            case "trkseg":
                self.open_segment()
            case "trk":
                self.tracks += 1
            case "rtept":
                self.route_points += 1
            case "gpx" if len(self.path) == 1:
                self.to.device = attributes.get("creator") or None
            case _:
                pass

    def closed(self, name: str, text: str) -> None:
        if name == "type" and self.path[-2:-1] == ["trk"]:
            self.to.sport = self.to.sport or text.lower() or None
        super().closed(name, text)


_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="{creator}" xmlns="http://www.topografix.com/GPX/1/1"'
    ' xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v2"'
    ' xmlns:gpxdata="http://www.cluetrust.com/XML/GPXDATA/1/0">\n<trk>{sport}<trkseg>\n'
)


def encode_gpx(recording: Recording) -> bytes:
    """A GPX 1.1 file of the points that have a position. ValueError when none has.

    Kept to 1e-7 deg, 1 cm, 1 mm/s, 0.01 deg of heading, 1 bpm, 1 rpm, 1 W and 1 us; accuracy, beats and laps have no place in GPX.
    A pause ends a segment.
    """
    points = [point for point in recording.points if point.lat is not None and point.lon is not None]
    if not points:
        raise ValueError("no point has a position: GPX cannot hold this recording, write TCX or FIT")
    sport = f"<type>{escape(recording.sport)}</type>" if recording.sport else ""
    parts = [_HEAD.format(creator=escape(recording.device or "Paceline"), sport=sport)]
    pause_ends = sorted((end for _, end in recording.pauses_us), reverse=True)
    for i, point in enumerate(points):
        while pause_ends and pause_ends[-1] <= point.t_us:
            pause_ends.pop()
            if i and parts[-1] != "</trkseg><trkseg>\n":
                parts.append("</trkseg><trkseg>\n")
        parts.append(_trkpt(point))
    parts.append("</trkseg></trk>\n</gpx>\n")
    return printable("".join(parts)).encode()


def _trkpt(point: Point) -> str:
    garmin = _elements(
        (
            ("gpxtpx:hr", point.hr_bpm, 0),
            ("gpxtpx:cad", point.cadence_rpm, 0),
            ("gpxtpx:speed", point.speed_mps, 3),
            ("gpxtpx:course", point.heading_deg, 2),
        )
    )
    extensions = _elements((("power", point.power_w, 0), ("gpxdata:distance", point.distance_m, 2)))
    if garmin:
        extensions += f"<gpxtpx:TrackPointExtension>{garmin}</gpxtpx:TrackPointExtension>"
    if extensions:
        extensions = f"<extensions>{extensions}</extensions>"
    altitude = _elements((("ele", point.altitude_m, 2),))
    return f'<trkpt lat="{point.lat:.7f}" lon="{point.lon:.7f}">{altitude}<time>{text_of_utc_us(point.t_us)}</time>{extensions}</trkpt>\n'


def _elements(items: Iterable[tuple[str, float | None, int]]) -> str:
    return "".join(f"<{name}>{value:.{digits}f}</{name}>" for name, value, digits in items if value is not None)


def printable(text: str) -> str:
    """Without the characters XML 1.0 cannot hold (a device's name may have any)."""
    return "".join(c for c in text if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff")
