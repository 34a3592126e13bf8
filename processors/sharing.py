"""Sends frames of a partition to those of other partitions for whom they count: fresh ones as they come, held ones when a binding changes.

Each is sent at least once, from a state that survives: a replica that is killed sends again what it sent since its checkpoint, and the
receiver knows repeats by their numbers. Only the home of a frame sends it. What others count is not in activities here, so nobody's end
would fold it into tracks: that is asked for by a wake of its own (`FOLD`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from broker.frames import encode_frame
from broker.ids import unbound_of
from broker.kafka import partition_of
from broker.kafka_records import encode_log_record
from broker.kafka_topics import FRAMES
from broker.logrecord import Kind, LogRecord
from broker.reference import BindingRef, encode_reference
from processors.copies import DATE_HEADER, Date, encode_date, frames_of, is_copy, stamp_of
from processors.live_changes import Changed, moved_span
from processors.live_wakes import CLOSE_AFTER_US
from processors.preference import is_upload
from processors.reference_data import ReferenceData
from processors.results_db import upload
from processors.samples import TakenFrame
from processors.shards import Out
from processors.stage import Held, Numbered, Outputs, Shared, Wake
from processors.state_db import StateDb
from processors.track_db import raw_frames, undated_frames
from processors.tracks import decode_track

FOLD: Final = "fold"  # the name of that wake


class Place(NamedTuple):
    """A partition among all of them."""

    partition: int
    partitions: int

    def owns(self, subject: str) -> bool:
        """Whether the activities of a subject are made here."""
        return not is_copy(subject) and partition_of(subject.encode(), self.partitions) == self.partition


class Sharing:
    """What one partition sends to others."""

    def __init__(self, place: Place, store: StateDb, reference: ReferenceData, out: Out) -> None:
        self._place = place
        self._store = store
        self._reference = reference
        self._out = out
        self._folding: set[str] = set()

    def refer_to(self, reference: ReferenceData) -> None:
        """Look up there from now on."""
        self._reference = reference

    def fresh(self, outputs: Outputs) -> None:
        """What a step found to count for others."""
        for shared in outputs.shared:
            self._send(shared)
        for of, appended_us in outputs.redated:
            self._undated(of, self._standing(of.origin), appended_us)

    def moved(self, changed: Changed, held: Sequence[Held]) -> None:
        """What counts for others once a binding is another one; the reference data knows it."""
        bindings = [b for b in (changed.before, changed.value) if isinstance(b, BindingRef)]
        for stretch in held:
            if not bindings or is_copy(stretch.key):
                continue
            lo, hi = moved_span(stretch, bindings)
            self._stretch(stretch, lo, hi, changed.at_us)

    def everything(self, held: Sequence[Held], at_us: int) -> None:
        """What counts for others of held samples, when nobody knows what changed."""
        for stretch in held:
            if not is_copy(stretch.key):
                self._stretch(stretch, stretch.first_us, stretch.last_us, at_us)

    def folded(self, key: str) -> None:
        """The wake for folding a key came."""
        self._folding.discard(key)

    def fold_later(self, key: str, at_us: int) -> None:
        """Have the frames stored under a key folded when they will be old."""
        if key not in self._folding:
            self._folding.add(key)
            self._store.sink(Outputs(wakes=[Wake(key, FOLD, at_us + CLOSE_AFTER_US)]))

    def _stretch(self, held: Held, lo: int, hi: int, at_us: int) -> None:
        key, origin, _, last_us = held
        counts = self._reference.counting_for
        heard_us = min(at_us, last_us)
        if lo <= hi and any(not self._place.owns(subject) for subject in counts(key, origin, lo, hi)):
            self._upload(origin, counts(key, origin, lo, hi), heard_us)
            for taken in self._dated(key, origin, lo, hi):
                date = self._date(Numbered(key, origin, taken.frame.boot)) or (taken.frame.seq, taken.offset_us)
                self._send(
                    Shared(_record(key, taken, heard_us), date, counts(key, origin, taken.frame.t0_us + taken.offset_us, taken.end_us))
                )
        boots = self._store.db.execute("SELECT boot FROM numbering WHERE subject=? AND origin=? AND date_seq IS NOT NULL", (key, origin))
        for (boot,) in boots.fetchall():
            self._undated(Numbered(key, origin, int(boot, 16)), self._standing(origin), heard_us)

    def _dated(self, key: str, origin: str, lo: int, hi: int) -> Iterator[TakenFrame]:
        """Frames of an origin with a date of their own that may touch a span; those that were folded are made again."""
        for body in self._store.blobs.read(key, lo, hi):
            for frame in frames_of(decode_track(body, f"track of {key}"), origin, stamp_of(key)):
                taken = TakenFrame(origin, self._node(Numbered(key, origin, frame.boot)), frame, encode_frame(frame), 0)
                if frame.t0_us <= hi and taken.end_us >= lo:
                    yield taken
        yield from (f for f in raw_frames(self._store.db, key, lo, hi) if f.origin == origin)

    def _undated(self, of: Numbered, subjects: Sequence[str], heard_us: int) -> None:
        """Send the undated frames of a boot to whoever they may ever count for, so that each knows their date."""
        date = self._date(of)
        if date is None:
            return
        for taken in undated_frames(self._store.db, of.key):
            if (taken.origin, taken.frame.boot) == (of.origin, of.boot):
                self._send(Shared(_record(of.key, taken, heard_us), date, subjects))

    def _standing(self, origin: str) -> list[str]:
        """Whom samples of an origin may count for by its bindings, at any time."""
        return sorted({str(unbound_of(origin)), *(b.subject for b in self._reference.bindings(origin))})

    def _date(self, of: Numbered) -> Date | None:
        query = "SELECT date_seq, date_offset_us FROM numbering WHERE subject=? AND origin=? AND boot=? AND date_seq IS NOT NULL"
        row = self._store.db.execute(query, (of.key, of.origin, f"{of.boot:016x}")).fetchone()
        return None if row is None else (int(row[0]), row[1])

    def _node(self, of: Numbered) -> str:
        query = "SELECT node FROM numbering WHERE subject=? AND origin=? AND boot=?"
        row = self._store.db.execute(query, (of.key, of.origin, f"{of.boot:016x}")).fetchone()
        return "" if row is None else row[0]

    def _send(self, shared: Shared) -> None:
        """Once to each partition of those who are not here."""
        record = encode_log_record(shared.record)
        places = {partition_of(subject.encode(), self._place.partitions) for subject in shared.subjects} - {self._place.partition}
        for partition in sorted(places):
            headers = [*record.headers, (DATE_HEADER, encode_date(shared.date))]
            self._out.send(FRAMES, record.key, record.value, headers, partition)
        self.fold_later(shared.record.key, shared.record.appended_us)

    def _upload(self, origin: str, subjects: Sequence[str], at_us: int) -> None:
        """What an uploaded file says of itself goes with its samples."""
        tenant, ident = origin.partition("/")[0], origin.rpartition("/")[2]
        value = upload(self._store.db, tenant, ident) if is_upload(origin) else None
        if value is not None:
            self._send(Shared(LogRecord(Kind.REFERENCE, value.subject, tenant, "", at_us, encode_reference(value)), (0, 0), subjects))


def _record(key: str, taken: TakenFrame, at_us: int) -> LogRecord:
    return LogRecord(Kind.FRAME, key, key.partition("/")[0], taken.node, at_us, taken.raw)
