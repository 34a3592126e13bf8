"""A fitness machine by the book, without a radio: what FTMS 1.0 and FE-C say a machine does with each message. For tests of sessions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import unpack_from

from broker.commands import Plain, Simulation, Target
from gateway.machine_effects import Abort, Effect, Moves, Noticed, Replied, Write
from gateway.machine_session import MachineSession


@dataclass
class FtmsModel:
    """A treadmill or trainer. `deny` control, `ignore` messages, `lie` about results: as a test wants."""

    held: bool = False
    running: bool = False
    paused: bool = False
    speed_kmh: float = 0.0
    incline_pct: float = 0.0
    power_w: int = 0
    resistance: float = 0.0
    road: tuple[float, float, float, float] | None = None
    deny: bool = False
    knows_stop: bool = True
    max_speed_kmh: float = 20.0
    got: list[bytes] = field(default_factory=list)

    def take(self, raw: bytes) -> bytes:
        self.got.append(raw)
        return bytes([0x80, raw[0], self._result(raw)])

    def revoke(self) -> bytes:
        """Control is taken back: the status that says so."""
        self.held = False
        return b"\xff"

    def press_stop(self) -> bytes:
        self.running = self.paused = False
        self.speed_kmh = 0.0
        return b"\x02\x01"

    def _result(self, raw: bytes) -> int:
        if raw[0] == 0x00:
            self.held = not self.deny
            return 1 if self.held else 5
        if not self.held:
            return 5
        match raw[0]:
            case 0x01:
                self.held = False
            case 0x02:
                (speed,) = unpack_from("<H", raw, 1)
                if speed / 100 > self.max_speed_kmh:
                    return 3
                self.speed_kmh = speed / 100
            case 0x03:
                self.incline_pct = unpack_from("<h", raw, 1)[0] / 10
            case 0x04:
                self.resistance = int.from_bytes(raw[1:], "little") / 10
            case 0x05:
                (self.power_w,) = unpack_from("<h", raw, 1)
            case 0x07:
                self.running, self.paused = True, False
            case 0x08:
                if not self.knows_stop:
                    return 2
                self.running, self.paused = False, raw[1] == 2
                self.speed_kmh = 0.0
            case 0x11:
                wind, grade, crr, cw = unpack_from("<hhBB", raw, 1)
                self.road = (wind / 1000, grade / 100, crr / 10_000, cw / 100)
            case 0x13:
                pass
            case _:
                return 2
        return 1


@dataclass
class FecModel:
    """A trainer on ANT+: the last command and how it fared, as page 71 tells."""

    power_w: float = 0.0
    resistance_pct: float = 0.0
    grade_pct: float = 0.0
    wind_kmh: int = 0
    status: int = 0
    got: list[bytes] = field(default_factory=list)
    sequence: int = 0

    def take(self, raw: bytes) -> bytes:
        self.got.append(raw)
        self.sequence = (self.sequence + 1) % 256
        if self.status in {0, 4}:
            match raw[0]:
                case 48:
                    self.resistance_pct, self.power_w = raw[7] / 2, 0.0
                case 49:
                    self.power_w = int.from_bytes(raw[6:8], "little") / 4
                case 50:
                    self.wind_kmh = raw[6] - 127
                case 51:
                    self.grade_pct = int.from_bytes(raw[5:7], "little") / 100 - 200
        return bytes([71, raw[0], self.sequence, self.status, *raw[4:8]])


class Bench:
    """A session on a model: writes are answered at once, or as `answer` says (None: not at all). Effects are kept by kind."""

    def __init__(self, session: MachineSession, take: Callable[[bytes], bytes]) -> None:
        self.session = session
        self.answer: Callable[[bytes], bytes | None] = take
        self.now_s = 1000.0
        self.effects: list[Effect] = []
        self.held_back: bytes | None = None
        self.hold = False

    def run(self, effects: list[Effect]) -> None:
        todo = list(effects)
        while todo:
            effect = todo.pop(0)
            self.effects.append(effect)
            if isinstance(effect, Abort):
                self.held_back = None
            elif isinstance(effect, Write):
                assert self.held_back is None, "one message is under way at a time"
                if self.hold:
                    self.held_back = effect.payload
                else:
                    todo += self.session.answered(self.answer(effect.payload), self.now_s)

    def let_go(self) -> None:
        """Answer the message that was held back."""
        raw, self.held_back = self.held_back, None
        assert raw is not None
        self.run(self.session.answered(self.answer(raw), self.now_s))

    def order(self, ident: str, action: str, value: float | None = None, *, good_for_s: float = 60.0) -> None:
        order = Plain.model_validate({"action": action}) if value is None else Target.model_validate({"action": action, "value": value})
        self.run(self.session.order(ident, order, self.now_s + good_for_s, self.now_s))

    def road(self, ident: str, grade_pct: float) -> None:
        order = Simulation(action="simulation", grade_pct=grade_pct)
        self.run(self.session.order(ident, order, self.now_s + 60, self.now_s))

    def told(self, what: int, payload: bytes) -> None:
        self.run(self.session.told(what, payload, self.now_s))

    def wait(self, seconds: float) -> None:
        """Let time pass, waking the session when it wants that."""
        end_s = self.now_s + seconds
        while self.session.wake_s is not None and self.session.wake_s <= end_s:
            self.now_s = max(self.session.wake_s, self.now_s)
            self.run(self.session.tick(self.now_s))
        self.now_s = end_s

    @property
    def replies(self) -> dict[str, Replied]:
        found: dict[str, Replied] = {}
        for effect in self.effects:
            if isinstance(effect, Replied):
                assert effect.ident, "the box's own orders are not answered"
                assert effect.ident not in found, f"{effect.ident} was answered twice"
                found[effect.ident] = effect
        return found

    def state(self, ident: str) -> tuple[str, str]:
        reply = self.replies[ident]
        return str(reply.state), str(reply.reason or "")

    @property
    def notices(self) -> list[tuple[str, str]]:
        return [(str(e.event), str(e.reason)) for e in self.effects if isinstance(e, Noticed)]

    @property
    def moves(self) -> list[bool]:
        return [e.moving for e in self.effects if isinstance(e, Moves)]


def shuffled(seed: int) -> random.Random:
    """Randomness of one test."""
    return random.Random(seed)
