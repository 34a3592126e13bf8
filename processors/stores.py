"""The read side: what the page, the tools and the tests ask of the stores. Opens its own read-only connection; never blocks the runner."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from broker.events.envelope import decode_structured
from broker.events.folding import fold
from broker.nodeconfig import NodeState
from processors import live_kernel as k
from processors.boards import Board
from processors.live_wakes import CLOSE_AFTER_US
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
from processors.track_db import read_frames, read_tracks
from processors.tracks import Track

FOREVER_US: Final = 1 << 62


class ReadStore:
    """Queries over one state file."""

    def __init__(self, state: Path) -> None:
        self._db = connect(state, write=False)

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
        return read_tracks(self._db, subject, from_us, to_us)

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
        """Wakes asked for by late frames and not yet handled."""
        return self._db.execute("SELECT count(*) FROM wake WHERE name='rebuild'").fetchone()[0]

    def frames(self) -> Iterator[tuple[str, int, int, str, bytes]]:
        """Every counted frame that is still kept as a frame: (origin, boot, seq, subject, records). For exact comparisons with a truth."""
        for subject in self.subjects():
            for f in read_frames(self._db, subject):
                yield f.origin, f.frame.boot, f.frame.seq, subject, f.frame.records

    def counted(self, tenant: str) -> list[tuple[str, str, int]]:
        """(node, device, frames counted once) of a tenant."""
        query = "SELECT node, device, sum(frames) FROM numbering WHERE subject >= ? AND subject < ? GROUP BY node, device ORDER BY 1, 2"
        return self._db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchall()

    def missing(self, tenant: str) -> dict[str, int]:
        """Per device, sequence numbers below the highest that never came (a jump, or frames under way); none left out."""
        query = "SELECT device, sum(missing) FROM numbering WHERE subject >= ? AND subject < ? AND missing > 0 GROUP BY device"
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
    """One hash over efforts, finished activities, their lines and what the events fold to; whole once every activity is closed and finished."""
    store = ReadStore(state)
    digest = hashlib.blake2b(digest_size=16)
    try:
        for part in store.results():
            digest.update(part)
    finally:
        store.close()
    return digest.hexdigest()


class SnapshotView:
    """What the live page shows: stores joined with what the nodes say of themselves."""

    def __init__(
        self,
        state: Path,
        *,
        nodes: Callable[[], dict[tuple[str, str], NodeState]],
        latency: Callable[[], dict[str, float]],
        dead_letters: Callable[[], int],
    ) -> None:
        self._store = ReadStore(state)
        self._nodes = nodes
        self._latency = latency
        self._dead_letters = dead_letters

    def snapshot(self, tenant: str) -> dict[str, Any]:
        """See `processors.api.LiveView`."""
        now_us = time.time_ns() // 1000
        counters = self._store.counters()
        return {
            "tenant": tenant,
            "t_us": now_us,
            "athletes": self._athletes(tenant, now_us),
            "devices": self._devices(tenant),
            "nodes": [
                {"node": node, "online": s.online, "spool_rows": s.spool_rows, "hours_left": s.hours_left}
                for (of, node), s in sorted(self._nodes().items())
                if of == tenant
            ],
            "dead_letters": self._dead_letters(),
            "board_changes": counters.get("board_changes", 0),
            "activities": self._store.count_activities(tenant),
            "frames_stored": counters.get("frames", 0),
            "samples": counters.get("samples", 0),
            "latency_ms": self._latency(),
        }

    def _athletes(self, tenant: str, now_us: int) -> list[dict[str, Any]]:
        live = [
            (key, row) for key, row in self._store.rows(tenant) if row[k.START] != k.NEVER and row[k.APPENDED] > now_us - CLOSE_AFTER_US
        ]
        live.sort(key=lambda item: (-int(item[1][k.DIST_UM]), item[0]))
        made: list[dict[str, Any]] = []
        for i, (key, row) in enumerate(live):
            tied = i > 0 and live[i - 1][1][k.DIST_UM] == row[k.DIST_UM]
            made.append(athlete_json(key, row, made[-1]["rank"] if tied else i + 1))
        return made

    def _devices(self, tenant: str) -> list[dict[str, Any]]:
        counted: dict[str, int] = {}
        for _, device, frames in self._store.counted(tenant):
            counted[device] = counted.get(device, 0) + frames
        missing = self._store.missing(tenant)
        said: dict[str, tuple[str, int, int]] = {}
        for (of, node), state in self._nodes().items():
            if of == tenant:
                for d in state.devices:
                    said[d.device] = (node, d.taken, d.refused)
        return [
            {
                "node": said.get(device, ("", 0, 0))[0],
                "device": device,
                "sent": said[device][1] if device in said else counted[device],
                "stored": counted.get(device, 0),
                "refused": said.get(device, ("", 0, 0))[2],
                "missing": missing.get(device, 0),
            }
            for device in sorted(counted.keys() | said.keys())
        ]


def athlete_json(key: str, row: k.I64, rank: int) -> dict[str, Any]:
    """One line of the live table."""
    r = row.tolist()
    located = r[k.LAT] != k.NO_POS
    return {
        "subject": key,
        "name": key.partition("/")[2],
        "rank": rank,
        "hr_bpm": r[k.HR] if r[k.HR] > 0 and r[k.LAST_T] - r[k.HR_T] <= k.HOLD_US else None,
        "speed_mps": r[k.SPEED] / 100 if r[k.SPEED] >= 0 else None,
        "distance_m": r[k.DIST_UM] / 1e6,
        "points": r[k.POINTS] / 60e6,
        "lat": r[k.LAT] / 1e7 if located else None,
        "lon": r[k.LON] / 1e7 if located else None,
        "status": "paused" if r[k.PAUSED] else "live",
        "t_us": r[k.LAST_T],
    }
