"""A log record on Kafka: the body as value, the key it is ordered by, and who sent it, what it is and when it was appended as headers.

    telemetry.frames     key: the subject (`LogRecord.key`)     frames as they came; wakes; what an upload says of itself
    reference.changes    key: {tenant}/{entity}/{id}            segments, athletes, bindings and the like: the last of a key is all there is

Headers are text: `kind` (frame, wake, reference), `tenant`, `node`, `appended_us`, and `kid` when a body is encrypted; others are passed
over.
Order holds within a key only. `appended_us` of one partition can go back by what the clocks of two ingest processes differ: a reader
that needs time takes the greatest so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from broker.errors import BadInputError
from broker.kafka_topics import FRAMES, REFERENCE
from broker.logrecord import Kind, LogRecord
from broker.reference import UploadRef, decode_reference

Headers = list[tuple[str, bytes]]
_KINDS: Final = {Kind.FRAME: b"frame", Kind.WAKE: b"wake", Kind.REFERENCE: b"reference"}
_KIND_NUMBERS: Final = {word: int(kind) for kind, word in _KINDS.items()}
_FRAME: Final = int(Kind.FRAME)
_REFERENCE: Final = int(Kind.REFERENCE)


class KafkaRecord(NamedTuple):
    """What is produced. `headers` may be shared with other records: read only."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


Produced = tuple[str, bytes, bytes, Headers]
"""The fields of a `KafkaRecord` in their order."""


def encode_log_records(records: Iterable[LogRecord]) -> Iterator[Produced]:
    """`encode_log_record` of each; frames by a short way, as there is one for every message."""
    shared: dict[tuple[str, str, int], Headers] = {}
    for record in records:
        kind, key, tenant, node, appended_us, body, kid = record
        if kind != _FRAME or kid:
            yield encode_log_record(record)
            continue
        sender = (tenant, node, appended_us)
        headers = shared.get(sender)
        if headers is None:
            headers = shared[sender] = _headers(kind, tenant, node, appended_us, kid)
        yield FRAMES, key.encode(), body, headers


def encode_log_record(record: LogRecord) -> KafkaRecord:
    """Where a record goes and as what. BadInputError when the body of a REFERENCE record cannot be read."""
    kind, key, tenant, node, appended_us, body, kid = record
    headers = _headers(kind, tenant, node, appended_us, kid)
    if kind != _REFERENCE:
        return KafkaRecord(FRAMES, key.encode(), body, headers)
    value = decode_reference(body)
    if isinstance(value, UploadRef):  # one a ride, and of its athlete alone: beside its frames, kept as long as they
        return KafkaRecord(FRAMES, value.subject.encode(), body, headers)
    return KafkaRecord(REFERENCE, f"{value.tenant}/{value.entity}/{value.id}".encode(), body, headers)


def decode_log_record(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None, where: str = "record"
) -> LogRecord:
    """Inverse of `encode_log_record`; BadInputError names `where` (say topic, partition and offset) and the header at fault."""
    found = dict(headers or ())
    try:
        kind = _KIND_NUMBERS[found["kind"]]  # type: ignore[index] - None is no kind
        tenant = found["tenant"].decode()  # type: ignore[union-attr]
        node = found["node"].decode()  # type: ignore[union-attr]
        appended_us = int(found["appended_us"])  # type: ignore[arg-type]
        kid = int(found.get("kid") or 0)
        subject = tenant if kind == _REFERENCE else key.decode()  # type: ignore[union-attr]
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise BadInputError(f"{where}: not a record of the log: {error!r}", cure="only ingest and the stages write this topic") from error
    if value is None:
        raise BadInputError(f"{where}: no value", cure="only ingest and the stages write this topic")
    return LogRecord(kind, subject, tenant, node, appended_us, value, kid)


@lru_cache(maxsize=4096)
def _headers(kind: int, tenant: str, node: str, appended_us: int, kid: int) -> Headers:
    """The records of one append from one node share them."""
    made = [("kind", _KINDS[Kind(kind)]), ("tenant", tenant.encode()), ("node", node.encode()), ("appended_us", str(appended_us).encode())]
    return [*made, ("kid", str(kid).encode())] if kid else made
