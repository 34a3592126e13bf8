"""Efforts, finished activities, matcher states, reference data and the outbox as rows of the state file.

Functions over a connection: the runner writes inside its transaction, readers bring their own read-only connection. Removed efforts stay as
tombstones with their version, so that a reader can follow a board by versions.
"""

from __future__ import annotations

import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import msgpack

from broker.errors import StoreError
from broker.reference import Reference, UploadRef, decode_reference, encode_reference
from processors.awards import Awarded
from processors.results import Counted, Effort, FinalTrack, Lap, Phase, Summary, activity_id

SCHEMA: Final = """
CREATE TABLE reference (entity TEXT, tenant TEXT, id TEXT, body BLOB NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (entity, tenant, id)) WITHOUT ROWID;
CREATE INDEX reference_by_version ON reference (tenant, version);
CREATE TABLE attempts (subject TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE effort (
    id TEXT PRIMARY KEY, tenant TEXT, segment TEXT, subject TEXT, activity TEXT, ordinal INTEGER, start_us INTEGER,
    elapsed_ms INTEGER, phase INTEGER, accuracy_ms INTEGER, hr_avg_bpm INTEGER, power_avg_w INTEGER, curve BLOB,
    version INTEGER, removed INTEGER, doubts TEXT, plausibility_pct INTEGER, kept_off INTEGER,
    ruling TEXT, stands INTEGER) WITHOUT ROWID;
CREATE INDEX effort_by_board ON effort (tenant, segment, version);
CREATE INDEX effort_by_activity ON effort (activity);
CREATE TABLE award (subject TEXT, effort TEXT, tenant TEXT, segment TEXT, kinds TEXT, PRIMARY KEY (effort, subject)) WITHOUT ROWID;
CREATE INDEX effort_standing ON effort (tenant, segment, subject, elapsed_ms) WHERE removed=0;
CREATE TABLE final (
    id TEXT PRIMARY KEY, subject TEXT, live_start_us INTEGER, start_us INTEGER, end_us INTEGER,
    south INTEGER, west INTEGER, north INTEGER, east INTEGER, version INTEGER, body BLOB) WITHOUT ROWID;
CREATE INDEX final_by_subject ON final (subject, start_us);
CREATE TABLE final_track (id TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE outbox (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, type TEXT, topic TEXT, key TEXT, tenant TEXT, time_us INTEGER, body BLOB);
CREATE INDEX outbox_by_tenant ON outbox (tenant, seq);
"""
_EFFORT: Final = (
    "id, tenant, segment, subject, activity, ordinal, start_us, elapsed_ms, phase, accuracy_ms, hr_avg_bpm, power_avg_w, "
    "curve, version, removed, doubts, plausibility_pct, kept_off, ruling"
)
_BARE: Final = _EFFORT.replace("curve", "x''")
_NEAR: Final = 20_000  # in 1e-7 degrees: activities this near to a changed segment are matched again
_TURN: Final = 3_600_000_000
_LAST_NUMBER: Final = (1 << 63) - 1  # of SQLite
Box = tuple[int, int, int, int]


class FinalRow(NamedTuple):
    """A finished activity and what it was computed from. `live_start_us` names the live activity."""

    summary: Summary
    live_start_us: int
    version: int


class OutboxRow(NamedTuple):
    """An event that is owed to other domains; `seq` counts from 1 in the order of commits."""

    seq: int
    id: str
    type: str
    topic: str
    key: str
    tenant: str
    time_us: int
    body: bytes


# reference


def put_reference(db: sqlite3.Connection, value: Reference, version: int) -> None:
    """Store the last value of an entity."""
    db.execute(
        "INSERT OR REPLACE INTO reference VALUES (?,?,?,?,?)", (value.entity, value.tenant, value.id, encode_reference(value), version)
    )


def references(db: sqlite3.Connection, tenant: str | None = None, entity: str | None = None) -> Iterator[tuple[Reference, int]]:
    """The last values (removed ones too) with their versions, by entity, tenant and id."""
    where = [(column, value) for column, value in (("tenant", tenant), ("entity", entity)) if value is not None]
    clause = f"WHERE {' AND '.join(f'{column}=?' for column, _ in where)}" if where else ""
    for kind, of, name, body, version in db.execute(
        f"SELECT entity, tenant, id, body, version FROM reference {clause} ORDER BY entity, tenant, id", [v for _, v in where]
    ):
        yield decode_reference(body, f"stored {kind} {of}/{name}"), version


def upload(db: sqlite3.Connection, tenant: str, upload_id: str) -> UploadRef | None:
    """What is stored of an uploaded file, removed or not."""
    row = db.execute("SELECT body FROM reference WHERE entity='upload' AND tenant=? AND id=?", (tenant, upload_id)).fetchone()
    value = decode_reference(row[0], f"stored upload {tenant}/{upload_id}") if row else None
    return value if isinstance(value, UploadRef) else None


# matcher states


def put_attempts(db: sqlite3.Connection, changed: Iterable[tuple[str, bytes]]) -> None:
    """Store the matcher states of subjects; an empty one is forgotten."""
    for subject, body in changed:
        if body:
            db.execute("INSERT OR REPLACE INTO attempts VALUES (?,?)", (subject, body))
        else:
            db.execute("DELETE FROM attempts WHERE subject=?", (subject,))


def attempts_of(db: sqlite3.Connection, subject: str) -> bytes:
    """The stored matcher state of a subject, empty when there is none."""
    row = db.execute("SELECT body FROM attempts WHERE subject=?", (subject,)).fetchone()
    return row[0] if row else b""


def attempts_of_tenant(db: sqlite3.Connection, tenant: str) -> Iterator[tuple[str, bytes]]:
    """The matcher states of everybody of a tenant who has one."""
    yield from db.execute("SELECT subject, body FROM attempts WHERE subject >= ? AND subject < ?", (f"{tenant}/", f"{tenant}0"))


# efforts


def put_effort(db: sqlite3.Connection, e: Effort) -> None:
    """Store an effort as it is now."""
    db.execute(f"INSERT OR REPLACE INTO effort ({_EFFORT}, stands) VALUES ({','.join('?' * 20)})", effort_row(e))


def effort_row(e: Effort) -> tuple[Any, ...]:
    """The row of an effort, in the order of the columns of its table."""
    return (
        e.id, e.tenant, e.segment, e.subject, e.activity, e.ordinal, e.start_us, e.elapsed_ms, int(e.phase), e.accuracy_ms, e.hr_avg_bpm,
        e.power_avg_w, array("i", e.curve_ms).tobytes(), e.version, int(e.removed), ",".join(e.doubts), e.plausibility_pct,
        int(e.kept_off), e.ruling, int(e.stands),
    )  # fmt: skip


def effort_of(row: Sequence[Any]) -> Effort:
    """The effort in such a row, with or without the last column."""
    name, tenant, segment, subject, activity, ordinal, start_us, elapsed_ms, phase, accuracy_ms, hr_bpm, power_w, raw, *state = row
    version, removed, doubts, plausibility_pct, kept_off, ruling = state[:6]
    curve = array("i")
    curve.frombytes(raw)
    return Effort(
        name, tenant, segment, subject, activity, ordinal, start_us, elapsed_ms, Phase(phase), accuracy_ms, hr_bpm, power_w, tuple(curve),
        version, bool(removed), tuple(doubts.split(",")) if doubts else (), plausibility_pct, bool(kept_off), ruling,
    )  # fmt: skip


def effort(db: sqlite3.Connection, effort_id: str, *, curve: bool = True) -> Effort | None:
    """One effort, removed or not (without its curve, when nobody is compared with it)."""
    row = db.execute(f"SELECT {_EFFORT if curve else _BARE} FROM effort WHERE id=?", (effort_id,)).fetchone()
    return effort_of(row) if row else None


def efforts_of_activity(db: sqlite3.Connection, activity: str) -> list[Effort]:
    """All efforts of an activity (tombstones too), by start and segment."""
    return [effort_of(r) for r in db.execute(f"SELECT {_EFFORT} FROM effort WHERE activity=? ORDER BY start_us, segment, id", (activity,))]


def activities_of_subject(db: sqlite3.Connection, subject: str) -> dict[str, int | None]:
    """Ids of all activities of a subject, finished ones and those under way; the live start of those that are over."""
    found: dict[str, int | None] = dict(db.execute("SELECT id, live_start_us FROM final WHERE subject=? ORDER BY id", (subject,)))
    query = "SELECT anchor_us, start_us, closed FROM activity WHERE subject=? ORDER BY start_us"
    for anchor_us, start_us, closed in db.execute(query, (subject,)):
        found.setdefault(activity_id(subject, anchor_us), start_us if closed else None)
    return found


def bare(one: Effort) -> Effort:
    """An effort without what was measured of its athlete: all that may be kept of an erased one."""
    return replace(one, hr_avg_bpm=None, power_avg_w=None, curve_ms=(), doubts=())


def put_awards(db: sqlite3.Connection, awarded: Awarded, tenant: str, segment: str) -> None:
    """Store the awards of an effort as they are now."""
    if awarded.after:
        row = awarded.subject, awarded.effort, tenant, segment, ",".join(awarded.after)
        db.execute("INSERT OR REPLACE INTO award VALUES (?,?,?,?,?)", row)
    else:
        db.execute("DELETE FROM award WHERE effort=? AND subject=?", (awarded.effort, awarded.subject))


def awards_of(db: sqlite3.Connection, effort_id: str) -> tuple[str, ...]:
    """The awards of an effort, as words of `awards.KINDS`."""
    row = db.execute("SELECT kinds FROM award WHERE effort=?", (effort_id,)).fetchone()
    return tuple(row[0].split(",")) if row else ()


def efforts_of_segment(db: sqlite3.Connection, tenant: str, segment: str, after_version: int = -1) -> Iterator[Effort]:
    """All efforts of a segment (tombstones too) computed after a log position, in the order of positions."""
    query = f"SELECT {_EFFORT} FROM effort WHERE tenant=? AND segment=? AND version>? ORDER BY version, id"
    for row in db.execute(query, (tenant, segment, after_version)):
        yield effort_of(row)


def board_version(db: sqlite3.Connection, tenant: str, segment: str) -> int:
    """The log position of the last change of a segment's efforts, 0 when it has none."""
    return db.execute("SELECT coalesce(max(version), 0) FROM effort WHERE tenant=? AND segment=?", (tenant, segment)).fetchone()[0]


def count_efforts(db: sqlite3.Connection, tenant: str | None = None) -> int:
    """How many efforts stand."""
    where, of = ("", ()) if tenant is None else ("AND tenant=?", (tenant,))
    return db.execute(f"SELECT count(*) FROM effort WHERE removed=0 {where}", of).fetchone()[0]


def segments_with_efforts(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """(tenant, segment) of every board that ever had an effort."""
    return db.execute("SELECT DISTINCT tenant, segment FROM effort ORDER BY tenant, segment").fetchall()


# finished activities


def put_final(db: sqlite3.Connection, row: FinalRow, track: FinalTrack) -> None:
    """Store a finished activity and its line."""
    s = row.summary
    db.execute(
        "INSERT OR REPLACE INTO final VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        (s.id, s.subject, row.live_start_us, s.start_us, s.end_us, *(s.bounds or (None,) * 4), row.version, encode_summary(s)),
    )
    db.execute("INSERT OR REPLACE INTO final_track VALUES (?,?)", (s.id, encode_final_track(track)))


def drop_final(db: sqlite3.Connection, activity: str) -> None:
    """Forget a finished activity that is none any more."""
    db.execute("DELETE FROM final WHERE id=?", (activity,))
    db.execute("DELETE FROM final_track WHERE id=?", (activity,))


def _final(row: tuple[Any, ...]) -> FinalRow:
    return FinalRow(decode_summary(row[0]), row[1], row[2])


_FINAL: Final = "SELECT body, live_start_us, version FROM final"


def final(db: sqlite3.Connection, activity: str) -> FinalRow | None:
    """A finished activity by its id."""
    row = db.execute(f"{_FINAL} WHERE id=?", (activity,)).fetchone()
    return _final(row) if row else None


def finals_touching(db: sqlite3.Connection, subject: str, from_us: int, to_us: int) -> list[FinalRow]:
    """The finished activities of a subject between two times, by start, also those whose live start lies there."""
    query = f"{_FINAL} WHERE subject=? AND ((start_us<=? AND end_us>=?) OR live_start_us BETWEEN ? AND ?) ORDER BY start_us, id"
    return [_final(row) for row in db.execute(query, (subject, to_us, from_us, from_us, to_us))]


def finals(db: sqlite3.Connection, subject: str | None = None, *, before_us: int = 1 << 62, limit: int = 1 << 30) -> list[FinalRow]:
    """Finished activities (of a subject), the latest first, that start before a time."""
    where, of = ("", ()) if subject is None else ("AND subject=?", (subject,))
    query = f"{_FINAL} WHERE start_us<? {where} ORDER BY start_us DESC, id LIMIT ?"
    return [_final(row) for row in db.execute(query, (before_us, *of, limit))]


def finals_of_tenant(db: sqlite3.Connection, tenant: str, *, before_us: int = 1 << 62, limit: int = 100) -> list[FinalRow]:
    """Finished activities of a tenant, the latest first, that start before a time."""
    query = f"{_FINAL} WHERE subject >= ? AND subject < ? AND start_us<? ORDER BY start_us DESC, id LIMIT ?"
    return [_final(row) for row in db.execute(query, (f"{tenant}/", f"{tenant}0", before_us, limit))]


def box_around(points: Sequence[tuple[int, int]]) -> Box:
    """(south, west, north, east) of a line and about 200 m around it. Across the date line an edge is beyond 180 degrees."""
    first = points[0][1]
    lats = [lat for lat, _ in points]
    lons = [(lon - first + _TURN // 2) % _TURN - _TURN // 2 + first for _, lon in points]
    return min(lats) - _NEAR, min(lons) - 4 * _NEAR, max(lats) + _NEAR, max(lons) + 4 * _NEAR


def boxes_meet(box: Box, other: Sequence[int]) -> bool:
    """Whether two boxes have a place in common. The west of one that lies across the date line may be greater than its east."""
    south, west, north, east = box
    if other[0] > north or other[2] < south:
        return False
    far = other[3] + (_TURN if other[3] < other[1] else 0)
    return any(other[1] + turn <= east and far + turn >= west for turn in (-_TURN, 0, _TURN))


def touched_by_segment(db: sqlite3.Connection, tenant: str, segment: str, box: Box | None) -> list[tuple[str, int]]:
    """(subject, live start) of finished activities that have an effort on a segment, or whose bounds meet its box."""
    found: set[tuple[str, int]] = set(
        db.execute(
            "SELECT DISTINCT f.subject, f.live_start_us FROM effort e JOIN final f ON f.id = e.activity "
            "WHERE e.tenant=? AND e.segment=? AND e.removed=0",
            (tenant, segment),
        )
    )
    if box is not None:
        query = (
            "SELECT subject, live_start_us, south, west, north, east FROM final "
            "WHERE subject >= ? AND subject < ? AND south<=? AND north>=?"
        )
        near = db.execute(query, (f"{tenant}/", f"{tenant}0", box[2], box[0]))
        found.update((subject, start_us) for subject, start_us, *other in near if boxes_meet(box, other))
    return sorted(found)


def final_track(db: sqlite3.Connection, activity: str) -> FinalTrack | None:
    """The line of a finished activity."""
    row = db.execute("SELECT body FROM final_track WHERE id=?", (activity,)).fetchone()
    return decode_final_track(row[0], f"line of activity {activity}") if row else None


def encode_summary(s: Summary) -> bytes:
    """A summary as bytes; equal summaries give equal bytes."""
    laps = [(p.start_us, p.elapsed_ms, p.distance_cm, p.hr_avg_bpm, p.power_avg_w) for p in s.laps]
    return msgpack.packb(
        (s.id, s.subject, s.start_us, s.end_us, s.sport, s.distance_cm, s.elapsed_ms, s.moving_ms, s.gain_cm, s.hr_avg_bpm, s.hr_max_bpm,
         s.power_avg_w, s.points, s.zones_ms, laps, s.bounds, s.origins, s.samples, s.trimp,
         s.work_j, s.normalised_power_w, s.rmssd_ms, s.counted)
    )  # fmt: skip


def decode_summary(raw: bytes) -> Summary:
    """Inverse of `encode_summary`."""
    try:
        values = list(msgpack.unpackb(raw, use_list=False))
        values[14] = tuple(Lap(*lap) for lap in values[14])
        values[22] = tuple(Counted(*counted) for counted in values[22])
        return Summary(*values)
    except (ValueError, TypeError, IndexError) as error:
        raise StoreError(f"damaged summary ({error})", cure="paceline replay makes it again from the log") from error


def encode_final_track(track: FinalTrack) -> bytes:
    """The columns as differences, compressed."""
    return zlib.compress(msgpack.packb([_differences(getattr(track, name)) for name in FinalTrack.__slots__]), 6)


def decode_final_track(raw: bytes, where: str = "line") -> FinalTrack:
    """Inverse of `encode_final_track`; StoreError names `where`."""
    try:
        return FinalTrack(*(_sums(column) for column in msgpack.unpackb(zlib.decompress(raw), use_list=False)))
    except (ValueError, TypeError, zlib.error) as error:
        raise StoreError(f"{where}: damaged ({error})", cure="paceline replay makes it again from the log") from error


def _differences(values: Sequence[int]) -> list[int]:
    made: list[int] = []
    before = 0
    for value in values:
        made.append(value - before)
        before = value
    return made


def _sums(differences: Sequence[int]) -> tuple[int, ...]:
    made: list[int] = []
    total = 0
    for difference in differences:
        total += difference
        made.append(total)
    return tuple(made)


# outbox


def put_events(db: sqlite3.Connection, rows: Iterable[tuple[str, str, str, str, str, int, bytes]]) -> None:
    """Append events (id, type, topic, key, tenant, time_us, body); one that is there already stays as it is."""
    db.executemany("INSERT OR IGNORE INTO outbox (id, type, topic, key, tenant, time_us, body) VALUES (?,?,?,?,?,?,?)", rows)


def events(db: sqlite3.Connection, after: int = 0, limit: int = 1000, tenant: str | None = None) -> list[OutboxRow]:
    """Events behind sequence number `after`, whatever number that is."""
    after = min(after, _LAST_NUMBER)
    where, of = ("", ()) if tenant is None else ("AND tenant=?", (tenant,))
    return [OutboxRow(*r) for r in db.execute(f"SELECT * FROM outbox WHERE seq>? {where} ORDER BY seq LIMIT ?", (after, *of, limit))]


def count_events(db: sqlite3.Connection, tenant: str | None = None) -> int:
    """How many events were ever owed."""
    where, of = ("", ()) if tenant is None else ("WHERE tenant=?", (tenant,))
    return db.execute(f"SELECT count(*) FROM outbox {where}", of).fetchone()[0]
