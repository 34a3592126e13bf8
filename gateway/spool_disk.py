"""The SQLite side of the spool: connections, schema, what a failure means, and the reserve that keeps deletes possible on a full disk.

The database holds `rows` (n -> record), the epoch three times, two ledgers written in turn, what was taken and the quarantine, each on
pages of its own.
Every SQLite error becomes one of three: damaged (salvage it), full (refuse rows, free others), or a store error (report, retry).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from broker.errors import StoreError
from gateway.spool_ledger import Ledger, decode_identity, decode_ledger, encode_identity, encode_ledger

PAGE_BYTES: Final = 4096
MAX_QUARANTINED: Final = 1_000
FILE_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS identity_a(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS identity_b(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS identity_c(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_0(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger_1(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS taken(slot INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rows(n INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, record BLOB NOT NULL);
"""
_DISK_CODES: Final = frozenset({3, 5, 6, 8, 10, 14, 23})  # PERM BUSY LOCKED READONLY IOERR CANTOPEN AUTH: the disk, not the data
_FULL: Final = 13
SQLITE_TROUBLE: Final = (
    sqlite3.Error,
    OSError,
    MemoryError,
    ValueError,
    OverflowError,
    TypeError,
)  # the last four: nonsense in a damaged file
_SHORT_READ: Final = 522  # IOERR_SHORT_READ: the file ends before its last page

FullPolicy = Literal["reject_new", "drop_oldest"]


class SpoolFullError(StoreError):
    """The cap or the disk is full and the policy is to refuse new rows; each refused row is counted as `rejected`."""


class DamagedError(Exception):
    """The database cannot be trusted; it must be salvaged. Never leaves the spool."""


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """How much, how often, and what to do when full. Only `cap_bytes` and `full_policy` change at run time (`Spool.set_limits`).

    `cap_bytes` is all the spool takes on disk: database, WAL and reserve (a file set aside after damage is extra). A group commit starts at
    most every `min_window_s`..`max_window_s` (5 x the time a commit takes; on a memory card long enough to write about
    `write_budget_gb_day`; None: 4 on an SD card or eMMC, else no budget) and holds at most `max_group_rows`.
    """

    cap_bytes: int = 256_000_000
    full_policy: FullPolicy = "reject_new"
    min_window_s: float = 0.02
    max_window_s: float = 0.25
    max_group_rows: int = 1_000
    write_budget_gb_day: float | None = None
    free_after_s: float = 5.0
    free_after_rows: int = 5_000
    max_waiting_rows: int = 20_000
    cache_bytes: int = 2_000_000
    check_below_bytes: int = 256_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """A cap split into its parts, in bytes; `rows_pages` is where appends stop, `max_pages` where SQLite does."""

    wal_bytes: int
    reserve_bytes: int
    rows_pages: int
    max_pages: int


def split_cap(cap_bytes: int, disk_bytes: int) -> Limits:
    """The parts of a cap on a disk of that size (a cap beyond the disk ends with it); StoreError below 400,000 bytes."""
    cap_bytes = min(cap_bytes, disk_bytes)
    if cap_bytes < 400_000:
        raise StoreError(f"spool cap or disk of {cap_bytes} bytes is too small", cure="give at least 1000000 bytes")
    wal = min(max(cap_bytes // 16, 64 * 1024), 2 * 1024 * 1024)
    reserve = wal + 16 * PAGE_BYTES
    max_pages = (cap_bytes - 2 * wal - reserve) // PAGE_BYTES
    return Limits(wal, reserve, max_pages - max(12, max_pages // 50), max_pages)


def explain(error: Exception, path: Path) -> StoreError | DamagedError:
    """What an error of SQLite means for the spool at `path`."""
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, OSError):
        return StoreError(f"spool {path}: {error}", cure="check that the disk is there, has space and is writable")
    if code == _FULL:
        return SpoolFullError(f"spool {path}: the disk is full", cure="free space on the disk or lower the spool's cap_bytes")
    if code is not None and code != _SHORT_READ and code & 0xFF in _DISK_CODES:
        if code & 0xFF == 8 and _writable(path):  # a flipped bit in the header makes SQLite call the file read-only
            return DamagedError(f"{path}: {error}")
        return StoreError(f"spool {path}: {error}", cure="check that the disk is there and mounted writable (dmesg, mount); it is retried")
    return DamagedError(f"{path}: {error}")


def _writable(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError:
        return False
    return True


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """A connection that commits durably (WAL, synchronous FULL) and checkpoints only when told."""
    link = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        if create:
            link.execute(f"PRAGMA page_size={PAGE_BYTES}")
        mode = link.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.DatabaseError(f"journal mode is {mode}")
        for pragma in ("synchronous=FULL", "wal_autocheckpoint=0", "cache_size=-1024", "cell_size_check=ON", "mmap_size=0"):
            link.execute(f"PRAGMA {pragma}")
        if not create:
            _check_version(link, path)
    except BaseException:
        link.close()
        raise
    return link


def version_word(version: int) -> int:
    """How a version stands in the header of the file: in each of four bytes, so that flipped bits never make another version of it."""
    return version * 0x01010101


def _check_version(link: sqlite3.Connection, path: Path) -> None:
    """StoreError for the spool of a newer program."""
    word = link.execute("PRAGMA user_version").fetchone()[0]
    version = word & 0xFF
    if word != version_word(version):
        raise DamagedError(f"{path}: its version is damaged")
    if version > FILE_VERSION:
        raise StoreError(
            f"spool {path}: of version {version}, this program writes {FILE_VERSION}",
            cure="start the newer program that wrote it; rows it holds are owed to the platform, nothing of them was changed",
        )


def note_version(link: sqlite3.Connection) -> None:
    """Say in a spool of an older program that it is of this version now; one of before versions were noted says 0, and is of the first.

    Once what a kill left in its WAL is taken: it writes there itself.
    """
    if link.execute("PRAGMA user_version").fetchone()[0] != version_word(FILE_VERSION):
        with contextlib.suppress(sqlite3.OperationalError):  # a full disk: noted another time
            link.execute(f"PRAGMA user_version={version_word(FILE_VERSION)}")


def create(path: Path, epoch: int) -> sqlite3.Connection:
    """A new database of that epoch, durable before it returns."""
    link = connect(path, create=True)
    link.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version={version_word(FILE_VERSION)}; {_SCHEMA}")
    for table in ("identity_a", "identity_b", "identity_c"):
        link.execute(f"INSERT OR REPLACE INTO {table} VALUES (1, ?)", (encode_identity(epoch),))
    write_ledger(link, Ledger(epoch=epoch))
    link.execute("COMMIT")
    return link


def read_epoch(link: sqlite3.Connection) -> int | None:
    """The epoch from the first undamaged of its three places."""
    for table in ("identity_a", "identity_b", "identity_c"):
        for (body,) in link.execute(f"SELECT body FROM {table} WHERE id = 1"):
            epoch = decode_identity(body) if isinstance(body, bytes) else None
            if epoch is not None:
                return epoch
    return None


def write_ledger(link: sqlite3.Connection, ledger: Ledger) -> None:
    """Store `ledger` (inside the caller's transaction) over the older of the two."""
    link.execute(f"INSERT OR REPLACE INTO ledger_{ledger.serial & 1} VALUES (1, ?)", (encode_ledger(ledger),))


def read_ledger(link: sqlite3.Connection) -> Ledger | None:
    """The newer undamaged ledger."""
    found: list[Ledger] = []
    for table in ("ledger_0", "ledger_1"):
        for (body,) in link.execute(f"SELECT body FROM {table} WHERE id = 1"):
            ledger = decode_ledger(body) if isinstance(body, bytes) else None
            if ledger is not None:
                found.append(ledger)
    return max(found, key=lambda ledger: ledger.serial, default=None)


def disk_bytes(folder: Path) -> int:
    """Size of the disk `folder` lies on."""
    return shutil.disk_usage(folder).total


def side_file(path: Path, suffix: str) -> Path:
    """`spool.db` -> `spool.db<suffix>`."""
    return path.with_name(path.name + suffix)


class Lock:
    """One process a spool: an advisory lock on `<spool>-lock`, gone with the process."""

    def __init__(self, path: Path) -> None:
        """StoreError when another process holds it or the folder cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(side_file(path, "-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"spool {path}: {error}", cure="give the gateway a folder it may write, on a disk mounted writable") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise StoreError(
                f"spool {path} is in use by another process", cure="stop the other gateway, or give this one its own"
            ) from error

    def release(self) -> None:
        """Let another process open the spool."""
        os.close(self._fd)


class Reserve:
    """Disk space set aside in a file of its own, given back the moment the disk is full so that deletes and checkpoints have room."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = side_file(path, "-reserve")
        self._size = size
        self.held = False

    def hold(self) -> bool:
        """Take the space if the disk has twice as much; True when it is held."""
        if self.held:
            return True
        try:
            if not self._path.exists() and shutil.disk_usage(self._path.parent).free < 2 * self._size:
                return False
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, self._size)
            finally:
                os.close(fd)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        self.held = True
        return True

    def resize(self, size: int) -> None:
        """Hold another size from the next `hold` on."""
        if size != self._size:
            self.release()
            self._size = size

    def release(self) -> bool:
        """Give the space back; True when there was some."""
        if not self.held:
            return False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        self.held = False
        return True
