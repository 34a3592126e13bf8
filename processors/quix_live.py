"""The live stage on Kafka: one shard a partition of `telemetry.frames`, the same pure stage as on one machine.

Efforts and activities go to `stage.results` by subject, entries of the class in progress to `stage.boards` by board, both at once; readers
follow the changelog of the cells, `live.state`, written with each checkpoint. What was told before a kill is told again by the same
reference data: a change of it is taken with a checkpoint (`owed_out.py`), and behind what may have been told (`latecomers.py`). A wake is a
row of the shard's state until its time has come, then a WAKE record of the same key: a silent athlete's activity closes. A `finish:` wake
folds the track into the shared folder and asks the finish stage.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from broker.errors import BadInputError
from broker.kafka_records import decode_log_record, encode_log_record
from broker.kafka_topics import BELIEVED, BOARD_WORDS, FRAMES, LIVE_STATE, RESULTS, SAMPLES_PARTITIONS
from broker.logrecord import Kind, LogRecord
from broker.reference import BindingRef, Reference, SegmentRef, decode_reference
from processors.believed import encode_believed, parts_of
from processors.collector import waiting_collector
from processors.copies import DATE_HEADER, Date, copy_key, date_of, is_copy
from processors.finish import is_finish
from processors.kernel_jobs import Steps, finish, finish_together
from processors.latecomers import Latecomers
from processors.live import LiveStage
from processors.live_cells import LAYOUT, LiveCells
from processors.live_changes import Changed, concerned_by, touch_changed, wants_of_change
from processors.live_state import LiveStates
from processors.live_step import fold, live_steps
from processors.live_wakes import FINISH, again_wake
from processors.owed_out import OwedOut
from processors.partition_reach import Reach
from processors.reference_data import ReferenceData
from processors.reference_feed import Change, ReferenceFeed
from processors.results_db import put_reference
from processors.row_mirror import Cells, check_version
from processors.shards import Message, Out, Shard
from processors.sharing import FOLD, Place, Sharing
from processors.stage import Batch, Begun, Inputs, LiveEfforts, Mutation, Outputs, Wants, batches_of
from processors.stage_words import Entries, Result, ToFinish, encode_board_word, encode_result
from processors.track_blobs import SharedBlobs
from processors.track_db import stored_under
from processors.wall import wall_us

_log = logging.getLogger(__name__)

MAX_LOADED: Final = 100_000  # subjects of a shard
WAKES_A_TICK: Final = 200
MOST_SAMPLES: Final = 15_000  # of a record: some 400 KB at most
_OWED: Final = b"o"  # what cells of owed words begin with
_CHANGES: Final = b"c"  # the cell that says up to which change of reference data a partition is


class LiveOnKafka:
    """The stage for the engine; `work` is a folder for working copies, which nobody needs again."""

    name = "live"
    topic = FRAMES
    state = LIVE_STATE

    def __init__(
        self, feed: ReferenceFeed, blobs: SharedBlobs, work: Path, clock_us: Callable[[], int] = wall_us, *, partitions: int,
        tells: bool = False, exactly_once: bool = False,
    ) -> None:  # fmt: skip
        """`partitions`: how many `telemetry.frames` has. `tells`: also put out what is believed of each sample (`live.samples`).
        `exactly_once`: what is sent is in one transaction with the cells, so nobody hears what a kill undoes."""
        self._feed = feed
        self._partitions = partitions
        self._tells = tells
        self._exactly_once = exactly_once
        self._blobs = blobs
        self._work = work
        self._clock_us = clock_us
        self._reach: Callable[[int], Reach | None] = lambda partition: None  # noqa: ARG005 - nobody told how to ask
        self._current: list[LiveShard] = []
        self._late: dict[int, Latecomers[LiveShard]] = {}  # by the change they know last

    def reach_with(self, reach: Callable[[int], Reach | None]) -> None:
        self._reach = reach

    def open(self, partition: int, cells: Cells, out: Out) -> LiveShard:
        place, known = Place(partition, self._partitions), changes_of(cells)
        late = None
        if known is not None:
            self._feed.hear(known, self._take_changes)
        if not self._exactly_once and known is not None and known < self._feed.end:
            late = self._late.get(known)
            if late is None:
                late = self._late[known] = Latecomers(self._feed.as_of(known))
        reference = self._feed.reference if late is None else late.reference
        shard = LiveShard(
            place, cells, out, reference, self._blobs, self._work, self._clock_us, tells=self._tells, exactly_once=self._exactly_once
        )
        if late is not None:
            late.add(shard)
            return shard
        self._current.append(shard)  # opening the next one may take changes
        for change in self._feed.since(shard.changes):
            shard.missed(change, shard.weigh(change))
        if shard.changes is None:
            shard.take_all(self._feed.end)
        return shard

    def take_together(self, parts: Sequence[tuple[Shard, Sequence[Message]]]) -> None:
        finish_together(shard.steps(messages) for shard, messages in parts if isinstance(shard, LiveShard))

    def between(self, shards: Mapping[int, Shard]) -> None:
        ours = [shard for shard in shards.values() if isinstance(shard, LiveShard)]
        for late in self._late.values():
            late.keep(ours)
        waiting = {shard.partition for late in self._late.values() for shard in late}
        self._current = [shard for shard in ours if shard.partition not in waiting]
        self._take_changes(0.0)
        for known, late in list(self._late.items()):
            if late.are_done(self._reach):
                del self._late[known]
                self._catch_up(known, late)

    def _take_changes(self, timeout_s: float) -> None:
        for change in self._feed.poll(timeout_s):
            current = [shard for shard in self._current if not shard.closed]
            weighed = [shard.weigh(change) for shard in current]
            before = self._feed.take(change)
            for shard, inputs in zip(current, weighed, strict=True):
                shard.taken(change, before, inputs)

    def _catch_up(self, known: int, late: Latecomers[LiveShard]) -> None:
        """Have latecomers take the changes behind the one they know last. A binding that they do not know may be one whose value of then
        Kafka does not hold any more."""
        shards = list(late)
        for change in self._feed.each_since(known) if shards else ():
            weighed = [shard.weigh(change) for shard in shards]
            before = late.reference.apply(change.value)
            for shard, inputs in zip(shards, weighed, strict=True):
                if before is None:
                    shard.missed(change, inputs)
                else:
                    shard.taken(change, before, inputs)
        for shard in shards:
            shard.refer_to(self._feed.reference)


def changes_of(cells: Cells) -> int | None:
    """The change of reference data that a partition knows last; None while it has no state."""
    raw = cells.get(_CHANGES)
    return None if raw is None else int(raw)


class LiveShard:
    """One partition."""

    def __init__(
        self, place: Place, cells: Cells, out: Out, reference: ReferenceData, blobs: SharedBlobs, work: Path, clock_us: Callable[[], int],
        *, tells: bool, exactly_once: bool = False,
    ) -> None:  # fmt: skip
        partition = self.partition = place.partition
        self.next = 0
        self.closed = False
        self._place = place
        self._samples_to = partition * min(SAMPLES_PARTITIONS, place.partitions) // place.partitions
        self._cells = cells
        self._out = OwedOut(cells, out, _OWED)
        self._exactly_once = exactly_once
        self._tells = tells
        self._reference = reference
        self._clock_us = clock_us
        check_version(cells, LiveStage.name, LiveStage.state_version * 10 + LAYOUT)
        self._states = LiveStates()
        self._store = LiveCells(work / f"live-{partition}.db", cells, self._states, blobs, partition)
        self._stage = LiveStage(reference, tells=tells, owns=place.owns)
        self._sharing = Sharing(place, self._store, reference, self._out)
        self.changes = self._changes = changes_of(cells)
        self.unreadable = 0

    def take(self, messages: Sequence[Message]) -> None:
        with waiting_collector():
            finish(self.steps(messages))

    def steps(self, messages: Sequence[Message]) -> Steps[None]:
        """`take`, as `LiveStage.steps`; nothing else may be asked of the shard before it is over."""
        self._out.tell()
        self.next = messages[-1].offset + 1
        copied: dict[int, Date] = {}
        for first, records in self._runs(messages, copied):
            for batch in batches_of(first, records):
                yield from self._step(replace(batch, copied=copied) if copied else batch)

    def _runs(self, messages: Sequence[Message], copied: dict[int, Date]) -> Iterator[tuple[int, list[LogRecord]]]:
        """Records whose offsets follow one another: a position must not depend on how they were cut. Notes which are copies."""
        first, records = 0, list[LogRecord]()
        for m in messages:
            try:
                record = decode_log_record(m.key, m.value, m.headers)
                if m.headers[-1][0] == DATE_HEADER and (date := date_of(m.headers, "record")) is not None:
                    copied[m.offset] = date
                    record = record._replace(key=copy_key(record.key, self.partition))
            except BadInputError as error:
                self.unreadable += 1
                _log.error("live: %s[%d] %d: %s", FRAMES, self.partition, m.offset, error)
                continue
            if records and m.offset != first + len(records):
                yield first, records
                records = []
            if not records:
                first = m.offset
            records.append(record)
        if records:
            yield first, records

    def _step(self, batch: Batch) -> Steps[None]:
        record = batch.records[0]
        if record.kind == Kind.FRAME:
            yield from self._live(batch)
        elif record.kind == Kind.WAKE:
            self._store.drop_wakes([(record.key, record.body.decode())], record.appended_us)
            if is_finish(batch):
                self._ask_finish(batch)
            elif record.body == FOLD.encode():
                self._sharing.folded(record.key)
                self._store.compact(record.key)
            else:
                yield from self._live(batch)
        else:
            self._uploaded(batch)

    def _live(self, batch: Batch) -> Steps[None]:
        self._made((yield from live_steps(self._stage, self._states, self._store, batch, self._reference)), batch)

    def _made(self, outputs: Outputs, batch: Batch) -> None:
        """Keep and tell what a step made."""
        self._store.sink(outputs)
        if outputs.shared or outputs.redated:
            self._store.save_numberings(self._states)
            self._sharing.fresh(outputs)
        for key in {record.key for record in batch.records if is_copy(record.key)} if batch.copied else ():
            self._sharing.fold_later(key, batch.records[-1].appended_us)
        if outputs.compact:
            self._store.save_numberings(self._states)
            fold(self._store, outputs.compact, self._reference)
        self._tell([*outputs.begun, *outputs.efforts], batch.first)
        for block in outputs.believed:
            for part in parts_of(block, MOST_SAMPLES):
                self._out.send(BELIEVED, str(self.partition).encode(), encode_believed(part), partition=self._samples_to)
        boards: dict[str, list[Mutation]] = {}
        for mutation in outputs.mutations:
            boards.setdefault(mutation.board, []).append(mutation)
        for board, mutations in boards.items():
            self._out.send(BOARD_WORDS, board.encode(), encode_board_word(Entries(mutations)))

    def _tell(self, words: Sequence[Result], position: int) -> None:
        """Send words to the finish stage in the order of the records that caused them, whatever the batch."""
        said: dict[int, int] = {}
        for word in sorted(words, key=_said_at):
            at = word.version if isinstance(word, Begun | LiveEfforts) else position
            number = said[at] = said.get(at, -1) + 1
            subject = word.activity.subject if isinstance(word, ToFinish) else word.subject
            self._out.send(RESULTS, subject.encode(), encode_result(word, (at, number)), partition=self.partition)

    def _ask_finish(self, batch: Batch) -> None:
        record, store = batch.records[0], self._store
        store.load(self._stage.name, self._states, Wants([record.key]))
        activity = store.current(record.key, int(record.body[len(FINISH) :]))
        if activity is None or not activity.closed:
            return
        store.save_numberings(self._states)
        keys = stored_under(store.db, record.key, self._reference)
        for key in keys:
            store.fold(key, batch.first)
        uploads = [u for key in keys for u in store.uploads(key)]
        self._tell([ToFinish(activity, keys, uploads, record.appended_us, -1 if self.changes is None else self.changes)], batch.first)

    def _uploaded(self, batch: Batch) -> None:
        """What an uploaded file says of itself is of its athlete alone, and travels beside its frames."""
        try:
            value = decode_reference(batch.records[0].body, f"{FRAMES}[{self.partition}] {batch.first}")
        except BadInputError as error:
            self.unreadable += 1
            _log.error("live: %s", error)
            return
        self._store.save_numberings(self._states)
        put_reference(self._store.db, value, batch.first)
        wants = self._stage.wants(self._states, batch)
        inputs = self._store.inputs(wants, self._reference)
        self._store.load(self._stage.name, self._states, Wants([*wants.keys, *self._stage.also_wants(batch, inputs)]))
        self._made(self._stage.step(self._states, batch, inputs), batch)

    # changes of reference data

    def refer_to(self, reference: ReferenceData) -> None:
        """Look up there from now on; it knows the same changes."""
        self._reference = reference
        self._stage = LiveStage(reference, tells=self._tells, owns=self._place.owns)
        self._sharing.refer_to(reference)

    def take_all(self, changes: int) -> None:
        """Take the changes up to an offset while there is no state yet that they could touch."""
        self._hold()
        self.changes = changes

    def _hold(self) -> None:
        """Tell nothing before a checkpoint knows of a change: what comes of it would be told again by what was known before."""
        if not self._exactly_once:
            self._out.hold()

    def weigh(self, change: Change) -> Inputs:
        """What a change touches here, before the process takes it."""
        record = change.record
        self._store.save_numberings(self._states)
        self._store.shapes = _shapes(change.value, self._reference)
        wants = wants_of_change(record, self._reference)
        inputs = self._store.inputs(wants, self._reference)
        self._store.load(self._stage.name, self._states, Wants([*wants.keys, *concerned_by(record, inputs, self._reference)]))
        change.counted_for[self.partition] = [self._reference.counting_for(*held) for held in inputs.held]
        return inputs

    def taken(self, change: Change, before: Reference | None, inputs: Inputs) -> None:
        """Have what a change touches here computed again, and what counts for others now sent there, once the process has taken it."""
        self._hold()
        outputs = Outputs()
        counted_for = change.counted_for.pop(self.partition)
        changed = Changed(change.value, before, counted_for, change.record.appended_us)
        touch_changed(self._reference, self._states, changed, inputs, outputs, self._place.owns)
        self._store.sink(outputs)
        self._sharing.moved(changed, inputs.held)
        self.changes = change.offset

    def missed(self, change: Change, inputs: Inputs) -> None:
        """Take a change that was made while the partition was elsewhere: nobody knows the value before it.

        Of a binding: whoever did something while held samples of its device were measured is run again.
        """
        self._hold()
        if not isinstance(change.value, BindingRef):
            self.taken(change, None, inputs)
            return
        at_us, outputs = change.record.appended_us, Outputs()
        change.counted_for.pop(self.partition)
        for held in inputs.held:
            counting = self._reference.counting_for(held.key, held.origin, held.first_us, held.last_us)
            for subject in sorted(self._store.doing(held.first_us, held.last_us) | set(filter(self._place.owns, counting))):
                outputs.wakes.append(again_wake(subject, held.first_us, held.last_us, at_us))
        self._store.sink(outputs)
        self._sharing.everything(inputs.held, at_us)
        self.changes = change.offset

    # time and checkpoints

    def tick(self) -> None:
        self._out.tell()
        now_us = self._clock_us()
        due = self._store.due_wakes(now_us, WAKES_A_TICK)
        for key, name in due:
            found = encode_log_record(LogRecord(Kind.WAKE, key, "", "", now_us, name.encode()))
            self._out.send(found.topic, found.key, found.value, found.headers, self.partition)
        if due:
            self._store.drop_wakes(due, now_us)

    def flush(self) -> None:
        self._store.save_cells(self._states)
        if self.changes != self._changes:
            self._changes = self.changes
            self._cells.put(_CHANGES, str(self.changes).encode())
        if len(self._states) > MAX_LOADED:
            self._states.forget()
            self._store.forget()
        self._out.save()

    def close(self) -> None:
        self.closed = True
        self._store.close()


def _said_at(word: Result) -> tuple[int, int]:
    if isinstance(word, Begun):
        return word.version, 0 if word.over else 1
    return (word.version, 2) if isinstance(word, LiveEfforts) else (0, 3)


def _shapes(value: Reference, reference: ReferenceData) -> list[SegmentRef]:
    if not isinstance(value, SegmentRef):
        return []
    before = reference.segment(value.tenant, value.id)
    return [shape for shape in (before, value) if shape is not None]
