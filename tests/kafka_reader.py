"""All that is on a topic, for tests that ask what became durable."""

from __future__ import annotations

import time
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from broker.kafka import partition_of
from broker.kafka_records import decode_log_record
from broker.kafka_topics import DEAD, FRAMES, REFERENCE
from broker.logrecord import LogRecord
from processors.copies import DATE_HEADER, is_copy
from processors.kafka_dead import decode_dead


class Found(NamedTuple):
    """One record as it lies there."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: list


def read_topic(bootstrap, topic, timeout_s=120.0):
    """Every record of the topic, each partition in order, up to the ends as they are now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    deadline = time.monotonic() + timeout_s
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        found, open_partitions = [], set(partitions)
        while open_partitions:
            assert time.monotonic() < deadline, f"{topic}: partitions {open_partitions} not read within {timeout_s} s"
            for message in consumer.consume(10_000, timeout=0.2):
                if message.error() is None:
                    found.append(Found(message.partition(), message.offset(), message.key(), message.value(), message.headers()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
        return found
    finally:
        consumer.close()


def log_records(bootstrap, tenant=None, topics=(FRAMES, REFERENCE)):
    """The log records of a tenant (of all), each key in order; every one lies where its key belongs, but for copies that stages keep elsewhere."""
    records: list[LogRecord] = []
    for topic in topics:
        found = read_topic(bootstrap, topic)
        for each in found:
            if topic == FRAMES and each.partition != partition_of(each.key, 64):
                assert is_copy(each.key.decode()) or any(name == DATE_HEADER for name, _ in each.headers), each
                continue
            record = decode_log_record(each.key, each.value, each.headers, f"{topic} {each.partition}@{each.offset}")
            if tenant is None or each.key.decode().startswith(f"{tenant}/"):
                records.append(record)
    return records


def dead_letters(bootstrap, tenant):
    """The dead letters of a tenant by what they are known by, with how often each lies there."""
    found = {}
    for each in read_topic(bootstrap, DEAD):
        letter = decode_dead(each.value, each.headers)
        if letter.tenant == tenant:
            known, times = found.get(each.key, (letter, 0))
            found[each.key] = (known, times + 1)
    return list(found.values())
