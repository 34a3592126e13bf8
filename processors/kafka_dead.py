"""Dead letters on Kafka (`telemetry.dlq`): the refused bytes as value, why and whose as headers.

The key is what the letter is known by (`ident_of`), so a row that is sent again and refused again lies beside its first: readers count it
once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from broker.errors import BadInputError
from broker.kafka_records import KafkaRecord
from broker.kafka_topics import DEAD
from processors.accept import DeadLetter
from processors.dead_store import MAX_RAW_BYTES, ident_of

_CURE: Final = "only ingest writes this topic"


def encode_dead(letter: DeadLetter) -> KafkaRecord:
    """The record of a dead letter; of more than 64 KB the beginning is kept, as in the store of one machine."""
    headers = [
        ("reason", str(letter.reason).encode()),
        ("detail", letter.detail.encode()),
        ("topic", letter.topic.encode()),
        ("tenant", letter.tenant.encode()),
        ("node", letter.node.encode()),
        ("at_us", str(letter.at_us).encode()),
    ]
    if letter.epoch is not None:
        headers.append(("epoch", f"{letter.epoch:016x}".encode()))
    if letter.n is not None:
        headers.append(("n", str(letter.n).encode()))
    return KafkaRecord(DEAD, ident_of(letter).encode(), letter.raw[:MAX_RAW_BYTES], headers)


def decode_dead(value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None, where: str = "dead letter") -> DeadLetter:
    """Inverse of `encode_dead`; BadInputError names `where`."""
    try:
        found = {name: raw.decode() for name, raw in headers or () if raw is not None}
        epoch, n = found.get("epoch"), found.get("n")
        return DeadLetter(
            at_us=int(found["at_us"]),
            tenant=found["tenant"],
            node=found["node"],
            topic=found["topic"],
            epoch=None if epoch is None else int(epoch, 16),
            n=None if n is None else int(n),
            reason=found["reason"],
            detail=found["detail"],
            raw=value or b"",
        )
    except (KeyError, ValueError) as error:
        raise BadInputError(f"{where}: not a dead letter: {error!r}", cure=_CURE) from error
