"""Sends what the outbox owes: a lane a bucket, each batch until the server has it, in order.

Between tries it waits longer and longer, and as long as the server asks. A batch with wrong lines is halved until they stand alone: those
are kept with what the server said, all others are written. What is older than its bucket keeps is not sent at all. A wrong token or a
missing bucket stops its lane, not the others, and is said with its cure.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from broker.cancellation import in_own_task
from broker.errors import ConfigError, LinkError, StoreError
from processors.accept import DeadLetter
from processors.influx_batch import Batch
from processors.influx_outbox import Outbox, Owed
from processors.influx_packing import pack
from processors.influx_refused import letter_of
from processors.influx_schema import BUCKETS
from processors.influx_wire import Meaning, Verdict
from processors.wall import wall_us

_log = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.5
LAST_WAIT_S: Final = 30.0
STOPPED_WAIT_S: Final = 10.0  # somebody has to help: asked again this often
POLL_S: Final = 0.2  # a look for what nobody said
MOST_HALVES: Final = 400  # requests to find the wrong lines of one batch: what is left then is kept aside as it is


class Link(Protocol):
    """A connection to the server."""

    def write(self, bucket: str, unit: str, body: bytes) -> Verdict:
        """Post compressed lines; LinkError when no whole answer came."""
        ...

    def close(self) -> None: ...


class Eraser(Protocol):
    """Deletes what only some servers can."""

    def erase(self, bucket: str, tenant: str, athlete: str) -> bool:
        """Delete the points of an athlete; False when this server has no way to. LinkError when it cannot be asked, ConfigError when it
        refuses us."""
        ...


@dataclass(slots=True)
class Lane:
    """How the lane of a bucket does. `error` is empty while all is well."""

    error: str = ""
    cure: str = ""
    failures: int = 0
    sent_lines: int = 0


@dataclass(slots=True)
class _Outcome:
    """What became of a batch."""

    sent: int = 0
    expired: int = 0
    dead: list[DeadLetter] = field(default_factory=list[DeadLetter])
    halves: int = 0


class StoppedError(LinkError):
    """The server refuses everything of a bucket."""


class WaitError(LinkError):
    """The server wants to be asked later; `wait_s` when it says how much."""

    def __init__(self, message: str, wait_s: float | None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Sender:
    """Follows one outbox. `link` makes a connection; `clock_us` is the time points are dated by."""

    def __init__(
        self, outbox: Outbox, link: Callable[[], Link], eraser: Eraser, *, clock_us: Callable[[], int] = wall_us, pace: float = 1.0
    ) -> None:  # fmt: skip
        """`pace` scales our own waits (never what the server asks for)."""
        self._outbox, self._link, self._eraser = outbox, link, eraser
        self._clock_us, self._pace = clock_us, pace
        self.lanes = {bucket: Lane() for bucket in BUCKETS}
        self._news = {bucket: asyncio.Event() for bucket in BUCKETS}
        self._done: dict[str, tuple[tuple[int, ...], _Outcome]] = {}  # dealt with and not yet forgotten: the disk is full

    def look(self) -> None:
        """Have every lane look into the outbox now."""
        for news in self._news.values():
            news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for bucket in BUCKETS:
                group.create_task(self._keep(bucket), name=f"influx-{bucket}")

    async def _keep(self, bucket: str) -> None:
        lane, link, wait_s = self.lanes[bucket], self._link(), FIRST_WAIT_S
        try:
            while True:
                try:
                    self._news[bucket].clear()
                    moved = await in_own_task(asyncio.to_thread(self.send_one, bucket, link))
                    wait_s = FIRST_WAIT_S
                    self._well(bucket)
                    if not moved:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(POLL_S * self._pace):
                                await self._news[bucket].wait()
                except (LinkError, StoreError) as error:
                    pause_s = self._pause(error, wait_s)
                    wait_s = min(wait_s * 2, LAST_WAIT_S)
                    if (lane.error, lane.cure) != (error.message, error.cure):
                        _log.warning("influx: bucket %s: %s; again in %.1f s", bucket, error, pause_s)
                    lane.error, lane.cure, lane.failures = error.message, error.cure, lane.failures + 1
                    await asyncio.sleep(pause_s)
        finally:
            link.close()

    def _pause(self, error: LinkError | StoreError, wait_s: float) -> float:
        if isinstance(error, WaitError) and error.wait_s is not None:
            return error.wait_s
        own_s = STOPPED_WAIT_S if isinstance(error, StoppedError) else wait_s
        return own_s * (0.75 + random.random() / 2) * self._pace

    def _well(self, bucket: str) -> None:
        lane = self.lanes[bucket]
        if lane.error:
            _log.info("influx: bucket %s is written again", bucket)
        lane.error = lane.cure = ""

    def send_one(self, bucket: str, link: Link) -> bool:
        """Deal with the oldest request of a bucket; False when nothing is owed. LinkError: it stays owed."""
        if bucket not in self._done:
            owed = self._outbox.owed(bucket)
            if owed is None:
                return False
            self._done[bucket] = owed.ids, self._dealt(owed, link)
        ids, outcome = self._done[bucket]
        self._outbox.done(ids, {"sent": outcome.sent, "expired": outcome.expired, "refused": len(outcome.dead)}, outcome.dead)
        del self._done[bucket]
        return True

    def _dealt(self, owed: Owed, link: Link) -> _Outcome:
        batch, outcome = owed.batch, _Outcome()
        if batch.kind == "erase":
            tenant, _, athlete = batch.body.decode().partition("/")
            if not self._erased(batch.bucket, tenant, athlete):
                _log.warning(
                    "influx: this server deletes nothing: points of an erased athlete leave %s within %.0f hours by themselves",
                    batch.bucket, BUCKETS[batch.bucket].keep_s / 3600,
                )  # fmt: skip
            return outcome
        if batch.newest_us < self._clock_us() - BUCKETS[batch.bucket].keep_s * 1_000_000:
            outcome.expired = batch.lines
            return outcome
        self._write(link, batch, batch.body, batch.lines, outcome)
        self.lanes[batch.bucket].sent_lines += outcome.sent
        return outcome

    def _erased(self, bucket: str, tenant: str, athlete: str) -> bool:
        """A server that refuses us stops the lane and not the process: its token may be put right meanwhile."""
        try:
            return self._eraser.erase(bucket, tenant, athlete)
        except ConfigError as error:
            raise StoppedError(error.message, cure=error.cure) from error

    def _write(self, link: Link, batch: Batch, body: bytes, lines: int, outcome: _Outcome) -> None:
        """Write a body, or what of it can be written."""
        verdict = link.write(batch.bucket, batch.unit, body)
        match verdict.meaning:
            case Meaning.DONE:
                outcome.sent += lines
            case Meaning.AGAIN:
                raise WaitError(f"InfluxDB asks to wait: {verdict.said or 'no reason given'}", verdict.wait_s)
            case Meaning.STOPPED:
                raise StoppedError(f"InfluxDB refuses to write: {verdict.said or 'no reason given'}", cure=verdict.cure)
            case Meaning.EXPIRED:
                outcome.expired += lines
            case Meaning.BAD | Meaning.SPLIT:
                self._halved(link, batch, body, outcome, verdict)

    def _halved(self, link: Link, batch: Batch, body: bytes, outcome: _Outcome, verdict: Verdict) -> None:
        outcome.halves += 1
        rows = gzip.decompress(body).splitlines(keepends=True)
        if len(rows) <= 1 or outcome.halves > MOST_HALVES:
            now_us = self._clock_us()
            outcome.dead += [letter_of(now_us, batch.bucket, batch.unit, verdict.said, row) for row in rows]
            return
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            self._write(link, batch, pack(b"".join(half)), len(half), outcome)
