"""The one-time code of the set-up page, and how often it may be guessed (pure: time and randomness come in).

40 bits from an alphabet without look-alikes. After five wrong tries in a row every try waits: 30 s, then twice as long each time, up to 15
minutes; whoever asks meanwhile is told how long, right code or not. That is 100 tries a day against 8.5e11 codes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
LENGTH: Final = 8
FREE_TRIES: Final = 5
FIRST_WAIT_S: Final = 30.0
LAST_WAIT_S: Final = 900.0


class SetupCode:
    """`text` is what is shown: two groups of four. `below(n)` gives a uniform number in [0, n); `clock` is monotonic, in seconds."""

    def __init__(self, below: Callable[[int], int], clock: Callable[[], float]) -> None:
        self._code = "".join(ALPHABET[below(len(ALPHABET))] for _ in range(LENGTH))
        self._clock = clock
        self._wrong = 0
        self._closed_until_s = 0.0

    @property
    def text(self) -> str:
        return f"{self._code[:4]}-{self._code[4:]}"

    def wait_s(self) -> float:
        """Seconds until the next try counts; 0 when it does now."""
        return max(0.0, self._closed_until_s - self._clock())

    def is_right(self, given: str) -> bool:
        """Whether it is the code, however it was typed. Only to be asked while `wait_s` is 0."""
        typed = "".join(given.upper().split()).replace("-", "")
        if hmac.compare_digest(typed.encode(), self._code.encode()):
            self._wrong = 0
            return True
        self._wrong += 1
        if self._wrong >= FREE_TRIES:
            wait_s = min(LAST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._wrong - FREE_TRIES, 16))
            self._closed_until_s = self._clock() + wait_s
        return False
