"""The spool's one writer thread: groups appends into commits, deletes settled rows now and then, and outlives every failure of the disk.

Appends wait at most a window (`spool_pace`), deletions a few seconds, so that a card is spared; both share a commit when they meet. When a
commit fails the appends in it fail with a clear error and are counted `rejected`; settled rows stay in memory and are tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from broker.errors import StoreError
from broker.liveness import Part
from gateway.ranges import Range, RangeSet
from gateway.spool_disk import DamagedError, FullPolicy, SpoolFullError, SpoolSettings
from gateway.spool_file import SpoolFile
from gateway.spool_pace import Pace
from gateway.spool_work import Committed, Group, Settlement

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
_COMMIT_BYTES: Final = 12_000  # what a commit writes beside its rows: pages and file blocks begun, its share of deletions and checkpoints
OnDone = Callable[["int | None", "StoreError | None"], None]  # first n, or why not


@dataclass(slots=True)
class Append:
    """Rows of one caller, committed together; `on_done` is called in the event loop."""

    group: Group
    on_done: OnDone


@dataclass(frozen=True, slots=True)
class Done:
    """What the event loop learns after each round."""

    appends: Sequence[tuple[Append, int | None, StoreError | None]] = ()
    dropped: Sequence[Range] = ()
    rebuilt: tuple[RangeSet, int] | None = None  # the file was replaced: its rows now and its end; readers must open it again


@dataclass(slots=True)
class _Work:
    appends: list[Append] = field(default_factory=list[Append])
    settle: Settlement | None = None
    cap_bytes: int | None = None
    salvage: bool = False


class Writer:
    """Owns a SpoolFile from `start` to `stop`. All methods but `_run` are for the event loop's thread."""

    def __init__(self, file: SpoolFile, settings: SpoolSettings, pace: Pace, report: Callable[[Done], None], alive: Part) -> None:
        self._file = file
        self._settings = settings
        self._pace = pace
        self._report = report
        self._alive = alive
        self._wake = threading.Condition()
        self._appends: list[Append] = []
        self._settle = Settlement()
        self._settle_rows = 0
        self._settle_due_s: float | None = None
        self._cap_bytes: int | None = None
        self._salvage = False
        self._flushes: list[Callable[[], None]] = []
        self._idle = False
        self._stopping = False
        self._last_start_s = 0.0
        self.waiting_rows = 0
        self.alarm = ""
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what waits, close the file, end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; False when the disk still hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def append(self, append: Append) -> None:
        """Queue rows for the next commit."""
        with self._wake:
            self._appends.append(append)
            self._alive.work()
            self.waiting_rows += len(append.group.frames)
            if self._idle or self.waiting_rows >= self._settings.max_group_rows:
                self._wake.notify()

    def settle(self, gone: Sequence[tuple[int, int, str | None]], damaged: Sequence[int] = ()) -> None:
        """Queue rows that leave."""
        with self._wake:
            self._settle.gone.extend(gone)
            self._settle.damaged.extend(damaged)
            self._settle_rows += sum(last - first + 1 for first, last, _ in gone) + len(damaged)
            self._alive.work()
            first = self._settle_due_s is None  # later ones leave with it: nothing to wake up for
            if first:
                self._settle_due_s = time.monotonic() + self._settings.free_after_s
            if (first and self._idle) or self._settle_rows >= self._settings.free_after_rows:
                self._wake.notify()

    def flush(self, on_flushed: Callable[[], None]) -> None:
        """Settle now what waits; `on_flushed` is called from the writer thread after that."""
        with self._wake:
            self._flushes.append(on_flushed)
            self._wake.notify()

    def set_limits(self, cap_bytes: int, policy: FullPolicy) -> None:
        """Change cap and policy before the next commit."""
        with self._wake:
            self._cap_bytes = cap_bytes
            self._file.policy = policy
            self._wake.notify()

    def ask_salvage(self) -> None:
        """A reader found the file damaged."""
        with self._wake:
            self._salvage = True
            self._wake.notify()

    def _run(self) -> None:
        failed_until_s = 0.0
        while True:
            with self._wake:
                self._wait(failed_until_s)
                stopping, flushes = self._stopping, self._flushes
                self._flushes = []
                work = self._take(settle_now=bool(flushes) or stopping)
            ok = self._do(work)
            failed_until_s = 0.0 if ok else time.monotonic() + RETRY_S
            for on_flushed in flushes:
                on_flushed()
            with self._wake:
                self._show_life()
                if stopping and (not self._appends or not ok):
                    left = _Work(self._appends)
                    self._appends = []
                    break
        self._report(_failed(left.appends, StoreError("the spool is closed", cure="restart the gateway")))
        self._file.close()

    def _show_life(self) -> None:
        """A round is over, well or badly. Under the lock: an append that comes now is not forgotten."""
        if self._appends or self._settle_due_s is not None:
            self._alive.beat()
        else:
            self._alive.rest()

    def _wait(self, failed_until_s: float) -> None:
        """Until there is something to do and it is time to do it."""
        while not (self._stopping or self._flushes or self._cap_bytes is not None):
            now_s = time.monotonic()
            due_s = failed_until_s if self._salvage or not self._file.is_open else None
            if self._appends:
                window_end_s = self._last_start_s + self._pace.window_s
                due_s = window_end_s if due_s is None else min(due_s, window_end_s)
                if self.waiting_rows >= self._settings.max_group_rows:
                    return
            if self._settle_due_s is not None:
                settle_s = max(now_s if self._settle_rows >= self._settings.free_after_rows else self._settle_due_s, failed_until_s)
                due_s = settle_s if due_s is None else min(due_s, settle_s)
            if due_s is not None and due_s <= now_s:
                return
            self._idle = due_s is None or not self._appends
            self._wake.wait(None if due_s is None else due_s - now_s)
            self._idle = False

    def _take(self, *, settle_now: bool) -> _Work:
        work = _Work(cap_bytes=self._cap_bytes, salvage=self._salvage)
        self._cap_bytes, self._salvage = None, False
        rows = size = 0
        for append in self._appends:
            group = append.group
            rows_after, size_after = rows + len(group.frames), size + group.size
            if work.appends and (rows_after > self._settings.max_group_rows or size_after > self._file.group_limit_bytes):
                break
            work.appends.append(append)
            rows, size = rows_after, size_after
        del self._appends[: len(work.appends)]
        self.waiting_rows -= rows
        due = self._settle_due_s is not None and (
            settle_now or self._settle_rows >= self._settings.free_after_rows or self._settle_due_s <= time.monotonic()
        )
        if due:
            work.settle, self._settle = self._settle, Settlement()
            self._settle_rows, self._settle_due_s = 0, None
        return work

    def _do(self, work: _Work) -> bool:
        """One round; False when the disk did not let us."""
        self._last_start_s = time.monotonic()
        try:
            self._prepare(work)
            done = self._commit(work)
        except StoreError as error:
            self._fail(work, error)
            return False
        except Exception as error:  # the thread must outlive whatever a broken disk makes of the file
            log.exception("spool: unexpected")
            work.salvage = True
            self._fail(work, StoreError(f"spool: {type(error).__name__}: {error}", cure="the file is salvaged; see the log"))
            return False
        if done is not None:
            self._set_alarm(next((error.message for _, _, error in done.appends if error), ""))
            self._report(done)
        try:
            self._file.checkpoint_if_due()
            if work.settle:
                self._file.hold_reserve()
        except DamagedError:
            self.ask_salvage()
        except SpoolFullError:
            self._relieve()
        except StoreError as error:
            self.alarm = error.message
        return True

    def _prepare(self, work: _Work) -> None:
        if work.salvage or not self._file.is_open:
            self._rebuild()
        if work.cap_bytes is not None:
            self._file.set_cap(work.cap_bytes)

    def _commit(self, work: _Work) -> Done | None:
        if not work.appends and not work.settle:
            return None
        try:
            committed = self._try(work)
        except DamagedError as error:
            log.error("spool: %s: salvaging", error)  # noqa: TRY400 - the damage is the news
            self._rebuild()
            try:
                committed = self._try(work)
            except DamagedError as again:
                raise StoreError(f"spool: {again}", cure="the disk damages what is written: replace it") from again
        except SpoolFullError:
            self._relieve()
            if work.settle:  # what leaves goes first, alone; then what comes may fit
                self._try(_Work(settle=work.settle))
                work.settle = None
            committed = self._try(work) if work.appends else Committed([], [])
        full = SpoolFullError("the spool is full", cure="bring the uplink back, raise cap_bytes, or choose full_policy drop_oldest")
        answers = [(a, first, None if first is not None else full) for a, first in zip(work.appends, committed.firsts, strict=True)]
        return Done(answers, committed.dropped)

    def _try(self, work: _Work) -> Committed:
        start_s = time.monotonic()
        groups = [append.group for append in work.appends]
        committed = self._file.commit(groups, work.settle)
        if groups:
            self._pace.observe(time.monotonic() - start_s, sum([group.size for group in groups]) + _COMMIT_BYTES)
        return committed

    def _rebuild(self) -> None:
        self._file.reopen()
        self._report(Done(rebuilt=(self._file.rows.copy(), self._file.ledger.end)))

    def _relieve(self) -> None:
        try:
            self._file.make_room_on_disk()
        except StoreError as error:
            self.alarm = error.message
        except DamagedError:
            self.ask_salvage()

    def _fail(self, work: _Work, error: StoreError) -> None:
        self._set_alarm(error.message)
        if work.appends:
            self._file.ledger.rejected += sum(len(append.group.frames) for append in work.appends)
            self._report(_failed(work.appends, error))
        with self._wake:
            if work.settle:
                self.settle(work.settle.gone, work.settle.damaged)
            self._salvage |= work.salvage

    def _set_alarm(self, message: str) -> None:
        """Log a failure once when it begins and once when it is over."""
        if message and not self.alarm:
            log.error("spool: %s", message)
        elif self.alarm and not message:
            log.warning("spool: recovered from: %s", self.alarm)
        self.alarm = message


def _failed(appends: Sequence[Append], error: StoreError) -> Done:
    return Done([(append, None, error) for append in appends])
