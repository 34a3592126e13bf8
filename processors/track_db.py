"""Frames and tracks as rows of the state file: how they are packed, and what counts for a subject by the bindings.

Read side only, over a connection; `state_db.StateDb` writes. Frames are stored under the key they came with, so an old frame changes hands
by a binding and not by being moved.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from broker.errors import Rejected, StoreError
from broker.frames import read_frame
from broker.ids import origin_of, origin_unbound
from broker.reference import UploadRef
from processors.live_kernel import GAP_US, I64
from processors.live_state import TICK_SPAN_US
from processors.preference import is_upload
from processors.reference_data import ReferenceData, attributed
from processors.results_db import references, upload
from processors.samples import TakenFrame
from processors.stage import Held
from processors.track_blobs import RowBlobs, TrackBlobs
from processors.tracks import Track, cut, decode_track, merge, tracks_of, without_repeats

_LEN: Final = struct.Struct("<H")
FOREVER_US: Final = 1 << 62
HELD_GAP_US: Final = GAP_US


RawRow = tuple[str, str, int, int, int, bytes]
"""Subject, node, first and last time of frames (the last one padded by the longest a frame can last), how many, and the frames packed."""


def raw_rows(taken: Iterable[tuple[str, TakenFrame]]) -> list[RawRow]:
    """Dated frames with the keys they came with, a row for those of one key and node."""
    groups: dict[tuple[str, str], list[TakenFrame]] = {}
    for key, frame in taken:
        groups.setdefault((key, frame.node), []).append(frame)
    rows: list[RawRow] = []
    for (key, node), frames in groups.items():
        starts = [f.frame.t0_us + f.offset_us for f in frames]
        rows.append((key, node, min(starts), max(starts) + TICK_SPAN_US, len(frames), pack(frames)))
    return rows


def pack(frames: Sequence[TakenFrame]) -> bytes:
    """The frames back to back, each with its length."""
    return b"".join(part for f in frames for part in (_LEN.pack(len(f.raw)), f.raw))


def decode_layout(taken: TakenFrame) -> int | None:
    """The layout id when it is known here, else None."""
    return taken.frame.layout if taken.frame.samples is not None else None


def _unpack(subject: str, node: str, body: bytes) -> Iterator[TakenFrame]:
    at = 0
    while at < len(body):
        length = body[at] | body[at + 1] << 8
        yield stored_frame(subject, node, body[at + 2 : at + 2 + length])
        at += 2 + length


def stored_frame(subject: str, node: str, raw: bytes) -> TakenFrame:
    """A frame as it was taken; StoreError when what is stored is none."""
    frame = read_frame(raw)
    if isinstance(frame, Rejected):
        raise StoreError(f"raw track of {subject}: {frame.detail}", cure="paceline replay makes the state again from the log")
    origin = origin_of(subject.partition("/")[0], node, frame.device, self_numbered=frame.self_numbered)
    return TakenFrame(origin, node, frame, raw, frame.utc_offset_us or 0)


def raw_frames(db: sqlite3.Connection, subject: str, from_us: int, to_us: int) -> Iterator[TakenFrame]:
    """Dated frames stored under a key that are not folded into blobs and may touch that time."""
    query = "SELECT node, body FROM raw WHERE subject=? AND first_us<=? AND last_us>=? ORDER BY id"
    for node, body in db.execute(query, (subject, to_us, from_us)):
        yield from _unpack(subject, node, body)


def undated_frames(db: sqlite3.Connection, subject: str) -> Iterator[TakenFrame]:
    """Undated frames of numberings that have a date by now, with that date."""
    rows = db.execute("SELECT origin, boot, date_offset_us FROM numbering WHERE subject=? AND date_seq IS NOT NULL", (subject,))
    dates = {(origin, int(boot, 16)): offset for origin, boot, offset in rows}
    for node, body in db.execute("SELECT node, body FROM undated WHERE subject=? ORDER BY id", (subject,)):
        for f in _unpack(subject, node, body):
            offset = dates.get((f.origin, f.frame.boot))
            if offset is not None:
                yield TakenFrame(f.origin, f.node, f.frame, f.raw, offset)


def read_tracks(
    db: sqlite3.Connection, subject: str, from_us: int, to_us: int, reference: ReferenceData | None = None, blobs: TrackBlobs | None = None
) -> dict[int, Track]:  # fmt: skip
    """All samples that count for a subject from from_us to to_us (both included), canonical, by layout; unknown layouts are left out.

    `reference` knows the bindings; None: those in the store. `blobs`: where folded tracks are; None: in the store too.
    """
    reference = reference or bindings_of(db)
    blobs = blobs or RowBlobs(db)
    parts: dict[int, list[Track]] = {}
    keys = stored_under(db, subject, reference)
    for key in keys:
        for layout, track in _stored_tracks(db, key, from_us, to_us, blobs).items():
            mine = attributed(track, key, subject, reference)
            if len(mine):
                parts.setdefault(layout, []).append(mine)
    return {layout: found[0] if len(found) == 1 else without_repeats(merge(found)) for layout, found in sorted(parts.items())}


def _stored_tracks(db: sqlite3.Connection, key: str, from_us: int, to_us: int, blobs: TrackBlobs) -> dict[int, Track]:
    frames = [*raw_frames(db, key, from_us, to_us), *undated_frames(db, key)]
    folded = [decode_track(body, f"track of {key}") for body in blobs.read(key, from_us, to_us)]
    found = {layout: cut(track, from_us, to_us) for layout, track in tracks_of(frames, folded).items()}
    return {layout: track for layout, track in found.items() if len(track)}


def held_of(db: sqlite3.Connection, origin: str, blobs: TrackBlobs | None = None) -> list[Held]:
    """Where samples of an origin are stored, dated ones: each stretch of them without a long gap by itself."""
    blobs = blobs or RowBlobs(db)
    keys = db.execute("SELECT DISTINCT subject FROM numbering WHERE origin=? ORDER BY subject", (origin,)).fetchall()
    found: list[Held] = []
    for (key,) in keys:
        spans: list[tuple[int, int]] = []
        for body in blobs.read(key, -FOREVER_US, FOREVER_US):
            track = decode_track(body, f"track of {key}")
            mine = track.t_us[np.isin(track.source, [n for n, (name, _) in enumerate(track.sources) if name == origin])]
            spans += _stretches(mine)
        frames = [*raw_frames(db, key, -FOREVER_US, FOREVER_US), *undated_frames(db, key)]
        spans += [(f.frame.t0_us + f.offset_us, f.end_us) for f in frames if f.origin == origin]
        found += [Held(key, origin, lo, hi) for lo, hi in _joined(spans)]
    return found


def _stretches(t_us: I64) -> list[tuple[int, int]]:
    """First and last time of each stretch of sorted times."""
    cuts: list[int] = (np.flatnonzero(np.diff(t_us) > HELD_GAP_US) + 1).tolist()
    bounds = [0, *cuts, len(t_us)]
    return [(int(t_us[lo]), int(t_us[hi - 1])) for lo, hi in pairwise(bounds) if lo < hi]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    made: list[tuple[int, int]] = []
    for lo, hi in sorted(spans):
        if made and lo - made[-1][1] <= HELD_GAP_US:
            made[-1] = made[-1][0], max(made[-1][1], hi)
        else:
            made.append((lo, hi))
    return made


def uploads_in(db: sqlite3.Connection, tracks: Mapping[int, Track]) -> list[UploadRef]:
    """What the uploaded files in tracks say of themselves, by id."""
    origins = {origin for track in tracks.values() for origin, _ in track.sources if is_upload(origin)}
    found = (upload(db, origin.split("/")[0], origin.rpartition("/")[2]) for origin in sorted(origins))
    return [ref for ref in found if ref is not None]


def bindings_of(db: sqlite3.Connection) -> ReferenceData:
    """Only the bindings: enough to say whom samples count for."""
    data = ReferenceData()
    for value, _ in references(db, entity="binding"):
        data.apply(value)
    return data


def stored_under(db: sqlite3.Connection, subject: str, reference: ReferenceData) -> list[str]:
    """The keys under which samples of a subject may be stored, its own first."""
    keys = {subject: None}
    own = origin_unbound(subject)
    stamped = [own] if own is not None and reference.is_bound(own) else []
    for origin in [*stamped, *reference.origins_of(subject)]:
        keys.update((row[0], None) for row in db.execute("SELECT DISTINCT subject FROM numbering WHERE origin=? ORDER BY 1", (origin,)))
    return list(keys)


def read_frames(db: sqlite3.Connection, subject: str) -> Iterator[TakenFrame]:
    """Every frame of a subject that is still kept as a frame: dated ones not yet folded into a blob, and all undated ones."""
    yield from raw_frames(db, subject, -FOREVER_US, FOREVER_US)
    for node, body in db.execute("SELECT node, body FROM undated WHERE subject=? ORDER BY id", (subject,)):
        yield from _unpack(subject, node, body)
