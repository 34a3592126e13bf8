"""Waiting with an end: foreign code that may ignore a cancellation, or never return, cannot hold up the box.

`bounded` runs the work in a task of its own. When time is up it is cancelled, and again after `GRACE_S` (bleak's clean-up of a connect
waits for an answer of the daemon without a limit: the second cancellation ends that). What survives even that is left behind and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
GRACE_S: Final = 2.0
_CANCELS: Final = 3
left_behind: set[asyncio.Task[Any]] = set()


async def bounded(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    """The result of `work`, its exception, or TimeoutError. Cancelling the caller cancels the work, and waits for its end just as long."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _end(task)
        raise
    if not task.done():
        await _end(task)
        raise TimeoutError
    return task.result()


async def _end(task: asyncio.Task[Any]) -> None:
    for _ in range(_CANCELS):
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE_S)
        if task.done():
            if not task.cancelled():
                task.exception()  # seen
            return
    log.error("%r does not end and is left behind", task.get_coro())
    left_behind.add(task)
    task.add_done_callback(left_behind.discard)
