"""The read side: what the page, the tools and the tests ask of the stores. Opens its own read-only connection; never blocks the runner."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from broker.events.envelope import decode_structured
from broker.events.folding import fold
from processors import live_kernel as k
from processors.boards import Board
from processors.results_db import (
    efforts_of_segment,
    encode_final_track,
    encode_summary,
    events,
    final_track,
    finals,
    segments_with_efforts,
)
from processors.stage import Activity
from processors.state_db import ACTIVITY_COLUMNS, activity_from, board_entries, connect
from processors.track_blobs import TrackBlobs
from processors.track_db import read_frames, read_tracks
from processors.tracks import Track

FOREVER_US: Final = 1 << 62


class ReadStore:
    """Queries over one state file."""

    def __init__(self, state: Path, blobs: TrackBlobs | None = None) -> None:
        """`blobs`: where folded tracks are kept; None: in the state file."""
        self._db = connect(state, write=False)
        self._blobs = blobs

    def close(self) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """The read-only connection, for the queries of `processors.results_db`."""
        return self._db

    def stamp(self) -> int:
        """Another number once somebody has committed; a few microseconds."""
        return self._db.execute("PRAGMA data_version").fetchone()[0]

    def subjects(self) -> list[str]:
        """Everybody with a counted frame."""
        query = "SELECT DISTINCT subject FROM numbering UNION SELECT DISTINCT subject FROM activity ORDER BY 1"
        return [row[0] for row in self._db.execute(query)]

    def tracks(self, subject: str, from_us: int = -FOREVER_US, to_us: int = FOREVER_US) -> dict[int, Track]:
        """Canonical tracks by layout id of a subject between two times (both included)."""
        return read_tracks(self._db, subject, from_us, to_us, blobs=self._blobs)

    def activities(self, subject: str | None = None) -> list[Activity]:
        """Activities of a subject (None: of all), by subject and start."""
        where = "" if subject is None else "WHERE subject=?"
        query = f"SELECT {ACTIVITY_COLUMNS} FROM activity {where} ORDER BY subject, start_us"
        return [activity_from(row) for row in self._db.execute(query, () if subject is None else (subject,))]

    def board(self, name: str) -> Board:
        """A board with all its entries."""
        board = Board()
        for entry in board_entries(self._db, name):
            board.apply(entry)
        return board

    def boards(self) -> list[str]:
        """The names of all boards."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT board FROM board ORDER BY board")]

    def counters(self) -> dict[str, int]:
        """Totals since the state began: frames, samples, repeats, board_changes, ..."""
        return dict(self._db.execute("SELECT name, value FROM counter").fetchall())

    def count_activities(self, tenant: str) -> int:
        """How many activities a tenant has."""
        query = "SELECT count(*) FROM activity WHERE subject >= ? AND subject < ?"
        return self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchone()[0]

    def count_samples(self, tenant: str) -> int:
        """How many samples the activities of a tenant hold."""
        query = "SELECT coalesce(sum(samples), 0) FROM activity WHERE subject >= ? AND subject < ?"
        return self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchone()[0]

    def position(self) -> int:
        """The last log position whose effect is here."""
        return self._db.execute("SELECT coalesce(max(pos), 0) FROM position").fetchone()[0]

    def pending(self) -> int:
        """Wakes asked for by late frames and by activities to be finished, and not yet handled."""
        query = "SELECT count(*) FROM wake WHERE name='rebuild' OR name LIKE 'rebuild:%' OR name LIKE 'finish:%'"
        return self._db.execute(query).fetchone()[0]

    def frames(self) -> Iterator[tuple[str, int, int, str, bytes]]:
        """Every counted frame that is still kept as a frame: (origin, boot, seq, subject, records). For exact comparisons with a truth."""
        for subject in self.subjects():
            for f in read_frames(self._db, subject):
                yield f.origin, f.frame.boot, f.frame.seq, subject, f.frame.records

    def counted(self, tenant: str) -> list[tuple[str, str, int]]:
        """(node, device, frames counted once) of a tenant."""
        query = "SELECT node, device, sum(frames) FROM numbering WHERE subject >= ? AND subject < ? GROUP BY node, device ORDER BY 1, 2"
        return self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchall()

    def origins(self, tenant: str) -> list[str]:
        """Whose samples of a tenant were ever counted."""
        query = "SELECT DISTINCT origin FROM numbering WHERE origin >= ? AND origin < ? ORDER BY origin"
        return [origin for (origin,) in self._db.execute(query, (f"{tenant}/", f"{tenant}0"))]

    def missing(self, tenant: str) -> dict[str, int]:
        """Per device, sequence numbers below the highest that never came (a jump, or frames under way); none left out."""
        query = "SELECT device, sum(missing) FROM numbering WHERE subject >= ? AND subject < ? AND missing > 0 GROUP BY device"
        return dict(self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchall())

    def row(self, subject: str) -> k.I64 | None:
        """The live state row of a subject."""
        found = self._db.execute("SELECT row FROM state WHERE stage='live' AND key=?", (subject,)).fetchone()
        return np.frombuffer(found[0], np.int64) if found else None

    def athletes_of(self, tenant: str) -> list[str]:
        """The subjects of a tenant that frames came for, without devices nobody knows."""
        query = "SELECT DISTINCT subject FROM numbering WHERE subject >= ? AND subject < ? AND subject NOT LIKE '%/@%'"
        return [row[0] for row in self._db.execute(query, (f"{tenant}/", f"{tenant}0"))]

    def was_seen(self, subject: str) -> bool:
        """Whether a frame came for a subject, or an activity is its."""
        query = "SELECT EXISTS(SELECT 1 FROM numbering WHERE subject=?1) OR EXISTS(SELECT 1 FROM final WHERE subject=?1)"
        return bool(self._db.execute(query, (subject,)).fetchone()[0])

    def stamped(self, tenant: str) -> dict[str, str]:
        """Per device the subject its frames came for, left out where they came for several or for nobody known."""
        query = (
            "SELECT device, min(subject) FROM numbering WHERE subject >= ? AND subject < ? "
            "GROUP BY device HAVING min(subject) = max(subject) AND min(subject) NOT LIKE '%/@%'"
        )
        return dict(self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchall())

    def rows(self, tenant: str) -> list[tuple[str, k.I64]]:
        """The live state row of every subject of a tenant."""
        query = "SELECT key, row FROM state WHERE stage='live' AND key >= ? AND key < ?"
        return [(key, np.frombuffer(row, np.int64)) for key, row in self._db.execute(query, (f"{tenant}/", f"{tenant}0"))]

    def results(self) -> Iterator[bytes]:
        """Everything of efforts, finished activities and folded events that must not depend on how frames came, as bytes in order."""
        for tenant, segment in segments_with_efforts(self._db):
            for effort in sorted(efforts_of_segment(self._db, tenant, segment), key=lambda e: e.id):
                if not effort.removed:
                    yield repr(replace(effort, version=0)).encode()
        for row in sorted(finals(self._db), key=lambda row: row.summary.id):
            yield encode_summary(row.summary)
            line = final_track(self._db, row.summary.id)
            yield b"" if line is None else encode_final_track(line)
        told = fold(decode_structured(row.body, f"event {row.seq}") for row in events(self._db, limit=1 << 40))
        yield repr(sorted(told.items())).encode()


def fingerprint(state: Path, *, versions: bool = False) -> str:
    """One hash over all tracks, activities and boards. `versions` adds the log positions they were computed at."""
    store = ReadStore(state)
    digest = hashlib.blake2b(digest_size=16)
    try:
        for subject in store.subjects():
            digest.update(subject.encode())
            for track in store.tracks(subject).values():
                digest.update(track.fingerprint())
        for a in store.activities():
            digest.update(
                repr((a.subject, a.start_us, a.end_us, a.distance_um, a.points, a.moving_us, a.samples, a.hr_sum, a.hr_max)).encode()
            )
            if versions:
                digest.update(repr((a.version, a.closed)).encode())
        for name in store.boards():
            for line in store.board(name).standings():
                digest.update(repr(line).encode())
    finally:
        store.close()
    return digest.hexdigest()


def results_fingerprint(state: Path) -> str:
    """One hash over efforts, finished activities, their lines and what the events fold to; whole once all activities are finished."""
    store = ReadStore(state)
    digest = hashlib.blake2b(digest_size=16)
    try:
        for part in store.results():
            digest.update(part)
    finally:
        store.close()
    return digest.hexdigest()
