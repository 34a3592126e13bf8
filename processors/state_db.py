"""The embedded store: state, numberings, tracks, activities, boards, wakes and positions in one SQLite file, committed together.

Derived data: everything here can be made again from the log, so `synchronous=NORMAL` is enough (after a power cut the last commits are
replayed). One writer; readers open their own connection.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from broker.errors import StoreError
from broker.reference import SegmentRef, decode_reference
from processors.live_kernel import COLUMNS, GAP_US, HOLD_US, START
from processors.live_row import box_of
from processors.live_state import LiveStates, Numbering
from processors.ranges import RangeSet
from processors.reference_data import ReferenceData
from processors.results_db import SCHEMA as RESULTS_SCHEMA
from processors.results_db import attempts_of, box_around, boxes_meet, put_attempts, touched_by_segment
from processors.stage import Activity, Inputs, Mutation, Numbered, Outputs, Wants
from processors.track_blobs import RowBlobs, TrackBlobs, blob_of
from processors.track_db import decode_layout, held_of, pack, raw_frames, raw_rows, read_tracks, uploads_in
from processors.tracks import decode_track, split_at_gaps, tracks_of

_log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 4
NEAR_US: Final = GAP_US + HOLD_US  # activities this near to one another are worked on together: samples between them may join them
MOST_MISSING: Final = 1 << 48  # a jump of seq can leave a gap beyond SQLite's integers
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE position (stage TEXT PRIMARY KEY, pos INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (stage TEXT, key TEXT, row BLOB NOT NULL, PRIMARY KEY (stage, key)) WITHOUT ROWID;
CREATE TABLE numbering (
    subject TEXT, origin TEXT, boot TEXT, node TEXT, device TEXT, frames INTEGER, missing INTEGER, ranges BLOB,
    date_seq TEXT, date_offset_us INTEGER, undated_from_us INTEGER, undated_to_us INTEGER,
    PRIMARY KEY (subject, origin, boot)) WITHOUT ROWID;
CREATE INDEX numbering_by_origin ON numbering (origin, subject);
CREATE TABLE raw (id INTEGER PRIMARY KEY, subject TEXT, node TEXT, first_us INTEGER, last_us INTEGER, frames INTEGER, body BLOB);
CREATE INDEX raw_by_time ON raw (subject, first_us);
CREATE TABLE undated (id INTEGER PRIMARY KEY, subject TEXT, node TEXT, body BLOB);
CREATE INDEX undated_by_subject ON undated (subject);
CREATE TABLE track (subject TEXT, layout INTEGER, first_us INTEGER, last_us INTEGER, samples INTEGER, blob BLOB,
    PRIMARY KEY (subject, layout, first_us));
CREATE TABLE activity (
    subject TEXT, start_us INTEGER, anchor_us INTEGER, end_us INTEGER, distance_um INTEGER, points INTEGER, moving_us INTEGER,
    samples INTEGER,
    hr_sum INTEGER, hr_n INTEGER, hr_max INTEGER, closed INTEGER, version INTEGER, PRIMARY KEY (subject, start_us)) WITHOUT ROWID;
CREATE TABLE board (
    board TEXT, subject TEXT, activity_us INTEGER, version INTEGER, distance_um INTEGER, points INTEGER, removed INTEGER,
    PRIMARY KEY (board, subject, activity_us)) WITHOUT ROWID;
CREATE TABLE wake (key TEXT, name TEXT, at_us INTEGER, PRIMARY KEY (key, name)) WITHOUT ROWID;
CREATE INDEX wake_by_time ON wake (at_us);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


_BY_ARRIVAL: Final = re.compile(r"(CREATE TABLE (?:state|numbering|activity|board|attempts) [^;]*) WITHOUT ROWID;")


def connect(path: Path, *, write: bool, by_arrival: bool = False) -> sqlite3.Connection:
    """A connection to the store; StoreError names the file when it is missing, of another version or not a database.

    `by_arrival`: a new file keeps what is written of subjects again and again in the order they first came in, so that those who come
    together lie together; else in the order of their keys, as who looks one up wants it. Who reads asks the same of both.
    """
    try:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        place = str(path) if write else f"file:{path}?mode=ro"
        db = sqlite3.connect(place, uri=not write, isolation_level=None, check_same_thread=False, timeout=30)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    try:
        _prepare(db, path, write=write, by_arrival=by_arrival)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise _unusable(path, error) from error
        raise
    return db


def set_aside(path: Path) -> None:
    """Rename a state that an older program wrote (`state.db` to `state.db.2` of version 2): a new one is made from the whole log."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            version: int = db.execute("PRAGMA user_version").fetchone()[0]
            if not 0 < version < SCHEMA_VERSION:
                return
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    _log.warning("%s is of version %d, this program writes %d: made again from the log", path, version, SCHEMA_VERSION)
    path.replace(path.with_name(f"{path.name}.{version}"))
    for left in ("-wal", "-shm"):
        path.with_name(path.name + left).unlink(missing_ok=True)


def older_states(path: Path) -> list[Path]:
    """What `set_aside` left of states that older programs wrote."""
    return [one for one in path.parent.glob(f"{path.name}.*") if one.name.removeprefix(f"{path.name}.").isdecimal()]


def state_id(db: sqlite3.Connection) -> int:
    """The random id of a state file; 0 of one that was made before there were any."""
    return db.execute("PRAGMA application_id").fetchone()[0]


def _unusable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path}: {error}", cure="check path and disk; paceline replay makes it again from the log")


def _prepare(db: sqlite3.Connection, path: Path, *, write: bool, by_arrival: bool) -> None:
    """Set the mode, make a new file's tables, refuse another version."""
    if write:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute("PRAGMA secure_delete=ON")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0 and write:
        schema = f"{_SCHEMA} {RESULTS_SCHEMA}"
        if by_arrival:
            schema = _BY_ARRIVAL.sub(r"\1;", schema)
        db.executescript(
            f"BEGIN; {schema} PRAGMA user_version={SCHEMA_VERSION};PRAGMA application_id={1 + secrets.randbelow((1 << 31) - 1)}; COMMIT;"
        )
    elif version != SCHEMA_VERSION:
        raise StoreError(f"{path}: state of version {version}, this program writes {SCHEMA_VERSION}", cure="paceline replay makes it again")


class StateDb:
    """The writing side, used by one runner."""

    def __init__(self, path: Path, blobs: TrackBlobs | None = None, *, by_arrival: bool = False) -> None:
        """`blobs`: where folded tracks are kept; None: in the file. `by_arrival`: see `connect`."""
        set_aside(path)
        self.db = connect(path, write=True, by_arrival=by_arrival)
        self.blobs = RowBlobs(self.db) if blobs is None else blobs

    def close(self) -> None:
        self.db.close()

    def position(self, stage: str) -> int:
        """The last log position whose effect is committed."""
        row = self.db.execute("SELECT pos FROM position WHERE stage=?", (stage,)).fetchone()
        return row[0] if row else 0

    def load(self, stage: str, states: LiveStates, wants: Wants) -> None:
        """Put the rows and numberings a stage wants into `states`."""
        for key in wants.keys:
            if not states.has(key):
                found = self.db.execute("SELECT row FROM state WHERE stage=? AND key=?", (stage, key)).fetchone()
                if found:
                    states.put(key, found[0], attempts_of(self.db, key))
        for of in wants.numbered:
            if of not in states.numberings:
                numbering = self._numbering(of)
                if numbering is not None:
                    states.numberings[of] = numbering

    def _numbering(self, of: Numbered) -> Numbering | None:
        row = self.db.execute(
            "SELECT node, device, ranges, date_seq, date_offset_us, undated_from_us, undated_to_us FROM numbering "
            "WHERE subject=? AND origin=? AND boot=?",
            (of.key, of.origin, f"{of.boot:016x}"),
        ).fetchone()
        if row is None:
            return None
        date_seq = None if row[3] is None else int(row[3])
        return Numbering(row[0], row[1], RangeSet.decode(row[2]), date_seq, row[4], row[5], row[6])

    def inputs(self, wants: Wants, reference: ReferenceData) -> Inputs:
        """What a stage must look up: tracks and activities of a window (it grows to whole activities), whom a change touches."""
        if wants.origins:
            return Inputs(held=[held for origin in wants.origins for held in held_of(self.db, origin, self.blobs)])
        if wants.history:
            return Inputs(activities=self.activities(wants.history))
        if wants.segment is not None:
            return Inputs(touched=self._touched(*wants.segment))
        if wants.window is None:
            return Inputs()
        window = wants.window
        lo, hi = window.from_us, window.to_us
        while True:
            found = self.db.execute(
                f"SELECT {ACTIVITY_COLUMNS} FROM activity WHERE subject=? AND start_us<=? AND end_us>=? ORDER BY start_us",
                (window.key, hi + NEAR_US, lo - NEAR_US),
            ).fetchall()
            activities = [activity_from(row) for row in found]
            new_lo, new_hi = min([lo, *(a.start_us for a in activities)]), max([hi, *(a.end_us for a in activities)])
            if (new_lo, new_hi) == (lo, hi):
                hi += HOLD_US  # samples passed over while another source counted may count once late ones change that
                tracks = read_tracks(self.db, window.key, lo, hi, reference, self.blobs)
                before = self._before(window.key, lo)
                return Inputs(tracks, activities, self._raw_count(window.key, lo, hi), before, uploads=uploads_in(self.db, tracks))
            lo, hi = new_lo, new_hi

    def _before(self, subject: str, t_us: int) -> Activity | None:
        """The last activity of a subject that began before a time."""
        query = f"SELECT {ACTIVITY_COLUMNS} FROM activity WHERE subject=? AND start_us<? ORDER BY start_us DESC LIMIT 1"
        row = self.db.execute(query, (subject, t_us)).fetchone()
        return activity_from(row) if row else None

    def _touched(self, tenant: str, segment: str) -> list[tuple[str, int, bool]]:
        """(subject, start, closed) of activities that have an effort on a segment or that its box meets, finished or under way."""
        row = self.db.execute("SELECT body FROM reference WHERE entity='segment' AND tenant=? AND id=?", (tenant, segment)).fetchone()
        value = decode_reference(row[0]) if row else None
        box = None
        if isinstance(value, SegmentRef) and value.points and not value.removed:
            box = box_around(value.points)
        found = {(subject, start_us, True) for subject, start_us in touched_by_segment(self.db, tenant, segment, box)}
        found.update((subject, start_us, False) for subject, start_us in self._under_way(tenant, segment, box))
        return sorted(found)

    def _under_way(self, tenant: str, segment: str, box: tuple[int, int, int, int] | None) -> list[tuple[str, int]]:
        """The same of activities under way."""
        query = "SELECT DISTINCT subject FROM effort WHERE tenant=? AND segment=? AND removed=0"
        timed = {subject for (subject,) in self.db.execute(query, (tenant, segment))}
        found: list[tuple[str, int]] = []
        query = (
            "SELECT a.subject, a.start_us, s.row FROM activity a JOIN state s ON s.stage='live' AND s.key=a.subject "
            "WHERE a.closed=0 AND a.subject >= ? AND a.subject < ?"
        )
        for subject, start_us, raw in self.db.execute(query, (f"{tenant}/", f"{tenant}0")):
            row = np.frombuffer(raw, np.int64)
            if subject in timed or (box is not None and row[START] == start_us and boxes_meet(box, box_of(row))):
                found.append((subject, start_us))
        return found

    def _raw_count(self, subject: str, lo: int, hi: int) -> int:
        query = "SELECT coalesce(sum(frames), 0) FROM raw WHERE subject=? AND first_us<=? AND last_us>=?"
        return self.db.execute(query, (subject, hi, lo)).fetchone()[0]

    def sink(self, outputs: Outputs) -> None:
        """Write the outputs of a step (inside the runner's transaction)."""
        self._raw(outputs)
        many = self.db.executemany
        if outputs.removed:
            many("DELETE FROM activity WHERE subject=? AND start_us=?", [(a.subject, a.start_us) for a in outputs.removed])
        if outputs.activities:
            many(upsert("activity", 2, ACTIVITY_COLUMNS), [_activity_row(a) for a in outputs.activities])
        if outputs.wakes:
            many("INSERT OR REPLACE INTO wake VALUES (?,?,?)", [(w.key, w.name, w.at_us) for w in outputs.wakes])

    def _raw(self, outputs: Outputs) -> None:
        rows = raw_rows(outputs.taken)
        if rows:
            self.db.executemany("INSERT INTO raw (subject, node, first_us, last_us, frames, body) VALUES (?,?,?,?,?,?)", rows)
        if outputs.undated:
            self.db.executemany(
                "INSERT INTO undated (subject, node, body) VALUES (?,?,?)", [(key, f.node, pack([f])) for key, f in outputs.undated]
            )

    def compact(self, key: str) -> None:
        """Fold the raw rows stored under a key into blobs, one per activity and layout."""
        found = self.db.execute("SELECT min(first_us), max(last_us), max(id) FROM raw WHERE subject=?", (key,)).fetchone()
        if found[0] is None:
            return
        lo, hi, last_id = found[0] - GAP_US, found[1] + GAP_US, found[2]
        taken = list(raw_frames(self.db, key, lo, hi))
        if any(track is None for track in (decode_layout(f) for f in taken)):
            return  # a layout not known here stays as frames until it is
        old = self.blobs.stored(key, lo, hi)
        merged = tracks_of(taken, [decode_track(found.body, f"track of {key}") for found in old])
        self.blobs.replace(key, old, [blob_of(part) for track in merged.values() for part in split_at_gaps(track, GAP_US)])
        self.db.execute("DELETE FROM raw WHERE subject=? AND id<=?", (key, last_id))

    def boards(self, mutations: Sequence[Mutation]) -> None:
        """Persist board entries as they are now."""
        self.db.executemany(
            "INSERT INTO board VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET version=excluded.version, "
            "distance_um=excluded.distance_um, points=excluded.points, removed=excluded.removed WHERE excluded.version > version",
            [(m.board, m.subject, m.activity_us, m.version, m.distance_um, m.points, int(m.removed)) for m in mutations],
        )

    def board(self, board: str) -> Iterator[Mutation]:
        """All entries of a board, tombstones too."""
        return board_entries(self.db, board)

    def activities(self, subject: str) -> list[Activity]:
        """The activities of a subject, by start."""
        query = f"SELECT {ACTIVITY_COLUMNS} FROM activity WHERE subject=? ORDER BY start_us"
        return [activity_from(row) for row in self.db.execute(query, (subject,))]

    def raw_frames(self) -> int:
        """Frames not yet folded into track blobs."""
        return self.db.execute("SELECT coalesce(sum(frames), 0) FROM raw").fetchone()[0]

    def save(self, stage: str, states: LiveStates, position: int, counts: Iterable[tuple[str, int]]) -> None:
        """Write changed state, the position and counters (inside the runner's transaction)."""
        self.save_rows(stage, states)
        put_attempts(self.db, ((key, states.matchings[key].encode()) for key in sorted(states.matched)))
        self.save_numberings(states)
        self.db.execute("INSERT OR REPLACE INTO position VALUES (?,?)", (stage, position))
        self.db.executemany(
            "INSERT INTO counter VALUES (?,?) ON CONFLICT DO UPDATE SET value = value + excluded.value", [c for c in counts if c[1]]
        )

    def save_rows(self, stage: str, states: LiveStates) -> None:
        """Write changed rows: whom a change of a segment touches is looked up in them, so also before that."""
        rows: list[tuple[str, str, bytes]] = []
        for key in states.changed:
            stored = states.stored(key)
            if stored is not None:
                rows.append((stage, key, stored))
        self.db.executemany(upsert("state", 2, "stage, key, row"), rows)
        states.changed.clear()

    def save_numberings(self, states: LiveStates) -> None:
        """Write changed numberings: reading undated frames needs their dates, so also before a window is read."""
        self.db.executemany(
            upsert("numbering", 3, NUMBERING_COLUMNS),
            [_numbering_row(of, states.numberings[of]) for of in states.counted],
        )
        states.counted.clear()

    def pending_wakes(self, name: str) -> int:
        """How many wakes of a name are asked for."""
        return self.db.execute("SELECT count(*) FROM wake WHERE name=?", (name,)).fetchone()[0]

    def due_wakes(self, now_us: int, limit: int = 1000) -> list[tuple[str, str]]:
        """Keys and names of wakes whose time has come."""
        return self.db.execute("SELECT key, name FROM wake WHERE at_us<=? ORDER BY at_us LIMIT ?", (now_us, limit)).fetchall()

    def drop_wakes(self, due: Sequence[tuple[str, str]], now_us: int) -> None:
        """Forget wakes that are in the log now (unless they were asked for again): once they are, and, for a state that is made again from
        the log, when they are read there."""
        self.db.executemany("DELETE FROM wake WHERE key=? AND name=? AND at_us<=?", [(key, name, now_us) for key, name in due])


ACTIVITY_COLUMNS: Final = (
    "subject, start_us, anchor_us, end_us, distance_um, points, moving_us, samples, hr_sum, hr_n, hr_max, closed, version"
)


NUMBERING_COLUMNS: Final = (
    "subject, origin, boot, node, device, frames, missing, ranges, date_seq, date_offset_us, undated_from_us, undated_to_us"
)


@cache
def upsert(table: str, keys: int, columns: str) -> str:
    """Insert a row or overwrite the one with the same first `keys` columns in place (REPLACE would delete and insert)."""
    names = columns.split(", ")
    changed = ", ".join(f"{name}=excluded.{name}" for name in names[keys:])
    return f"INSERT INTO {table} ({columns}) VALUES ({','.join('?' * len(names))}) ON CONFLICT DO UPDATE SET {changed}"


def activity_from(row: tuple[Any, ...]) -> Activity:
    """The activity in a row of the columns `ACTIVITY_COLUMNS`."""
    subject, start, anchor, end, distance, points, moving, samples, hr_sum, hr_n, hr_max, closed, version = row
    return Activity(subject, start, anchor, end, distance, points, moving, samples, hr_sum, hr_n, hr_max, bool(closed), version)


def _activity_row(a: Activity) -> tuple[str | int, ...]:
    return (
        a.subject, a.start_us, a.anchor_us, a.end_us, a.distance_um, a.points, a.moving_us, a.samples, a.hr_sum, a.hr_n, a.hr_max,
        int(a.closed), a.version,
    )  # fmt: skip


def _numbering_row(of: Numbered, n: Numbering) -> tuple[str | int | bytes | None, ...]:
    return (
        of.key, of.origin, f"{of.boot:016x}", n.node, n.device, len(n.ranges), min(n.ranges.holes, MOST_MISSING), n.ranges.encode(),
        None if n.date_seq is None else str(n.date_seq), n.date_offset_us, n.undated_from_us, n.undated_to_us,
    )  # fmt: skip


def board_entries(db: sqlite3.Connection, board: str) -> Iterator[Mutation]:
    """All stored entries of a board, tombstones too."""
    for row in db.execute("SELECT * FROM board WHERE board=?", (board,)):
        name, subject, activity_us, version, distance_um, points, removed = row
        yield Mutation(name, subject, activity_us, version, distance_um, points, bool(removed))


assert COLUMNS * 8 <= 1024, "a state row is at most 1 KB"
