"""Uploaded activity files: a FIT, GPX or TCX file becomes frames of the node `upload` in the log, durably, and once.

`read_upload` is pure: the bytes decide the format; file and athlete decide the device (`f-` and a hash), boot and numbers of the frames, so
that a second upload of the same file is nothing but repeats. Before its frames stands an `UploadRef` with what frames have no place for.
Refuses, by the file's name, what is no recording, has no times, is too large, or is dated before 1990 or in the future.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from broker.errors import BadInputError, StoreError
from broker.frames import Clock, Frame, encode_frame
from broker.ids import check_id, subject_of
from broker.logrecord import Kind, LogRecord
from broker.recorded import frames_of, identity_of, span_of
from broker.reference import MAX_LAPS, UploadRef, encode_reference
from broker.topics import UPLOAD_NODE
from device_profiles.errors import FileError
from device_profiles.files import MAX_FILE_BYTES, Recording, decode_recording
from processors.accept import CLOCK_FLOOR_US, FUTURE_ALLOWANCE_US
from processors.log import Log

MAX_SAMPLES: Final = 1_000_000  # 11 days at one a second
EARLIEST_US: Final = 631_152_000_000_000  # 1990-01-01: no device recorded before it, and clocks that were never set say 1970 or 1980
BUSY_S: Final = 120.0
MAX_WAITING: Final = 4  # files of up to 64 MB in memory
_REMEMBERED: Final = 1024
_CURE_FILE: Final = "give a FIT, GPX or TCX file of a recorded activity"

Find = Callable[[str, str], UploadRef | None]
"""What is stored of the upload (tenant, id), removed or not; None when there is nothing."""


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What became of a file. `id` is that of its `UploadRef` and the device of its frames; times are UTC microseconds.

    `skipped` counts what the reader left out, by reason (docs/files.md); `damage` says why the file was not whole, None when it was.
    `known`: the same file of the same athlete is in the log already, so nothing was appended.
    """

    id: str
    frames: int
    samples: int
    first_us: int
    last_us: int
    format: str
    sport: str | None
    skipped: Mapping[str, int]
    damage: str | None
    known: bool


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


class Uploads:
    """Takes uploaded files into the log, one at a time, which bounds memory and CPU.

    `take` is for an event loop: it has a thread of its own, so that files that wait hold none of the default pool, which the runner needs.
    """

    def __init__(self, log: Log, *, find: Find | None = None, clock_us: Callable[[], int] | None = None) -> None:
        """`find` looks up what the stores have of an upload; those of the last moments are known without it."""
        self._log = log
        self._find = find
        self._clock_us = clock_us or (lambda: time.time_ns() // 1000)
        self._reading = threading.Lock()
        self._recent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._waiting = 0

    @property
    def busy(self) -> bool:
        """Whether `take` would refuse now: ask before a body is read into memory."""
        return self._waiting >= MAX_WAITING

    async def take(self, tenant: str, athlete: str, name: str, raw: bytes) -> UploadResult:
        """As `accept`, in the thread of this object; StoreError when four files are waiting already. A file that was begun is finished."""
        if self.busy:
            raise StoreError(f"{shown_name(name)}: not taken, {self._waiting} other files are waiting", cure="send it again in a minute")
        self._waiting += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, self.accept, tenant, athlete, name, raw)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    def _done(self, job: asyncio.Future[UploadResult]) -> None:
        self._waiting -= 1
        if not job.cancelled():
            job.exception()  # the asker may have gone: its refusal is nobody's news

    def close(self) -> None:
        """Take no more; the file under way is finished."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def accept(self, tenant: str, athlete: str, name: str, raw: bytes) -> UploadResult:
        """Append the file `raw` called `name` to the log, all or nothing, unless it is there already; returns when it is durable.

        BadInputError refuses the file; StoreError: nothing was stored (disk full, or other files took more than two minutes).
        """
        if not self._reading.acquire(timeout=BUSY_S):
            raise StoreError(f"{shown_name(name)}: not taken, other files are being read", cure="send it again in a few minutes")
        try:
            now_us = self._clock_us()
            upload = read_upload(tenant, athlete, name, raw, now_us)
            known = self._knows(upload.ref)
            if not known:
                self._log.append(records_of(upload, now_us))
                self._remember(upload.ref)
        finally:
            self._reading.release()
        ref = upload.ref
        return UploadResult(
            id=ref.id,
            frames=len(upload.frames),
            samples=upload.samples,
            first_us=ref.first_us,
            last_us=ref.last_us,
            format=ref.format,
            sport=ref.sport,
            skipped=upload.skipped,
            damage=upload.damage,
            known=known,
        )

    def _knows(self, ref: UploadRef) -> bool:
        """What the stores say comes first: an upload that was removed may be uploaded again."""
        stored = self._find(ref.tenant, ref.id) if self._find is not None else None
        return not stored.removed if stored is not None else (ref.tenant, ref.id) in self._recent

    def _remember(self, ref: UploadRef) -> None:
        self._recent[ref.tenant, ref.id] = None
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)


def _read(shown: str, raw: bytes) -> Recording:
    if len(raw) > MAX_FILE_BYTES:
        raise BadInputError(f"{shown}: {len(raw)} bytes, at most {MAX_FILE_BYTES}", cure="split the recording into one file an activity")
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
