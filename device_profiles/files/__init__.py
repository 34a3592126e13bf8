"""Readers and writers of recorded activities: FIT, GPX and TCX. Light: no numpy, and fitparse only when a FIT file comes."""

from device_profiles.files.reading import MAX_FILE_BYTES, decode_recording, read_recording
from device_profiles.files.recording import Beat, Point, Points, Recording
from device_profiles.files.writing import write_fit, write_gpx, write_tcx

__all__ = [
    "MAX_FILE_BYTES",
    "Beat",
    "Point",
    "Points",
    "Recording",
    "decode_recording",
    "read_recording",
    "write_fit",
    "write_gpx",
    "write_tcx",
]
