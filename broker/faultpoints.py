"""Named points where a test may kill this very process, to prove that nothing acknowledged is lost there.

Inert unless `PACELINE_KILL_AT=name:count` is in the environment: then the `count`-th time `name` is reached the process gets SIGKILL.
"""

from __future__ import annotations

import os
import signal

_NAME, _, _COUNT = os.environ.get("PACELINE_KILL_AT", "").partition(":")
_left = int(_COUNT or 1)


def hit(name: str) -> None:
    """Mark that `name` is reached; dies here when the environment asks for it."""
    global _left  # noqa: PLW0603 - one countdown a process is the point
    if name != _NAME:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
