"""What an error of Kafka means to whoever runs it: its words, and the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError

from broker.errors import StoreError
from broker.kafka import KafkaSettings
from broker.tls_faults import cure_of_tls, look_at

WAITING: Final = "; nothing was acknowledged, senders keep their rows"
_RIGHTS: Final = "let the user {user} write: paceline topics apply --writer {user}"
_LOG_IN: Final = "check kafka.security, kafka.mechanism, kafka.username and kafka.password"
_TLS: Final = "check kafka.cafile, and that the certificate of the server names the address of kafka.bootstrap"
_APPLY: Final = "make the topics right: paceline topics apply"
_DISK: Final = "free space on the disk of Kafka's log.dirs, then start the broker that stopped"
COPIES: Final = "start the brokers that are away: too few of a topic's copies are in sync"
AWAY: Final = "start Kafka (a full disk stops it: its own log tells), or mend the way to it"
_CURES: Final = {
    "_AUTHENTICATION": _LOG_IN,
    "SASL_AUTHENTICATION_FAILED": _LOG_IN,
    "UNSUPPORTED_SASL_MECHANISM": _LOG_IN,
    "ILLEGAL_SASL_STATE": _LOG_IN,
    "_SSL": _TLS,
    "TOPIC_AUTHORIZATION_FAILED": _RIGHTS,
    "CLUSTER_AUTHORIZATION_FAILED": _RIGHTS,
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": _RIGHTS,
    "UNKNOWN_TOPIC_OR_PART": _APPLY,
    "_UNKNOWN_TOPIC": _APPLY,
    "_UNKNOWN_PARTITION": _APPLY,
    "MSG_SIZE_TOO_LARGE": _APPLY,
    "RECORD_LIST_TOO_LARGE": _APPLY,
    "INVALID_RECORD": _APPLY,
    "KAFKA_STORAGE_ERROR": _DISK,
    "NOT_ENOUGH_REPLICAS": COPIES,
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": COPIES,
}
_TELLING: Final = frozenset({"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "_SSL", "_TRANSPORT", "_RESOLVE", "_BAD_MSG"})
"""Complaints of the client that say why a time ran out; "all brokers are down" says nothing."""


def telling(error: KafkaError) -> bool:
    """Whether a complaint of the client explains why later sends run out of time."""
    return error.name() in _TELLING


def cure_of(kafka: KafkaSettings, error: KafkaError, complaint: KafkaError | None = None, otherwise: str = AWAY) -> str:
    """What to do about an error; about the client's last complaint when the error only says that time ran out."""
    names = [error.name(), *([complaint.name()] if complaint is not None else [])]
    if "_SSL" in names and (untrusted := untrusted_server(kafka)):
        return untrusted
    found = next((_CURES[name] for name in names if name in _CURES), otherwise)
    return found.format(user=kafka.username or "of ingest")


def untrusted_server(kafka: KafkaSettings) -> str:
    """Why the certificate of a broker is not believed: the client of Kafka does not say. Empty when all are."""
    for server in kafka.servers:
        error = look_at(server, kafka.cafile)
        if error is not None:
            return cure_of_tls(error, server, "name its certificate with kafka.cafile")
    return ""


def too_few_copies(in_sync: Mapping[str, Sequence[int]], wanted: Mapping[str, int]) -> str:
    """Which topic has a partition with fewer copies in sync than it must have to take a record; empty: none.

    `in_sync` counts the copies of each partition, `wanted` is `min.insync.replicas`. The client asks again until its time is up when there
    are too few, and does not say why.
    """
    for topic, counts in in_sync.items():
        short = [(count, partition) for partition, count in enumerate(counts) if count < wanted.get(topic, 1)]
        if short:
            count, partition = min(short)
            wants = f"partition {partition} has {count} in sync, min.insync.replicas is {wanted[topic]}"
            return f"{len(short)} partitions of topic {topic} have too few copies: {wants}"
    return ""


def not_stored(
    kafka: KafkaSettings, what: str, error: KafkaError, complaint: KafkaError | None = None, few: str = ""
) -> StoreError:  # fmt: skip
    """The error of an append: what was not stored, Kafka's words, the client's last complaint or which copies are too few, and the cure."""
    if few:
        return StoreError(f"kafka {kafka.bootstrap}: {what}: {error.str()}: {few}", cure=COPIES + WAITING)
    words = error.str() if complaint is None or error.name() in _CURES else f"{error.str()} ({complaint.str()})"
    return StoreError(f"kafka {kafka.bootstrap}: {what}: {words}", cure=cure_of(kafka, error, complaint) + WAITING)
