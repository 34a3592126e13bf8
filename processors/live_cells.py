"""The store of one partition of the live stage on Kafka: the hot state as cells, the rare rows in a working copy that cells mirror.

A subject is an entry of a page (`live_pages`): its row of 1 KiB, the matcher's state, the numberings it used last, the activity under way
and when its wake to close is due, so that what an activity's beginning writes is written with the frame that began it. Numberings of older
boots have cells of their own, read when a frame of theirs comes again. What SQL looks up of this becomes rows when it is looked up: the
activity under way, numberings, frames not yet folded (`raw_pages`). Folded tracks go to the shared folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Final

import msgpack

from broker.reference import SegmentRef, UploadRef
from processors import live_kernel as k
from processors.copies import stamp_of
from processors.live import activity_of
from processors.live_pages import Entry, Facts, LivePages
from processors.live_row import box_of
from processors.live_state import LiveStates, Numbering
from processors.live_wakes import CLOSE
from processors.ranges import RangeSet
from processors.raw_pages import RawPages
from processors.reference_data import ReferenceData
from processors.results_db import box_around, boxes_meet, references
from processors.row_mirror import Cells, RowMirror
from processors.stage import Activity, Inputs, Numbered, Outputs, Wants
from processors.state_db import StateDb
from processors.track_blobs import SharedBlobs, beside_key, blob_of
from processors.track_db import FOREVER_US, pack, stored_under, undated_frames
from processors.tracks import tracks_of
from processors.working_copy import fresh, unsafe

LAYOUT: Final = 2  # of the cells: one that is read otherwise has another number
MIRRORED: Final = ("numbering", "undated", "activity", "wake", "reference", "folded")
INLINE: Final = 4  # numberings in the entry of a subject
COMMIT_ROWS: Final = 50_000
_NUMBERING: Final = b"n"
_ROW_BYTES: Final = k.COLUMNS * 8
_LIST: Final = (
    "INSERT INTO numbering VALUES (?,?,?,?,?,0,0,x'',?,?,?,?) ON CONFLICT DO UPDATE SET date_seq=excluded.date_seq, "
    "date_offset_us=excluded.date_offset_us, undated_from_us=excluded.undated_from_us, undated_to_us=excluded.undated_to_us "
    "WHERE (excluded.date_seq, excluded.date_offset_us, excluded.undated_from_us, excluded.undated_to_us) "
    "IS NOT (date_seq, date_offset_us, undated_from_us, undated_to_us)"
)
_Meta = tuple[int | None, int, int | None, int]


class LiveCells(StateDb):
    """See the module. `save_cells` writes what changed since the last call."""

    def __init__(self, path: Path, cells: Cells, states: LiveStates, blobs: SharedBlobs, partition: int = 0) -> None:
        super().__init__(fresh(path), blobs)
        unsafe(self)
        self.db.execute("CREATE TABLE folded (subject TEXT PRIMARY KEY, id INTEGER) WITHOUT ROWID")  # frames up to which number
        self._cells = cells
        self._shared = blobs
        self._states = states
        self._inline: dict[str, list[Numbered]] = {}
        self._absent: set[str] = set()
        self._unlisted: dict[Numbered, Numbering] = {}  # those whose row is to be written before rows are looked up
        self._listed: dict[Numbered, _Meta] = {}  # and what the rows of others say
        self._open: dict[str, tuple[int, int]] = {}  # start and version of the activity under way
        self._close: dict[str, int] = {}  # when the wake to close is due
        self._closes: list[tuple[int, str]] = []  # a heap of those, and of such as are not any more
        self._dirty: set[str] = set()  # subjects whose wake to close changed
        self.shapes: Sequence[SegmentRef] = ()  # of the segment whose change is being taken, as it was and as it is
        mirror = RowMirror(self.db, MIRRORED)
        self.db.execute("BEGIN")
        mirror.restore(cells)
        self._mirror = mirror
        self._raw_pages = RawPages(self.db, cells, path.parent)
        self._pages = LivePages(cells)
        self._restore()
        self._undated_id = self._last_undated(partition)
        self._committed = self.db.total_changes

    def _last_undated(self, partition: int) -> int:
        last = self.db.execute("SELECT max(id) FROM undated").fetchone()[0]
        return (partition << 40) if last is None else last  # one of its own among all partitions

    def _restore(self) -> None:
        """What is kept in memory of the subjects in pages."""
        for entry in self._pages.restore():
            if entry.under_way is not None:
                self._open[entry.key] = entry.under_way
            if entry.close_us is not None:
                self._ask_close(entry.key, entry.close_us)
            for origin, boot, *rest in entry.numberings:
                self._list(Numbered(entry.key, origin, boot), _numbering(rest))
        self._dirty.clear()

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
        found = self._pages.read(key)
        if not found:
            self._absent.add(key)
        for entry in found:
            if entry.key not in self._inline and not states.has(entry.key):
                self._loaded(states, entry)

    def _loaded(self, states: LiveStates, entry: Entry) -> None:
        key = entry.key
        if entry.row:
            states.put(key, entry.row + entry.beside, entry.matching)
        inline = self._inline[key] = []
        for origin, boot, *rest in entry.numberings:
            of, numbering = Numbered(key, origin, boot), _numbering(rest)
            inline.append(of)
            states.numberings[of] = numbering

    def _spilled(self, of: Numbered) -> Numbering | None:
        raw = self._cells.get(_spill_key(of))
        return None if raw is None else _numbering(msgpack.unpackb(raw)[2:])

    def inputs(self, wants: Wants, reference: ReferenceData) -> Inputs:
        if wants.window is not None:
            self._settle(wants.window.key)
            self._settle_frames(stored_under(self.db, wants.window.key, reference))
        if wants.history:
            self._settle(wants.history)
        for origin in wants.origins:
            found = self.db.execute("SELECT DISTINCT subject FROM numbering WHERE origin=?", (origin,)).fetchall()
            self._settle_frames(subject for (subject,) in found)
        return super().inputs(wants, reference)

    def _settle_frames(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            self._raw_pages.settle(subject)

    def _settle(self, subject: str) -> None:
        """Write the activity under way as its row knows it."""
        found = self._open.get(subject)
        if found is None:
            return
        start_us, version = found
        self._load_subject(self._states, subject)
        row = self._states.peek(subject)
        if row is not None and row[k.START] == start_us:
            super().sink(Outputs(activities=[activity_of(subject, row, version, closed=False)]))

    def _touched(self, tenant: str, segment: str) -> list[tuple[str, int, bool]]:  # noqa: ARG002 - its shapes are told
        """Activities under way that came by a segment as it was or as it is; those that are over belong to the finish stage."""
        boxes = [box_around(shape.points) for shape in self.shapes if shape.points]
        found: list[tuple[str, int, bool]] = []
        for subject in sorted(subject for subject in self._open if boxes and subject.startswith(f"{tenant}/")):
            start_us = self._open[subject][0]
            if not self._states.has(subject):
                self._load_subject(self._states, subject)
            row = self._states.peek(subject)
            if row is not None and row[k.START] == start_us and any(boxes_meet(box, box_of(row)) for box in boxes):
                found.append((subject, start_us, False))
        return found

    def doing(self, from_us: int, to_us: int) -> set[str]:
        """Who did something in a span of time, or began before its end and goes on."""
        found = self.db.execute("SELECT DISTINCT subject FROM activity WHERE start_us<=? AND end_us>=?", (to_us, from_us))
        return {subject for (subject,) in found.fetchall()} | {key for key, (start_us, _) in self._open.items() if start_us <= to_us}

    # what a step made

    def sink(self, outputs: Outputs) -> None:
        self._raw_pages.add(outputs.taken)
        closed: list[Activity] = []
        for activity in outputs.activities:
            of, start_us = self._open.get(activity.subject), activity.start_us
            if activity.closed:
                closed.append(activity)
                if of is not None and of[0] == start_us:
                    del self._open[activity.subject]
            elif of is None or of[0] != start_us:
                self._open[activity.subject] = start_us, activity.version
        for gone in outputs.removed:
            of = self._open.get(gone.subject)
            if of is not None and of[0] == gone.start_us:
                del self._open[gone.subject]
        for key, frame in outputs.undated:
            self._undated_id += 1
            self.db.execute("INSERT INTO undated VALUES (?,?,?,?)", (self._undated_id, key, frame.node, pack([frame])))
        wakes = [wake for wake in outputs.wakes if wake.name != CLOSE]
        for wake in outputs.wakes if len(wakes) < len(outputs.wakes) else ():
            if wake.name == CLOSE:
                self._ask_close(wake.key, wake.at_us)
        if closed or outputs.removed or wakes:
            super().sink(Outputs(activities=closed, removed=outputs.removed, wakes=wakes))

    def compact(self, key: str) -> None:
        self._raw_pages.settle(key)
        super().compact(key)
        if self.db.execute("SELECT 1 FROM raw WHERE subject=? LIMIT 1", (key,)).fetchone():
            return
        last = self._raw_pages.folded(key)
        if last is not None:
            self.db.execute("INSERT OR REPLACE INTO folded VALUES (?,?)", (key, last))

    # wakes

    def _ask_close(self, key: str, at_us: int) -> None:
        self._close[key] = at_us
        heappush(self._closes, (at_us, key))
        self._dirty.add(key)

    def due_wakes(self, now_us: int, limit: int = 1000) -> list[tuple[str, str]]:
        due = super().due_wakes(now_us, limit)
        closing: dict[str, int] = {}
        while self._closes and self._closes[0][0] <= now_us and len(due) + len(closing) < limit:
            at_us, key = heappop(self._closes)
            if self._close.get(key) == at_us:
                closing[key] = at_us
        for key, at_us in closing.items():
            heappush(self._closes, (at_us, key))
        return [*due, *((key, CLOSE) for key in closing)]

    def drop_wakes(self, due: Sequence[tuple[str, str]], now_us: int) -> None:
        rows = [(key, name) for key, name in due if name != CLOSE]
        if rows:
            super().drop_wakes(rows, now_us)
        for key, name in due:
            if name == CLOSE and key in self._close and self._close[key] <= now_us:
                del self._close[key]
                self._dirty.add(key)

    # numberings as rows

    def save_numberings(self, states: LiveStates) -> None:
        """Have rows of what others than the stage look up of numberings: that they are there, and their dates. The rest is cells."""
        for of, numbering in self._unlisted.items():
            self._list(of, numbering)
        self._unlisted.clear()
        for of in states.counted:
            self._list(of, states.numberings[of])

    def _list(self, of: Numbered, numbering: Numbering) -> None:
        meta = _meta(numbering)
        if self._listed.get(of) != meta:
            self._listed[of] = meta
            date_seq, *rest = meta
            self.db.execute(
                _LIST, (of.key, of.origin, f"{of.boot:016x}", numbering.node, numbering.device,
                        None if date_seq is None else str(date_seq), *rest),
            )  # fmt: skip

    # checkpoints

    def save_rows(self, stage: str, states: LiveStates) -> None:
        """Nothing: rows are cells, and whom a segment touches is asked of them."""

    def save_cells(self, states: LiveStates) -> None:
        """Write what changed into the cells."""
        self._raw_pages.save()
        for of in states.counted:
            self._counted(of, states.numberings[of])
        changed = {*states.changed, *states.matched, *self._dirty, *(of.key for of in states.counted)}
        for key in self._pages.stragglers():
            if key not in changed:
                self._load_subject(states, key)
                if key in self._open or key in self._close:
                    changed.add(key)
                else:
                    self._write_own(states, key)
        for key in self._dirty:
            self._load_subject(states, key)
        keys = list(changed)
        self._pages.write(keys, states.rows_of(keys), [self._facts(states, key) for key in keys])
        states.saved()
        self._dirty.clear()
        self._absent.clear()
        self._mirror.save(self._cells)
        if self.db.total_changes - self._committed > COMMIT_ROWS:
            self._committed = self.db.total_changes
            self.db.execute("COMMIT")
            self.db.execute("BEGIN")

    def _counted(self, of: Numbered, numbering: Numbering) -> None:
        """Keep a numbering among those of its subject that were used last."""
        if self._listed.get(of) != _meta(numbering):
            self._unlisted[of] = numbering
        inline = self._inline.setdefault(of.key, [])
        if of not in inline:
            inline.append(of)
            if len(inline) > INLINE:
                old = inline.pop(0)
                held = self._states.numberings[old]
                self._list(old, held)
                self._unlisted.pop(old, None)
                self._cells.put(_spill_key(old), msgpack.packb(_numbering_cell(old, held)))

    def _facts(self, states: LiveStates, key: str) -> Facts:
        """What is written of a subject beside its row."""
        matching = states.matchings.get(key)
        numberings = tuple([_numbering_cell(of, states.numberings[of]) for of in self._inline.get(key, ())])
        return (
            states.has(key), states.beside(key), b"" if matching is None else matching.encode(), numberings, self._open.get(key),
            self._close.get(key),
        )  # fmt: skip

    def _write_own(self, states: LiveStates, key: str) -> None:
        """Give a subject a cell of its own, which is not read before it is wanted."""
        for of in self._inline.get(key, ()):
            numbering = self._unlisted.pop(of, None)
            if numbering is not None:
                self._list(of, numbering)
        facts = self._facts(states, key)
        self._pages.write_own(Entry(key, states.rows_of([key]).tobytes() if facts[0] else b"", *facts[1:]))

    def forget(self) -> None:
        """The states were forgotten."""
        self._inline.clear()
        self._listed.clear()

    def fold(self, key: str, position: int) -> None:
        """Have the shared tracks hold all of a key: frames folded into them, undated ones beside them with their dates as of a position."""
        self.save_numberings(self._states)
        self.compact(key)
        undated = tracks_of(undated_frames(self.db, key))
        if undated or self._shared.read(beside_key(key), -FOREVER_US, FOREVER_US):
            self._shared.replace_beside(beside_key(key), position, [blob_of(track) for track in undated.values()])

    def uploads(self, subject: str) -> list[UploadRef]:
        """What the uploaded files of a subject (or those whose copies are under a key) say of themselves."""
        held = references(self.db, subject.partition("/")[0], "upload")
        return [value for value, _ in held if isinstance(value, UploadRef) and value.subject == stamp_of(subject)]

    def current(self, subject: str, start_us: int) -> Activity | None:
        """The activity of a subject that a time lies in."""
        self._settle(subject)
        return next((a for a in self.activities(subject) if a.start_us <= start_us <= a.end_us), None)


def _meta(n: Numbering) -> _Meta:
    return n.date_seq, n.date_offset_us, n.undated_from_us, n.undated_to_us


def _numbering_cell(of: Numbered, n: Numbering) -> tuple[Any, ...]:
    return of.origin, of.boot, n.node, n.device, n.ranges.bounds, n.date_seq, n.date_offset_us, n.undated_from_us, n.undated_to_us


def _numbering(values: Sequence[Any]) -> Numbering:
    node, device, bounds, *meta = values
    return Numbering(node, device, RangeSet.of(bounds), *meta)


def _spill_key(of: Numbered) -> bytes:
    return _NUMBERING + msgpack.packb((of.key, of.origin, of.boot))


def spilled_of(key: bytes, value: bytes, wanted: Callable[[str], bool] | None = None) -> tuple[str, Sequence[Any]] | None:
    """The subject and the numbering in a cell of one that is not in the entry of its subject (any more), as entries have them; None in
    others, and in those of a subject that is not wanted. It is as new as when it left: what changes later is in an entry again."""
    if not key.startswith(_NUMBERING):
        return None
    subject, *_ = msgpack.unpackb(key[len(_NUMBERING) :])
    return None if wanted is not None and not wanted(subject) else (str(subject), msgpack.unpackb(value))
