"""Accept: one message of a node -> log records, dead letters and the ack that is due once both are durable. Pure.

The broker has proved who sent it (the topic is the credential); checked here: the bundle, every frame, that the subject belongs to the
sender's tenant, and that no frame is dated ahead of the present. A frame of an unknown layout is stored and counted.
Never raises, whatever the bytes: each bad row is one `DeadLetter` with its reason, and one bad row never costs its neighbours.
Without a trusted header no ack is possible: the node keeps the rows and probes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from broker.acks import Ack, Refusal, encode_ack, encode_ack_json, to_ranges
from broker.bundles import HEADER_BYTES, MAX_BUNDLE_BYTES, MAX_N, Bundle, decode_bundle
from broker.errors import Reason, Rejected
from broker.frames import SELF_NUMBERED, Clock, check_frame, record_bytes
from broker.ids import route_of
from broker.json_frames import decode_json_message
from broker.logrecord import Kind, LogRecord
from broker.topics import UPLOAD_NODE, Address, parse_topic, topic

FUTURE_ALLOWANCE_US: Final = 5 * 60 * 1_000_000
CLOCK_FLOOR_US: Final = 1_767_225_600_000_000  # 2026-01-01: a platform clock before it is not set, and proves nobody's time wrong
_RECORDED: Final = int(Clock.RECORDED)  # plain integers: looking an enum member up costs as much as a check
_FRAME: Final = int(Kind.FRAME)
_RESERVED: Final = f"/{UPLOAD_NODE}/up"
UP_LEAVES: Final = ("up", "up/json")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused row, or a whole message when `n` is None. `raw` is the row's bytes (or its JSON text), or the message's.

    Of the rows a damaged body has swallowed, the first holds the message and the others nothing.
    """

    at_us: int
    tenant: str
    node: str
    topic: str
    epoch: int | None
    n: int | None
    reason: str
    detail: str
    raw: bytes


Spool = tuple[str, int]
"""The topic of an ack, and the epoch it is for."""


@dataclass(slots=True)
class Accepted:
    """What messages give. Their acks are due after `records` and `dead` are durable: `stored` and `refused` hold the ranges of rows."""

    records: list[LogRecord] = field(default_factory=list[LogRecord])
    dead: list[DeadLetter] = field(default_factory=list[DeadLetter])
    stored: dict[Spool, list[tuple[int, int]]] = field(default_factory=dict[Spool, list[tuple[int, int]]])
    refused: dict[Spool, list[Refusal]] = field(default_factory=dict[Spool, list[Refusal]])
    unknown_layouts: int = 0

    @property
    def ack(self) -> Ack | None:
        """The ack of the only spool; None when no rows can be named."""
        for spool, ranges in self.stored.items():
            return Ack(spool[1], _joined(ranges), tuple(self.refused.get(spool, ())))
        return None


class _Sender(NamedTuple):
    """Who sends on a topic."""

    name: str
    tenant: str
    node: str
    as_json: bool
    ack_topic: str
    own: str  # what every subject of its tenant begins with


def accept(name: str, payload: bytes, now_us: int, *, length: int | None = None, into: Accepted | None = None) -> Accepted:
    """Check the message `payload` on topic `name` that arrived at `now_us` (UTC); what it gives, added to `into`.

    `length` is the length of the message when `payload` is only its beginning (it was too long to be held).
    """
    out = Accepted() if into is None else into
    sender = _sender(name)
    if sender is None:
        detail = "the node name upload is reserved" if _RESERVED in name else "not a topic of a node's data"
        out.dead.append(DeadLetter(now_us, "", "", name[:200], None, None, Reason.BAD_ID, detail, payload))
    elif sender.as_json:
        _accept_json(out, sender, payload, now_us, length)
    else:
        _accept_bundle(out, sender, payload, now_us, length)
    return out


def accept_row(address: Address, name: str, raw: bytes, now_us: int) -> Accepted:
    """Check one frame by itself, as `accept` does inside a bundle: for the replay of a dead letter."""
    out = Accepted()
    bad = _take(out, _sender_of(address, name), raw, now_us)
    if bad is not None:
        out.dead.append(DeadLetter(now_us, address.tenant, address.node, name, None, None, bad.reason, bad.detail, raw))
    return out


def _sender_of(address: Address, name: str) -> _Sender:
    as_json = address.leaf == "up/json"
    ack_topic = topic(address.tenant, address.node, "ack/json" if as_json else "ack")
    return _Sender(name, address.tenant, address.node, as_json, ack_topic, address.tenant + "/")


@lru_cache(maxsize=65_536)  # the same nodes again and again
def _sender(name: str) -> _Sender | None:
    address = parse_topic(name)
    return _sender_of(address, name) if address is not None and address.leaf in UP_LEAVES else None


def merged_acks(accepted: Iterable[Accepted]) -> list[tuple[str, bytes]]:
    """The ack messages `(topic, payload)` of several messages, one a spool: a message costs the broker more than its bytes."""
    stored: dict[Spool, list[tuple[int, int]]] = {}
    refused: dict[Spool, list[Refusal]] = {}
    for each in accepted:
        for spool, ranges in each.stored.items():
            stored.setdefault(spool, []).extend(ranges)
            refused.setdefault(spool, []).extend(each.refused.get(spool, ()))
    messages: list[tuple[str, bytes]] = []
    for (name, epoch), ranges in stored.items():
        encode = encode_ack_json if name.endswith("/json") else encode_ack
        for at in range(0, max(len(ranges), len(refused[name, epoch])), _RANGES_PER_ACK):
            part = slice(at, at + _RANGES_PER_ACK)
            messages.append((name, encode(Ack(epoch, _joined(ranges[part]), tuple(refused[name, epoch][part])))))
    return messages


_RANGES_PER_ACK: Final = 1024


def _joined(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _accept_bundle(out: Accepted, sender: _Sender, payload: bytes, now_us: int, length: int | None) -> None:
    size = length if length is not None else len(payload)
    too_long = size > MAX_BUNDLE_BYTES
    bundle = decode_bundle(payload[:HEADER_BYTES] if too_long else payload)
    if type(bundle) is Bundle and bundle.first_n + bundle.count - 1 > MAX_N:
        bundle = Rejected(Reason.BAD_BUNDLE, f"rows beyond {MAX_N}", payload)
    if type(bundle) is Rejected:
        out.dead.append(DeadLetter(now_us, sender.tenant, sender.node, sender.name, None, None, bundle.reason, bundle.detail, payload))
        return
    epoch, first_n, count, rows = bundle
    refused: list[tuple[int, str]] = []
    for n, raw in enumerate(rows, first_n):
        bad = _take(out, sender, raw, now_us)
        if bad is not None:
            refused.append((n, bad.reason))
            out.dead.append(DeadLetter(now_us, sender.tenant, sender.node, sender.name, epoch, n, bad.reason, bad.detail, raw))
    whole = len(rows)
    if whole < count:
        reason = Reason.OVERSIZED if too_long else Reason.BAD_BUNDLE
        detail = f"message of {size} bytes" if too_long else f"body damaged after row {whole} of {count}"
        for n in range(first_n + whole, first_n + count):
            kept = payload if n == first_n + whole else b""
            refused.append((n, reason))
            out.dead.append(DeadLetter(now_us, sender.tenant, sender.node, sender.name, epoch, n, reason, detail, kept))
    _acknowledge(out, sender, epoch, first_n, count, refused)


def _accept_json(out: Accepted, sender: _Sender, payload: bytes, now_us: int, length: int | None) -> None:
    if length is not None:
        message: object = Rejected(Reason.OVERSIZED, f"message of {length} bytes", payload)
    else:
        message = decode_json_message(payload, now_us)
    if isinstance(message, Rejected):
        out.dead.append(DeadLetter(now_us, sender.tenant, sender.node, sender.name, None, None, message.reason, message.detail, payload))
        return
    refused: list[tuple[int, str]] = []
    for n, row in enumerate(message.rows, message.first_n):
        bad = row if isinstance(row, Rejected) else _take(out, sender, row[0], now_us)
        if bad is not None:
            refused.append((n, bad.reason))
            number = None if message.epoch is None else n
            out.dead.append(
                DeadLetter(now_us, sender.tenant, sender.node, sender.name, message.epoch, number, bad.reason, bad.detail, bad.raw)
            )
    if message.epoch is not None:
        _acknowledge(out, sender, message.epoch, message.first_n, len(message.rows), refused)


def _take(out: Accepted, sender: _Sender, raw: bytes, now_us: int) -> Rejected | None:
    """Add the record of a frame; or why this sender may not store it now."""
    checked = check_frame(raw)
    if type(checked) is Rejected:
        return checked
    layout_id, flags, device, _, _, t0_us, utc_offset_us, clock, subject, records = checked
    _, tenant, node, _, _, own = sender
    if subject and not subject.startswith(own):
        return Rejected(Reason.WRONG_TENANT, f"subject {subject} sent by tenant {tenant}", raw)
    size = record_bytes().get(layout_id, 0)
    if utc_offset_us is not None and clock != _RECORDED and now_us >= CLOCK_FLOOR_US:
        ahead_us = t0_us + utc_offset_us - now_us
        if size:  # every layout starts with tick_ms u16
            at = len(records) - size
            ahead_us += 1000 * (records[at] | records[at + 1] << 8)
        if ahead_us > FUTURE_ALLOWANCE_US:
            return Rejected(Reason.FUTURE_TIME, f"dated {ahead_us / 1e6:.0f} s after its arrival", raw)
    key = subject or route_of(tenant, node, device, "", self_numbered=bool(flags & SELF_NUMBERED))
    out.records.append(LogRecord(_FRAME, key, tenant, node, now_us, raw))
    if not size:
        out.unknown_layouts += 1
    return None


def _acknowledge(out: Accepted, sender: _Sender, epoch: int, first_n: int, count: int, refused: Sequence[tuple[int, str]]) -> None:
    """Note which of the rows of a message are answered how."""
    spool = (sender.ack_topic, epoch)
    ranges = out.stored.get(spool)
    if ranges is None:
        ranges = out.stored[spool] = []
    if not refused:
        ranges.append((first_n, first_n + count - 1))
        return
    bad = {n for n, _ in refused}
    refusals: list[Refusal] = []
    for n, reason in refused:
        if refusals and refusals[-1].last == n - 1 and refusals[-1].reason == reason:
            refusals[-1] = Refusal(refusals[-1].first, n, reason)
        else:
            refusals.append(Refusal(n, n, str(reason)))
    ranges.extend(to_ranges(n for n in range(first_n, first_n + count) if n not in bad))
    out.refused.setdefault(spool, []).extend(refusals)


def is_frame(raw: bytes) -> bool:
    """Whether the raw bytes of a dead letter are one frame (an array of ten) rather than a message, a JSON text or junk."""
    return raw[:1] == b"\x9a"
