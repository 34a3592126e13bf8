"""Acks: which rows of a spool the next hop holds durably, and which it refused for good.

On the wire msgpack `[1, epoch, [[first, last], ...], [[first, last, reason], ...]]` (inclusive row ranges) on `.../ack`, or
`{"epoch": "hex", "stored": [[first, last]], "refused": [[first, last, reason]]}` on `.../ack/json`. Both end the re-sending of a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgpack

from broker.bundles import MAX_N
from broker.errors import Reason, Rejected
from broker.frames import MAX_U64

MAX_RANGES: Final = 4096
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows that will never be stored, and why."""

    first: int
    last: int
    reason: str


class Ack(NamedTuple):
    """The answer to bundles of one spool."""

    epoch: int
    stored: tuple[tuple[int, int], ...]
    refused: tuple[Refusal, ...] = ()


def to_ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Sorted inclusive ranges that cover exactly `numbers`."""
    ranges: list[tuple[int, int]] = []
    for n in sorted(set(numbers)):
        if ranges and ranges[-1][1] == n - 1:
            ranges[-1] = (ranges[-1][0], n)
        else:
            ranges.append((n, n))
    return tuple(ranges)


def encode_ack(ack: Ack) -> bytes:
    """The msgpack form."""
    return msgpack.packb((_VERSION, ack.epoch, ack.stored, [(r.first, r.last, r.reason) for r in ack.refused]))


def encode_ack_json(ack: Ack) -> bytes:
    """The JSON form; the epoch is 16 hex digits because JSON numbers do not hold 64 bits."""
    refused = [[r.first, r.last, r.reason] for r in ack.refused]
    return json.dumps({"epoch": f"{ack.epoch:016x}", "stored": ack.stored, "refused": refused}).encode()


def decode_ack(raw: bytes) -> Ack | Rejected:
    """Check and decode the msgpack form."""
    try:
        version, epoch, stored, refused = msgpack.unpackb(
            raw, use_list=False, max_array_len=MAX_RANGES, max_str_len=64, max_bin_len=0, max_map_len=0, max_ext_len=0
        )
        if version != _VERSION or type(epoch) is not int or not 0 <= epoch <= MAX_U64:
            return Rejected(Reason.BAD_FRAME, "not an ack of version 1", raw)
        ranges = tuple(_range(first, last) for first, last in stored)
        refusals = tuple(Refusal(*_range(first, last), _reason(reason)) for first, last, reason in refused)
    except Exception as error:
        return Rejected(Reason.BAD_FRAME, f"not an ack: {type(error).__name__}", raw)
    return Ack(epoch, ranges, refusals)


def _range(first: object, last: object) -> tuple[int, int]:
    if type(first) is not int or type(last) is not int or not 0 <= first <= last <= MAX_N:
        raise ValueError("bad row range")
    return first, last


def _reason(reason: object) -> str:
    if type(reason) is not str:
        raise ValueError("bad reason")
    return reason
