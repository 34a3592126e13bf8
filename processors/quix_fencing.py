"""How Kafka says that a newer process has taken the place of this one: two replicas of a stage under one name."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError

_TAKEN_OVER: Final = (KafkaError.FENCED_INSTANCE_ID, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError._FENCED)  # noqa: SLF001 - its public name


def is_taken_over(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says so."""
    while error is not None:
        if any(isinstance(told, KafkaError) and _fenced(told) for told in (*error.args, getattr(error, "error", None))):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fenced(told: KafkaError) -> bool:
    """The consumer says it as a fatal error with the broker's words in it."""
    return told.code() in _TAKEN_OVER or (told.code() == KafkaError._FATAL and "fenced" in told.str())  # noqa: SLF001 - its public name
