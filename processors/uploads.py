"""Uploaded activity files: a FIT, GPX or TCX file becomes frames of the node `upload` in the log, durably, and once.

What a file becomes is decided by `upload_file` (pure), in a child process (`upload_process`) that cannot disturb live latency; here it is
appended unless it is known.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from broker.errors import StoreError
from broker.faultpoints import hit
from broker.reference import UploadRef
from processors.log import Appender
from processors.upload_file import shown_name
from processors.upload_process import ReaderLimits, Underway, read_apart
from processors.wall import wall_us

BUSY_S: Final = 120.0
MAX_WAITING: Final = 4  # files of up to 64 MB in memory
_REMEMBERED: Final = 1024

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


class Uploads:
    """Takes uploaded files into the log, one at a time, which bounds memory and CPU; each is read by a process of its own.

    `take` is for an event loop: it has a thread of its own, so that files that wait hold none of the default pool, which the runner needs.
    """

    def __init__(
        self, log: Appender, *, find: Find | None = None, clock_us: Callable[[], int] = wall_us, limits: ReaderLimits | None = None
    ) -> None:
        """`find` looks up what the stores have of an upload; those of the last moments are known without it."""
        self._log = log
        self._find = find
        self._clock_us = clock_us
        self._limits = limits or ReaderLimits()
        self._underway = Underway()
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
        """Take no more. A file that is still being read is not taken (StoreError); one that is being appended is."""
        self._underway.end()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def accept(self, tenant: str, athlete: str, name: str, raw: bytes) -> UploadResult:
        """Append the file `raw` called `name` to the log, all or nothing, unless it is there already; returns when it is durable.

        BadInputError refuses the file; StoreError: nothing was stored (disk full, no reader, or other files took more than two minutes).
        Of a file that Kafka refused some frames may be there; sent again, they are repeats.
        """
        if not self._reading.acquire(timeout=BUSY_S):
            raise StoreError(f"{shown_name(name)}: not taken, other files are being read", cure="send it again in a few minutes")
        try:
            now_us = self._clock_us()
            upload = read_apart(tenant, athlete, name, raw, now_us, self._limits, self._underway)
            known = self._knows(upload.ref)
            if not known:
                hit("upload.before_append")
                self._log.append(upload.records)
                hit("upload.after_append")
                self._remember(upload.ref)
        finally:
            self._reading.release()
        ref = upload.ref
        return UploadResult(
            id=ref.id,
            frames=len(upload.records) - 1,
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
