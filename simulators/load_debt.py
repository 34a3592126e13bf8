"""What a node of a load owes: messages sent and not answered, with the time each was due. Sans-I/O.

As a real node does, it keeps every row until the platform's own ack names it, sends all that is open again when its link was away, and
what stays unanswered for long again, at longer and longer intervals. What is never answered is lost; a row answered twice counts apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.acks import Ack
from simulators.load_plan import Due

FIRST_AGAIN_US: Final = 15_000_000
LAST_AGAIN_US: Final = 60_000_000
AT_ONCE: Final = 64  # messages that are sent again at one moment


@dataclass(slots=True)
class _Open:
    due: Due
    left: int  # rows without an answer
    written: bool
    again_us: int = 0  # when it is to be sent again
    wait_us: int = FIRST_AGAIN_US
    missing: set[int] | None = None  # which, once some were answered


@dataclass(frozen=True, slots=True)
class Answer:
    """`frames` that were due at `due_us` are answered: stored, or refused for good."""

    due_us: int
    frames: int
    stored: bool


class Debt:
    """The open messages of one node, the oldest first."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.frames = 0  # open
        self.sent_again = 0  # frames
        self.answered_again = 0  # frames that no message was open for any more
        self._open: dict[int, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def oldest_us(self) -> int | None:
        """When the oldest open message was due."""
        return next((o.due.due_us for o in self._open.values()), None)

    def owe(self, due: Due, now_us: int, *, written: bool) -> None:
        """One more, which is `written` now, or will be of `everything`, when there is no link."""
        self._open[due.first_n] = _Open(due, due.frames, written, now_us + FIRST_AGAIN_US)
        self.frames += due.frames

    def everything(self, now_us: int) -> list[Due]:
        """All that is open, to be sent over a new link."""
        for o in self._open.values():
            o.again_us, o.wait_us = now_us + FIRST_AGAIN_US, FIRST_AGAIN_US
            self.sent_again += o.left if o.written else 0
            o.written = True
        return [o.due for o in self._open.values()]

    def again(self, now_us: int) -> list[Due]:
        """What has gone unanswered too long, to be sent once more; the oldest first."""
        late: list[Due] = []
        for o in self._open.values():
            if len(late) == AT_ONCE or o.due.due_us + FIRST_AGAIN_US > now_us:
                break
            if o.again_us <= now_us:
                o.wait_us = min(2 * o.wait_us, LAST_AGAIN_US)
                o.again_us = now_us + o.wait_us
                self.sent_again += o.left
                late.append(o.due)
        return late

    def settle(self, ack: Ack) -> list[Answer]:
        """What an ack answers. One of another epoch answers nothing."""
        if ack.epoch != self.epoch:
            return []
        answers: list[Answer] = []
        for first, last in ack.stored:
            self._settle(first, last, answers, stored=True)
        for refusal in ack.refused:
            self._settle(refusal.first, refusal.last, answers, stored=False)
        return answers

    def _settle(self, first: int, last: int, answers: list[Answer], *, stored: bool) -> None:
        n = first
        while n <= last:
            o = self._open.get(n)
            if o is not None and o.missing is None and n + o.due.frames - 1 <= last:
                self._answered(o, o.due.frames, answers, stored=stored)
                n += o.due.frames
            else:
                n = self._partly(n, last, answers, stored=stored)

    def _partly(self, n: int, last: int, answers: list[Answer], *, stored: bool) -> int:
        """Settle rows from `n` of the one message that holds it; the row to go on with."""
        holder = next((o for first, o in self._open.items() if first <= n < first + o.due.frames), None)
        if holder is None:
            following = min((first for first in self._open if n < first <= last), default=last + 1)
            self.answered_again += following - n
            return following
        first, stop = holder.due.first_n, min(last + 1, holder.due.first_n + holder.due.frames)
        if holder.missing is None:
            holder.missing = set(range(first, first + holder.due.frames))
        known = holder.missing.intersection(range(n, stop))
        self.answered_again += stop - n - len(known)
        holder.missing -= known
        self._answered(holder, len(known), answers, stored=stored)
        return stop

    def _answered(self, o: _Open, frames: int, answers: list[Answer], *, stored: bool) -> None:
        if frames:
            o.left -= frames
            self.frames -= frames
            answers.append(Answer(o.due.due_us, frames, stored))
        if not o.left:
            self._open.pop(o.due.first_n, None)
