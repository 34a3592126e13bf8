"""Equipment control of one box: commands from `cmd` to the machines it is connected to, answers to `rsp`.

A command is remembered before anything of it goes to a machine, and so is its answer before it leaves: whatever is repeated or killed, it
is carried out once. A machine that moves by command is stopped when the platform is out of reach for longer than the gym allows, when the
athlete it was moved for is no longer bound to it, when this process ends, and after it was killed, as soon as it runs again.
What this cannot do: nobody stops a belt while the box has no power. Bounded: `MAX_COMMANDS` wait, the newest is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from broker.commands import (
    Answer,
    Command,
    CommandReason,
    CommandState,
    Notice,
    NoticeEvent,
    NoticeReason,
    Reply,
    decode_command,
    encode_answer,
    id_in,
)
from broker.errors import BadInputError, StoreError
from broker.faultpoints import hit
from gateway.answers import Answers
from gateway.authority import Situation, refusal
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.command_book import CommandBook, Moving
from gateway.controllable import Controllable, ControlLink
from gateway.intake import read_clock
from gateway.machine import Machine
from gateway.machine_effects import Effect, Noticed, Replied
from gateway.machine_session import STOP_FOR_S
from gateway.settings import EquipmentSettings

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

MAX_COMMANDS: Final = 64
WATCH_S: Final = 0.5
ALIVE_S: Final = 30.0
FAREWELL_S: Final = 2.5  # for the stops at the end of this process; what is not taken by then stays owed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What control has to know of the rest of the box. Quick calls."""

    athlete_at: Callable[[str, int], str | None]  # who is bound to a device at a time (UTC us)
    heard_us: Callable[[str], int | None]  # when a device was heard last, on the box's monotonic clock
    connected: Callable[[], bool]  # to the platform


class Equipment:
    """`command` takes what comes on `cmd`; `run` works until cancelled, and then stops what moves."""

    def __init__(
        self,
        settings: EquipmentSettings,
        book: CommandBook,
        answers: Answers,
        controllable: Controllable,
        around: Surroundings,
        *,
        clock: Callable[[], Instant] = read_clock,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._settings = settings
        self._book = book
        self._answers = answers
        self._controllable = controllable
        self._around = around
        self._clock = clock
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue(MAX_COMMANDS)
        self._queued: deque[str] = deque()  # ids of what is in the inbox, in its order
        self._working: set[str] = set()  # ids of what was taken and has no final answer yet
        self._machines: dict[str, Machine] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._writing = asyncio.Lock()
        self._rested = asyncio.Event()

    def command(self, raw: bytes) -> None:
        """A message on `cmd`. A repeat of what waits or is under way is dropped when there is no room: `busy` would be its final answer."""
        ident, device = id_in(raw)
        try:
            self._inbox.put_nowait(raw)
            self._queued.append(ident)
        except asyncio.QueueFull:
            if ident and (ident in self._queued or ident in self._working):
                self.counters["equipment_repeats"] += 1
                return
            self._tell(Reply(id=ident, device=device, state=CommandState.REFUSED, reason=CommandReason.BUSY, at_us=self._now_us()))

    async def run(self) -> None:
        """Work until cancelled. What an earlier run, of this process or a killed one, left behind is answered and stopped first."""
        self._machines, self._tasks, self._working = {}, {}, set()
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._restore()
            ignore = self._controllable.listen(self)
            try:
                group.create_task(self._take_commands())
                group.create_task(self._watch())
                await asyncio.Event().wait()
            finally:
                ignore()
                self._group = None
                await self._farewell()
                for task in self._tasks.values():
                    task.cancel()

    # what the sources say of machines

    def appeared(self, device: str, link: ControlLink) -> None:
        """See `ControlListener`."""
        self._machine(device).appeared(link)

    def told(self, device: str, what: int, payload: bytes) -> None:
        """See `ControlListener`."""
        machine = self._machine(device)
        machine.post(lambda now_s: machine.session.told(what, payload, now_s))

    def gone(self, device: str) -> None:
        """See `ControlListener`."""
        if device in self._machines:
            self._machines[device].gone()

    # commands

    async def _take_commands(self) -> None:
        while True:
            raw = await self._inbox.get()
            self._queued.popleft()
            try:
                command = decode_command(raw)
            except BadInputError as error:
                ident, device = id_in(raw)
                self._tell(_refused(ident, device, CommandReason.BAD_COMMAND, error.message, self._now_us()))
                continue
            await self._take(command)

    async def _take(self, command: Command) -> None:
        self.counters["equipment_commands"] += 1
        accepted = Reply(id=command.id, device=command.device, state=CommandState.ACCEPTED, at_us=self._now_us())
        try:
            known = await self._stored(self._book.begin, command.id, command.device, encode_answer(accepted), self._clock().utc_us)
        except StoreError as error:
            if command.id not in self._working:  # else it was remembered when it was taken, and its answer comes
                self._tell(_refused(command.id, command.device, CommandReason.NOT_STORED, error.message, self._now_us()))
            return
        if known is not None:
            self.counters["equipment_repeats"] += 1
            self._answers.put(known)
            return
        self._working.add(command.id)
        hit("equipment.taken")
        why = refusal(command, self._situation(command.device))
        if why is not None:
            await self._finish(_refused(command.id, command.device, *why, self._now_us()))
            return
        machine = self._machine(command.device)
        good_for_s = (command.expires_us - self._clock().utc_us) / 1e6

        def ordered(now_s: float) -> list[Effect]:
            effects: list[Effect] = []
            if machine.session.moving and machine.moved_for != command.athlete:  # somebody else's belt stops before it is told anything
                effects += machine.session.stop(NoticeReason.BINDING_ENDED, now_s)
            if machine.athlete != command.athlete:
                effects += machine.session.withdraw(CommandReason.NOT_BOUND, now_s)
            machine.athlete = command.athlete
            effects += machine.session.order(command.id, command.order, now_s + good_for_s, now_s)
            if not any(isinstance(effect, Replied) and effect.ident == command.id for effect in effects):
                self._tell(accepted)
            return effects

        machine.post(ordered)

    def _situation(self, device: str) -> Situation:
        now = self._clock()
        heard_us = self._around.heard_us(device)
        return Situation(
            enabled=self._settings.enabled,
            now_utc_us=now.utc_us,
            athlete=self._around.athlete_at(device, now.utc_us),
            connected=self._controllable.get(device) is not None,
            silent_s=None if heard_us is None else (now.mono_us - heard_us) / 1e6,
        )

    # what machines report

    async def moves(self, machine: Machine, *, moving: bool) -> None:
        """See `MachineReports`. A disk that fails costs only the memory over a kill, which is logged."""
        try:
            if moving:
                machine.moved_for = machine.athlete
                await self._stored(self._book.moves, machine.device, machine.athlete, self._clock().utc_us)
                hit("equipment.moving")
            else:
                await self._stored(self._book.rests, machine.device)
                self._rested.set()
        except StoreError as error:
            self.counters["equipment_forgotten"] += 1
            log.error("%s: that it moves by command is not remembered: %s", machine.device, error)  # noqa: TRY400

    async def replied(self, machine: Machine, reply: Replied) -> None:
        """See `MachineReports`."""
        await self._finish(
            Reply(id=reply.ident, device=machine.device, state=reply.state, reason=reply.reason, detail=reply.detail, at_us=self._now_us())
        )

    async def noticed(self, machine: Machine, notice: Noticed) -> None:
        """See `MachineReports`."""
        self.counters[f"equipment_{notice.event}"] += 1
        log.warning("%s: %s %s %s", machine.device, notice.event, notice.reason, notice.detail)
        self._tell(
            Notice(
                device=machine.device, athlete=machine.moved_for, event=notice.event, reason=notice.reason, detail=notice.detail,
                at_us=self._now_us(),
            )
        )  # fmt: skip

    async def _finish(self, reply: Reply) -> None:
        """Remember the final answer, then give it."""
        self._working.discard(reply.id)
        self.counters[f"equipment_{reply.state}"] += 1
        log.info("command %s to %s: %s %s %s", reply.id, reply.device, reply.state, reply.reason or "", reply.detail)
        raw = encode_answer(reply)
        try:
            await self._stored(self._book.finish, reply.id, raw)
        except StoreError as error:
            log.error("the answer to command %s is not remembered: %s", reply.id, error)  # noqa: TRY400
        hit(f"equipment.{reply.state}")
        self._answers.put(raw)

    def _tell(self, answer: Answer) -> None:
        self._answers.put(encode_answer(answer))

    # what nobody commands

    async def _restore(self) -> None:
        """Answer what a killed process left open or may not have told, and stop what it left moving, if that was not too long ago."""
        for answer in await self._stored(self._book.recent, self._clock().utc_us - round(STOP_FOR_S * 1e6)):
            self._answers.put(answer)
        for ident, device in await self._stored(self._book.unfinished):
            reason = CommandReason.BOX_RESTARTED
            await self._finish(Reply(id=ident, device=device, state=CommandState.LOST, reason=reason, at_us=self._now_us()))
        for moving in await self._stored(self._book.moving):
            left_s = self._left_s(moving)
            if left_s > 0:
                machine = self._machine(moving.device, moving=True)
                machine.moved_for = moving.athlete
                machine.post(lambda now_s, m=machine, s=left_s: m.session.stop(NoticeReason.BOX_RESTARTED, now_s, for_s=s))
            else:
                with suppress(StoreError):
                    await self._stored(self._book.rests, moving.device)
                self._tell(
                    Notice(
                        device=moving.device, athlete=moving.athlete, event=NoticeEvent.STOP_FAILED, reason=NoticeReason.TOO_LATE,
                        at_us=self._now_us(),
                    )
                )  # fmt: skip

    def _left_s(self, moving: Moving) -> float:
        """For how long its stop is still owed. A clock that is not set, or went back, tells nothing: then it is owed in full."""
        now_us = self._clock().utc_us
        if now_us < EARLIEST_UTC_US or now_us < moving.alive_us:
            return STOP_FOR_S
        return STOP_FOR_S - (now_us - moving.alive_us) / 1e6

    async def _watch(self) -> None:
        """Stop what nobody may move any more."""
        loop = asyncio.get_running_loop()
        connected_s = alive_s = loop.time()
        while True:
            now_s, now = loop.time(), self._clock()
            if self._around.connected():
                connected_s = now_s
            for machine in list(self._machines.values()):
                if machine.session.moving and machine.session.stopping is None:
                    self._judge(machine, now, unreachable_s=now_s - connected_s)
                elif machine.session.waits and self._around.athlete_at(machine.device, now.utc_us) != machine.athlete:
                    machine.post(lambda now_s, m=machine: m.session.withdraw(CommandReason.NOT_BOUND, now_s))
                elif machine.idle:
                    self._forget(machine)
            if now_s - alive_s >= ALIVE_S:
                alive_s = now_s
                with suppress(StoreError):
                    await self._stored(self._book.alive, now.utc_us)
            await asyncio.sleep(WATCH_S)

    def _judge(self, machine: Machine, now: Instant, *, unreachable_s: float) -> None:
        if unreachable_s > self._settings.platform_loss_s:
            machine.post(lambda now_s: machine.session.stop(NoticeReason.PLATFORM_LOST, now_s))
        elif self._around.athlete_at(machine.device, now.utc_us) != machine.moved_for:
            machine.post(lambda now_s: machine.session.stop(NoticeReason.BINDING_ENDED, now_s))

    async def _farewell(self) -> None:
        """Stop all that moves, as far as that goes within `FAREWELL_S`; the rest stays owed in the book."""
        moving = [machine for machine in self._machines.values() if machine.session.moving]
        for machine in moving:
            machine.post(lambda now_s, m=machine: m.session.stop(NoticeReason.SHUTDOWN, now_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                while any(machine.session.moving for machine in moving if machine.link is not None):
                    self._rested.clear()
                    await self._rested.wait()

    # machines

    def _machine(self, device: str, *, moving: bool = False) -> Machine:
        machine = self._machines.get(device)
        if machine is None:
            machine = self._machines[device] = Machine(device, self, self._settings.rules(device), moving=moving)
            assert self._group is not None, "machines are only told of while `run` works"
            self._tasks[device] = self._group.create_task(machine.run())
        return machine

    def _forget(self, machine: Machine) -> None:
        del self._machines[machine.device]
        self._tasks.pop(machine.device).cancel()

    async def _stored(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One call of the book at a time, beside the loop."""
        async with self._writing:
            return await asyncio.to_thread(work, *args, **kwargs)

    def _now_us(self) -> int | None:
        """For answers: None while the clock is not set."""
        now_us = self._clock().utc_us
        return now_us if now_us >= EARLIEST_UTC_US else None


def _refused(ident: str, device: str, reason: CommandReason, detail: str, at_us: int | None) -> Reply:
    return Reply(id=ident, device=device, state=CommandState.REFUSED, reason=reason, detail=detail[:400], at_us=at_us)
