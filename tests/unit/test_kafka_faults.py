"""What is said of errors of Kafka: why time ran out when copies are missing, and what the end of a stage's session means."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from quixstreams.checkpointing.exceptions import CheckpointProducerTimeout
from quixstreams.kafka.exceptions import KafkaProducerDeliveryError

from broker.errors import ConfigError
from broker.kafka import KafkaSettings
from processors.kafka_admin import KafkaAdmin
from processors.kafka_faults import COPIES, WAITING, not_stored, too_few_copies
from processors.quix_faults import AGAIN, broken_session
from processors.quix_fencing import is_taken_over

KAFKA = KafkaSettings(bootstrap="kafka1:9092", username="stages")


def test_partitions_with_too_few_copies_are_counted_and_the_worst_is_named() -> None:
    told = too_few_copies({"telemetry.dlq": [3, 3], "telemetry.frames": [3, 1, 2]}, {"telemetry.dlq": 2, "telemetry.frames": 3})
    assert told == "2 partitions of topic telemetry.frames have too few copies: partition 1 has 1 in sync, min.insync.replicas is 3"


def test_copies_that_are_enough_say_nothing() -> None:
    assert not too_few_copies({"telemetry.frames": [2, 3], "other": [1]}, {"telemetry.frames": 2})


def test_append_that_ran_out_of_time_for_want_of_copies_says_so_and_not_that_kafka_is_away() -> None:
    timed_out, refused = KafkaError(KafkaError._MSG_TIMED_OUT), KafkaError(KafkaError._TRANSPORT)
    error = not_stored(KAFKA, "5 of 9 records not stored", timed_out, refused, "1 partitions of topic x have too few copies")
    assert (
        error.message
        == "kafka kafka1:9092: 5 of 9 records not stored: Local: Message timed out: 1 partitions of topic x have too few copies"
    )
    assert error.cure == COPIES + WAITING


@pytest.mark.parametrize(
    ("error", "words", "cure"),
    [
        (KafkaException(KafkaError(KafkaError._FATAL)), "Local: Fatal error", AGAIN),
        (KafkaProducerDeliveryError(KafkaError(KafkaError._MSG_TIMED_OUT)), "Local: Message timed out", AGAIN),
        (KafkaProducerDeliveryError(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), "too large", "paceline topics apply"),
        (CheckpointProducerTimeout("'3' messages failed to be produced"), "'3' messages failed", AGAIN),
    ],
)
def test_session_that_broke_says_why_and_what_to_do(error: Exception, words: str, cure: str) -> None:
    told = broken_session("live", KAFKA, error)
    assert told is not None
    assert told.message.startswith("stage live: the session with kafka kafka1:9092 broke: ")
    assert words in told.message
    assert cure in told.cure


@pytest.mark.parametrize("code", [KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED, KafkaError._FENCED])
def test_producer_fenced_after_its_process_stood_still_has_no_twin(code: int) -> None:
    error = RuntimeError("the checkpoint failed")
    error.__cause__ = fenced = KafkaException(KafkaError(code))
    assert is_taken_over(error, open_s=1.2)
    assert not is_taken_over(error, open_s=16.0)
    assert is_taken_over(error, open_s=16.0, most_ms=120_000)  # checkpoints are far apart
    told = broken_session("boards", KAFKA, fenced, open_s=16.0)
    assert told is not None
    assert "it stood still for 16 s, and Kafka gave up its transaction" in told.message
    assert told.cure == AGAIN


def test_member_whose_name_a_newer_one_has_is_taken_over_however_long_it_stood() -> None:
    assert is_taken_over(KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID)), open_s=100.0)
    fatal = KafkaError(KafkaError._FATAL, "Static consumer fenced by other consumer with same group.instance.id")
    assert is_taken_over(KafkaException(fatal), open_s=100.0)


def test_member_that_is_fenced_while_it_joins_again_after_all_brokers_were_away_is_to_be_started_again() -> None:
    error = KafkaException(KafkaError(KafkaError._FATAL, "Static consumer fenced by other consumer with same group.instance.id"))
    assert not is_taken_over(error, open_s=0.1, joining=True)
    assert is_taken_over(error, open_s=0.1, joining=False)
    told = broken_session("live", KAFKA, error)
    assert told is not None
    assert told.cure == AGAIN


def test_fault_of_ours_is_no_broken_session() -> None:
    assert broken_session("live", KAFKA, ValueError("a fault of ours")) is None


def test_file_of_an_authority_that_cannot_be_read_is_named_with_its_setting(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=missing) as caught:
        KafkaAdmin(KAFKA.model_copy(update={"security": "SSL", "cafile": missing}))
    assert "kafka.cafile" in caught.value.cure
