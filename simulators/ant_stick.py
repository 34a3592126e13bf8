"""A virtual ANT stick (pure, sans-I/O): what a host writes and the time go in, what the stick writes comes out.

It knows the commands of a real one as far as a receiver needs them: reset, questions, network key, channels that search and track, the scan
that hears everybody, extended messages, acknowledged messages and bursts to a device. Sensors of a room transmit in their own periods;
whoever set another network key hears none of them. Faults damage what goes to the host; `on_page` is told of every page, whole or not.
Own framing, on purpose: it shares no code with the gateway it tests. Shells: `ant_pty`, `ant_usb`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from simulators.ant_sensors import TICKS_PER_S, Sensor
from simulators.noise import key_of, mix, uniform

SYNC: Final = 0xA4
OK, SEARCH_TIMEOUT, MISSED, DONE, FAILED, CLOSED, BACK_TO_SEARCH, COLLISION = 0, 1, 2, 5, 6, 7, 8, 9
WRONG_STATE, TRANSFER_IN_PROGRESS, INVALID_MESSAGE, INVALID_SCAN_TRANSMIT = 21, 31, 40, 49
UNASSIGNED, ASSIGNED, SEARCHING, TRACKING = range(4)
_CRYSTAL: Final = 50e-6  # how wrong a sensor's clock may be: two of one period meet, and part again
_AIR_US: Final = 300  # a message that begins so soon after another is lost
_MISSES: Final = 8  # in a row, before a tracking channel searches again
_STEP_US: Final = 2_500_000


@dataclass(frozen=True, slots=True)
class StickModel:
    """What a stick can do."""

    channels: int = 8
    can_scan: bool = True
    can_extend: bool = True
    serial: int = 4711
    version: str = "VSTICK1.00"


@dataclass(slots=True)
class StickFaults:
    """What goes wrong. Numbers of frames between two faults, 0: never. May be changed while it runs."""

    corrupt_every: int = 0  # one byte of such a frame is another one
    lose_every: int = 0  # one byte of such a frame is missing
    collide: bool = False  # of two sensors at one moment the later is lost
    fail_transfers: int = 0  # of the next messages to devices, so many are not acknowledged
    deaf: bool = False  # says nothing at all
    seed: int = 0


@dataclass(slots=True)
class _Channel:
    state: int = UNASSIGNED
    network: int = 0
    background: bool = False
    number: int = 0
    type: int = 0
    transmission: int = 0
    period: int = 8192
    timeout_steps: int = 12
    until_us: int | None = None
    entries: dict[int, bytes] = field(default_factory=dict[int, bytes])  # ids a search leaves out, as far as `listed`
    listed: int = 0
    tracked: Sensor | None = None
    misses: int = 0
    waiting: bytearray = field(default_factory=bytearray)  # a message for the device, until it is heard
    burst: bytearray = field(default_factory=bytearray)

    def set(self, message: int, data: bytes) -> None:
        """One setting of an assigned channel."""
        match message:
            case 0x51:
                self.number, self.type, self.transmission = data[1] | data[2] << 8, data[3], data[4]
            case 0x43:
                self.period = data[1] | data[2] << 8
            case 0x44:
                self.timeout_steps = data[1]
            case 0x59:
                self.entries[data[5]] = data[1:5]
            case 0x5A:
                self.listed = data[1] if data[2] else 0
            case _:
                pass  # frequency, waveform and low-priority search make no difference here

    def matches(self, sensor: Sensor) -> bool:
        """Whether its id mask lets the sensor in, and its list does not leave it out."""
        low = sensor.number & 0xFFFF
        if any(self.entries.get(place) == sensor.channel_id for place in range(self.listed)):
            return False
        return self.number in (0, low) and self.type in (0, sensor.type) and self.transmission in (0, sensor.transmission)


class VirtualStick:
    """One stick in a room. `key` is the network key the sensors of the room use."""

    def __init__(
        self,
        sensors: list[Sensor],
        key: bytes,
        *,
        model: StickModel | None = None,
        faults: StickFaults | None = None,
        on_page: Callable[[Sensor, bytes, bool], None] = lambda _sensor, _page, _whole: None,
    ) -> None:
        self.model = model or StickModel()
        self.faults = faults or StickFaults()
        self.sensors = {(s.type, s.number): s for s in sensors}
        self.frames = self.damaged = self.collisions = 0
        self._key = key
        self._on_page = on_page
        self._in = bytearray()
        self._out = bytearray()
        self._now_us = 0
        self._last_air_us = -1_000_000
        self._air: list[tuple[int, int, Sensor]] = []
        for i, sensor in enumerate(sensors):
            heapq.heappush(self._air, (mix(key_of("air"), i) % (sensor.period * 1_000_000 // TICKS_PER_S), i, sensor))
        self._forget()

    def _forget(self) -> None:
        self._channels = [_Channel() for _ in range(self.model.channels)]
        self._networks = [b""] * 3
        self._flags = 0
        self._scanning = False

    def restart(self, cause: int = 0) -> None:
        """It lost its power for a moment: all it was told is forgotten."""
        self._forget()
        self._in.clear()
        self._say(0x6F, bytes((cause,)))

    def take(self) -> bytes:
        """What the host can read now; given once."""
        out = bytes(self._out)
        self._out.clear()
        return b"" if self.faults.deaf else out

    def next_us(self) -> int:
        """When the next sensor transmits."""
        return self._air[0][0] if self._air else self._now_us + 1_000_000

    def leave(self, sensor: Sensor) -> None:
        """The sensor is carried away."""
        self.sensors.pop((sensor.type, sensor.number), None)

    def come(self, sensor: Sensor) -> None:
        """It is back: in the room it was in at the start."""
        self.sensors[sensor.type, sensor.number] = sensor

    def advance(self, t_us: int) -> None:
        """Let the room live until `t_us`."""
        while self._air and self._air[0][0] <= t_us:
            at_us, i, sensor = heapq.heappop(self._air)
            step_us = sensor.period * 1_000_000 / TICKS_PER_S * (1 + uniform(key_of("crystal"), i, -_CRYSTAL, _CRYSTAL))
            heapq.heappush(self._air, (at_us + round(step_us), i, sensor))
            self._now_us = at_us
            self._expire()
            if (sensor.type, sensor.number) in self.sensors:
                self._transmit(sensor, at_us)
            else:
                self._silence(sensor)
        self._now_us = max(self._now_us, t_us)
        self._expire()

    def feed(self, data: bytes) -> None:
        """Take what the host writes; a damaged frame is answered with nothing."""
        self._in += data
        while len(self._in) >= 4:
            if self._in[0] != SYNC:
                del self._in[0]
                continue
            size = self._in[1] + 4
            if len(self._in) < size:
                return
            frame = bytes(self._in[:size])
            check = 0
            for byte in frame:
                check ^= byte
            if check:
                del self._in[0]
                continue
            del self._in[:size]
            self._obey(frame[2], frame[3:-1])

    def _obey(self, message: int, data: bytes) -> None:
        if message == 0x4A:
            self.restart(0x20)
        elif message == 0x4D:
            self._answer(data[0], data[1])
        elif message in (0x46, 0x66, 0x6E):
            if message == 0x46:
                self._networks[data[0] % 3] = data[1:]
            elif message == 0x66:
                self._flags = 0x80 if data[1] and self.model.can_extend else 0
            else:
                self._flags = data[1] if self.model.can_extend else 0
            self._respond(data[0], message, OK if message == 0x46 or self.model.can_extend else INVALID_MESSAGE)
        elif message in (0x4F, 0x50):
            self._message_to_device(message, data)
        elif data and (data[0] & 0x1F) < len(self._channels):
            self._respond(data[0], message, self._configure(self._channels[data[0]], message, data))
            if message == 0x4C and self._channels[data[0]].state >= SEARCHING:
                self._close(data[0])
        else:
            self._respond(data[0] if data else 0, message, INVALID_MESSAGE)

    def _configure(self, channel: _Channel, message: int, data: bytes) -> int:
        state = channel.state
        match message:
            case 0x42 if state == UNASSIGNED:
                channel.state, channel.network, channel.background = ASSIGNED, data[2], len(data) > 3 and bool(data[3] & 1)
            case 0x41 if state == ASSIGNED:
                channel.state = UNASSIGNED
                channel.waiting.clear()
            case 0x43 | 0x44 | 0x45 | 0x49 | 0x51 | 0x59 | 0x5A | 0x63 if state >= ASSIGNED:
                channel.set(message, data)
            case 0x4B if state == ASSIGNED and not self._scanning:
                self._search(channel)
            case 0x5B if self.model.can_scan and state == ASSIGNED and all(c.state < SEARCHING for c in self._channels):
                self._scanning, channel.state = True, TRACKING
            case 0x5B if not self.model.can_scan:
                return INVALID_MESSAGE
            case 0x4C if state >= SEARCHING:
                pass
            case 0x41 | 0x42 | 0x43 | 0x44 | 0x45 | 0x49 | 0x4B | 0x4C | 0x51 | 0x59 | 0x5A | 0x5B | 0x63:
                return WRONG_STATE
            case _:
                return INVALID_MESSAGE
        return OK

    def _search(self, channel: _Channel) -> None:
        channel.state, channel.tracked, channel.misses = SEARCHING, None, 0
        channel.until_us = None if channel.timeout_steps == 255 else self._now_us + channel.timeout_steps * _STEP_US

    def _close(self, number: int) -> None:
        channel = self._channels[number]
        channel.state, channel.tracked, channel.until_us = ASSIGNED, None, None
        if self._scanning and number == 0:
            self._scanning = False
        self._event(number, CLOSED)

    def _expire(self) -> None:
        for number, channel in enumerate(self._channels):
            if channel.state == SEARCHING and channel.until_us is not None and channel.until_us <= self._now_us:
                self._event(number, SEARCH_TIMEOUT)
                self._close(number)

    def _answer(self, number: int, wanted: int) -> None:
        model = self.model
        channel = self._channels[number] if number < len(self._channels) else _Channel()
        if wanted == 0x54:
            second = (0x04 if model.can_scan else 0) | (0x02 if model.can_extend else 0) | 0x30
            self._say(0x54, bytes((model.channels, 3, 0, 0xBA, second, 0)))
        elif wanted == 0x3E:
            self._say(0x3E, model.version.encode() + b"\0")
        elif wanted == 0x61:
            self._say(0x61, model.serial.to_bytes(4, "little"))
        elif wanted == 0x51:
            who = (
                channel.tracked.channel_id
                if channel.tracked
                else bytes((channel.number & 0xFF, channel.number >> 8, channel.type, channel.transmission))
            )
            self._say(0x51, bytes((number,)) + who)
        elif wanted == 0x52:
            self._say(0x52, bytes((number, channel.state)))
        else:
            self._respond(number, 0x4D, INVALID_MESSAGE)

    def _message_to_device(self, message: int, data: bytes) -> None:
        number = data[0] & 0x1F
        channel = self._channels[number] if number < len(self._channels) else _Channel()
        if self._scanning and number == 0:
            self._respond(number, message, INVALID_SCAN_TRANSMIT)
        elif channel.state == UNASSIGNED or (not self._scanning and channel.state != TRACKING):
            self._respond(number, message, WRONG_STATE)
        elif channel.waiting:
            self._respond(number, message, TRANSFER_IN_PROGRESS)
        elif message == 0x4F:
            channel.waiting += data[1:9]
        else:
            if not data[0] >> 5 & 0b11:
                channel.burst.clear()
            channel.burst += data[1:9]
            if data[0] & 0x80:
                channel.waiting += channel.burst

    def _transmit(self, sensor: Sensor, at_us: int) -> None:
        page = sensor.page(at_us)
        if self.faults.collide and at_us - self._last_air_us < _AIR_US:
            self.collisions += 1
            self._last_air_us = at_us
            self._collided(sensor)
            return
        self._last_air_us = at_us
        for number, channel in enumerate(self._channels):
            if self._networks[channel.network % 3] != self._key:
                continue
            if self._scanning and number and channel.waiting and channel.matches(sensor):
                self._hand_over(number, channel, sensor)
            elif self._hears(channel, sensor, scan=self._scanning and number == 0):
                self._on_page(sensor, page, self._page(number, sensor, page, at_us))
                if channel.waiting:
                    self._hand_over(number, channel, sensor)

    def _hears(self, channel: _Channel, sensor: Sensor, *, scan: bool) -> bool:
        if scan:
            return channel.matches(sensor)
        if channel.state == TRACKING and not self._scanning:
            channel.misses = 0 if channel.tracked is sensor else channel.misses
            return channel.tracked is sensor
        if channel.state == SEARCHING and channel.matches(sensor) and (channel.period == sensor.period or channel.background):
            if not channel.background:
                channel.state, channel.tracked, channel.until_us = TRACKING, sensor, None
            return True
        return False

    def _silence(self, sensor: Sensor) -> None:
        for number, channel in enumerate(self._channels):
            if channel.tracked is sensor:
                channel.misses += 1
                self._event(number, MISSED)
                if channel.misses >= _MISSES:
                    self._event(number, BACK_TO_SEARCH)
                    self._search(channel)

    def _collided(self, sensor: Sensor) -> None:
        for number, channel in enumerate(self._channels):
            if channel.tracked is sensor:
                self._event(number, COLLISION)

    def _hand_over(self, number: int, channel: _Channel, sensor: Sensor) -> None:
        content = bytes(channel.waiting)
        channel.waiting.clear()
        if self.faults.fail_transfers > 0:
            self.faults.fail_transfers -= 1
            self._event(number, FAILED)
            return
        for at in range(0, len(content), 8):
            sensor.obey(content[at : at + 8])
        self._event(number, DONE)

    def _page(self, number: int, sensor: Sensor, page: bytes, at_us: int) -> bool:
        more = b""
        if self._flags:
            more = bytes((self._flags,))
            more += sensor.channel_id if self._flags & 0x80 else b""
            more += bytes((0x20, round(sensor.wobble(at_us, -65, 15, 47)) & 0xFF, 0x80)) if self._flags & 0x40 else b""
            more += ((at_us * TICKS_PER_S // 1_000_000) & 0xFFFF).to_bytes(2, "little") if self._flags & 0x20 else b""
        return self._say(0x4E, bytes((number,)) + page + more)

    def _event(self, number: int, code: int) -> None:
        self._say(0x40, bytes((number, 1, code)))

    def _respond(self, number: int, to: int, code: int) -> None:
        self._say(0x40, bytes((number, to, code)))

    def _say(self, message: int, data: bytes) -> bool:
        """Write a frame; False when a fault has hit it."""
        frame = bytearray((SYNC, len(data), message)) + data
        check = 0
        for byte in frame:
            check ^= byte
        frame.append(check)
        self.frames += 1
        faults = self.faults
        draw = mix(key_of("stick", faults.seed), self.frames)
        whole = True
        if faults.corrupt_every and self.frames % faults.corrupt_every == 0:
            frame[draw % len(frame)] ^= 1 + (draw >> 20) % 255
            whole = False
        if faults.lose_every and self.frames % faults.lose_every == 0:
            del frame[(draw >> 8) % len(frame)]
            whole = False
        self.damaged += not whole
        self._out += frame
        return whole and not faults.deaf
