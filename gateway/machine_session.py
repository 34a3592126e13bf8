"""The session with one machine: orders in, messages and answers out. Pure: time is an argument, nothing is sent here.

One message is under way at a time and one order is worked on; of the others only the newest of each action waits. A stop or pause waits
for nothing: it takes the place of all that waits and of what is under way. A stop the machine did not take, and one owed because the link
to it broke, is tried for `STOP_FOR_S`.
Invariants: every order gets exactly one final answer; `Moves(True)` comes before the first message that may move or load the machine, and
`Moves(False)` only once it was stopped (by us or at the machine), control was taken from us, or the stop is too late.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.commands import CommandReason, CommandState, NoticeEvent, NoticeReason, Order, Plain, Target
from device_profiles.errors import CommandError
from gateway.limits import Limits
from gateway.machine_dialect import Judged, MachineDialect, Told, Verdict
from gateway.machine_effects import Abort, Effect, Moves, Noticed, Replied, Write
from gateway.machine_job import Job, Ramp, Stopping

STOP_AGAIN_S: Final = 2.0
STOP_FOR_S: Final = 600.0
RAMP_STEP_S: Final = 1.0
OWN_ECHO_S: Final = 5.0  # after our own stop or pause a machine tells of it as if a user had pressed the button
_STOP: Final = Plain(action="stop")


class MachineSession:
    """One machine, over all its connections. `moving`: a stop is owed from before this process began."""

    def __init__(self, dialect: MachineDialect, *, moving: bool = False) -> None:
        self.moving = moving
        self.wake_s: float | None = None
        """When `tick` has something to do; None: nothing waits for time."""
        self._dialect = dialect
        self._limits: Limits | None = None
        self._linked = False
        self._held = False  # control of the machine is ours
        self._asking = False  # what is in flight is the request for control
        self._in_flight: bytes | None = None
        self._job: Job | None = None
        self._waiting: deque[Job] = deque()
        self._stopping: Stopping | None = None
        self._halted = False  # stopped at the machine: nothing but a start may move it again
        self._runs = False  # a start was taken, and no stop or pause since
        self._belt_mps = 0.0
        self._echo_until_s = 0.0

    @property
    def stopping(self) -> NoticeReason | None:
        """Why the box is stopping the machine, if it is."""
        return None if self._stopping is None else self._stopping.reason

    @property
    def waits(self) -> bool:
        """Whether an order other than a stop has no final answer yet."""
        return bool(self._waiting) or (self._job is not None and not self._job.stops)

    # what happens

    def linked(self, dialect: MachineDialect, now_s: float) -> list[Effect]:
        """A connection is up. A stop that is owed goes at once; other orders are refused until `learned`."""
        self._dialect = dialect
        self._linked, self._held, self._asking, self._in_flight, self.wake_s = True, False, False, None, None
        self._runs = False
        if self.moving and self._stopping is None:
            self._stopping = Stopping(NoticeReason.LINK_LOST, now_s + STOP_FOR_S)
        return self._go_on(now_s)

    def learned(self, limits: Limits) -> None:
        """What holds for this machine from now on."""
        self._limits = limits

    def lost(self, now_s: float) -> list[Effect]:
        """The connection is gone. What was under way is lost, what waited is refused, a stop is owed if the machine moved."""
        self._in_flight = None  # there is nobody to answer
        effects = self._clear(CommandReason.LINK_LOST)
        self._linked = self._held = False
        self._limits = None
        if self.moving and self._stopping is None:
            self._stopping = Stopping(NoticeReason.LINK_LOST, now_s + STOP_FOR_S)
        return [*effects, *self._go_on(now_s)]

    def order(self, ident: str, order: Order, expires_s: float, now_s: float) -> list[Effect]:
        """An order that was accepted: its one final answer comes now or later. `expires_s`: too late to begin with it."""
        job = Job(order, ident, expires_s)
        if (refused := self._refused(job)) is not None:
            return [refused]
        ends_all = order.action in {"stop", "pause"}
        if ends_all and (self._job is None or not self._job.stops):
            effects = self._clear(CommandReason.STOPPED)
            self._job = job
            return [*effects, *self._go_on(now_s)]
        effects: list[Effect] = []
        for older in [w for w in self._waiting if w.order.action == order.action]:
            self._waiting.remove(older)
            effects.append(older.refused(CommandReason.SUPERSEDED))
        self._waiting.append(job)
        return [*effects, *self._go_on(now_s)]

    def stop(self, reason: NoticeReason, now_s: float, *, for_s: float = STOP_FOR_S) -> list[Effect]:
        """Stop by ourselves, if the machine moves by our command; tried for `for_s`. One under way is not begun again."""
        if not self.moving or self._stopping is not None:
            return []
        self._stopping = Stopping(reason, now_s + for_s)
        if self._job is not None and self._job.stops:
            return []
        return [*self._clear(CommandReason.STOPPED), *self._go_on(now_s)]

    def withdraw(self, reason: CommandReason, now_s: float) -> list[Effect]:
        """Nobody may have what is ordered any more: it ends, but a stop under way goes on."""
        if self._job is not None and not self._job.stops:
            return [*self._clear(reason), *self._go_on(now_s)]
        effects: list[Effect] = [job.refused(reason) for job in self._waiting]
        self._waiting.clear()
        return effects

    def answered(self, answer: bytes | None, now_s: float) -> list[Effect]:
        """The answer to the last `Write`; None when there was none in time."""
        sent, self._in_flight = self._in_flight, None
        job = self._job
        if sent is None or job is None:
            return []
        asked, self._asking = self._asking, False
        if answer is None:
            return self._unanswered(job, sent, now_s, asked=asked)
        judged = self._dialect.judge(sent, answer)
        if not asked:
            return self._step(job, judged, now_s)
        if judged.verdict is not Verdict.TAKEN:
            return self._give_up(job, CommandReason.NO_CONTROL, judged.detail, now_s)
        self._held = True
        return self._go_on(now_s)

    def told(self, what: int, payload: bytes, now_s: float) -> list[Effect]:
        """What the machine says unasked."""
        said = self._dialect.heard(what, payload)
        if said.speed_mps is not None:
            self._belt_mps = said.speed_mps
        if said.event is not None and said.event is not Told.CONTROL_LOST:
            self._runs = said.event is Told.STARTED
        match said.event:
            case Told.CONTROL_LOST:
                return self._lost_control(now_s)
            case Told.SAFETY_KEY:
                return self._halt(NoticeReason.SAFETY_KEY, now_s)
            case Told.USER_STOPPED | Told.USER_PAUSED if now_s >= self._echo_until_s:
                return self._halt(NoticeReason.USER, now_s, paused=said.event is Told.USER_PAUSED)
            case Told.STARTED:
                self._halted = False
            case Told.RESET:
                self._held = False
            case _:
                pass
        return []

    def tick(self, now_s: float) -> list[Effect]:
        """Time passed."""
        if self.wake_s is None or now_s < self.wake_s:
            return []
        self.wake_s = None
        return self._go_on(now_s)

    # what follows

    def _go_on(self, now_s: float) -> list[Effect]:
        """The next message, if it is time for one."""
        effects = [] if self._stopping is None else self._begin_stop(self._stopping, now_s)
        while self._linked and self._in_flight is None and (self._job is not None or self._waiting):
            if self._job is None:
                self._job = self._waiting.popleft()
            job = self._job
            if (ended := self._begin(job, now_s)) is not None:
                effects.append(ended)
                self._job = self.wake_s = None
            elif self.wake_s is not None and now_s < self.wake_s:
                break
            else:
                effects += self._send(job, now_s)
        return effects

    def _begin_stop(self, stopping: Stopping, now_s: float) -> list[Effect]:
        if now_s >= stopping.until_s:
            self._stopping = None
            own = self._job is not None and not self._job.ident
            effects = self._clear(CommandReason.STOPPED) if own else []
            late = Noticed(NoticeEvent.STOP_FAILED, NoticeReason.TOO_LATE, f"it was owed because of {stopping.reason or 'a command'}")
            return [*effects, *self._set_moving(moving=False), late]
        if not self._linked:
            self.wake_s = stopping.until_s
            told, stopping.told_owed = stopping.told_owed, True
            return [] if told else [Noticed(NoticeEvent.STOP_OWED, stopping.reason)]
        if self._job is None:
            self._job = Job(_STOP, "", stopping.until_s)
        return []

    def _begin(self, job: Job, now_s: float) -> Replied | None:
        """Plan a job when it is its turn; the answer when it ends here."""
        if job.steps:
            newer = any(w.order.action == job.order.action for w in self._waiting)
            return job.refused(CommandReason.SUPERSEDED) if newer and job.ramp is not None and job.sent else None
        if now_s >= job.expires_s:
            return job.refused(CommandReason.EXPIRED)
        if (refused := self._refused(job)) is not None:
            return refused
        try:
            job.steps.extend(self._dialect.plan(self._first_step(job)))
        except CommandError as error:
            return job.refused(CommandReason.LIMIT, str(error))
        if not job.steps:
            return job.refused(CommandReason.NOT_SUPPORTED, f"this kind of machine cannot be told {job.order.action}")
        return None

    def _first_step(self, job: Job) -> Order:
        """The order as the machine gets it: on its grid of values, and of a belt only the first step of the way."""
        order, limits = job.order, self._limits
        if not isinstance(order, Target) or limits is None:
            return order
        span = limits.spans.get(order.action)
        order = order if span is None else order.model_copy(update={"value": span.rounded(order.value)})
        if order.action != "speed_mps" or limits.ramp_mps2 is None:
            return order
        job.ramp = Ramp(self._belt_mps, order.value, limits.ramp_mps2 * RAMP_STEP_S, 0.0 if span is None else span.low)
        return job.ramp.next()

    def _refused(self, job: Job) -> Replied | None:
        if not self._linked:
            owed = "; a stop is owed to it" if self._stopping is not None else ""
            return job.refused(CommandReason.NOT_CONTROLLABLE, f"there is no connection to the machine{owed}")
        if job.stops:
            return None
        limits = self._limits
        if limits is None:
            return job.refused(CommandReason.NOT_CONTROLLABLE, "the machine is still being asked for its limits")
        if job.order.action in limits.missing:
            return job.refused(CommandReason.NOT_SUPPORTED, f"the machine says it has no {job.order.action}")
        if beyond := limits.refusal(job.order):
            return job.refused(CommandReason.LIMIT, beyond)
        if self._runs and self._dialect.undoes(job.order):
            return job.refused(CommandReason.INVALID, f"the machine runs, and would take a second {job.order.action} for a pause")
        if self._halted and job.moves and job.order.action != "start":
            return job.refused(CommandReason.HALTED)
        return None

    def _send(self, job: Job, now_s: float) -> list[Effect]:
        self.wake_s = None
        control = self._dialect.control
        if control is not None and not self._held:
            self._asking, self._in_flight = True, control
            return [Write(control)]
        if job.order.action in {"stop", "pause"}:
            self._echo_until_s = now_s + OWN_ECHO_S
        job.sent += 1
        job.began_moving |= job.moves and not self.moving
        self._in_flight = job.steps[0]
        return [*(self._set_moving(moving=True) if job.moves else ()), Write(job.steps[0])]

    def _step(self, job: Job, judged: Judged, now_s: float) -> list[Effect]:
        match judged.verdict:
            case Verdict.TAKEN:
                return self._taken(job, now_s)
            case Verdict.AGAIN if not job.control_retried:
                self._held, job.control_retried = False, True
                return self._go_on(now_s)
            case Verdict.AGAIN:
                self._held = False
                return self._give_up(job, CommandReason.NO_CONTROL, judged.detail, now_s)
            case Verdict.REFUSED:
                release = self._dialect.release()
                if job.stops and judged.reason is CommandReason.NOT_SUPPORTED and not job.released and release:
                    job.released, job.steps = True, deque(release)
                    return self._go_on(now_s)
                return self._give_up(job, judged.reason or CommandReason.FAILED, judged.detail, now_s)

    def _taken(self, job: Job, now_s: float) -> list[Effect]:
        job.steps.popleft()
        job.taken = True
        job.control_retried = job.repeated = False
        if job.ramp is not None:
            self._belt_mps = job.ramp.at_mps
            if not job.ramp.there:
                job.steps.extend(self._dialect.plan(job.ramp.next()))
                self.wake_s = now_s + RAMP_STEP_S
        elif isinstance(job.order, Target) and job.order.action == "speed_mps":
            self._belt_mps = job.order.value
        if job.steps:
            return self._go_on(now_s)
        self._job = None
        effects: list[Effect] = []
        if isinstance(job.order, Plain) and job.order.action != "spindown":
            self._runs = job.order.action == "start"
        match job.order.action:
            case "start":
                self._halted = False
            case "reset":
                self._held = False
            case "stop":
                effects += self._stopped(job)
            case _:
                pass
        if job.ident:
            detail = "the machine knows no stop; its load was taken off" if job.released else ""
            effects.append(Replied(job.ident, CommandState.DONE, None, detail))
        return effects + self._go_on(now_s)

    def _stopped(self, job: Job) -> list[Effect]:
        """A stop was taken."""
        self._belt_mps = 0.0
        stopping, self._stopping = self._stopping, None
        effects = self._set_moving(moving=False)
        if stopping is not None:
            effects.append(Noticed(NoticeEvent.STOPPED, stopping.reason, "its load was taken off" if job.released else ""))
        return effects

    def _unanswered(self, job: Job, sent: bytes, now_s: float, *, asked: bool) -> list[Effect]:
        if asked:
            return self._give_up(job, CommandReason.NO_CONTROL, "no answer to the request for control", now_s)
        if self._dialect.repeatable(sent) and not job.repeated:
            job.repeated = True
            return self._go_on(now_s)
        self._held = False
        return self._give_up(job, CommandReason.NO_ANSWER, "", now_s)

    def _give_up(self, job: Job, reason: CommandReason, detail: str, now_s: float) -> list[Effect]:
        """End a job without success. A stop of a machine that moves goes on being tried, as ours."""
        self._job = None
        effects: list[Effect] = []
        unknown = reason is CommandReason.NO_ANSWER
        if job.ident:
            effects.append(Replied(job.ident, CommandState.LOST if unknown else CommandState.REFUSED, reason, detail))
        untouched = not (unknown or job.taken or job.repeated or job.ramp is not None)
        if job.began_moving and untouched:
            effects += self._set_moving(moving=False)
        if not job.stops or not self.moving:
            return effects + self._go_on(now_s)
        stopping = self._stopping = self._stopping or Stopping(NoticeReason.NONE, now_s + STOP_FOR_S)
        if not stopping.told_failed:
            stopping.told_failed = True
            effects.append(Noticed(NoticeEvent.STOP_FAILED, stopping.reason, f"{reason}: {detail or 'no more is known'}; trying on"))
        self._job = Job(_STOP, "", stopping.until_s)
        self.wake_s = now_s + STOP_AGAIN_S
        return effects + self._go_on(now_s)

    def _lost_control(self, now_s: float) -> list[Effect]:
        """The machine took control back. A stop under way asks for it again; everything else ends, and no stop is owed any more."""
        self._held = False
        if self._stopping is not None or (self._job is not None and self._job.stops):
            return []
        effects = self._clear(CommandReason.CONTROL_LOST)
        return [*effects, *self._set_moving(moving=False), Noticed(NoticeEvent.CONTROL_LOST), *self._go_on(now_s)]

    def _halt(self, reason: NoticeReason, now_s: float, *, paused: bool = False) -> list[Effect]:
        """A button or the key at the machine: what waits ends, and nothing moves it before a start. A pause still owes a stop."""
        self._halted = True
        effects: list[Effect] = []
        if self._job is None or not self._job.stops:
            effects += self._clear(CommandReason.HALTED)
        if not paused:
            self._belt_mps = 0.0
            if self._stopping is None:
                effects += self._set_moving(moving=False)
        return [*effects, Noticed(NoticeEvent.HALTED, reason, "paused" if paused else ""), *self._go_on(now_s)]

    def _clear(self, reason: CommandReason) -> list[Effect]:
        """End everything that waits or is under way."""
        effects: list[Effect] = []
        if self._in_flight is not None:
            effects.append(Abort())
            self._held = self._held and not self._asking
        if self._job is not None and self._job.ident:
            effects.append(self._job.ended(reason))
        effects += [job.refused(reason) for job in self._waiting]
        self._waiting.clear()
        self._job = self._in_flight = self.wake_s = None
        self._asking = False
        return effects

    def _set_moving(self, *, moving: bool) -> list[Effect]:
        if moving == self.moving:
            return []
        self.moving = moving
        return [Moves(moving)]
