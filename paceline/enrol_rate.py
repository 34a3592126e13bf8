"""How often an address may try codes that are wrong: ten at once, then one each half minute. Pure; bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

BURST: Final = 10
EVERY_S: Final = 30.0
MAX_ADDRESSES: Final = 10_000


class WrongTries:
    """`wait_s(address, now_s)` before a try, `failed(address, now_s)` after a wrong one. Times of one monotonic clock."""

    def __init__(self) -> None:
        self._until_s: OrderedDict[str, float] = OrderedDict()  # when all of the burst is there again

    def wait_s(self, address: str, now_s: float) -> float:
        """Seconds to wait until the next try is taken; 0: now."""
        return max(0.0, self._until_s.get(address, now_s) - now_s - (BURST - 1) * EVERY_S)

    def failed(self, address: str, now_s: float) -> None:
        """One wrong try. The address that was longest quiet is forgotten when there are too many."""
        self._until_s[address] = max(self._until_s.get(address, now_s), now_s) + EVERY_S
        self._until_s.move_to_end(address)
        if len(self._until_s) > MAX_ADDRESSES:
            self._until_s.popitem(last=False)
