"""One machine's task: feeds its session with what happens, one thing after the other, and does what the session wants.

The shell around `gateway.machine_session`. A write runs beside it, so that a stop can end the waiting for an answer. What must be durable
is so before the message that makes it necessary, and before the answer that tells of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from broker.faultpoints import hit
from gateway.controllable import ControlLink
from gateway.fec import CAPABILITIES, Fec
from gateway.ftms import FEATURES, RANGES, Ftms
from gateway.limits import GymLimits, gym_limits
from gateway.machine_dialect import MachineDialect
from gateway.machine_effects import Abort, Effect, Moves, Noticed, Replied, Write
from gateway.machine_session import MachineSession

log = logging.getLogger(__name__)

ANSWER_S: Final = {"ftms": 5.0, "fec": 3.0}  # FTMS would wait 30 s, longer than anybody on a belt does
ASKED: Final = {"ftms": (FEATURES, *RANGES), "fec": (CAPABILITIES,)}
READ_S: Final = 5.0
GRACE_S: Final = 1.0  # a link that keeps neither its time nor a cancellation is not waited for

Happening = Callable[[float], list[Effect]]
"""Something that happens to the session at a time of the loop's clock, and what the session wants then."""


class MachineReports(Protocol):
    """Who makes durable and tells on what the session says."""

    async def moves(self, machine: Machine, *, moving: bool) -> None: ...
    async def replied(self, machine: Machine, reply: Replied) -> None: ...
    async def noticed(self, machine: Machine, notice: Noticed) -> None: ...


class Machine:
    """`post` what happens, from the event loop; `run` until cancelled."""

    def __init__(self, device: str, reports: MachineReports, rules: tuple[GymLimits, ...], *, moving: bool = False) -> None:
        self.device = device
        self.athlete = ""
        """Of the last order."""
        self.moved_for = ""
        """The athlete whose order made it move."""
        self.link: ControlLink | None = None
        self.session = MachineSession(Ftms(), moving=moving)
        self._reports = reports
        self._rules = rules
        self._inbox: asyncio.Queue[Happening] = asyncio.Queue()
        self._writing: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._busy = False

    @property
    def idle(self) -> bool:
        """Nothing is known of it that is worth keeping."""
        return self.link is None and not self.session.moving and not self._busy and self._inbox.empty()

    def post(self, happening: Happening) -> None:
        """It happens as soon as what happened before is done with."""
        self._inbox.put_nowait(happening)

    def appeared(self, link: ControlLink) -> None:
        """A connection that takes commands."""
        self.link = link
        dialect = Fec() if link.dialect == "fec" else Ftms(link.identity)
        self.post(lambda now_s: self.session.linked(dialect, now_s))
        self._learning = asyncio.create_task(self._learn(link, dialect))

    def gone(self) -> None:
        """It is no more."""
        self.link = None
        for task in (self._learning, self._writing):
            if task is not None:
                task.cancel()
        self._learning = self._writing = None
        self.post(self.session.lost)

    async def run(self) -> None:
        """Work until cancelled; then nothing is written any more."""
        try:
            while True:
                happening = await self._next()
                self._busy = True
                await self._work(happening)
                self._busy = False
        finally:
            for task in (self._learning, self._writing):
                if task is not None:
                    task.cancel()

    async def _next(self) -> Happening:
        wake_s = self.session.wake_s
        try:
            async with asyncio.timeout_at(wake_s):
                return await self._inbox.get()
        except TimeoutError:
            return self.session.tick

    async def _work(self, happening: Happening) -> None:
        for effect in happening(asyncio.get_running_loop().time()):
            await self._carry(effect)

    async def _carry(self, effect: Effect) -> None:
        match effect:
            case Write():
                link = self.link
                if link is not None:  # else `gone` is in the inbox already, and answers for it
                    self._writing = asyncio.create_task(self._write(link, effect.payload))
            case Abort():
                if self._writing is not None:
                    self._writing.cancel()
                    await asyncio.wait({self._writing}, timeout=GRACE_S)
                    self._writing = None
            case Moves():
                await self._reports.moves(self, moving=effect.moving)
            case Replied():
                await self._reports.replied(self, effect)
            case Noticed():
                await self._reports.noticed(self, effect)

    async def _write(self, link: ControlLink, payload: bytes) -> None:
        """One message and its answer. A link that fails is a message without an answer: whoever owns it says when it is gone."""
        hit("equipment.before_write")
        answer: bytes | None = None
        timeout_s = ANSWER_S[link.dialect]
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                answer = await link.write(payload, timeout_s=timeout_s)
        except Exception as error:  # whatever a link raises: a stop must not die of it
            log.warning("%s: %s not answered: %s", self.device, payload.hex(), str(error) or type(error).__name__)
        hit("equipment.after_write")
        task = asyncio.current_task()

        def answered(now_s: float) -> list[Effect]:
            if self._writing is not task:  # a stop came first, or the link went
                return []
            self._writing = None
            return self.session.answered(answer, now_s)

        self.post(answered)

    async def _learn(self, link: ControlLink, dialect: MachineDialect) -> None:
        """Ask the machine for its ranges; what it does not say does not limit it."""
        facts = dialect.facts({what: await self._read(link, what) for what in ASKED[link.dialect]})
        limits = gym_limits(self._rules, facts.spans, facts.missing)
        log.info("%s can be commanded: %s", self.device, ", ".join(f"{q} {s.low:g} to {s.high:g}" for q, s in limits.spans.items()))

        def learned(_now_s: float) -> list[Effect]:
            if self.link is link:
                self.session.learned(limits)
            return []

        self.post(learned)

    async def _read(self, link: ControlLink, what: int) -> bytes | None:
        try:
            async with asyncio.timeout(READ_S + GRACE_S):
                return await link.read(what, timeout_s=READ_S)
        except Exception as error:
            log.info("%s: 0x%X not read: %s", self.device, what, str(error) or type(error).__name__)
            return None
