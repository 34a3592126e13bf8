"""The wall clock, for what takes its time from outside: everything else is given a clock."""

from __future__ import annotations

import time


def wall_us() -> int:
    """Now, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000
