"""TCX (Garmin's Training Center Database 1 and 2): activities, or courses with times, to a `Recording`, and back.

All laps and tracks of all activities become one recording. Speed, power and running cadence are read from the activity extension.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from html import escape
from typing import BinaryIO, Final

from device_profiles.files.collector import Collector
from device_profiles.files.gpx import printable
from device_profiles.files.recording import Point, Recording
from device_profiles.files.xml_stream import feed_xml, text_of_utc_us, utc_us
from device_profiles.files.xml_track import TrackReader

_FIELDS: Final = {
    "LatitudeDegrees": "lat",
    "LongitudeDegrees": "lon",
    "AltitudeMeters": "altitude_m",
    "DistanceMeters": "distance_m",
    "Value": "hr_bpm",
    "Cadence": "cadence_rpm",
    "RunCadence": "cadence_rpm",
    "Speed": "speed_mps",
    "Watts": "power_w",
}
_SPORT_TO_TCX: Final = {"running": "Running", "cycling": "Biking"}


def read_tcx(stream: BinaryIO, source: str, *, strict: bool = False) -> Recording:
    """The recording in a TCX stream. FileError as `Collector.recording` says."""
    reader = _TcxReader(Collector(source, "tcx"))
    reader.to.damage = feed_xml(stream, reader)
    return reader.to.recording(strict=strict, about=f" (a TCX file with {reader.activities} activities and {reader.laps} laps)")


class _TcxReader(TrackReader):
    point = "Trackpoint"
    time = "Time"
    fields = _FIELDS
    texts = frozenset(_FIELDS) | {"Time", "Name"}

    def __init__(self, collector: Collector) -> None:
        super().__init__(collector)
        self.activities = 0
        self.laps = 0
        self._tracks_of_lap = 0

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        if self.in_point:
            return
        match name:
            case "Trackpoint":
                self.open_point()
            case "Track":
                self._tracks_of_lap += 1
                if self._tracks_of_lap > 1:
                    self.open_segment()
            case "Lap":
                self._open_lap(attributes.get("StartTime", ""))
            case "Activity":
                self.activities += 1
                sport = attributes.get("Sport", "").lower()
                self.to.sport = self.to.sport or ("cycling" if sport == "biking" else sport) or None
            case _:
                pass

    def _open_lap(self, start: str) -> None:
        self.laps += 1
        self._tracks_of_lap = 0
        start_us = utc_us(start)
        if start_us is not None:
            self.to.lap_starts_us.append(start_us)

    def is_field(self, name: str) -> bool:
        return name != "Value" or self.path[-2] == "HeartRateBpm"

    def closed(self, name: str, text: str) -> None:
        if name == "Name" and self.path[-2:-1] == ["Creator"]:
            self.to.device = self.to.device or text or None
        super().closed(name, text)


_HEAD: Final = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"'
    ' xmlns:ns3="http://www.garmin.com/xmlschemas/ActivityExtension/v2" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
    '<Activities><Activity Sport="{sport}"><Id>{start}</Id>\n'
)
_LAP_HEAD: Final = (
    '<Lap StartTime="{start}"><TotalTimeSeconds>{seconds:.3f}</TotalTimeSeconds><DistanceMeters>{metres:.2f}</DistanceMeters>'
    "<Calories>0</Calories><Intensity>Active</Intensity><TriggerMethod>Manual</TriggerMethod><Track>\n"
)
_CREATOR: Final = (
    '<Creator xsi:type="Device_t"><Name>{name}</Name><UnitId>0</UnitId><ProductID>0</ProductID>'
    "<Version><VersionMajor>0</VersionMajor><VersionMinor>0</VersionMinor></Version></Creator>"
)


def encode_tcx(recording: Recording) -> bytes:
    """A TCX 2 file of all points. ValueError when there is none.

    Kept to 1e-7 deg, 1 cm, 1 mm/s, 1 bpm, 1 rpm, 1 W and 1 us; heading, accuracy and beats have no place in TCX. A pause ends a track.
    Laps without a point are left out.
    """
    points = recording.points
    if not len(points):
        raise ValueError("no points: there is nothing to write")
    start_us = points[0].t_us
    sport = _SPORT_TO_TCX.get(recording.sport or "", "Other")
    parts = [_HEAD.format(sport=sport, start=text_of_utc_us(start_us))]
    times = [point.t_us for point in points]
    starts = sorted({start_us, *(t for t in recording.lap_starts_us if t > start_us)})
    cuts = [bisect_left(times, t) for t in starts] + [len(points)]
    for lap_start_us, first, end in zip(starts, cuts, cuts[1:], strict=False):
        if first < end:
            parts.append(_lap(lap_start_us, points[first:end], recording.pauses_us))
    if recording.device:
        parts.append(_CREATOR.format(name=escape(recording.device)))
    parts.append("</Activity></Activities></TrainingCenterDatabase>\n")
    return printable("".join(parts)).encode()


def _lap(start_us: int, points: Sequence[Point], pauses_us: Sequence[tuple[int, int]]) -> str:
    distances = [point.distance_m for point in points if point.distance_m is not None]
    metres = distances[-1] - distances[0] if distances else 0.0
    seconds = (points[-1].t_us - start_us) / 1e6
    seconds = (points[-1].t_us - start_us) / 1e6
    parts = [_LAP_HEAD.format(start=text_of_utc_us(start_us), seconds=seconds, metres=max(metres, 0.0))]
    before_us = points[0].t_us
    for point in points:
        if any(before_us < end <= point.t_us for _, end in pauses_us):
            parts.append("</Track><Track>\n")
        parts.append(_trackpoint(point))
        before_us = point.t_us
    parts.append("</Track></Lap>\n")
    return "".join(parts)


def _trackpoint(point: Point) -> str:
    parts = [f"<Trackpoint><Time>{text_of_utc_us(point.t_us)}</Time>"]
    if point.lat is not None and point.lon is not None:
        position = f"<LatitudeDegrees>{point.lat:.7f}</LatitudeDegrees><LongitudeDegrees>{point.lon:.7f}</LongitudeDegrees>"
        position = f"<LatitudeDegrees>{point.lat:.7f}</LatitudeDegrees><LongitudeDegrees>{point.lon:.7f}</LongitudeDegrees>"
        parts.append(f"<Position>{position}</Position>")
    if point.altitude_m is not None:
        parts.append(f"<AltitudeMeters>{point.altitude_m:.2f}</AltitudeMeters>")
    if point.distance_m is not None:
        parts.append(f"<DistanceMeters>{point.distance_m:.2f}</DistanceMeters>")
    if point.hr_bpm is not None:
        parts.append(f"<HeartRateBpm><Value>{point.hr_bpm:.0f}</Value></HeartRateBpm>")
    if point.cadence_rpm is not None:
        parts.append(f"<Cadence>{point.cadence_rpm:.0f}</Cadence>")
    extension = "" if point.speed_mps is None else f"<ns3:Speed>{point.speed_mps:.3f}</ns3:Speed>"
    extension += "" if point.power_w is None else f"<ns3:Watts>{point.power_w:.0f}</ns3:Watts>"
    if extension:
        parts.append(f"<Extensions><ns3:TPX>{extension}</ns3:TPX></Extensions>")
    parts.append("</Trackpoint>\n")
    return "".join(parts)
