"""When to commit and how long the space lasts (pure: the time comes in).

A commit costs a card time and wear, so commits start at least a window apart: five times what a commit takes, and on a memory card long
enough to stay inside a budget of written bytes. A row never waits longer than the longest window before its commit starts.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Final

_DAY_S: Final = 86_400
_SMOOTH: Final = 0.2  # weight of the newest commit
_SLICE_S: Final = 10
_SLICES: Final = 30  # five minutes


class Pace:
    """The window between starts of commits, from what the last ones took and wrote."""

    def __init__(self, min_window_s: float, max_window_s: float, budget_bytes_day: float | None) -> None:
        self._min_s, self._max_s = min_window_s, max_window_s
        self._budget_bytes_s = budget_bytes_day / _DAY_S if budget_bytes_day else None
        self._commit_s = 0.0
        self._commit_bytes = 0.0

    def observe(self, commit_s: float, written_bytes: int) -> None:
        """A commit took `commit_s` and wrote about `written_bytes`."""
        if self._commit_bytes == 0.0:
            self._commit_s, self._commit_bytes = commit_s, float(written_bytes)
        self._commit_s += _SMOOTH * (commit_s - self._commit_s)
        self._commit_bytes += _SMOOTH * (written_bytes - self._commit_bytes)

    @property
    def window_s(self) -> float:
        """Seconds from the start of one commit to the start of the next."""
        wear_s = self._commit_bytes / self._budget_bytes_s if self._budget_bytes_s else 0.0
        return min(max(5 * self._commit_s, wear_s, self._min_s), self._max_s)


class FillRate:
    """Bytes a second appended over the last five minutes, in slices of ten seconds."""

    def __init__(self, now_s: float) -> None:
        self._slices: deque[tuple[int, int]] = deque(maxlen=_SLICES)
        self._since_s = now_s

    def add(self, now_s: float, size: int) -> None:
        """`size` bytes were appended at `now_s` (monotonic)."""
        slot = int(now_s // _SLICE_S)
        if self._slices and self._slices[-1][0] == slot:
            self._slices[-1] = (slot, self._slices[-1][1] + size)
        else:
            self._slices.append((slot, size))

    def bytes_per_s(self, now_s: float) -> float | None:
        """The rate, None when nothing was appended in the last five minutes."""
        oldest = int(now_s // _SLICE_S) - _SLICES + 1
        total = sum(size for slot, size in self._slices if slot >= oldest)
        seconds = max(min(now_s - self._since_s, now_s - oldest * _SLICE_S), 1.0)
        return total / seconds if total else None


def on_memory_card(folder: Path) -> bool:
    """Whether `folder` lies on an SD card or eMMC (a Linux `mmcblk` device)."""
    try:
        device = folder.stat().st_dev
        link = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").readlink()
    except OSError:
        return False
    return "mmcblk" in str(link)
