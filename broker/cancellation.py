"""Cancellation that a failing session may swallow.

When a task is cancelled in the very moment its TaskGroup's children fail, `except*` and Python 3.11's TaskGroup keep the failure and lose
the cancellation: a loop that then tries again never ends. Every loop that reconnects or restarts calls `pass_on_cancellation` after it
caught something.
"""

from __future__ import annotations

import asyncio


def pass_on_cancellation() -> None:
    """Raise CancelledError when the current task was asked to end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
