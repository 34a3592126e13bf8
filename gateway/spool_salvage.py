"""What can be saved of a damaged spool: every record whose CRC holds, found by its magic in the raw files, whatever SQLite thinks of them.

Two cases. A WAL with a torn or flipped part: SQLite keeps the commits before it and silently drops the rest; `wal_leftovers` finds those
rows. A damaged database: `salvage` carves database and WAL into a new file with the same epoch and row numbers and sets the old one aside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.ranges import RangeSet
from gateway.spool_disk import PAGE_BYTES, SQLITE_TROUBLE, create, read_ledger, side_file, write_ledger
from gateway.spool_ledger import Ledger, carve_epoch, carve_ledgers, listed_ranges
from gateway.spool_row import carve
from gateway.spool_taken import MAX_NUMBERINGS, Taken, carve_taken

log = logging.getLogger(__name__)

LEAP: Final = 1 << 16  # rows skipped after damage: more than one commit holds, so no number is given to other bytes
KEPT_FILES: Final = 2  # damaged files kept for a look
_WINDOW_BYTES: Final = 1 << 20
_OVERLAP_BYTES: Final = 1 << 16  # more than a record or a listed ledger
_WAL_HEAD_BYTES: Final = 32
_WAL_FRAME_BYTES: Final = 24 + PAGE_BYTES  # page u32, pages of the database when it ends a commit else 0 u32, salts 8, checksums 8; a page


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Rows of a WAL that SQLite did not take over. `committed`: with whole commits, so the WAL was damaged, not just interrupted."""

    records: dict[int, bytes]
    committed: bool


def wal_leftovers(wal: bytes, taken_frames: int, end: int) -> Leftovers:
    """Records numbered `end` or higher in the frames of `wal` behind the `taken_frames` that SQLite accepted.

    Frames of an earlier round of the WAL hold only checkpointed, so lower, rows and yield nothing.
    """
    records: dict[int, bytes] = {}
    salts: set[bytes] = set()
    committed = False
    for at in range(_WAL_HEAD_BYTES + taken_frames * _WAL_FRAME_BYTES, len(wal), _WAL_FRAME_BYTES):
        frame = wal[at : at + _WAL_FRAME_BYTES]
        found = {row.n: record for row, record in carve(frame[24:]) if row.n >= end}
        if found:
            records |= found
            salts.add(frame[8:16])
        ends_commit = len(frame) == _WAL_FRAME_BYTES and frame[4:8] != b"\0\0\0\0" and frame[8:16] in salts
        committed |= ends_commit and _frame_holds(wal, at)
    return Leftovers(records, committed)


def _frame_holds(wal: bytes, at: int) -> bool:
    """Whether the WAL frame at `at` is whole: a kill between the two writes of a frame leaves its head before another frame's old page.

    The checksum goes on from the one stored in the frame before (sqlite.org/fileformat2.html, section 4.2), so that damage further ahead
    does not matter.
    """
    before = at - _WAL_FRAME_BYTES + 16 if at > _WAL_HEAD_BYTES else 24
    order = ">" if wal[3] & 1 else "<"
    a, b = struct.unpack_from(">II", wal, before)
    words = struct.unpack_from(f"{order}2I", wal, at) + struct.unpack_from(f"{order}{PAGE_BYTES // 4}I", wal, at + 24)
    for first, second in zip(words[::2], words[1::2], strict=True):
        a = (a + first + b) & 0xFFFFFFFF
        b = (b + second + a) & 0xFFFFFFFF
    return (a, b) == struct.unpack_from(">II", wal, at + 16)


def salvage(path: Path, new_epoch: int, known: Ledger | None) -> None:
    """Replace the damaged database at `path` by one with every row that holds; OSError or sqlite3.Error when the disk does not let us.

    `known` is the ledger in memory when the spool was running. Rows the newest ledger lists but nobody finds are counted `corrupt`. A kill
    at any moment leaves either the old files or the finished new one (`finish_swap`).
    """
    fresh = side_file(path, ".new")
    _remove(fresh)
    sources = [source for source in (path, side_file(path, "-wal")) if source.exists()]
    ledger = known or _newest_ledger(path, sources)
    epoch = ledger.epoch if ledger else next((e for s in sources for image in windows(s) if (e := carve_epoch(image)) is not None), None)
    if epoch is None:
        epoch = new_epoch
        log.warning("spool %s: nothing left of its epoch: starting a new one", path)
    link = create(fresh, epoch)
    try:
        found = _copy_rows(link, sources, ledger)
        _copy_taken(link, sources)
        _write_after(link, ledger or Ledger(epoch=epoch), found, listed=ledger is not None)
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        link.close()
    log.error("spool %s was damaged: %d rows saved, set aside as %s.corrupt-*", path, len(found), path.name)
    _set_aside(path)
    finish_swap(path)


def finish_swap(path: Path) -> None:
    """Put a finished salvage in place if a kill came between; drop an unfinished one."""
    fresh = side_file(path, ".new")
    if fresh.exists() and not path.exists():
        _remove(side_file(path, "-shm"))
        wal = side_file(path, "-wal")
        if wal.exists():
            wal.rename(side_file(path, f".corrupt-{time.time_ns()}-wal"))
        fresh.rename(path)
        _sync_folder(path.parent)
    _remove(fresh)


def windows(path: Path) -> Iterator[bytes]:
    """The bytes of a file in overlapping pieces; pages that cannot be read are zeros."""
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        for at in range(0, size, _WINDOW_BYTES):
            yield _read_at(file.fileno(), at, min(_WINDOW_BYTES + _OVERLAP_BYTES, size - at))


def _read_at(fd: int, at: int, count: int) -> bytes:
    try:
        return os.pread(fd, count, at)
    except OSError:
        if count <= PAGE_BYTES:
            return bytes(count)
    return b"".join(_read_at(fd, at + part, min(PAGE_BYTES, count - part)) for part in range(0, count, PAGE_BYTES))


def _newest_ledger(path: Path, sources: list[Path]) -> Ledger | None:
    found = [ledger for source in sources for image in windows(source) for ledger in carve_ledgers(image)]
    with (
        contextlib.suppress(*SQLITE_TROUBLE),
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as link,
    ):
        whole = read_ledger(link)  # a ledger longer than a page is in one piece only for SQLite
        if whole is not None:
            found.append(whole)
    return max(found, key=lambda ledger: ledger.serial, default=None)


def _copy_rows(link: sqlite3.Connection, sources: list[Path], ledger: Ledger | None) -> RangeSet:
    """Insert what holds and is still owed: listed by the ledger, or younger than it."""
    owed = RangeSet(ledger.ranges) if ledger and ledger.ranges is not None else None
    found = RangeSet()
    for source in sources:
        for image in windows(source):
            batch: list[tuple[int, bytes]] = []
            for row, record in carve(image):
                is_owed = owed is None or ledger is None or row.n >= ledger.end or row.n in owed
                if is_owed and row.n not in found:
                    found.add(row.n, row.n)
                    batch.append((row.n, record))
            link.execute("BEGIN IMMEDIATE")
            link.executemany("INSERT INTO rows VALUES (?, ?)", batch)
            link.execute("COMMIT")
            link.execute("PRAGMA wal_checkpoint(PASSIVE)")
    return found


def _copy_taken(link: sqlite3.Connection, sources: list[Path]) -> None:
    """What the box has taken, as far as it can be found; without the note up to where: the rows themselves are read again."""
    taken = Taken(MAX_NUMBERINGS)
    taken.restore(record for source in sources for image in windows(source) for record in carve_taken(image))
    link.execute("BEGIN IMMEDIATE")
    link.executemany("INSERT INTO taken VALUES (?, ?)", taken.changed(0))
    link.execute("COMMIT")


def _write_after(link: sqlite3.Connection, old: Ledger, found: RangeSet, *, listed: bool) -> None:
    """The ledger of the new file: young rows taken, missing ones corrupt, numbers leapt."""
    young = found.within(old.end, 1 << 62)
    last = young[-1][1] if young else old.end - 1
    expected = len(RangeSet(old.ranges or ())) + last - old.end + 1
    corrupt = max(0, expected - len(found)) if listed and old.ranges is not None else 0
    ledger = old.copy()
    ledger.serial, ledger.salvaged, ledger.corrupt = old.serial + 1, old.salvaged + len(found), old.corrupt + corrupt
    for first, last_n in young:
        for (record,) in link.execute("SELECT record FROM rows WHERE n BETWEEN ? AND ?", (first, last_n)):
            for row, _ in carve(record):
                ledger.tally(row.device).taken += 1
    highest = found.ranges()[-1][1] if found else 0
    ledger.end = max(old.end, highest + 1) + LEAP
    ledger.ranges = listed_ranges(found)
    link.execute("BEGIN IMMEDIATE")
    write_ledger(link, ledger)
    link.execute("COMMIT")


def _set_aside(path: Path) -> None:
    stamp = f".corrupt-{time.time_ns()}"
    older = sorted(p for p in path.parent.glob(f"{path.name}.corrupt-*") if not p.name.endswith("-wal"))
    for old in older[: max(0, len(older) + 1 - KEPT_FILES)]:
        _remove(old)
        _remove(side_file(old, "-wal"))
    if path.exists():
        path.rename(side_file(path, stamp))
    wal = side_file(path, "-wal")
    if wal.exists():
        wal.rename(side_file(path, f"{stamp}-wal"))
    _sync_folder(path.parent)


def _remove(path: Path) -> None:
    for name in (path, side_file(path, "-wal"), side_file(path, "-shm")):
        name.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
