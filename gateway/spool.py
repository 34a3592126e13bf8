"""The gateway's spool: durable numbered rows between the sensors and the uplink. Stored means stored.

A row is on the disk (SQLite WAL, synchronous FULL) before its append returns, is owed until `free` or `refuse` names it, and never
changes. Rows free lazily: after a kill they come back as owed and the next hop drops the repeat. The event loop sees an async shell
around one writer thread; `read`, `ranges` and `stats` are plain calls. Full or failing disks refuse rows, count them, and recover.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.errors import StoreError
from broker.liveness import Part, unwatched
from broker.nodeconfig import DeviceCount
from gateway.ranges import Range, RangeSet
from gateway.spool_disk import SQLITE_TROUBLE, FullPolicy, Lock, SpoolFullError, SpoolSettings
from gateway.spool_file import SpoolFile
from gateway.spool_pace import FillRate, Pace, on_memory_card
from gateway.spool_row import SpoolRow, decode_record
from gateway.spool_work import Group, RecentFrames, group_of
from gateway.spool_writer import Append, Done, OnDone, Writer

__all__ = ["Spool", "SpoolFullError", "SpoolRow", "SpoolSettings", "SpoolStats"]

log = logging.getLogger(__name__)

_CARD_BUDGET_GB_DAY: Final = 4.0
_CLOSE_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """The spool at one moment. Counts are frames since the epoch began and survive restarts (after a kill, `rejected` as of the last
    deletion). `devices` lags behind `free` and `refuse` until the rows are deleted (`flush`)."""

    rows: int
    bytes: int
    cap_bytes: int
    hours_left: float | None
    rejected: int
    dropped: int
    corrupt: int
    salvaged: int
    refused: dict[str, int]
    devices: tuple[DeviceCount, ...]
    alarm: str
    forgotten: int  # numberings, or parts of one, that `has_taken` no longer knows; since the process started


class Spool:
    """An open spool; make it with `await Spool.open(...)`, end it with `await close()`."""

    def __init__(
        self, path: Path, settings: SpoolSettings, file: SpoolFile, lock: Lock, loop: asyncio.AbstractEventLoop, alive: Part
    ) -> None:
        self._path = path
        self._settings = settings
        self._cap_bytes = settings.cap_bytes
        self._file = file
        self._lock = lock
        self._loop = loop
        self._owed = file.rows.copy()
        self._end = file.ledger.end
        self._fill = FillRate(time.monotonic())
        self._recent = RecentFrames(settings.cache_bytes)
        self._reader: sqlite3.Connection | None = None
        self._listeners: list[Callable[[], None]] = []
        self._room = asyncio.Event()
        self._closed = False
        budget = settings.write_budget_gb_day
        if budget is None and on_memory_card(path.parent):
            budget = _CARD_BUDGET_GB_DAY
        pace = Pace(settings.min_window_s, settings.max_window_s, budget * 1e9 if budget else None)
        self._writer = Writer(file, settings, pace, self._report, alive)
        self._writer.start()

    @classmethod
    async def open(
        cls, path: Path, settings: SpoolSettings, *, random_bits: Callable[[int], int] = secrets.randbits, alive: Part | None = None
    ) -> Spool:
        """Open or create the spool at `path`; what is damaged is salvaged and the damaged file set aside.
        `alive` beats with every round of the writer.

        StoreError when another process has it, or the disk is full or cannot be written: nothing runs without a spool.
        """
        path = await asyncio.to_thread(path.resolve)
        lock = await asyncio.to_thread(Lock, path)
        try:
            file = await asyncio.to_thread(SpoolFile, path, settings, random_bits)
        except BaseException:
            lock.release()
            raise
        return cls(path, settings, file, lock, asyncio.get_running_loop(), alive or unwatched())

    @property
    def epoch(self) -> int:
        """64 random bits drawn when the file was created; a re-imaged box has another."""
        return self._file.epoch

    @property
    def end(self) -> int:
        """The number the next row will get, as far as commits have been reported."""
        return self._end

    @property
    def alarm(self) -> str:
        """Why it cannot be written; empty while it can."""
        return self._writer.alarm

    async def append(self, rows: Sequence[SpoolRow]) -> int:
        """Store rows under consecutive numbers and return the first, once they are on the disk. Concurrent appends share a commit.

        SpoolFullError or StoreError: none of the rows is stored, each is counted `rejected`. Waits while `max_waiting_rows` are queued.
        """
        while self._writer.waiting_rows >= self._settings.max_waiting_rows and not self._closed:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._room.wait()
        future: asyncio.Future[int] = self._loop.create_future()

        def resolve(first_n: int | None, error: StoreError | None) -> None:
            if future.done():
                return
            if first_n is None:
                future.set_exception(error or StoreError("the spool gave no number"))
            else:
                future.set_result(first_n)

        self.append_nowait(rows, resolve)
        return await future

    def append_nowait(self, rows: Sequence[SpoolRow], on_done: OnDone) -> None:
        """Queue rows; `on_done(first_n, None)` or `on_done(None, error)` is called in the event loop after the commit. From the loop only.

        ValueError for a row that cannot be stored (empty, over 1,024 bytes, no device). The caller bounds what it queues.
        """
        if not rows or len(rows) > self._settings.max_group_rows:
            raise ValueError(f"append of {len(rows)} rows: give 1..{self._settings.max_group_rows}")
        if self._closed:
            raise StoreError(f"spool {self._path} is closed", cure="do not append after close")
        self._writer.append(Append(group_of(rows), on_done))

    def has_taken(self, device: str, boot: int, seq: int) -> bool:
        """Whether a frame with this number was ever appended, also if it left since. The oldest of many numberings are forgotten."""
        return self._file.taken.has(device, boot, seq)

    def read(self, first_n: int, max_rows: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """Owed rows from `first_n` on, ascending: at most `max_rows`, and at most `max_bytes` of frames unless the first alone is longer.

        Damaged rows are left out: they go to quarantine, leave `ranges` and are counted `corrupt`. Never raises for a damaged disk.
        """
        rows: list[tuple[int, bytes]] = []
        room = max_bytes
        for first, last in self._owed.within(first_n, self._end):
            n = first
            while n <= last:
                stop = min(last, n + max_rows - len(rows) - 1)
                recent = self._recent.get(n, stop)
                if recent:
                    size = sum(map(len, recent))
                    piece = zip(range(n, n + len(recent)), recent, strict=True)
                    n += len(recent)
                    if size <= room:  # the way of live rows
                        rows.extend(piece)  # nothing is left of it for the loop below
                        room -= size
                else:
                    piece, n = self._piece(n, stop)
                for row_n, frame in piece:
                    if rows and len(frame) > room:
                        return rows
                    rows.append((row_n, frame))
                    room -= len(frame)
                if len(rows) >= max_rows or n == 0:
                    return rows
        return rows

    def _piece(self, first: int, last: int) -> tuple[list[tuple[int, bytes]], int]:
        """Some rows of `first..last` from the disk, and the number after them (0: the disk does not answer)."""
        last = min(last, first + 255)
        found = self._from_disk(first, last)
        return ([], 0) if found is None else (self._checked(first, last, found), last + 1)

    def _from_disk(self, first: int, last: int) -> dict[int, object] | None:
        try:
            if self._reader is None:
                self._reader = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=1.0, isolation_level=None)
                self._reader.execute("PRAGMA cache_size=-512")
            return dict(self._reader.execute("SELECT n, record FROM rows WHERE n BETWEEN ? AND ?", (first, last)).fetchall())
        except SQLITE_TROUBLE as error:
            log.warning("spool %s: reading rows %d..%d: %s", self._path, first, last, error)
            self._drop_reader()
            code = getattr(error, "sqlite_errorcode", None)
            if code is None or code & 0xFF not in (5, 6, 14):  # busy, locked, cannot open: the next read tries again
                self._writer.ask_salvage()
            return None

    def _checked(self, first: int, last: int, found: dict[int, object]) -> list[tuple[int, bytes]]:
        """The rows whose bytes hold; damaged ones go to quarantine, missing ones mean a damaged tree: the file is salvaged."""
        rows: list[tuple[int, bytes]] = []
        damaged: list[int] = []
        for n in range(first, last + 1):
            record = found.get(n)
            row = decode_record(record) if isinstance(record, bytes) else None
            if row is not None and row.n == n:
                rows.append((n, row.frame))
            elif n in found:
                damaged.append(n)
                self._owed.remove(n, n)
        if damaged:
            log.error("spool %s: %d damaged rows to quarantine", self._path, len(damaged))
            self._writer.settle((), damaged)
        if len(rows) + len(damaged) <= last - first:
            self._writer.ask_salvage()
        return rows

    def ranges(self) -> tuple[Range, ...]:
        """The owed rows: committed, neither freed nor refused."""
        return self._owed.ranges()

    def free(self, ranges: Iterable[Range]) -> None:
        """The next hop stored these rows. Rows not owed are ignored; the deletion follows within `free_after_s`."""
        self._gone([(first, last, None) for first, last in ranges])

    def refuse(self, ranges: Iterable[Range], reason: str) -> None:
        """The next hop refused these rows for good: they leave like freed ones and are counted by reason and device."""
        self._gone([(first, last, reason) for first, last in ranges])

    def _gone(self, ranges: list[tuple[int, int, str | None]]) -> None:
        owed: list[tuple[int, int, str | None]] = []
        for first, last, reason in ranges:
            for low, high in self._owed.remove(first, last):
                owed.append((low, high, reason))
        if owed:
            self._writer.settle(owed)

    def stats(self) -> SpoolStats:
        """Rows, bytes, counters and how long the space lasts at the rate of the last five minutes if nothing leaves."""
        ledger, used, limit = self._file.ledger.copy(), self._file.used_bytes, self._file.rows_limit_bytes
        rate = self._fill.bytes_per_s(time.monotonic())
        hours = max(0, limit - used) / rate / 3600 if rate else None
        devices = tuple(DeviceCount(device=name, taken=t.taken, stored=t.stored, refused=t.refused) for name, t in ledger.devices.items())
        return SpoolStats(
            len(self._owed), used, self._cap_bytes, hours, ledger.rejected, ledger.dropped, ledger.corrupt, ledger.salvaged,
            ledger.refused, devices, self._writer.alarm, self._file.taken.forgotten,
        )  # fmt: skip

    def set_limits(self, cap_bytes: int, policy: FullPolicy) -> None:
        """Change cap (at least 1,000,000) and policy at run time."""
        if cap_bytes < 1_000_000:
            raise StoreError(f"spool cap of {cap_bytes} bytes is too small", cure="give at least 1000000 bytes")
        self._cap_bytes = cap_bytes
        self._writer.set_limits(cap_bytes, policy)

    async def flush(self, timeout_s: float = 10.0) -> None:
        """Delete now what was freed and refused, so that `stats().devices` is exact. TimeoutError when the disk hangs."""
        flushed = asyncio.Event()
        self._writer.flush(lambda: self._call(flushed.set))
        async with asyncio.timeout(timeout_s):
            await flushed.wait()

    async def close(self) -> None:
        """Commit what waits, delete what was freed, close. Rows whose deletion failed come back as owed at the next open."""
        if self._closed:
            return
        self._closed = True
        self._drop_reader()
        self._writer.stop()
        if not await asyncio.to_thread(self._writer.join, _CLOSE_TIMEOUT_S):
            raise StoreError(
                f"spool {self._path}: the disk does not answer",
                cure="check the disk (dmesg); kill the gateway: nothing acknowledged is lost",
            )
        self._lock.release()
        await asyncio.sleep(0)  # the last reports of the writer

    def _report(self, done: Done) -> None:
        self._call(self._apply, done)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            log.warning("spool %s: the event loop ended before the spool was closed", self._path)

    def _apply(self, done: Done) -> None:
        for first, last in done.dropped:
            self._owed.remove(first, last)
        if done.rebuilt is not None:
            self._drop_reader()
            held, self._end = done.rebuilt
            kept = RangeSet(part for first, last in self._owed for part in held.within(first, last))
            self._owed = kept
        now_s = time.monotonic()
        for append, first_n, error in done.appends:
            if first_n is not None:
                self._take(first_n, append.group, now_s)
            try:
                append.on_done(first_n, error)
            except Exception:
                log.exception("spool: a caller of append_nowait failed")
        if done.appends:
            self._room.set()
            for listener in self._listeners:
                listener()

    def add_listener(self, callback: Callable[[], None]) -> None:
        """Call `callback()` on the event loop after every commit that may have brought rows."""
        self._listeners.append(callback)

    def remove_listener(self, callback: Callable[[], None]) -> None:
        """Undo `add_listener`."""
        self._listeners.remove(callback)

    def _take(self, first_n: int, group: Group, now_s: float) -> None:
        last = first_n + len(group.frames) - 1
        self._owed.add(first_n, last)
        self._end = last + 1
        self._recent.add(first_n, group.frames, group.size)
        self._fill.add(now_s, group.size)

    def _drop_reader(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(sqlite3.Error):
                self._reader.close()
        self._reader = None
