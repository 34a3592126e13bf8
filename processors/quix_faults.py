"""What an error that ends a stage on Kafka means: the session with Kafka broke, and why, with the cure; or a fault of ours.

A session that broke is not mended inside the process: partitions, state and producer begin anew from the last checkpoint anyhow, which a
new process does in the same way. Who keeps the stage starts it again.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.exceptions import KafkaPartitionError, PartitionAssignmentError
from quixstreams.kafka.exceptions import BaseKafkaException

from broker.errors import LinkError
from broker.kafka import KafkaSettings
from processors.kafka_faults import cure_of
from processors.quix_fencing import TRANSACTION_MS, kafka_words, stood_still

AGAIN: Final = "start it again, which who keeps it does: it goes on from its last checkpoint"
_OF_KAFKA: Final = (KafkaException, BaseKafkaException, CheckpointProducerTimeout, KafkaPartitionError, PartitionAssignmentError)


def broken_session(
    stage: str, kafka: KafkaSettings, error: BaseException, open_s: float = 0.0, most_ms: int = TRANSACTION_MS
) -> LinkError | None:  # fmt: skip
    """The error for whoever runs the stage; None when `error` is not of Kafka. `open_s`: how long its transaction was open, `most_ms`: how
    long it might be."""
    if not isinstance(error, _OF_KAFKA):
        return None
    told = next(kafka_words(error), None)
    if told is not None and stood_still(error, open_s, most_ms):
        why = f"it stood still for {open_s:.0f} s, and Kafka gave up its transaction: {told.str()}"
        return LinkError(f"stage {stage}: the session with kafka {kafka.bootstrap} broke: {why}", cure=AGAIN)
    cure = AGAIN if told is None else cure_of(kafka, told, otherwise=AGAIN)
    return LinkError(f"stage {stage}: the session with kafka {kafka.bootstrap} broke: {told.str() if told else error}", cure=cure)
