"""The stop of a stage while Kafka is away: it does not wait for a last checkpoint that nobody can take, and before its start for nothing.

A stage is told to stop by a signal, and its main thread may be inside a client of Kafka that waits for an answer without end. So a thread
of its own hears the signal and asks Kafka: while that answers, the stage ends as it does; when it does not, the process ends at once, as
a kill would. Nothing is lost by it: the stage goes on from the checkpoint before, and sends again what it sent since.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from broker.kafka import KafkaSettings
from broker.watch import Watch

_log = logging.getLogger(__name__)

ANSWER_S: Final = 3.0  # a stop takes no longer than this and a moment
AGAIN_S: Final = 0.5


@contextmanager
def ending_without(kafka: KafkaSettings, watch: Watch) -> Generator[None]:
    """While inside, SIGTERM or Ctrl-C end the process within seconds when Kafka does not answer. Main thread only; handlers stay."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    ended = threading.Event()
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_when_away, args=(told, ended, kafka, watch), name="stop", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        tell.close()


@contextmanager
def ending_at_once(watch: Watch) -> Generator[None]:
    """While inside, SIGTERM or Ctrl-C end the process where it stands: it has taken nothing yet. Main thread only; handlers stay."""

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is called with
        watch.drain()
        raise SystemExit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    yield


def _end_when_away(told: socket.socket, ended: threading.Event, kafka: KafkaSettings, watch: Watch) -> None:
    from processors.kafka_admin import KafkaAdmin

    with told:
        while heard := told.recv(1):
            if heard[0] in (signal.SIGTERM, signal.SIGINT):
                break
    if not heard:
        return
    watch.drain()
    admin = KafkaAdmin(kafka, reach_s=ANSWER_S)
    while admin.answers():  # it may still go while the last checkpoint is made
        if ended.wait(AGAIN_S):
            return
    if not ended.is_set():
        _log.warning("kafka %s does not answer: ended without a last checkpoint, goes on from the one before", kafka.bootstrap)
        os._exit(0)
