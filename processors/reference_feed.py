"""Reference data for the processes of a stage on Kafka: `reference.changes` read whole at the start, then followed.

All partitions of a process share one `ReferenceData`. A change is handed out before it is taken, so that each partition can look at what
it touches as it was; `since` gives a partition that comes from elsewhere the changes it has not seen yet, the last of each entity, and
`as_of` what it knew before them. The writers use transactions, so a change is handed out once all of its call is there.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from broker.errors import BadInputError, ConfigError, LinkError, StoreError
from broker.kafka import KafkaSettings
from broker.kafka_records import decode_log_record
from broker.kafka_topics import DAY_MS, FRAMES_DAYS, REFERENCE
from broker.logrecord import LogRecord
from broker.reference import Reference, decode_reference
from processors.kafka_admin import admin_options
from processors.kafka_faults import AWAY, cure_of
from processors.reference_data import ReferenceData

_log = logging.getLogger(__name__)

START_S: Final = 60.0
HEAR_S: Final = 60.0
KEPT_US: Final = FRAMES_DAYS * DAY_MS * 1000  # what was replaced for longer is forgotten: no frame waits for so long
MOST_REPLACED: Final = 100_000  # nor is more remembered, about 100 MB: hours of a platform on which ten pair a device each second
_OFFSET_BEGINNING: Final = -2


@dataclass(slots=True)
class Change:
    """One change, and whom the samples it concerns counted for before it, by partition."""

    offset: int
    record: LogRecord
    value: Reference
    counted_for: dict[int, list[list[str]]] = field(default_factory=dict[int, list[list[str]]])


class _Replaced(NamedTuple):
    at_us: int
    change: Change


class TakenChanges:
    """Changes as they are taken: what they come to, the last of each entity, and what was replaced in the last `KEPT_US`, but for more
    than the last `MOST_REPLACED`."""

    def __init__(self) -> None:
        self.reference = ReferenceData()
        self._last: dict[tuple[str, str, str], Change] = {}
        self._replaced: deque[_Replaced] = deque(maxlen=MOST_REPLACED)
        self.end = -1  # the offset of the last change that was taken

    def take(self, change: Change) -> Reference | None:
        """Take a change; the value before it."""
        value = change.value
        self.end = max(self.end, change.offset)
        entity, at_us = (value.entity, value.tenant, value.id), change.record.appended_us
        if (last := self._last.get(entity)) is not None:
            self._replaced.append(_Replaced(at_us, last))
            while self._replaced[0].at_us < at_us - KEPT_US:
                self._replaced.popleft()
        self._last[entity] = change
        return self.reference.apply(value)

    def since(self, offset: int | None) -> Iterator[Change]:
        """What was taken behind an offset, the last of each entity, in order; nothing for who is new."""
        if offset is not None:
            yield from sorted((c for c in self._last.values() if c.offset > offset), key=lambda c: c.offset)

    def each_since(self, offset: int) -> list[Change]:
        """Every change behind an offset that was taken and is known still, in order."""
        return sorted((c for c in self._all() if c.offset > offset), key=lambda c: c.offset)

    def hear(self, offset: int, take_changes: Callable[[float], None]) -> None:
        """Take the changes up to an offset, which another process had taken; `take_changes`: those that come in so many seconds. StoreError
        when they do not come."""
        until_s = time.monotonic() + HEAR_S
        while self.end < offset:
            take_changes(0.05)
            if time.monotonic() > until_s:
                raise StoreError(f"{REFERENCE} could not be read up to {offset} in {HEAR_S:.0f} s", cure="check Kafka; this starts again")

    def as_of(self, offset: int) -> ReferenceData:
        """What the changes up to an offset come to. One that was replaced since, and is not known any more, is as if it had never been."""
        made = ReferenceData()
        for change in sorted((c for c in self._all() if c.offset <= offset), key=lambda c: c.offset):
            made.apply(change.value)
        made.share_indexes(
            self.reference, {tenant for (entity, tenant, _), c in self._last.items() if entity == "segment" and c.offset > offset}
        )
        return made

    def _all(self) -> Iterator[Change]:
        yield from self._last.values()
        yield from (replaced.change for replaced in self._replaced)


class ReferenceFeed(TakenChanges):
    """See the module. `reference` knows all that was there at the start, and what was taken since."""

    def __init__(self, kafka: KafkaSettings) -> None:
        settings: dict[str, Any] = {
            **admin_options(kafka),
            "group.id": "none",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,  # the end is told after a fetch that finds nothing
        }
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(REFERENCE, 0, _OFFSET_BEGINNING)])
        self._at_end = False
        self._error: KafkaError | None = None
        self._kafka = kafka
        super().__init__()
        try:
            self._catch_up()
        except LinkError:
            self.close()
            raise

    def _catch_up(self) -> None:
        """Read to the end as it is now. LinkError when nothing more comes for `START_S`."""
        deadline_s = time.monotonic() + START_S
        while not self._at_end:
            for change in self.poll(0.05):
                self.take(change)
                deadline_s = time.monotonic() + START_S
            if time.monotonic() > deadline_s:
                why = f": {self._error.str()}" if self._error is not None else ""
                cure = AWAY if self._error is None else cure_of(self._kafka, self._error)
                raise LinkError(f"{REFERENCE} could not be read to its end, nothing more came for {START_S:.0f} s{why}", cure=cure)

    def poll(self, timeout_s: float = 0.0) -> list[Change]:
        """The changes that came since, not yet taken."""
        made: list[Change] = []
        for message in self._consumer.consume(1000, timeout_s):
            error = message.error()
            if error is not None:
                if error.name() == "_PARTITION_EOF":
                    self._at_end = True
                else:
                    self._error = error
                continue
            where = f"{REFERENCE} {message.offset()}"
            try:
                record = decode_log_record(message.key(), message.value(), message.headers(), where)
                value = decode_reference(record.body, where)
                made.append(Change(message.offset(), record, value))
            except BadInputError as error:
                _log.error("reference: %s", error)
        return made

    def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has. ConfigError when it is not there, LinkError when Kafka does not say."""
        try:
            found = self._consumer.list_topics(topic, timeout=START_S).topics[topic].partitions
        except KafkaException as error:
            told = error.args[0]
            raise LinkError(f"Kafka does not answer about {topic}: {told.str()}", cure=cure_of(self._kafka, told)) from error
        if not found:
            raise ConfigError(f"Kafka has no topic {topic}", cure="run `paceline topics apply`")
        return len(found)

    def close(self) -> None:
        self._consumer.close()
