"""The store of one partition of the live stage on Kafka: the hot state as cells, the rare rows in a working copy that cells mirror.

A subject is one cell: its row of 1 KiB, the matcher's state, and the numberings it used last; numberings of older boots have cells of
their own, read when a frame of theirs comes again. Frames not yet folded are in pages, a cell each, which go once all in them are. The row
of an activity under way is written to the working copy when it begins and when somebody asks: the live row knows it. Folded tracks go to
the shared folder.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from broker.reference import SegmentRef, UploadRef
from processors import live_kernel as k
from processors.live import activity_of
from processors.live_row import box_of
from processors.live_state import LiveStates, Numbering
from processors.ranges import RangeSet
from processors.reference_data import ReferenceData
from processors.results_db import box_around, boxes_meet, references
from processors.row_mirror import Cells, RowMirror
from processors.stage import Activity, Inputs, Numbered, Outputs, Wants
from processors.state_db import StateDb
from processors.track_blobs import TrackBlobs, beside_key, blob_of
from processors.track_db import FOREVER_US, RawRow, pack, raw_rows, undated_frames
from processors.tracks import tracks_of
from processors.working_copy import fresh, unsafe

MIRRORED: Final = ("numbering", "undated", "activity", "wake", "reference", "folded")
PAGE_BYTES: Final = 400_000
_ROW_BYTES: Final = 100  # of a row beside its frames, about
INLINE: Final = 4  # numberings in the cell of a subject
_SUBJECT, _NUMBERING, _RAW = b"s", b"n", b"r"
_RAW_ROW: Final = "INSERT INTO raw (id, subject, node, first_us, last_us, frames, body) VALUES (?,?,?,?,?,?,?)"
_Meta = tuple[int | None, int, int | None, int]


class LiveCells(StateDb):
    """See the module. `save_cells` writes what changed since the last call."""

    def __init__(self, path: Path, cells: Cells, states: LiveStates, blobs: TrackBlobs, partition: int = 0) -> None:
        super().__init__(fresh(path), blobs)
        unsafe(self)
        self.db.execute("CREATE TABLE folded (subject TEXT PRIMARY KEY, id INTEGER) WITHOUT ROWID")  # frames up to which number
        self._cells = cells
        self._states = states
        self._inline: dict[str, list[Numbered]] = {}
        self._absent: set[str] = set()
        self._written: dict[Numbered, _Meta] = {}
        self._open: set[tuple[str, int]] = set()
        self.shapes: Sequence[SegmentRef] = ()  # of the segment whose change is being taken, as it was and as it is
        mirror = RowMirror(self.db, MIRRORED)
        self.db.execute("BEGIN")
        mirror.restore(cells)
        self._pages: dict[int, int] = {}
        self._unsaved: list[tuple[int, RawRow]] = []
        self._restore_raw()
        self._mirror = mirror
        last = self.db.execute("SELECT max(id) FROM undated").fetchone()[0]
        self._undated_id = (partition << 40) if last is None else last  # one of its own among all partitions

    def _restore_raw(self) -> None:
        """Read the pages of frames, without those that were folded since."""
        folded: dict[str, int] = dict(self.db.execute("SELECT subject, id FROM folded"))
        self._raw_id = max(folded.values(), default=0)
        for key, value in self._cells.items(_RAW):
            rows = [(number, row) for number, row in msgpack.unpackb(value, use_list=False)]
            self._raw_id = max(self._raw_id, rows[-1][0])
            left = [(number, *row) for number, row in rows if number > folded.get(row[0], 0)]
            self.db.executemany(_RAW_ROW, left)
            self._pages[int.from_bytes(key[1:], "big")] = len(left)

    # what a stage wants

    def load(self, stage: str, states: LiveStates, wants: Wants) -> None:  # noqa: ARG002 - one stage is kept here
        for key in wants.keys:
            if not states.has(key):
                self._load_subject(states, key)
        for of in wants.numbered:
            if of not in states.numberings:
                if not states.has(of.key):
                    self._load_subject(states, of.key)
                found = states.numberings.get(of) or (None if of.key in self._absent else self._spilled(of))
                if found is not None:
                    states.numberings[of] = found

    def _load_subject(self, states: LiveStates, key: str) -> None:
        if key in self._absent or key in self._inline:  # read before: one may have numberings and no row
            return
        raw = self._cells.get(_SUBJECT + key.encode())
        if raw is None:
            self._absent.add(key)
            return
        row, matching, numberings = msgpack.unpackb(raw)
        if row:
            states.put(key, row, matching)
        inline = self._inline[key] = []
        for origin, boot, *rest in numberings:
            of, numbering = Numbered(key, origin, boot), _numbering(rest)
            inline.append(of)
            states.numberings[of] = numbering
            self._written[of] = _meta(numbering)

    def _spilled(self, of: Numbered) -> Numbering | None:
        raw = self._cells.get(_spill_key(of))
        if raw is None:
            return None
        found = _numbering(msgpack.unpackb(raw)[2:])
        self._written[of] = _meta(found)
        return found

    def inputs(self, wants: Wants, reference: ReferenceData) -> Inputs:
        if wants.window is not None:
            self._settle(wants.window.key)
        if wants.history:
            self._settle(wants.history)
        return super().inputs(wants, reference)

    def _settle(self, subject: str) -> None:
        """Write the activity under way as its row knows it."""
        row = self._states.peek(subject)
        if row is not None and row[k.START] != k.NEVER:
            start_us = int(row[k.START])
            version = self.db.execute(
                "SELECT version FROM activity WHERE subject=? AND start_us=? AND closed=0", (subject, start_us)
            ).fetchone()
            if version is not None:
                super().sink(Outputs(activities=[activity_of(subject, row, version[0], closed=False)]))

    def _touched(self, tenant: str, segment: str) -> list[tuple[str, int, bool]]:  # noqa: ARG002 - its shapes are told
        """Activities under way that came by a segment as it was or as it is; those that are over belong to the finish stage."""
        boxes = [box_around(shape.points) for shape in self.shapes if shape.points]
        found: list[tuple[str, int, bool]] = []
        query = "SELECT subject, start_us FROM activity WHERE closed=0 AND subject >= ? AND subject < ? ORDER BY subject"
        for subject, start_us in self.db.execute(query, (f"{tenant}/", f"{tenant}0")).fetchall():
            if not self._states.has(subject):
                self._load_subject(self._states, subject)
            row = self._states.peek(subject)
            if row is not None and row[k.START] == start_us and any(boxes_meet(box, box_of(row)) for box in boxes):
                found.append((subject, start_us, False))
        return found

    # what a step made

    def sink(self, outputs: Outputs) -> None:
        rows = raw_rows(outputs.taken)
        numbered = list(enumerate(rows, self._raw_id + 1))
        self._raw_id += len(rows)
        self.db.executemany(_RAW_ROW, [(number, *row) for number, row in numbered])
        self._unsaved += numbered
        rare = [a for a in outputs.activities if a.closed or (a.subject, a.start_us) not in self._open]
        for activity in rare:
            (self._open.discard if activity.closed else self._open.add)((activity.subject, activity.start_us))
        self._open.difference_update((a.subject, a.start_us) for a in outputs.removed)
        for key, frame in outputs.undated:
            self._undated_id += 1
            self.db.execute("INSERT INTO undated VALUES (?,?,?,?)", (self._undated_id, key, frame.node, pack([frame])))
        if rare or outputs.removed or outputs.wakes:
            super().sink(Outputs(activities=rare, removed=outputs.removed, wakes=outputs.wakes))

    def compact(self, key: str) -> None:
        before = [row[0] for row in self.db.execute("SELECT id FROM raw WHERE subject=? ORDER BY id", (key,))]
        super().compact(key)
        if not before or self.db.execute("SELECT 1 FROM raw WHERE subject=? LIMIT 1", (key,)).fetchone():
            return
        self.db.execute("INSERT OR REPLACE INTO folded VALUES (?,?)", (key, before[-1]))
        first_unsaved = self._unsaved[0][0] if self._unsaved else self._raw_id + 1
        starts = list(self._pages)  # in their order
        for number in before:
            if number < first_unsaved:
                page = starts[bisect_right(starts, number) - 1]
                self._pages[page] -= 1
                if not self._pages[page]:
                    del self._pages[page]
                    starts = list(self._pages)
                    self._cells.drop(_raw_key(page))
        self._unsaved = [(number, row) for number, row in self._unsaved if row[0] != key]

    def _save_raw(self) -> None:
        """Write the frames since the last checkpoint as pages: a cell each would cost more than the frame."""
        page: list[tuple[int, RawRow]] = []
        size = 0
        for numbered in self._unsaved:
            page.append(numbered)
            size += len(numbered[1][-1]) + _ROW_BYTES
            if size > PAGE_BYTES or numbered is self._unsaved[-1]:
                self._pages[page[0][0]] = len(page)
                self._cells.put(_raw_key(page[0][0]), msgpack.packb(page))
                page, size = [], 0
        self._unsaved = []

    def save_rows(self, stage: str, states: LiveStates) -> None:
        """Nothing: rows are cells, and whom a segment touches is asked of them."""

    def save_numberings(self, states: LiveStates) -> None:
        """Write what others than the stage look up of changed numberings: that they are there, and their dates. The rest is cells."""
        for of in states.counted:
            numbering = states.numberings[of]
            meta = _meta(numbering)
            if self._written.get(of) != meta:
                self._written[of] = meta
                self.db.execute(
                    "INSERT OR REPLACE INTO numbering VALUES (?,?,?,?,?,0,0,x'',?,?,?,?)",
                    (of.key, of.origin, f"{of.boot:016x}", numbering.node, numbering.device,
                     None if meta[0] is None else str(meta[0]), *meta[1:]),
                )  # fmt: skip

    def save_cells(self, states: LiveStates) -> None:
        """Write what changed into the cells."""
        self._save_raw()
        self.save_numberings(states)
        for of in states.counted:
            inline = self._inline.setdefault(of.key, [])
            if of not in inline:
                inline.append(of)
                if len(inline) > INLINE:
                    old = inline.pop(0)
                    self._cells.put(_spill_key(old), msgpack.packb(_numbering_cell(old, states.numberings[old])))
        for key in {*states.changed, *states.matched, *(of.key for of in states.counted)}:
            matching = states.matchings.get(key)
            row, attempts = states.stored(key) or b"", b"" if matching is None else matching.encode()
            numberings = [_numbering_cell(of, states.numberings[of]) for of in self._inline.get(key, ())]
            cell = msgpack.packb((row, attempts, numberings))
            self._cells.put(_SUBJECT + key.encode(), cell)
        states.saved()
        self._absent.clear()
        self._mirror.save(self._cells)
        self.db.execute("COMMIT")
        self.db.execute("BEGIN")

    def forget(self) -> None:
        """The states were forgotten."""
        self._inline.clear()
        self._written.clear()

    def fold(self, key: str) -> None:
        """Have the shared folder hold all of a key: frames folded into its tracks, undated ones with their dates of now beside them."""
        self.save_numberings(self._states)
        self.compact(key)
        undated = tracks_of(undated_frames(self.db, key))
        beside = self.blobs.read(beside_key(key), -FOREVER_US, FOREVER_US)
        if undated or beside:
            self.blobs.replace(beside_key(key), -FOREVER_US, FOREVER_US, [blob_of(track) for track in undated.values()])

    def uploads(self, subject: str) -> list[UploadRef]:
        """What the uploaded files of a subject say of themselves."""
        held = references(self.db, subject.partition("/")[0], "upload")
        return [value for value, _ in held if isinstance(value, UploadRef) and value.subject == subject]

    def current(self, subject: str, start_us: int) -> Activity | None:
        """The activity of a subject that a time lies in."""
        self._settle(subject)
        return next((a for a in self.activities(subject) if a.start_us <= start_us <= a.end_us), None)


def _meta(n: Numbering) -> _Meta:
    return n.date_seq, n.date_offset_us, n.undated_from_us, n.undated_to_us


def _numbering_cell(of: Numbered, n: Numbering) -> tuple[Any, ...]:
    return of.origin, of.boot, n.node, n.device, n.ranges.encode(), *_meta(n)


def _numbering(values: Sequence[Any]) -> Numbering:
    node, device, ranges, *meta = values
    return Numbering(node, device, RangeSet.decode(ranges), *meta)


def _spill_key(of: Numbered) -> bytes:
    return _NUMBERING + msgpack.packb((of.key, of.origin, of.boot))


def _raw_key(number: int) -> bytes:
    return _RAW + number.to_bytes(8, "big")


def is_subject(key: bytes) -> bool:
    """Whether a cell is that of a subject."""
    return key.startswith(_SUBJECT)


def subject_of_cell(key: bytes) -> str:
    """Whose cell it is."""
    return key[1:].decode()
