"""Waiting for a Kafka that is away: a stage that starts before it has nothing to do, and goes on by itself when it comes.

What it waits for is said once for each cause with its cure, and in the readiness of the process all the while. Nothing here has a limit
of time: the process lives, and a signal ends it (`paceline/stage_stop.py`). What Kafka says once it is there is another matter.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from broker.errors import LinkError
from broker.kafka import KafkaSettings
from broker.watch import Watch
from processors.kafka_admin import KafkaAdmin

_log = logging.getLogger(__name__)

REACH_S: Final = 1.0  # of one look: a signal is heard after it
AGAIN_S: Final = 0.5

Made = TypeVar("Made")


class KafkaWaiting:
    """The wait of one process for one cluster."""

    def __init__(self, kafka: KafkaSettings, watch: Watch) -> None:
        self._kafka = kafka
        self._reason = ""
        self._told: set[str] = set()
        watch.ready_when("kafka", lambda: self._reason)

    def until_there(self) -> None:
        """Return once a broker answers this user."""
        admin: KafkaAdmin | None = None
        while True:
            try:
                admin = admin or KafkaAdmin(self._kafka, reach_s=REACH_S)
                admin.look()
            except LinkError as error:
                self._note(error)
                time.sleep(AGAIN_S)
            else:
                break
        if self._reason:
            _log.info("kafka %s answers", self._kafka.bootstrap)
        self._reason = ""

    def made(self, make: Callable[[], Made]) -> Made:
        """What `make` makes with Kafka there; made again when Kafka goes meanwhile (LinkError), another error is the caller's."""
        while True:
            self.until_there()
            try:
                return make()
            except LinkError as error:
                self._note(error)
                time.sleep(AGAIN_S)

    def _note(self, error: LinkError) -> None:
        self._reason = f"waits: {error.message}; cure: {error.cure}"
        if error.cure not in self._told:
            self._told.add(error.cure)
            _log.warning("waits for Kafka: %s; cure: %s", error.message, error.cure)
