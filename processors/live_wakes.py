"""What a live state row waits for: wakes asked for once by name, and the span in which samples are late."""

from __future__ import annotations

from typing import Final

from processors import live_kernel as k
from processors.live_kernel import I64
from processors.stage import Outputs, Wake

REBUILD: Final = "rebuild"
CLOSE: Final = "close"
SETTLE: Final = "settle"
AGAIN: Final = "rebuild:"  # followed by a span of time: whose activities in it are to be run again
FINISH: Final = "finish:"  # followed by the start of the activity; for the finish stage
REBUILD_AFTER_US: Final = 3_000_000  # late frames come in runs: one rebuild when no more have come for this long ...
REBUILD_WITHIN_US: Final = 60_000_000  # ... but no later than this after the first
CLOSE_AFTER_US: Final = k.GAP_US
SETTLE_AFTER_US: Final = 6_000_000  # an effort is timed again with five more seconds; later when they do not come
_BITS: Final = {REBUILD: 1, CLOSE: 2, SETTLE: 4}


def ask(row: I64, key: str, name: str, at_us: int, outputs: Outputs) -> None:
    """Ask for a wake, one of a name at a time per subject."""
    if not row[k.WAKES] & _BITS[name]:
        row[k.WAKES] |= _BITS[name]
        outputs.wakes.append(Wake(key, name, at_us))


def is_asked(wakes: int, name: str) -> bool:
    """Whether a subject whose row has these WAKES waits for a wake of that name."""
    return bool(wakes & _BITS[name])


def awake(row: I64, name: str) -> None:
    """The wake of that name has come."""
    row[k.WAKES] &= ~_BITS.get(name, 0)


def finish_wake(subject: str, start_us: int, appended_us: int) -> Wake:
    """Have the finish stage look at the activity of a subject that began then."""
    return Wake(subject, f"{FINISH}{start_us}", appended_us)


def again_wake(subject: str, from_us: int, to_us: int, appended_us: int) -> Wake:
    """Have the activities of a subject between two times run again."""
    return Wake(subject, f"{AGAIN}{from_us}:{to_us}", appended_us)


def again_span(name: str) -> tuple[int, int] | None:
    """The span in the name of such a wake, None for any other."""
    if not name.startswith(AGAIN):
        return None
    from_us, to_us = name.removeprefix(AGAIN).split(":")
    return int(from_us), int(to_us)


def is_late(row: I64) -> bool:
    """Whether late samples wait to be worked in."""
    return bool(row[k.LATE_TO] != k.NEVER)


def late(row: I64, from_us: int, to_us: int) -> None:
    """Samples between two times are late."""
    row[k.LATE_FROM] = min(int(row[k.LATE_FROM]), from_us)
    row[k.LATE_TO] = max(int(row[k.LATE_TO]), to_us)


def late_came(row: I64, key: str, appended_us: int, outputs: Outputs) -> None:
    """Late samples came just now: ask for a rebuild once they pause."""
    outputs.late_frames += 1
    if not row[k.WAKES] & _BITS[REBUILD]:
        row[k.LATE_SINCE] = appended_us
    row[k.LATE_AT] = appended_us
    ask(row, key, REBUILD, appended_us + REBUILD_AFTER_US, outputs)


def rebuild_due(row: I64) -> int:
    """When the late frames of a subject are to be worked in: once they pause, but within a minute."""
    return min(int(row[k.LATE_AT]) + REBUILD_AFTER_US, int(row[k.LATE_SINCE]) + REBUILD_WITHIN_US)
