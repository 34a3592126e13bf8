"""Writers: a `Recording` to a GPX, TCX or FIT file. What each form keeps is said at its `encode_*`."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from device_profiles.files.fit_writing import encode_fit
from device_profiles.files.gpx import encode_gpx
from device_profiles.files.recording import Recording
from device_profiles.files.tcx import encode_tcx

Target = str | Path | BinaryIO


def write_fit(recording: Recording, target: Target) -> None:
    """Write a FIT activity file. ValueError as `encode_fit` says, OSError when the target cannot be written."""
    _put(encode_fit(recording), target)


def write_gpx(recording: Recording, target: Target) -> None:
    """Write a GPX 1.1 file. ValueError as `encode_gpx` says, OSError when the target cannot be written."""
    _put(encode_gpx(recording), target)


def write_tcx(recording: Recording, target: Target) -> None:
    """Write a TCX 2 file. ValueError as `encode_tcx` says, OSError when the target cannot be written."""
    _put(encode_tcx(recording), target)


def _put(content: bytes, target: Target) -> None:
    if isinstance(target, str | Path):
        Path(target).write_bytes(content)
    else:
        target.write(content)
