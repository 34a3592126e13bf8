"""File source: replays one recording as a live device at a chosen speed. The frames are those of `broker.recorded`; this adds time.

A file that cannot be read is refused once, with a reason, and not tried again. While the spool is full or the disk fails, the replay waits.
A replay with moved times gets a boot of its own, kept in the book until it is done: a gateway that is killed goes on with the same numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from broker.errors import BadInputError, StoreError
from broker.frames import Clock, Frame
from broker.ids import subject_of
from broker.liveness import Part, unwatched
from broker.recorded import SAMPLES, Identity, frames_of, identity_of, last_instant_us, span_of
from device_profiles.errors import FileError
from device_profiles.files.recording import Recording
from gateway.clock import Instant, box_dating
from gateway.intake import Intake, read_clock
from gateway.replay_book import Page, ReplayBook, key_of
from gateway.settings import FileReplay

log = logging.getLogger(__name__)

BATCH_FRAMES: Final = 256
LIVE_FRAME_S: Final = 0.25  # a live frame closes no later than this after its first sample, in real time
FULL_WAIT_S: Final = 1.0


@dataclass(slots=True)
class ReplayStatus:
    """What has become of one file: for the fleet view and the state of the node."""

    path: Path
    device: str = ""
    state: Literal["waiting", "running", "done", "refused"] = "waiting"
    frames: int = 0
    full_waits: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Plan:
    recording: Recording
    who: Identity
    utc_us: int | None
    clock: Clock
    samples: int
    started_us: int
    page: Page | None = None  # in the book: only where the times are moved


def read_file(path: Path, device: str | None) -> tuple[Recording, Identity]:
    """The recording and who it is. BadInputError names the file. Slow: call it in a thread."""
    from device_profiles.files import read_recording  # brings the readers only where a file is replayed

    try:
        content = path.read_bytes()
        recording = read_recording(path)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", cure="give a FIT, GPX or TCX file this user can read") from error
    except FileError as error:
        raise BadInputError(f"{path}: {error.detail}", cure=error.cure) from error
    if not recording.points and not recording.beats:
        raise BadInputError(f"{path}: no point with a time in it", cure="give a recorded activity, not a plan, route or settings file")
    return recording, identity_of(content, device)


def timing(replay: FileReplay, recording: Recording, now: Instant) -> tuple[int | None, Clock]:
    """UTC of the first instant, and how far it can be trusted."""
    first_us, last_us = span_of(recording)
    if replay.shift == "none":
        return first_us, Clock.RECORDED
    dating = box_dating(now)
    if dating.utc_offset_us is None:
        return None, Clock.UNKNOWN
    return now.utc_us - (0 if replay.speed == 1 else last_us - first_us), Clock.NETWORK


def samples_of_frame(replay: FileReplay, recording: Recording) -> int:
    """How many samples a frame takes: fixed for recorded times (the identity depends on it), few enough to be live otherwise."""
    if replay.shift == "none" or replay.speed == 0:
        return SAMPLES
    first_us, last_us = span_of(recording)
    per_s = (len(recording.points) + len(recording.beats)) / max((last_us - first_us) / 1e6, 1.0)
    return max(1, min(SAMPLES, int(per_s * replay.speed * LIVE_FRAME_S)))


def samples_of_frames(replay: FileReplay, recording: Recording) -> tuple[int, ...]:
    """How many samples each frame of an undisturbed replay holds, in the order of their numbers: the truth to hold stores against."""
    frames = frames_of(recording, Identity("x", 0), samples=samples_of_frame(replay, recording), utc_offset_us=None, clock=Clock.UNKNOWN)
    return tuple(frame.samples or 0 for frame in frames)


class FileSource:
    """Replays one file into the intake. `run` returns when the file ended or was refused."""

    def __init__(
        self,
        replay: FileReplay,
        intake: Intake,
        tenant: str,
        *,
        book: ReplayBook,
        random_boot: Callable[[], int],
        clock: Callable[[], Instant] = read_clock,
        alive: Part | None = None,
    ) -> None:
        self._alive = alive or unwatched()
        self.status = ReplayStatus(replay.path, replay.device or "")
        self._replay = replay
        self._intake = intake
        self._tenant = tenant
        self._book = book
        self._random_boot = random_boot
        self._clock = clock
        self._plan: _Plan | None = None

    async def run(self) -> None:
        """Wait for the start, read the file, send its frames when they are due. Run again after a failure, it goes on where it stopped."""
        if self._plan is None:
            if not self._book.begun(self._replay):
                await asyncio.sleep(self._replay.start_after_s)
            try:
                plan = await self._prepare()
            except BadInputError as error:
                self.status.state, self.status.error = "refused", error.message
                log.error("%s", error)  # noqa: TRY400 - the message names file and cure
                return
            if plan.page is not None:
                await self._wait_while_failing(partial(self._book.put, plan.page))
                self.status.frames = plan.page.frames
            self._plan = plan
            self.status.device, self.status.state = plan.who.device, "running"
        try:
            await self._play(self._plan)
        except asyncio.CancelledError:
            await self._mark(self._plan)
            raise
        if self._plan.page is not None:
            await self._wait_while_failing(partial(self._book.finish, self._plan.page))
        self._plan = None
        self.status.state = "done"
        log.info("%s: all %d frames are in the spool", self._replay.path, self.status.frames)

    async def _prepare(self) -> _Plan:
        recording, who = await asyncio.to_thread(read_file, self._replay.path, self._replay.device)
        now = self._clock()
        if self._replay.shift == "none":
            return _Plan(recording, who, *timing(self._replay, recording, now), samples_of_frame(self._replay, recording), now.mono_us)
        page = self._book.find(self._replay, f"{who.boot:016x}") or self._new_page(recording, who, now)
        elapsed_us = max(now.utc_us - page.began_utc_us, 0) if page.clock is not Clock.UNKNOWN else 0
        boot = Identity(page.device, page.boot)
        return _Plan(recording, boot, page.utc_us, page.clock, page.samples, now.mono_us - elapsed_us, page)

    def _new_page(self, recording: Recording, who: Identity, now: Instant) -> Page:
        utc_us, clock = timing(self._replay, recording, now)
        return Page(
            replay=key_of(self._replay),
            content=f"{who.boot:016x}",
            device=who.device,
            boot=self._random_boot(),
            began_utc_us=now.utc_us,
            utc_us=utc_us,
            clock=clock,
            samples=samples_of_frame(self._replay, recording),
        )

    async def _mark(self, plan: _Plan) -> None:
        """The gateway ends in order: what is taken need not be taken again."""
        if plan.page is None:
            return
        try:
            await self._book.put(plan.page.model_copy(update={"frames": self.status.frames}))
        except StoreError as error:
            log.warning("%s will be taken from its last mark again: %s", self._replay.path, error.message)

    def _frames(self, plan: _Plan) -> Iterator[Frame]:
        subject = subject_of(self._tenant, self._replay.athlete) if self._replay.athlete else ""
        frames = frames_of(plan.recording, plan.who, samples=plan.samples, subject=subject, utc_offset_us=plan.utc_us, clock=plan.clock)
        return islice(frames, self.status.frames, None)

    async def _play(self, plan: _Plan) -> None:
        batch: list[Frame] = []
        for frame in self._frames(plan):
            if self._replay.speed:
                due_us = plan.started_us + round(last_instant_us(frame) / self._replay.speed)
                wait_s = (due_us - self._clock().mono_us) / 1e6
                if wait_s > 0:
                    await self._take(batch)
                    batch = []
                    await asyncio.sleep(wait_s)
            batch.append(frame)
            if len(batch) >= BATCH_FRAMES:
                await self._take(batch)
                batch = []
        await self._take(batch)

    async def _take(self, batch: list[Frame]) -> None:
        if batch:
            await self._wait_while_failing(partial(self._intake.take, batch))
            self.status.frames += len(batch)

    async def _wait_while_failing(self, store: Callable[[], Awaitable[object]]) -> None:
        self._alive.work()
        try:
            while not await self._stored(store):
                await asyncio.sleep(FULL_WAIT_S)
                self._alive.beat()
        finally:
            self._alive.rest()

    async def _stored(self, store: Callable[[], Awaitable[object]]) -> bool:
        try:
            await store()
        except StoreError as error:
            if not self.status.full_waits:
                log.warning("%s waits: %s", self._replay.path, error.message)
            self.status.full_waits += 1
            return False
        return True
