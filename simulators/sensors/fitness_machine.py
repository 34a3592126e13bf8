"""What every virtual fitness machine (service 0x1826) has: features, ranges, status, training status, and a control point that obeys.

Bytes from the facts of the Fitness Machine Service 1.0. A record whose fields do not fit one packet is split as the service says: all
packets but the last have bit 0 (More Data) set, and the field that bit 0 gates comes in the last one.
The control point: 0x00 gives control to whoever asks; every other op without control is refused with 5. It answers by an indication
`80 op result` (1 done, 2 not supported, 3 out of range, 4 failed, 5 not permitted) `answer_s` later, then tells the status.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypedDict

from broker.errors import BadInputError
from simulators.sensors.identity import Maker
from simulators.sensors.sensor import Characteristic, Report, Service, Written, uuid128
from simulators.sensors.ticking import Ticking

FITNESS_MACHINE: Final = uuid128("1826")
FEATURE: Final = uuid128("2ACC")
TRAINING_STATUS: Final = uuid128("2AD3")
SPEED_RANGE: Final = uuid128("2AD4")
INCLINE_RANGE: Final = uuid128("2AD5")
RESISTANCE_RANGE: Final = uuid128("2AD6")
POWER_RANGE: Final = uuid128("2AD8")
CONTROL_POINT: Final = uuid128("2AD9")
STATUS: Final = uuid128("2ADA")

REQUEST_CONTROL: Final = 0x00
RESET: Final = 0x01
SET_SPEED: Final = 0x02
SET_INCLINE: Final = 0x03
SET_RESISTANCE: Final = 0x04
SET_POWER: Final = 0x05
START: Final = 0x07
STOP: Final = 0x08
SIMULATE: Final = 0x11
OK, NOT_SUPPORTED, OUT_OF_RANGE, FAILED, NOT_PERMITTED = 1, 2, 3, 4, 5
_CONTROL_LOST: Final = b"\xff"
_IDLE, _MANUAL = b"\x00\x01", b"\x00\x0d"  # training status: no flags; idle, quick start


def split_record(flag_bytes: int, first: bytes, fields: Sequence[tuple[int, bytes]], *, room_bytes: int) -> list[bytes]:
    """The packets of one record. `first` is what bit 0 gates (absent: in the last packet); `fields` are (bit, bytes) in their order."""
    packets: list[bytes] = []
    flags, body = 1, b""
    for bit, data in fields:
        if body and flag_bytes + len(body) + len(data) > room_bytes:
            packets.append(flags.to_bytes(flag_bytes, "little") + body)
            flags, body = 1, b""
        flags |= 1 << bit
        body += data
    if body and flag_bytes + len(first) + len(body) > room_bytes:
        packets.append(flags.to_bytes(flag_bytes, "little") + body)
        flags, body = 1, b""
    packets.append((flags & ~1).to_bytes(flag_bytes, "little") + first + body)
    return packets


@dataclass(frozen=True, slots=True)
class Order:
    """One control op a machine obeys: how its argument may be packed, the range it takes, the status op it tells, and what it does."""

    layouts: tuple[str, ...]
    low: int
    high: int
    status: int
    obey: Callable[[int], None]


class MachineOptions(TypedDict, total=False):
    """Time between records (0.25 s), bytes of a packet (244), time to an answer (0.02 s), whether it stops when the link is lost (no)."""

    period_s: float
    room_bytes: int
    answer_s: float
    stops_on_loss: bool


class FitnessMachine(Ticking):
    """A machine with a control point. Subclasses give `orders` (by op), `data` (the measurement's UUID) and `tick`."""

    def __init__(
        self,
        data: str,
        features: tuple[int, int],
        ranges: Mapping[str, bytes],
        maker: Maker,
        options: MachineOptions,
    ) -> None:
        readable = (FEATURE, *ranges)
        characteristics = (
            Characteristic(data, ("notify",)),
            *(Characteristic(uuid, ("read",)) for uuid in readable),
            Characteristic(TRAINING_STATUS, ("read", "notify")),
            Characteristic(CONTROL_POINT, ("write", "indicate")),
            Characteristic(STATUS, ("notify",)),
        )
        own = Service(FITNESS_MACHINE, characteristics)
        values = {FEATURE: struct.pack("<II", *features), TRAINING_STATUS: _IDLE, **ranges, **maker.values()}
        super().__init__((own, *maker.services()), ("1826",), values, options.get("period_s", 0.25))
        self.data = data
        self.room_bytes = options.get("room_bytes", 244)
        self.orders: dict[int, Order] = {}
        self.controlled = False
        self.running = False
        self.elapsed_s: float = 0.0
        self._answer_s = options.get("answer_s", 0.02)
        self._stops_on_loss = options.get("stops_on_loss", False)
        self._mute = 0
        self._refused: set[int] = set()
        self._denied = 0
        self._now_s = 0.0

    def started(self) -> None:
        """It was started or resumed."""

    def stopped(self, *, pause: bool) -> None:
        """It was stopped or paused."""

    def reset(self) -> None:
        """All targets back to what they are at power on."""

    def write(self, uuid: str, payload: bytes, now_s: float) -> Written:
        if uuid != CONTROL_POINT:
            return Written(error=0x03)
        self._now_s = now_s
        if not payload:
            return Written(error=0x0D)  # invalid attribute value length
        result = self._result(payload)
        if self._mute > 0:
            self._mute -= 1
            return Written()
        answer = bytes([0x80, payload[0], result])
        self.say_at(now_s + self._answer_s, CONTROL_POINT, answer, {"op": payload[0], "result": result})
        if result == OK:
            self._tell(payload)
        return Written()

    def linked(self, up: bool, now_s: float) -> list[Report]:
        self._now_s = now_s
        if not up:
            self.controlled = False
            if self._stops_on_loss and self.running:
                self._halt(pause=False)
        return []

    def act(self, name: str, value: float, now_s: float) -> None:
        """`user_start`, `user_stop`, `user_pause`, `safety_key`, `lose_control`, and what makes control fail.

        `refuse` (an op: it fails from now on; -1: none does), `mute` (so many requests get no answer), `deny` (so many requests for control
        are refused).
        """
        self._now_s = now_s
        acts: dict[str, Callable[[], None]] = {
            "user_start": lambda: self._user(start=True, status=b"\x04"),
            "user_stop": lambda: self._user(start=False, status=b"\x02\x01"),
            "user_pause": lambda: self._user(start=False, status=b"\x02\x02"),
            "safety_key": lambda: self._user(start=False, status=b"\x03"),
            "lose_control": self._lose_control,
            "refuse": lambda: self._refused.clear() if value < 0 else self._refused.add(int(value)),
            "mute": lambda: setattr(self, "_mute", int(value)),
            "deny": lambda: setattr(self, "_denied", int(value)),
        }
        if name not in acts:
            raise BadInputError(f"act {name!r} is not known to a fitness machine", cure=f"it knows {', '.join(acts)}")
        acts[name]()

    def state(self) -> dict[str, float]:
        return {"controlled": float(self.controlled), "running": float(self.running), "elapsed_s": self.elapsed_s}

    def _result(self, payload: bytes) -> int:
        op, argument = payload[0], payload[1:]
        if op == REQUEST_CONTROL:
            if self._denied > 0:
                self._denied -= 1
                return FAILED
            self.controlled = True
            return OK
        if not self.controlled:
            return NOT_PERMITTED
        if op in self._refused:
            return FAILED
        if op == RESET:
            self.controlled = False
            self.reset()
            if self.running:
                self._halt(pause=False)
        elif op == START:
            self._run()
        elif op == STOP:
            if argument not in {b"\x01", b"\x02"}:
                return OUT_OF_RANGE
            self._halt(pause=argument == b"\x02")
        else:
            return self._order(op, argument)
        return OK

    def _order(self, op: int, argument: bytes) -> int:
        order = self.orders.get(op)
        if order is None:
            return NOT_SUPPORTED
        layout = next((one for one in order.layouts if struct.calcsize(one) == len(argument)), None)
        if layout is None:
            return OUT_OF_RANGE
        value = int(struct.unpack(layout, argument)[0])
        if not order.low <= value <= order.high:
            return OUT_OF_RANGE
        order.obey(value)
        return OK

    def _tell(self, payload: bytes) -> None:
        op, status = payload[0], b""
        if op in self.orders:
            status = bytes([self.orders[op].status]) + payload[1:]
        elif op in {RESET, START, STOP}:
            status = {RESET: b"\x01", START: b"\x04", STOP: b"\x02"}[op] + payload[1:]
        if status:
            self.say_at(self._now_s + self._answer_s, STATUS, status, {"status": status[0]})

    def _user(self, *, start: bool, status: bytes) -> None:
        if start:
            self._run()
        else:
            self._halt(pause=status == b"\x02\x02")
        self.say_at(self._now_s, STATUS, status, {"status": status[0]})

    def _run(self) -> None:
        self.running = True
        self.started()
        self._train(_MANUAL)

    def _halt(self, *, pause: bool) -> None:
        self.running = False
        self.stopped(pause=pause)
        self._train(_IDLE)

    def _train(self, status: bytes) -> None:
        self.keep(TRAINING_STATUS, status)
        self.say_at(self._now_s, TRAINING_STATUS, status, {"training": status[1]})

    def _lose_control(self) -> None:
        self.controlled = False
        self.say_at(self._now_s, STATUS, _CONTROL_LOST, {"status": 0xFF})
