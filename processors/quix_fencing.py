"""How Kafka says that a process must not go on as it is: another one has taken its place under the same name, or it stood still for so
long that Kafka gave its transaction up, or the brokers were away while it joined its group and know it by an id that never came here. The
words are mostly the same, so the time says which.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import KafkaError

TRANSACTION_MS: Final = 10_000  # so long an open transaction of a killed replica holds back readers of what is committed
_OF_MEMBERS: Final = (KafkaError.FENCED_INSTANCE_ID,)
_OF_PRODUCERS: Final = (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED, KafkaError._FENCED)  # noqa: SLF001 - its public name
_FATAL: Final = KafkaError._FATAL  # noqa: SLF001 - its public name


def waking_s() -> float:
    """Seconds of a clock that goes on while this process is stopped, and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def transaction_ms(commit_s: float) -> int:
    """How long a transaction may be open: longer than a checkpoint takes to come, or Kafka ends each of them, and the stage with it."""
    return max(TRANSACTION_MS, round(2_000 * commit_s))


def is_taken_over(error: BaseException | None, open_s: float, most_ms: int = TRANSACTION_MS, *, joining: bool = False) -> bool:
    """Whether an error, or what caused it, says that a newer process has this one's name. `open_s`: how long its transaction was open,
    `most_ms`: how long it might be, `joining`: since all brokers were away its group has not taken it for a member. (A twin that comes just
    then is known for one when the process is fenced once more.)"""
    return any(not joining if _of_member(told) else _of_producer(told) and open_s * 1000 < most_ms for told in kafka_words(error))


def stood_still(error: BaseException | None, open_s: float, most_ms: int = TRANSACTION_MS) -> bool:
    """Whether it says that the transaction of this process was open for longer than Kafka lets it."""
    return open_s * 1000 >= most_ms and any(map(_of_producer, kafka_words(error)))


def kafka_words(error: BaseException | None) -> Iterator[KafkaError]:
    """What Kafka said, of an error and of what caused it."""
    while error is not None:
        yield from (told for told in (*error.args, getattr(error, "error", None)) if isinstance(told, KafkaError))
        error = error.__cause__ or error.__context__


def _of_member(told: KafkaError) -> bool:
    """A consumer says it as a fatal error with the broker's words in it."""
    return told.code() in _OF_MEMBERS or (told.code() == _FATAL and "group.instance.id" in told.str())


def _of_producer(told: KafkaError) -> bool:
    return told.code() in _OF_PRODUCERS or (told.code() == _FATAL and "fenced" in told.str() and not _of_member(told))
