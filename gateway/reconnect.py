"""When to try the broker again (pure). Full jitter between 0.2 s and a cap, so that ten thousand boxes do not return at once.

Tells three troubles apart: a broker that is away (short delays), one that refuses us (slow), and another client that keeps taking our
session over with the same credential (slow too, or both would throw each other out for ever). A takeover looks like an orderly close by
the broker after which the very next attempt is accepted; a broken link resets or times out, a dead broker refuses the next attempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from broker.errors import ConfigError

_MINUTE_S = 60.0
_TAKEOVERS_A_MINUTE = 3


class Ending(Enum):
    """How an attempt or a session ended."""

    UNREACHABLE = auto()  # no session came about
    REFUSED = auto()  # the broker does not let us in: credential, client id or permissions
    CLOSED = auto()  # the broker closed an established session in order
    BROKEN = auto()  # reset, timeout, or we gave it up


@dataclass(frozen=True, slots=True)
class ReconnectSettings:
    """Delays in seconds. A broker that is back gets its first message within `cap_s` and a round trip."""

    floor_s: float = 0.2
    cap_s: float = 4.0
    slow_s: float = 10.0  # at least, up to twice as long: refused or thrown out again and again
    stable_s: float = 5.0  # a session this long starts the delays afresh

    def __post_init__(self) -> None:
        if not 0 < self.floor_s <= self.cap_s or self.slow_s <= 0:
            raise ConfigError(
                f"uplink reconnect: floor_s {self.floor_s}, cap_s {self.cap_s}, slow_s {self.slow_s}", cure="0 < floor <= cap"
            )


class Reconnect:
    """Feed it what happens, ask it for delays. `random` gives uniform [0, 1); `now` is any monotonic clock in seconds."""

    def __init__(self, settings: ReconnectSettings, random: Callable[[], float]) -> None:
        self._set = settings
        self._random = random
        self._failures = 0
        self._since = 0.0
        self._just_closed = False
        self._closes: deque[float] = deque(maxlen=_TAKEOVERS_A_MINUTE + 1)
        self.taken_over = 0
        self.contested = False

    def established(self, now: float) -> None:
        """A session is up. `contested` turns true when it was the fourth takeover within a minute."""
        self._since = now
        if self._just_closed:
            self.taken_over += 1
            self._closes.append(now)
            full = len(self._closes) > _TAKEOVERS_A_MINUTE
            self.contested = self.contested or (full and now - self._closes[0] <= _MINUTE_S)
        self._just_closed = False

    def ended(self, ending: Ending, now: float) -> float:
        """Seconds to wait before the next attempt."""
        in_session = ending in (Ending.CLOSED, Ending.BROKEN)
        lasted = now - self._since if in_session else 0.0
        self._just_closed = ending is Ending.CLOSED and lasted < _MINUTE_S
        if lasted >= _MINUTE_S:
            self.contested = False
        if lasted >= self._set.stable_s:
            self._failures = 0
        self._failures += 1
        if ending is Ending.REFUSED or (self.contested and in_session):
            return self._set.slow_s * (1 + self._random())
        ceiling = min(self._set.cap_s, self._set.floor_s * 2 ** min(self._failures, 16))
        return self._set.floor_s + self._random() * (ceiling - self._set.floor_s)
