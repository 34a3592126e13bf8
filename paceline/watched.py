"""Runs a role as a watched process: figures and health are served from its start to its end, and a stop has an order and a limit.

On SIGTERM or Ctrl-C the process first says that it is not ready, then its work is told to end: nothing new is taken, what was taken is
made durable. It ends within `END_S`, whatever hangs: what is not durable by then was not acknowledged, and its sender has it still.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

from broker import logs
from broker.metric_list import DISK_FREE
from broker.metrics import Measure
from broker.watch import Watch
from broker.watch_server import watched
from paceline.config import Settings

log = logging.getLogger(__name__)

END_S: Final = 20.0
METRICS_FOLDER: Final = "metrics"

Work = Callable[[Watch], Coroutine[Any, Any, object]]


def run_watched(role: str, settings: Settings, work: Work) -> None:
    """Run `work` until it is done, or until SIGTERM or Ctrl-C cancels it (its clean-up runs)."""
    asyncio.run(_until_signalled(watch_of(role, settings), settings, work))


def watch_of(role: str, settings: Settings) -> Watch:
    """The watch of a process of this role: with its log and its disk, and an end within `END_S` of being told."""
    watch = Watch(role)
    watch.measure(logs.measures)
    watch.measure(lambda: _disk(settings.data))
    watch.when_draining(lambda: end_within(END_S))
    return watch


async def _until_signalled(watch: Watch, settings: Settings, work: Work) -> None:
    loop = asyncio.get_running_loop()
    async with watched(watch, settings.metrics, settings.data / METRICS_FOLDER):
        task = asyncio.ensure_future(work(watch))

        def told() -> None:
            watch.drain()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def end_within(limit_s: float) -> None:
    """End the process then, should it still be there: a disk that hangs holds a thread that nothing can cancel."""
    timer = threading.Timer(limit_s, _give_up, (limit_s,))
    timer.daemon = True
    timer.start()


def _give_up(limit_s: float) -> None:
    log.error("did not end within %.0f s and is ended: what is not durable was not acknowledged", limit_s)
    os._exit(1)


def _disk(data: Path) -> Iterator[Measure]:
    yield DISK_FREE.of(shutil.disk_usage(data).free)
