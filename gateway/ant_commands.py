"""Commands to an ANT stick (pure): one at a time, each with its answer, its patience and its repeats. Times are monotonic seconds.

A stick answers in order but a lost or corrupt byte can take a command or its answer away: a command that is not answered in time is sent
again, and then given up. Nothing here knows what the commands are for (`ant_stick` does).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.ant_framing import Id, Message
from gateway.ant_messages import About, Capabilities, ChannelIs, Code, Heard, Response, Startup, Unknown

ANSWER_S: Final = 0.5
ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """A command. `optional`: a stick that does not know it is as good. `instead` is asked when it is refused."""

    message: Message
    optional: bool = False
    instead: Ask | None = None
    answer_s: float = ANSWER_S
    attempts: int = ATTEMPTS


class End(Enum):
    """How a command ended."""

    DONE = auto()
    REFUSED = auto()
    SILENT = auto()  # never answered


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that is over; `code` when it was refused."""

    ask: Ask
    end: End
    code: int = 0


class Commands:
    """The commands to one stick. Feed it what is heard and the time; send what `due` gives."""

    __slots__ = ("_attempt", "_queue", "_sent_s", "repeats")

    def __init__(self) -> None:
        self._queue: deque[Ask] = deque()
        self._attempt = 0  # 0: the first of the queue has not been sent
        self._sent_s = 0.0
        self.repeats = 0

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, asks: Iterable[Ask]) -> None:
        """Ask these too, after what is asked already."""
        self._queue.extend(asks)

    def clear(self) -> None:
        """Forget everything: the stick starts afresh."""
        self._queue.clear()
        self._attempt = 0

    def deadline_s(self) -> float | None:
        """When `due` has something to say although nothing was heard; None: nothing is asked."""
        if not self._queue:
            return None
        return self._sent_s + self._queue[0].answer_s if self._attempt else self._sent_s

    def due(self, now_s: float) -> tuple[list[Message], list[Ended]]:
        """What must be sent now, and what ended because it was never answered."""
        send: list[Message] = []
        ended: list[Ended] = []
        while self._queue:
            ask = self._queue[0]
            if self._attempt and now_s - self._sent_s < ask.answer_s:
                break
            if self._attempt >= ask.attempts:
                ended.append(Ended(self._next(), End.SILENT))
                continue
            self.repeats += self._attempt > 0
            self._attempt += 1
            self._sent_s = now_s
            send.append(ask.message)
            break
        return send, ended

    def heard(self, heard: Heard) -> Ended | None:
        """The command that `heard` answers, else None: an answer to another one, given up or sent twice, is no answer."""
        if not self._queue or not self._attempt:
            return None
        code = answer_code(self._queue[0].message, heard)
        if code is None:
            return None
        repeated = self._attempt > 1
        ask = self._next()
        if code == Code.OK or (repeated and code == Code.WRONG_STATE):  # its first answer was lost: it had been granted
            return Ended(ask, End.DONE)
        if ask.instead is not None:
            self._queue.appendleft(ask.instead)
        return Ended(ask, End.REFUSED, code)

    def _next(self) -> Ask:
        self._attempt = 0
        return self._queue.popleft()


def answer_code(asked: Message, heard: Heard) -> int | None:
    """0 when `heard` grants `asked`, a code when it refuses it, None when it is not its answer."""
    match heard:
        case Response(channel, to, code) if to == asked.id:
            told = asked.data[0] if asked.id not in (Id.NETWORK_KEY, Id.LIBRARY, Id.EXTENDED) else channel
            return code if told == channel else None
        case Startup():
            return Code.OK if asked.id == Id.RESET else None
        case Capabilities() | About() | ChannelIs() | Unknown() if asked.id == Id.REQUEST:
            return Code.OK if asked.data[1] == _id_of(heard) else None
        case _:
            return None


def _id_of(heard: Capabilities | About | ChannelIs | Unknown) -> int:
    match heard:
        case Capabilities():
            return Id.CAPABILITIES
        case About(serial=None):
            return Id.VERSION
        case About():
            return Id.SERIAL_NUMBER
        case ChannelIs():
            return Id.CHANNEL_ID
        case Unknown(message):
            return message.id
