"""What an uploaded file becomes (pure): a FIT, GPX or TCX file -> an `UploadRef` and the frames of the node `upload`, or a refusal by name.

The bytes decide the format; file and athlete decide the device (`f-` and a hash), boot and numbers of the frames, so that a second upload
of the same file is nothing but repeats. Before its frames stands an `UploadRef` with what frames have no place for.
Refuses, by the file's name, what is no recording, has no times, is too large, or is dated before 1990 or in the future.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from broker.errors import BadInputError
from broker.frames import Clock, Frame, encode_frame
from broker.ids import check_id, subject_of
from broker.logrecord import Kind, LogRecord
from broker.recorded import frames_of, identity_of, span_of
from broker.reference import MAX_LAPS, UploadRef, encode_reference
from broker.topics import UPLOAD_NODE
from device_profiles.errors import FileError
from device_profiles.files import MAX_FILE_BYTES, Recording, decode_recording
from processors.accept import CLOCK_FLOOR_US, FUTURE_ALLOWANCE_US

MAX_SAMPLES: Final = 1_000_000  # 11 days at one a second
EARLIEST_US: Final = 631_152_000_000_000  # 1990-01-01: no device recorded before it, and clocks that were never set say 1970 or 1980
_CURE_FILE: Final = "give a FIT, GPX or TCX file of a recorded activity"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was read: what it says of itself, its frames, and what the reader has to tell."""

    ref: UploadRef
    frames: tuple[Frame, ...]
    samples: int
    skipped: Mapping[str, int]
    damage: str | None


def read_upload(tenant: str, athlete: str, name: str, raw: bytes, now_us: int) -> Upload:
    """The frames of the file `raw` called `name`, of an athlete, at `now_us` (UTC). BadInputError names the file, the reason and the cure.

    A damaged file gives what is whole before the damage. A platform clock that was never set proves no date wrong.
    """
    check_id(tenant, "tenant")
    check_id(athlete, "athlete")
    shown = shown_name(name)
    recording = _read(shown, raw)
    first_us, last_us = span_of(recording)
    _check_dates(shown, first_us, last_us, now_us)
    samples = len(recording.points) + len(recording.beats)
    if samples > MAX_SAMPLES:
        raise BadInputError(f"{shown}: {samples} samples, at most {MAX_SAMPLES}", cure="split the recording into one file an activity")
    who = identity_of(raw, upload_id(athlete, raw))
    frames = frames_of(
        recording, who, subject=subject_of(tenant, athlete), utc_offset_us=first_us, clock=Clock.RECORDED, self_numbered=False
    )
    laps = [t_us for t_us in recording.lap_starts_us if t_us <= last_us]
    skipped = dict(recording.skipped)
    if len(laps) > MAX_LAPS:
        skipped["lap_beyond_limit"] = len(laps) - MAX_LAPS
    ref = UploadRef.model_validate(
        {
            "tenant": tenant,
            "id": who.device,
            "athlete": athlete,
            "name": shown,
            "sport": _printable(recording.sport or "", 40) or None,
            "lap_starts_us": tuple(laps[:MAX_LAPS]),
            "format": recording.format,
            "first_us": first_us,
            "last_us": last_us,
        }
    )
    return Upload(ref, tuple(frames), samples, skipped, recording.damage)


def upload_id(athlete: str, raw: bytes) -> str:
    """The id of a file of an athlete: `f-` and 96 bits of a hash."""
    content = hashlib.sha256(raw).digest()
    return f"f-{hashlib.sha256(content + athlete.encode()).hexdigest()[:24]}"


def records_of(upload: Upload, now_us: int) -> list[LogRecord]:
    """The log records of an upload: the reference first, then its frames."""
    ref = upload.ref
    records = [LogRecord(Kind.REFERENCE, ref.tenant, ref.tenant, "", now_us, encode_reference(ref))]
    records += (LogRecord(Kind.FRAME, frame.subject, ref.tenant, UPLOAD_NODE, now_us, encode_frame(frame)) for frame in upload.frames)
    return records


def shown_name(name: str) -> str:
    """A file's name as messages and stores show it: without folders and what cannot be printed, at most 200 characters."""
    return _printable(name.replace("\\", "/").rpartition("/")[2], 200) or "file"


def check_size(shown: str, raw: bytes) -> None:
    """BadInputError when a file is larger than any recording we read."""
    if len(raw) > MAX_FILE_BYTES:
        raise BadInputError(f"{shown}: {len(raw)} bytes, at most {MAX_FILE_BYTES}", cure="split the recording into one file an activity")


def _read(shown: str, raw: bytes) -> Recording:
    check_size(shown, raw)
    try:
        return decode_recording(raw, shown)
    except FileError as error:
        raise BadInputError(f"{shown}: {error.detail}", cure=error.cure or _CURE_FILE) from error


def _check_dates(shown: str, first_us: int, last_us: int, now_us: int) -> None:
    if first_us < EARLIEST_US:
        raise BadInputError(
            f"{shown}: its first sample is dated {_day(first_us)}: the clock of the device was not set",
            cure="correct the times in the file, or leave out the samples before the clock was set",
        )
    if now_us >= CLOCK_FLOOR_US and last_us > now_us + FUTURE_ALLOWANCE_US:
        raise BadInputError(
            f"{shown}: its last sample is dated {_day(last_us)}, in the future",
            cure="correct the times in the file (and the clock of the device), then upload it again",
        )


def _day(t_us: int) -> str:
    return datetime.fromtimestamp(t_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _printable(text: str, most: int) -> str:
    return "".join(c for c in text if c.isprintable())[:most].strip()
