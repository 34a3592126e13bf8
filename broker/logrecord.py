"""Log records: what ingest appends and every stage reads, in the embedded log, on Kafka and in a replay.

A record is the frame's bytes as they came plus who sent it and when it was appended: the only time a stage knows. `key` decides the
partition. WAKE records come from the timer service: a stage asked to be called again at `appended_us` or later. REFERENCE records change
what stages look up.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple


class Kind(IntEnum):
    """What `body` holds."""

    FRAME = 0
    WAKE = 1  # body: the name the stage gave the wake
    REFERENCE = 2  # body: a changed segment, athlete or binding (broker/reference.py); key: its tenant


class LogRecord(NamedTuple):
    """One record. `tenant` and `node` are those of the sender's credential ("" for a wake); `kid` names a key once bodies are encrypted.

    A tuple: one is made for every frame, and a frozen dataclass takes three times as long to make.
    """

    kind: int
    key: str
    tenant: str
    node: str
    appended_us: int
    body: bytes
    kid: int = 0


_HEAD: Final = struct.Struct("<BBBBHHq")  # kind, len(key), len(tenant), len(node), kid, len(body), appended_us


def encode_records(records: Sequence[LogRecord]) -> bytes:
    """Records back to back. Keys are at most 255 bytes, bodies at most 65,535."""
    parts: list[bytes] = []
    pack = _HEAD.pack
    for r in records:
        key, tenant, node = r.key.encode(), r.tenant.encode(), r.node.encode()
        parts += (pack(r.kind, len(key), len(tenant), len(node), r.kid, len(r.body), r.appended_us), key, tenant, node, r.body)
    return b"".join(parts)


def decode_records(raw: bytes) -> list[LogRecord]:
    """Inverse of `encode_records`; ValueError when `raw` is torn (the caller checks a CRC first)."""
    records: list[LogRecord] = []
    at, end = 0, len(raw)
    unpack, size = _HEAD.unpack_from, _HEAD.size
    try:
        while at < end:
            kind, k, t, n, kid, b, appended_us = unpack(raw, at)
            k += at + size
            t += k
            n += t
            b += n
            if b > end:
                raise ValueError("torn record")
            records.append(LogRecord(kind, raw[at + size : k].decode(), raw[k:t].decode(), raw[t:n].decode(), appended_us, raw[n:b], kid))
            at = b
    except struct.error as error:
        raise ValueError("torn record") from error
    return records
