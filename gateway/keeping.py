"""Keeping: a part that crashes is logged, counted and started again with back-off; its neighbours notice nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from broker.cancellation import in_own_task

log = logging.getLogger(__name__)

FIRST_BACKOFF_S: Final = 0.5
LAST_BACKOFF_S: Final = 30.0
STEADY_S: Final = 60.0  # a part that ran this long starts with the first back-off again


async def keep_running(
    name: str,
    work: Callable[[], Coroutine[Any, Any, None]],
    crashes: Counter[str],
    *,
    random: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run `work` until it returns; after an exception run it again. Cancellation passes. `random()` (0..1) spreads the back-off."""
    loop = asyncio.get_running_loop()
    backoff_s = FIRST_BACKOFF_S
    while True:
        began_s = loop.time()
        try:
            await in_own_task(work())
        except Exception:
            crashes[name] += 1
            log.exception("%s failed; again in about %.1f s", name, backoff_s)
        else:
            return
        if loop.time() - began_s >= STEADY_S:
            backoff_s = FIRST_BACKOFF_S
        await sleep(backoff_s * (0.5 + random()))
        backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)
