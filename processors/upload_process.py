"""Reads uploaded files in a child process: parsing shares no GIL with ingest and runner, and a file that crashes it ends only the child.

One `python -m processors.upload_reader` per file, niced, within a memory limit, and within CPU and wall time by the size of the file.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.errors import BadInputError, StoreError
from broker.logrecord import LogRecord, decode_records
from broker.reference import UploadRef, decode_reference
from processors.upload_file import check_size, shown_name
from processors.upload_reader import decode_message, encode_message

_log = logging.getLogger(__name__)

_SPLIT: Final = "split the recording into one file an activity, or export it again from the app it comes from"
_TRIES: Final = 2  # who kills a reader once may not have meant the file


@dataclass(frozen=True, slots=True)
class ReaderLimits:
    """What reading a file may take.

    A FIT file of 100,000 records is 3 MB, and takes 70 MB and 11 CPU-seconds; a GPX of 64 MB takes 140 MB and 14.
    """

    memory_bytes: int = 768 << 20
    cpu_s: float = 30.0
    cpu_s_per_mb: float = 20.0
    wall_share: float = 3.0  # wall time per CPU time: it runs at the lowest priority

    def cpu_of(self, size: int) -> int:
        """CPU-seconds for a file of `size` bytes."""
        return max(1, round(self.cpu_s + self.cpu_s_per_mb * size / 1e6))


@dataclass(frozen=True, slots=True)
class ReadUpload:
    """A file that was read: its reference, the records to append (the reference is the first), and what the reader has to tell."""

    ref: UploadRef
    records: list[LogRecord]
    samples: int
    skipped: Mapping[str, int]
    damage: str | None


class Underway:
    """The reader at work, for another thread that wants it to end."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self.ended = False

    def started(self, child: subprocess.Popen[bytes]) -> None:
        """A reader was started; it ends at once when `end` came before it."""
        self._child = child
        if self.ended:
            child.kill()

    def end(self) -> None:
        """End the reader, and those to come."""
        self.ended = True
        if self._child is not None:
            self._child.kill()


def read_apart(
    tenant: str, athlete: str, name: str, raw: bytes, now_us: int, limits: ReaderLimits | None = None, underway: Underway | None = None
) -> ReadUpload:
    """As `read_upload`, in a child process. Blocks; for one thread at a time, or each of them has a child.

    BadInputError refuses the file by name: also when the reader dies of it twice, or needs too much memory or CPU time.
    StoreError: no reader could be started, the machine was too busy, or `underway` was ended.
    """
    limits, underway = limits or ReaderLimits(), underway or Underway()
    shown = shown_name(name)
    check_size(shown, raw)
    cpu_s = limits.cpu_of(len(raw))
    asked = encode_message({"tenant": tenant, "athlete": athlete, "name": shown, "now_us": now_us}, raw)
    code = 0
    for _ in range(_TRIES):
        code, answer = _run([str(limits.memory_bytes), str(cpu_s)], asked, cpu_s * limits.wall_share, shown, underway)
        if code == 0:
            return found_in(answer, shown, limits)
        if underway.ended:
            raise StoreError(f"{shown}: not taken, the platform stops", cure="send it again when it runs")
        if code == -signal.SIGXCPU:
            raise BadInputError(f"{shown}: reading it takes more than {cpu_s} CPU-seconds", cure=_SPLIT)
        if code > 0:
            raise StoreError(f"{shown}: not taken, the reader of files failed (exit code {code})", cure="look into the platform's log")
        _log.warning("upload: the reader of %s died (signal %d)", shown, -code)
    raise BadInputError(f"{shown}: reading it ended the reader {_TRIES} times (signal {-code})", cure=_SPLIT)


def _run(arguments: list[str], asked: bytes, wall_s: float, shown: str, underway: Underway) -> tuple[int, bytes]:
    """(exit code, what it said) of a child that was sent `asked`. A timer that kills the child bounds every wait."""
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "processors.upload_reader", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    except OSError as error:
        raise StoreError(f"{shown}: not taken, no reader could be started: {error}", cure="free memory, then send it again") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(wall_s, end)
    timer.daemon = True
    timer.start()
    underway.started(child)
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdout:
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(asked)
            said = child.stdout.read()
    except BaseException:
        child.kill()
        raise
    finally:
        code = child.wait()
        timer.cancel()
    if late.is_set() and code:
        raise StoreError(
            f"{shown}: not taken, reading it took more than {wall_s:.0f} s", cure="send it again when the machine is less busy"
        )
    return code, said


def found_in(answer: bytes, shown: str, limits: ReaderLimits) -> ReadUpload:
    """What a reader said of the file called `shown`. Errors as `read_apart`."""
    try:
        said, body = decode_message(answer)
        if not said.keys() & {"refused", "memory", "broken"}:
            return _read(said, decode_records(body))
    except (BadInputError, ValueError, KeyError, IndexError) as error:
        raise StoreError(f"{shown}: not taken, the reader of files answered nonsense", cure="look into the platform's log") from error
    if "refused" in said:
        message, cure = said["refused"]
        raise BadInputError(message, cure=cure)
    if "memory" in said:
        raise BadInputError(f"{shown}: reading it takes more than {limits.memory_bytes / 1e6:.0f} MB of memory", cure=_SPLIT)
    raise BadInputError(f"{shown}: the reader fails on it ({said['broken']})", cure=_SPLIT)


def _read(said: dict[str, Any], records: list[LogRecord]) -> ReadUpload:
    ref = decode_reference(records[0].body, "the reader")
    if not isinstance(ref, UploadRef):
        raise ValueError("no upload comes first")
    return ReadUpload(ref, records, int(said["samples"]), said["skipped"], said["damage"])
