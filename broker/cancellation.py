"""Cancellation that a failing session may swallow.

When a task is cancelled in the very moment its TaskGroup's children fail, Python 3.11's TaskGroup keeps the failure and loses the
cancellation (and `cancelling()` may stay above 0 after any failed group, so it cannot be asked either): a loop that then tries again never
ends. So every loop that reconnects or restarts runs each try in a task of its own. `asyncio.wait_for` of 3.11 loses a cancellation too,
when what it waits for ends in the same turn: so a task that goes on is cancelled again, and children of a group, which nobody cancels
twice, wait for what may use it (aiomqtt's publish does) through `heard`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_AGAIN_S: Final = 3.0  # longer than a session may take to say goodbye


async def in_own_task(work: Coroutine[Any, Any, T]) -> T:
    """The result or failure of `work`. A cancellation of the caller goes on to `work`, and is raised here whatever `work` makes of it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=_AGAIN_S)
        if not task.cancelled():
            task.exception()  # seen; the cancellation is what counts
        raise
    return task.result()


async def heard(work: Awaitable[T]) -> T:
    """The result or failure of `work`, but CancelledError when the caller was cancelled meanwhile and `work` ended well all the same."""
    caller = asyncio.current_task()
    assert caller is not None
    before = caller.cancelling()
    result = await work
    if caller.cancelling() > before:
        raise asyncio.CancelledError
    return result
