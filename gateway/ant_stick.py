"""The conversation with one ANT stick (pure, sans-I/O): from its reset to the pages of a whole room, as a table of phases.

    RESETTING -> ASKING -> SETTING -> LISTENING        any of them -> FAILED, with the reason

Feed it the stick's bytes and the time, write what `outgoing` gives, call `wake` at `deadline_s`. A stick that can scan hears everybody on
channel 0; one that cannot gets a channel for each master it finds, and free channels look for one kind of sensor after the other.
A start message out of turn, or a channel that is not open any more, begins again at RESETTING; a stick that does not answer FAILS: only the
shell can open it anew. The network key is in no message of an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.ant_bursts import Bursts
from gateway.ant_channel import Channel, State
from gateway.ant_commands import Ask, Commands, End, Ended
from gateway.ant_framing import Framer, Id, Message, encode
from gateway.ant_messages import (
    ANTPLUS_FREQUENCY,
    About,
    Capabilities,
    ChannelId,
    ChannelIs,
    Code,
    Data,
    Event,
    Heard,
    Response,
    Startup,
    Unknown,
    assign,
    extend,
    network_key,
    open_scan,
    request,
    reset,
    set_frequency,
    set_id,
    unassign,
    understand,
)
from gateway.ant_search import Search, Searching
from gateway.ant_transfers import CONTROL_CHANNEL, Delivered, Route, Transfers

NETWORK: Final = 0
QUIET_S: Final = 10.0  # nothing from the stick for so long: is it still there?
STALE_S: Final = 0.1  # a frame begun and not ended after so long has lost a byte
ANYBODY: Final = ChannelId(0, 0, 0)


class Phase(Enum):
    """Where the conversation is."""

    RESETTING = auto()
    ASKING = auto()
    SETTING = auto()
    LISTENING = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class StickSettings:
    """What to tell a stick. `searches` is used only where it cannot scan, or `may_scan` forbids it."""

    key: bytes
    searches: tuple[Search, ...]
    may_scan: bool = True
    frequency: int = ANTPLUS_FREQUENCY

    def __repr__(self) -> str:
        return f"StickSettings(key=********, {len(self.searches)} searches, may_scan={self.may_scan})"


@dataclass(frozen=True, slots=True)
class Page:
    """Eight bytes of `who`, or a whole burst."""

    who: ChannelId
    payload: bytes
    rssi_dbm: int | None
    time: int | None
    broadcast: bool


Output = Page | Delivered


class Stick:
    """One stick from the moment its port is open. A new one for each opening."""

    def __init__(self, settings: StickSettings, now_s: float) -> None:
        self._set = settings
        self.phase = Phase.RESETTING
        self.reason = ""
        self.capabilities: Capabilities | None = None
        self.version = ""
        self.serial: int | None = None
        self.restarts = 0
        self.unexpected = 0
        self.scanning = settings.may_scan
        self.framer = Framer()
        self.commands = Commands()
        self.bursts = Bursts()
        self.channels: dict[int, Channel] = {}
        self.transfers = Transfers(self._way_to)
        self._out = bytearray()
        self._heard_s = now_s
        self.searching = Searching(settings.searches, settings.frequency)
        self._extends = True
        self._enter(Phase.RESETTING)

    def outgoing(self) -> bytes:
        """Bytes to write now; they are given once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def deadline_s(self) -> float:
        """When to call `wake` if nothing is heard before."""
        times = [self._heard_s + STALE_S] if self.framer.waiting else []
        if (asked := self.commands.deadline_s()) is not None:
            times.append(asked)
        if self.phase is Phase.LISTENING:
            if (waits := self.transfers.deadline_s()) is not None:
                times.append(waits)
            if asked is None:
                times.append(self._heard_s + QUIET_S)
            if asked is None and not self.scanning and (search := self.searching.deadline_s(self.channels)) is not None:
                times.append(search)
        return min(times, default=self._heard_s + QUIET_S)

    def forget(self, ticket: int) -> None:
        """Nobody waits for this transfer any more."""
        self.transfers.forget(ticket)

    def send(self, who: ChannelId, content: bytes, ticket: int, now_s: float) -> None:
        """Give `content` to a device: eight bytes as an acknowledged message, more as a burst. A `Delivered` with `ticket` follows."""
        self.transfers.add(who, content, ticket, now_s)

    def feed(self, data: bytes, now_s: float) -> list[Output]:
        """Take bytes of the stick: what they came to. Nothing any more once it has failed."""
        if self.phase is Phase.FAILED:
            return []
        self._heard_s = now_s
        output: list[Output] = []
        for message in self.framer.feed(data):
            self._take(understand(message), now_s, output)
        self._move(now_s, output)
        return output

    def wake(self, now_s: float) -> list[Output]:
        """Time has passed: repeats, patience that ended, and whether the stick is still there."""
        output: list[Output] = []
        if self.framer.waiting and now_s - self._heard_s >= STALE_S:
            for message in self.framer.give_up():
                self._take(understand(message), now_s, output)
        if self.phase is Phase.LISTENING and now_s - self._heard_s >= QUIET_S and not len(self.commands):
            self.commands.add([Ask(request(0, Id.CHANNEL_STATUS))])
        self._move(now_s, output)
        return output

    def _move(self, now_s: float, output: list[Output]) -> None:
        """Send what is due, and go on to the next phase when nothing is left to ask."""
        while self.phase is not Phase.FAILED:
            send, ended = self.commands.due(now_s)
            for message in send:
                self._out += encode(message)
            for end in ended:
                self._end(end)
            if ended:
                continue
            if len(self.commands) or self.phase is Phase.LISTENING:
                break
            self._enter(_NEXT[self.phase])
        if self.phase is Phase.LISTENING:
            if not self.scanning:
                if not len(self.commands):
                    self.commands.add(self.searching.due(self.channels, now_s))
                for message in self.commands.due(now_s)[0]:
                    self._out += encode(message)
            messages, delivered = self.transfers.due(now_s)
            for message in messages:
                self._out += encode(message)
            output += delivered

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if (asks := _ASKS.get(phase)) is not None:
            self.commands.add(asks(self))

    def _take(self, heard: Heard, now_s: float, output: list[Output]) -> None:
        ended = self.commands.heard(heard)
        match heard:
            case Data():
                self._data(heard, now_s, output)
            case Event():
                self._follow(heard, output)
                self.transfers.heard(heard, now_s)
            case Response():
                self.transfers.heard(heard, now_s)
            case Startup() if ended is None:
                self._restart()
            case Capabilities():
                self.capabilities = heard
                self.scanning = self.scanning and heard.can_scan
            case About():
                self.version = heard.version or self.version
                self.serial = heard.serial if heard.serial is not None else self.serial
            case ChannelIs():
                self._found(heard, now_s)
            case Unknown(message) if message.id == Id.CHANNEL_STATUS:
                if not message.data[1] & 0b11:
                    self._restart()
            case Unknown():
                self.unexpected += 1
            case _:
                pass
        if ended is not None:
            self._end(ended)

    def _follow(self, event: Event, output: list[Output]) -> None:
        channel = self.channels.get(event.channel)
        if channel is None:
            return
        before, who = channel.state, channel.who
        after = channel.take(event)
        if who is not None and before is State.TRACKING and after is not State.TRACKING and not self._taken(who, channel):
            output += self.transfers.lost(who)
        if event.code in _BURST_ENDS:
            self.bursts.forget(event.channel)
        if before is not State.ASSIGNED and after is State.ASSIGNED and self.scanning:
            self._restart()

    def _data(self, data: Data, now_s: float, output: list[Output]) -> None:
        channel = self.channels.get(data.channel)
        if channel is None or channel.state not in _OPEN:
            return
        who = data.id or channel.who
        first = channel.state is State.SEARCHING
        channel.take(data)
        if not self.scanning and first and who is not None and not self._taken(who, channel):
            self.searching.found(channel)
        elif not self.scanning and first:
            if who is None:
                self.commands.add([Ask(request(channel.number, Id.CHANNEL_ID))])
            else:
                self.commands.add(self.searching.found_again(channel, now_s))
        if who is None or not who.number:
            return
        content: bytes | None = data.payload
        if data.kind is Id.BURST:
            content = self.bursts.take(data)
        if content is not None:
            output.append(Page(who, content, data.rssi_dbm, data.time, data.kind is Id.BROADCAST))

    def _found(self, found: ChannelIs, now_s: float) -> None:
        channel = self.channels.get(found.channel)
        if channel is None or self.scanning:
            return
        channel.who = found.id
        if self._taken(found.id, channel):
            self.commands.add(self.searching.found_again(channel, now_s))
        else:
            self.searching.found(channel)

    def _taken(self, who: ChannelId, but: Channel) -> bool:
        """Whether another channel tracks the same master already."""
        return any(c.who == who and c.state is State.TRACKING for c in self.channels.values() if c is not but)

    def _end(self, ended: Ended) -> None:
        ask = ended.ask
        if ended.end is End.DONE:
            channel = self.channels.get(ask.message.data[0])
            if channel is not None:
                channel.granted(ask.message.id)
            return
        if ask.instead is not None and ended.end is End.REFUSED:
            return
        if ask.message.id == Id.OPEN_SCAN and ended.end is End.REFUSED:
            self.scanning = False  # it says it can and does not: a channel for each master then
            self._restart()
        elif not ask.optional:
            self.phase = Phase.FAILED
            self.commands.clear()
            what = _NAMES.get(ask.message.id, f"message {ask.message.id:#04x}")
            self.reason = f"no answer to {what}" if ended.end is End.SILENT else f"{what} refused with code {ended.code}"

    def _restart(self) -> None:
        self.restarts += 1
        self.commands.clear()
        for channel in self.channels.values():
            channel.restart()
        self.transfers.restart()
        self._enter(Phase.RESETTING)

    def _way_to(self, who: ChannelId) -> Route | None:
        """The channel to reach `who` on; None: it is not in reach."""
        n = CONTROL_CHANNEL
        if self.scanning:
            return Route(n, (unassign(n), assign(n, NETWORK), set_id(n, who), set_frequency(n, self._set.frequency)))
        at = next((c.number for c in self.channels.values() if c.who == who and c.state is State.TRACKING), None)
        return None if at is None else Route(at)

    def _settings(self) -> list[Ask]:
        asks = [Ask(network_key(NETWORK, self._set.key))]
        extended = Ask(extend(), optional=True, instead=Ask(Message(Id.EXTENDED, b"\0\1"), optional=not self.scanning))
        if self.scanning:
            self.channels = {0: self.channels.get(0, Channel(0))}
            asks += [Ask(assign(0, NETWORK)), Ask(set_id(0, ANYBODY)), Ask(set_frequency(0, self._set.frequency))]
            return [*asks, extended, Ask(open_scan())]
        count = self.capabilities.channels if self.capabilities is not None else 1
        self.channels = {n: self.channels.get(n, Channel(n)) for n in range(count)}
        asks.append(extended)
        for channel in self.channels.values():
            asks.append(Ask(assign(channel.number, NETWORK)))
        return asks

    def _questions(self) -> list[Ask]:
        about = [Ask(request(0, wanted), optional=True, attempts=2) for wanted in (Id.VERSION, Id.SERIAL_NUMBER)]
        return [Ask(request(0, Id.CAPABILITIES)), *about]


_NEXT: Final[Mapping[Phase, Phase]] = {
    Phase.RESETTING: Phase.ASKING,
    Phase.ASKING: Phase.SETTING,
    Phase.SETTING: Phase.LISTENING,
}
_ASKS: Final[Mapping[Phase, Callable[[Stick], list[Ask]]]] = {
    Phase.RESETTING: lambda _: [Ask(reset(), optional=True, answer_s=2.0, attempts=2)],
    Phase.ASKING: Stick._questions,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - the table of this module
    Phase.SETTING: Stick._settings,  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
}
_OPEN: Final = frozenset({State.SEARCHING, State.TRACKING, State.SCANNING})
_BURST_ENDS: Final = frozenset({Code.TRANSFER_RECEIVE_FAILED, Code.CHANNEL_CLOSED, Code.BACK_TO_SEARCH})
_NAMES: Final[Mapping[int, str]] = {
    Id.REQUEST: "a question about the stick",
    Id.NETWORK_KEY: "the network key",
    Id.ASSIGN: "the assignment of a channel",
    Id.CHANNEL_ID: "the id of a channel",
    Id.OPEN: "the opening of a channel",
    Id.OPEN_SCAN: "the opening of the scan",
}
