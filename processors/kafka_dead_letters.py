"""Dead letters of a cluster for people: list, show, and replay after a fix (`paceline dlq list | show | replay` with Kafka).

The topic itself remembers what was replayed: a letter of the same key with the reason `replayed`, written once the frames are in the log.
So a replay may run anywhere, and again: what it did it does not do twice. One that dies between the two writes appends the frames once
more the next time, with the same origin, boot and number, which the live stage drops as any repeat. Memory: a batch of letters.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from broker.errors import BadInputError, LinkError
from broker.kafka import KafkaSettings
from broker.kafka_topics import DEAD
from broker.logrecord import LogRecord
from processors.accept import DeadLetter
from processors.dead_index import REPLAYED, DeadIndex, Place
from processors.dead_letters import checked_again
from processors.kafka_admin import admin_options
from processors.kafka_dead import decode_dead
from processors.kafka_faults import cure_of, telling
from processors.log import Appender

_log = logging.getLogger(__name__)

READ_S: Final = 60.0  # without anything new
_TAKEN: Final = 1_000
_REPLAYED_AT_A_TIME: Final = 500
_WAIT_S: Final = 0.5
_PASSED_OVER: Final = 2_000  # letters are read and dropped rather than asked for anew
_END: Final = "_PARTITION_EOF"
_PLACE: Final = re.compile(r"(\d{1,4})-(\d{1,18})", re.ASCII)


def place_of(text: str) -> Place:
    """The place a person names; BadInputError says how."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise BadInputError(f"{text!r} is no dead letter of a cluster", cure="give PARTITION-OFFSET as `paceline dlq list` prints it")
    return Place(int(found[1]), int(found[2]))


class KafkaDeadLetters:
    """The dead letters of one cluster, as they are when it is asked. LinkError when it cannot be read."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka
        self._complaint: KafkaError | None = None

    @contextmanager
    def index(self) -> Generator[DeadIndex]:
        """What is on the topic now; made anew, and gone behind this block."""
        with DeadIndex() as index, self._consumer() as consumer:
            partitions = self._partitions(consumer)
            for messages in self._messages(consumer, [TopicPartition(DEAD, number, OFFSET_BEGINNING) for number in partitions]):
                index.take(self._decoded(messages))
            yield index

    def followed(self, stop: threading.Event) -> Iterator[Iterator[tuple[Place, str, DeadLetter]]]:
        """All letters with place and key, and those that come, a batch at a time until `stop` is set."""
        with self._consumer() as consumer:
            consumer.assign([TopicPartition(DEAD, number, OFFSET_BEGINNING) for number in self._partitions(consumer)])
            while not stop.is_set():
                found: list[Message] = []
                for message in consumer.consume(_TAKEN, _WAIT_S):
                    error = message.error()
                    if error is None:
                        found.append(message)
                    else:
                        self._stop_at(error)
                if found:
                    yield self._decoded(found)

    def letter(self, place: Place) -> DeadLetter:
        """The letter at a place; BadInputError when there is none (any more)."""
        return next(letter for _, _, letter in self.letters([place]))

    def letters(self, places: Iterable[Place], *, some: bool = False) -> Iterator[tuple[Place, str, DeadLetter]]:
        """Letters with their key and bytes. `places` are those of a partition in order; BadInputError names one that is not there.

        `some`: nobody named them, so one whose time was over meanwhile is passed over.
        """
        with self._consumer() as consumer:
            ends: dict[int, tuple[int, int]] = {}
            ahead = Place(-1, 0)  # what the consumer hands out next
            for place in places:
                if place.partition not in ends:
                    if place.partition not in self._partitions(consumer):
                        raise _gone(place)
                    ends[place.partition] = consumer.get_watermark_offsets(TopicPartition(DEAD, place.partition), timeout=READ_S)
                start, end = ends[place.partition]
                if not start <= place.offset < end:
                    if some:
                        continue
                    raise _gone(place)
                if ahead.partition != place.partition or not 0 <= place.offset - ahead.offset < _PASSED_OVER:
                    consumer.assign([TopicPartition(DEAD, *place)])
                found = self._next(consumer, place)
                ahead = Place(place.partition, place.offset + 1) if found is not None else Place(-1, 0)
                if found is not None:
                    yield found
                elif not some:
                    raise _gone(place)

    def replay(
        self, index: DeadIndex, places: Iterable[Place], to: Appender, now_us: int, *, some: bool = False
    ) -> Iterator[tuple[Place, int, str]]:
        """Check letters again, as if they arrived at `now_us`, and append what is accepted: `(place, records appended, why refused still)`.

        Those that were replayed before, as `index` has it, are left alone. A letter is told once its frames are in the log and this is
        remembered.
        """
        found = (each for each in self.letters(places, some=some) if not index.replayed(each[1]))
        while batch := list(islice(found, _REPLAYED_AT_A_TIME)):
            records: list[LogRecord] = []
            done: list[DeadLetter] = []
            told: list[tuple[Place, int, str]] = []
            for place, _, letter in batch:
                again = checked_again(letter, now_us)
                if again.dead or not again.records:
                    told.append((place, 0, str(again.dead[0].reason if again.dead else letter.reason)))
                    continue
                records += again.records
                done.append(_mark(letter, now_us))
                told.append((place, len(again.records), ""))
            if done:
                to.append(records)
                to.append((), done)
            yield from told

    def _next(self, consumer: Consumer, place: Place) -> tuple[Place, str, DeadLetter] | None:
        """The letter at a place that the consumer comes to next, or soon; None: it comes to a later one, so this is gone."""
        deadline = time.monotonic() + READ_S
        while time.monotonic() < deadline:
            for message in consumer.consume(1, _WAIT_S):
                error = message.error()
                if error is not None:
                    self._stop_at(error)
                elif message.partition() == place.partition and message.offset() >= place.offset:
                    return _decoded(message) if message.offset() == place.offset else None
        raise self._unread()

    def _messages(self, consumer: Consumer, places: Sequence[TopicPartition]) -> Iterator[list[Message]]:
        """Everything from these places on, up to the ends as they are met."""
        consumer.assign(list(places))
        open_partitions = {place.partition for place in places}
        deadline = time.monotonic() + READ_S
        while open_partitions:
            found: list[Message] = []
            for message in consumer.consume(_TAKEN, _WAIT_S):
                error = message.error()
                if error is None:
                    found.append(message)
                elif error.name() == _END:
                    open_partitions.discard(message.partition())
                else:
                    self._stop_at(error)
            if found:
                deadline = time.monotonic() + READ_S
                yield found
            elif time.monotonic() > deadline:
                raise self._unread()

    def _decoded(self, messages: Sequence[Message]) -> Iterator[tuple[Place, str, DeadLetter]]:
        for message in messages:
            try:
                yield _decoded(message)
            except BadInputError as error:  # one that cannot be read hides none of its neighbours
                _log.error("%s", error)

    def _partitions(self, consumer: Consumer) -> list[int]:
        try:
            topic = consumer.list_topics(DEAD, timeout=READ_S / 4).topics[DEAD]
        except KafkaException as error:
            raise self._unread(error.args[0]) from error
        if topic.error is not None:
            raise self._unread(topic.error)
        return sorted(topic.partitions)

    @contextmanager
    def _consumer(self) -> Generator[Consumer]:
        consumer = Consumer({
            **admin_options(self._kafka),
            "group.id": "platform-dlq",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",  # behind what is gone
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 16_384,
            "log_level": 0,
            "error_cb": self._complained,
        })  # fmt: skip
        try:
            yield consumer
        finally:
            consumer.close()

    def _complained(self, error: KafkaError) -> None:
        if telling(error):
            self._complaint = error

    def _stop_at(self, error: KafkaError) -> None:
        if error.name() != _END and not error.retriable():
            raise self._unread(error)

    def _unread(self, error: KafkaError | None = None) -> LinkError:
        words = error.str() if error is not None else f"nothing came in {READ_S:.0f} s"
        said = f" ({self._complaint.str()})" if self._complaint is not None else ""
        cure = "start Kafka, or mend the way to it"
        if error is not None:
            cure = cure_of(self._kafka, error, self._complaint, cure)
            if error.name() in {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED"}:
                cure = f"let the user {self._kafka.username} read: paceline topics apply --reader platform={self._kafka.username}"
        return LinkError(f"kafka {self._kafka.bootstrap}: {DEAD} cannot be read: {words}{said}", cure=cure)


def _decoded(message: Message) -> tuple[Place, str, DeadLetter]:
    place = Place(message.partition(), message.offset())
    return place, (message.key() or b"").decode(errors="replace"), decode_dead(message.value(), message.headers(), f"{DEAD} {place}")


def _gone(place: Place) -> BadInputError:
    return BadInputError(f"no dead letter {place}", cure="see `paceline dlq list`; letters are kept 30 days")


def _mark(letter: DeadLetter, now_us: int) -> DeadLetter:
    """What says that a letter was replayed: of its key, so with its bytes when it is known by them."""
    named = letter.epoch is not None and letter.n is not None
    return replace(letter, at_us=now_us, reason=REPLAYED, detail="appended after all", raw=b"" if named else letter.raw)
