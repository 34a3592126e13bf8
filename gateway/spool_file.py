"""The spool's file: rows, ledger and limits behind one connection, used by the writer thread only.

Invariants: row numbers ascend and are never given to other bytes within an epoch; rows leave only together with their counts; what
`commit` returned is on the disk. Errors leave as StoreError, SpoolFullError or DamagedError, with nothing changed.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final

from broker.errors import StoreError
from broker.faultpoints import hit
from gateway.ranges import Range, RangeSet
from gateway.spool_disk import (
    MAX_QUARANTINED,
    PAGE_BYTES,
    SQLITE_TROUBLE,
    DamagedError,
    FullPolicy,
    Reserve,
    SpoolSettings,
    connect,
    create,
    disk_bytes,
    explain,
    note_version,
    read_epoch,
    read_ledger,
    side_file,
    split_cap,
    write_ledger,
)  # fmt: skip
from gateway.spool_ledger import Ledger, listed_ranges
from gateway.spool_row import decode_record
from gateway.spool_salvage import LEAP, finish_swap, salvage, wal_leftovers
from gateway.spool_tables import devices_of, insert_rows, load_taken, pages_of
from gateway.spool_taken import Taken, capacity_of
from gateway.spool_work import Committed, Group, RecentDevices, Settlement

log = logging.getLogger(__name__)

_RELIST_ROWS: Final = 20_000  # appended rows after which the ledger is written anyway, so that an open after a kill counts few again


class SpoolFile:
    """An open spool database. One thread."""

    def __init__(self, path: Path, settings: SpoolSettings, random_bits: Callable[[int], int]) -> None:
        """Open or create `path`, salvaging what is damaged. StoreError when the disk does not let us."""
        self.path = path
        self.policy: FullPolicy = settings.full_policy
        self._limits = split_cap(settings.cap_bytes, disk_bytes(path.parent))
        self._reserve = Reserve(path, self._limits.reserve_bytes)
        self._check_below_bytes = settings.check_below_bytes
        self._random_bits = random_bits
        self._link: sqlite3.Connection | None = None
        self.rows = RangeSet()
        self.ledger = Ledger()
        self._pages = self._free_pages = self._wal_pages = self._listed_end = 0
        self._recent = RecentDevices()
        self.taken = Taken(capacity_of(settings.cap_bytes))
        self._fresh = True
        try:
            finish_swap(path)
            self._open_or_salvage()
        except OSError as error:
            raise _plain(explain(error, path)) from error

    def _open_or_salvage(self) -> None:
        wal = side_file(self.path, "-wal")
        wal_image = wal.read_bytes() if wal.exists() else b""
        try:
            if wal_image and (not self.path.exists() or not self.path.stat().st_size):
                raise DamagedError(f"{self.path} is gone but its WAL is not")
            self._open(wal_image)
        except (*SQLITE_TROUBLE, DamagedError) as error:
            self._drop_link()
            meaning = error if isinstance(error, DamagedError) else explain(error, self.path)
            if not isinstance(meaning, DamagedError):
                raise meaning from error
            log.error("spool: %s: salvaging", meaning)  # noqa: TRY400 - the damage is the news, not our stack
            self.salvage(None)

    def salvage(self, known: Ledger | None) -> None:
        """Rebuild the file from every record that holds. StoreError when the disk does not let us: try again later."""
        self._drop_link()
        try:
            salvage(self.path, self._random_bits(64), known)
            self._open(b"")
        except (*SQLITE_TROUBLE, DamagedError) as error:
            self._drop_link()
            meaning = error if isinstance(error, DamagedError) else explain(error, self.path)
            raise _plain(meaning) from error

    def reopen(self) -> None:
        """Salvage a file that turned out damaged while open; epoch, numbers and counts in memory stay the truth."""
        known = self.ledger.copy()
        known.end, known.ranges = self.ledger.end, self.rows.ranges()
        self.salvage(known)

    def _open(self, wal_image: bytes) -> None:
        fresh = not self.path.exists() or not self.path.stat().st_size
        self._link = link = create(self.path, self._random_bits(64)) if fresh else connect(self.path)
        if self.path.stat().st_size <= self._check_below_bytes and link.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise DamagedError(f"{self.path}: the integrity check failed")
        epoch, ledger = read_epoch(link), read_ledger(link)
        if ledger is None or ledger.epoch != epoch:
            raise DamagedError(f"{self.path}: ledger or epoch is damaged")
        self.ledger = ledger
        self._listed_end = ledger.end
        self._load_rows()
        _, frames, _ = link.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._take_leftovers(wal_image, max(frames, 0))
        note_version(link)
        self._load_taken()
        self._set_limits()
        self._reserve.hold()

    def _load_rows(self) -> None:
        """Rows below the ledger's end are as it says; those from there on are counted again from the table."""
        link, ledger = self._connection(), self.ledger
        rows = RangeSet(ledger.ranges or ())
        if ledger.ranges is None:
            for (n,) in link.execute("SELECT n FROM rows WHERE n < ? ORDER BY n", (ledger.end,)):
                rows.add(n, n)
        end = ledger.end
        for n, record in link.execute("SELECT n, record FROM rows WHERE n >= ? ORDER BY n", (ledger.end,)):
            row = decode_record(record) if isinstance(record, bytes) else None
            if row is not None and row.n == n:
                ledger.tally(row.device).taken += 1
            ledger.corrupt += n - end
            rows.add(n, n)
            end = n + 1
        ledger.end = end
        self.rows = rows

    def _load_taken(self) -> None:
        """At the first open from the file; a spool that was running knows better."""
        if self._fresh:
            load_taken(self._connection(), self.taken)
            self._fresh = False
        else:
            self.taken.save_again()

    def _take_leftovers(self, wal_image: bytes, taken_frames: int) -> None:
        left = wal_leftovers(wal_image, taken_frames, self.ledger.end)
        if not left.records and not left.committed:
            return
        link, ledger = self._connection(), self.ledger.copy()
        rows = self.rows.copy()
        link.execute("BEGIN IMMEDIATE")
        for n, record in sorted(left.records.items()):
            row = decode_record(record)
            assert row is not None
            link.execute("INSERT INTO rows VALUES (?, ?)", (n, record))
            ledger.tally(row.device).taken += 1
            ledger.corrupt += n - ledger.end if left.committed else 0
            ledger.end = n + 1
            rows.add(n, n)
        ledger.salvaged += len(left.records)
        ledger.end += LEAP
        self._write(ledger, rows)
        link.execute("COMMIT")
        self.ledger, self.rows = ledger, rows
        log.warning("spool %s: its WAL was cut short; %d rows saved from the rest", self.path, len(left.records))

    @property
    def epoch(self) -> int:
        """The 64 random bits drawn when the spool began."""
        return self.ledger.epoch

    @property
    def is_open(self) -> bool:
        """False after a salvage that the disk did not allow: `reopen` tries again."""
        return self._link is not None

    @property
    def rows_limit_bytes(self) -> int:
        """Where appends stop."""
        return self._limits.rows_pages * PAGE_BYTES

    @property
    def group_limit_bytes(self) -> int:
        """Most bytes of rows one commit should hold, so that the WAL stays bounded."""
        return self._limits.wal_bytes // 2

    def set_cap(self, cap_bytes: int) -> None:
        """Change the cap now. A lower one refuses or drops at once; the file itself shrinks when the spool runs empty."""
        with self._errors():
            self._limits = split_cap(cap_bytes, disk_bytes(self.path.parent))
            self._reserve.resize(self._limits.reserve_bytes)
            if self._link is not None:
                self._set_limits()
                self._reserve.hold()

    def commit(self, groups: Sequence[Group], settle: Settlement | None) -> Committed:
        """Settle, then append, in one durable transaction. All or nothing, except that groups without room are None in the answer."""
        link = self._connection()
        with self._errors():
            size = sum([group.size for group in groups])
            link.execute("BEGIN IMMEDIATE")
            if not settle and self.ledger.end - self._listed_end < _RELIST_ROWS:
                if self._has_room(size):
                    return self._append_only(link, groups, size)
                if self.policy == "reject_new" and not any(self._has_room(group.size) for group in groups):
                    link.execute("ROLLBACK")
                    self.ledger.rejected += sum(len(group.frames) for group in groups)
                    return Committed([None] * len(groups), [])
            rows, ledger = self.rows.copy(), self.ledger.copy()
            if settle:
                hit("spool.before_free")
                self._settle(link, settle, rows, ledger)
            dropped: list[Range] = []
            firsts: list[int | None] = []
            new: list[tuple[int, Group]] = []
            for group in groups:
                if self._make_room(group, rows, ledger, dropped):
                    firsts.append(ledger.end)
                    insert_rows(link, ledger.end, group.records(ledger.end))
                    self._count_taken(ledger, ledger.end, group)
                    new.append((ledger.end, group))
                    rows.add(ledger.end, ledger.end + len(group.frames) - 1)
                    ledger.end += len(group.frames)
                else:
                    firsts.append(None)
                    ledger.rejected += len(group.frames)
            self._write(ledger, rows)
            self._end(link)
            self.rows, self.ledger = rows, ledger
            self._listed_end = ledger.end
            self.taken.saved()
            self._remember(new)
            self._wal_pages += 8 + size // (PAGE_BYTES - 400)
            self._shrink_if_empty()
            return Committed(firsts, dropped)

    def _append_only(self, link: sqlite3.Connection, groups: Sequence[Group], size: int) -> Committed:
        first = end = self.ledger.end
        new: list[tuple[int, Group]] = []
        records: list[bytes] = []
        for group in groups:
            new.append((end, group))
            records += group.records(end)
            end += len(group.frames)
        insert_rows(link, first, records)
        self._end(link)
        for at, group in new:
            self._count_taken(self.ledger, at, group)
        self.rows.add(first, end - 1)
        self.ledger.end = end
        self._remember(new)
        self._wal_pages += 3 + size // (PAGE_BYTES - 400)
        return Committed([at for at, _ in new], [])

    def _end(self, link: sqlite3.Connection) -> None:
        pages, free = pages_of(link)
        hit("spool.before_commit")
        link.execute("COMMIT")
        self._pages, self._free_pages = pages, free
        hit("spool.after_commit")

    def _settle(self, link: sqlite3.Connection, settle: Settlement, rows: RangeSet, ledger: Ledger) -> None:
        for low, high, reason in [(a, b, reason) for reason, ranges in settle.by_reason() for a, b in ranges]:
            for first, last in rows.remove(low, high):
                known_from, devices = self._recent.split(first, last)
                ledger.count_gone(devices, reason)
                ledger.count_gone(devices_of(link, first, known_from - 1), reason)
                link.execute("DELETE FROM rows WHERE n BETWEEN ? AND ?", (first, last))
        for n in settle.damaged:
            if rows.remove(n, n):
                ledger.corrupt += 1
                link.execute("INSERT INTO quarantine(n, record) SELECT n, record FROM rows WHERE n = ? AND typeof(record) = 'blob'", (n,))
                link.execute("DELETE FROM rows WHERE n = ?", (n,))
        if settle.damaged:
            link.execute("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (MAX_QUARANTINED,))

    def _has_room(self, size: int) -> bool:
        need = 6 + size // (PAGE_BYTES - 400)
        pages, free = self._pages, self._free_pages
        if not self._reserve.held and need > free and not self._reserve.hold():
            return False  # the disk is full: only pages we already own may be filled
        return pages - free + need <= self._limits.rows_pages

    def _make_room(self, group: Group, rows: RangeSet, ledger: Ledger, dropped: list[Range]) -> bool:
        """Whether `group` fits now, after dropping the oldest rows if that is the policy."""
        link = self._connection()
        self._pages, self._free_pages = pages_of(link)  # of this transaction; a rollback measures again
        while not self._has_room(group.size):
            if self.policy != "drop_oldest" or not rows:
                return False
            for low, high in rows.lowest(max(64, len(group.frames), len(rows) // 50)):
                rows.remove(low, high)
                link.execute("DELETE FROM rows WHERE n BETWEEN ? AND ?", (low, high))
                ledger.dropped += high - low + 1
                dropped.append((low, high))
            self._pages, self._free_pages = pages_of(link)
        return True

    def _count_taken(self, ledger: Ledger, first: int, group: Group) -> None:
        self._recent.add(first, group.devices)
        for device, count in group.counts.items():
            ledger.tally(device).taken += count

    def _write(self, ledger: Ledger, rows: RangeSet) -> None:
        ledger.serial += 1
        ledger.ranges = listed_ranges(rows)
        write_ledger(self._connection(), ledger)
        records = [] if self._fresh else self.taken.changed(self.ledger.end)
        self._connection().executemany("INSERT OR REPLACE INTO taken VALUES (?, ?)", records)

    def _remember(self, new: Sequence[tuple[int, Group]]) -> None:
        """These rows are committed."""
        for first, group in new:
            self.taken.add(first, group)

    def checkpoint_if_due(self) -> None:
        """Move the WAL into the database once it is as long as it may get; called after the rows were acknowledged."""
        if self._wal_pages * PAGE_BYTES >= self._limits.wal_bytes:
            with self._errors():
                _, frames, moved = self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._wal_pages = max(0, frames - moved)

    def make_room_on_disk(self) -> None:
        """The disk is full: give back the reserve and empty the WAL, so that rows can still leave."""
        self._reserve.release()
        with self._errors():
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._wal_pages = 0

    def hold_reserve(self) -> None:
        """Take the reserve again once the disk has room."""
        self._reserve.hold()

    def close(self) -> None:
        """Write the ledger, empty the WAL, close. Never raises: what could not be written is found again at the next open."""
        try:
            link = self._connection()
            link.execute("BEGIN IMMEDIATE")
            self._write(self.ledger, self.rows)
            link.execute("COMMIT")
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (*SQLITE_TROUBLE, StoreError) as error:
            log.warning("spool %s: closing: %s", self.path, error)
        self._drop_link()

    def _set_limits(self) -> None:
        link = self._connection()
        link.execute(f"PRAGMA max_page_count={self._limits.max_pages}")
        link.execute(f"PRAGMA journal_size_limit={self._limits.wal_bytes}")
        self._measure()

    def _measure(self) -> None:
        self._pages, self._free_pages = pages_of(self._connection())

    @property
    def used_bytes(self) -> int:
        """Bytes of the database that hold something."""
        return (self._pages - self._free_pages) * PAGE_BYTES

    def _shrink_if_empty(self) -> None:
        link = self._connection()
        if not self.rows and self._pages > self._limits.max_pages:
            link.execute("VACUUM")
            self._set_limits()

    def _connection(self) -> sqlite3.Connection:
        if self._link is None:
            raise StoreError(f"spool {self.path} is not open", cure="see the alarm before this one; it is retried")
        return self._link

    def _drop_link(self) -> None:
        if self._link is not None:
            with contextlib.suppress(sqlite3.Error):
                self._link.close()
        self._link = None

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        """Roll back and say what an error means."""
        try:
            yield
        except SQLITE_TROUBLE as error:
            if self._link is not None:
                with contextlib.suppress(sqlite3.Error):
                    if self._link.in_transaction:
                        self._link.execute("ROLLBACK")
                    self._measure()
            raise explain(error, self.path) from error


def _plain(error: StoreError | DamagedError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"spool {error}: it cannot be salvaged now", cure="check the disk (dmesg, free space); it is retried")
