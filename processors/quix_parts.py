"""Parts of Quix Streams as the engine needs them, put in place of its own: the same, but for what each says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError
from quixstreams.internal_consumer import InternalConsumer
from quixstreams.internal_producer import InternalProducer
from quixstreams.models.topics import TopicManager
from quixstreams.processing import ProcessingContext

from broker.kafka import KafkaSettings
from processors.quix_fencing import waking_s

if TYPE_CHECKING:
    from quixstreams import Message as RawMessage


class FlushingContext(ProcessingContext):
    """Has the shards write their cells before each checkpoint, and knows since when the one that is open is (`waking_s`)."""

    before_commit: Callable[[bool], None]  # told whether partitions go away with it
    opened_s: float
    member_s: float  # when the group took an offset, as it does of its members

    @classmethod
    def of(cls, held: ProcessingContext, before_commit: Callable[[bool], None]) -> FlushingContext:
        made = cls(**{f.name: getattr(held, f.name) for f in fields(held) if f.init})
        made.before_commit = before_commit
        made.opened_s = made.member_s = waking_s()
        return made

    def init_checkpoint(self) -> None:
        super().init_checkpoint()
        self.opened_s = waking_s()  # not of one that could not be opened

    def commit_checkpoint(self, force: bool = False, revoking: bool = False) -> None:
        if force or self.checkpoint.expired():  # looked at once: offsets must not be committed without the cells
            self.before_commit(force)
            offsets = bool(self.checkpoint._tp_offsets)  # noqa: SLF001 - without any the group is asked nothing
            super().commit_checkpoint(force=True, revoking=revoking)
            if offsets:
                self.member_s = waking_s()


class LeanProducer(InternalProducer):
    """Hands a record to librdkafka at once: the layers between cost as much again, and a checkpoint sends thousands."""

    def produce(
        self, topic: str, value: bytes | None = None, key: bytes | None = None, headers: Any = None, partition: int | None = None,
        **_: object,
    ) -> None:  # fmt: skip
        self._raise_for_error()
        inner, at = self._producer._producer, -1 if partition is None else partition  # noqa: SLF001 - past the layers
        while True:
            try:
                inner.produce(topic, value, key, at, on_delivery=self._on_delivery, headers=headers or [])
            except BufferError:
                self._producer.poll(0.05)
            else:
                return


class QuietConsumer(InternalConsumer):
    """Polls no word of the end of a partition, and notes when all brokers were away (`waking_s`)."""

    away_s = -inf

    def note_losses(self) -> None:
        """From now on."""
        tell = self._user_error_cb

        def heard(error: KafkaError) -> None:
            if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
                self.away_s = waking_s()
            tell(error)

        self._user_error_cb = heard

    def poll(self, timeout: float | None = None) -> RawMessage | None:
        raw = super().poll(timeout)
        return None if raw is not None and is_end(raw) else raw


class NamingTopics(TopicManager):
    """Names the changelog of the stage's state."""

    changelog: str

    def _internal_name(self, topic_type: str, topic_name: str | None, suffix: str) -> str:
        return self.changelog if topic_type == "changelog" else super()._internal_name(topic_type, topic_name, suffix)


def is_end(raw: RawMessage) -> bool:
    """Whether this is no message, but says that a partition holds no more."""
    error = raw.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 - its public name


def connection_of(kafka: KafkaSettings) -> dict[str, Any]:
    """How Quix reaches the cluster."""
    made: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap, "security_protocol": kafka.security.lower()}
    if kafka.security.startswith("SASL"):
        made |= {"sasl_mechanism": kafka.mechanism, "sasl_username": kafka.username, "sasl_password": kafka.password}
    if kafka.cafile:
        made["ssl_ca_location"] = kafka.cafile
    return made
