"""What a message of a device near by means for this box: rows to spool, rows to refuse, and whom to answer (no I/O).

The same checks as at the platform (`broker.bundles`, `broker.frames`, `broker.json_frames`), then the stamp: whom the frame counts for, and
a date if it had none and the box knows the clock of the device. Origin, boot and seq pass unchanged, so only frames that the device
numbered itself are taken: any other would belong to the pair node + device, and behind a box the node would become the box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from broker.acks import Ack, Refusal, encode_ack, encode_ack_json, to_ranges
from broker.bundles import HEADER_BYTES, MAX_BUNDLE_BYTES, MAX_N, decode_bundle
from broker.errors import Reason, Rejected
from broker.frames import Clock, Frame, decode_frame, encode_frame
from broker.json_frames import decode_json_message
from broker.recorded import last_instant_us
from broker.topics import Address, parse_topic, topic
from gateway.clock import Instant, OriginClocks, box_dating
from gateway.intake import Intake
from gateway.spool import SpoolRow

_MESSAGES_PER_ACK: Final = 16  # of 255 rows each: inside the 4,096 ranges of an ack


@dataclass(slots=True)
class Heard:
    """One message: rows by their number in the sender's spool. `epoch` is None when the sender gave no numbers: nothing to answer."""

    address: Address
    epoch: int | None
    taken: list[tuple[int, SpoolRow]] = field(default_factory=list[tuple[int, SpoolRow]])
    refused: list[tuple[int, int, Rejected]] = field(default_factory=list[tuple[int, int, Rejected]])
    repeats: list[int] = field(default_factory=list[int])  # rows the spool took before: they are only answered
    health: list[Frame] = field(default_factory=list[Frame])

    @property
    def as_json(self) -> bool:
        return self.address.leaf == "up/json"


class NearReading:
    """Reads messages for one tenant. Holds the clocks of the devices heard, nothing else."""

    def __init__(self, tenant: str, intake: Intake, clocks: OriginClocks, health_layout: int) -> None:
        self._tenant = tenant
        self._intake = intake
        self._clocks = clocks
        self._health_layout = health_layout

    def read(self, name: str, payload: bytes, now: Instant) -> Heard | None:
        """What the message on topic `name` holds; None for a topic that is no uplink of a node."""
        address = parse_topic(name)
        if address is None or address.leaf not in ("up", "up/json"):
            return None
        heard = Heard(address, None)
        if address.leaf == "up":
            self._read_bundle(heard, payload, now)
        else:
            self._read_json(heard, payload, now)
        if address.tenant != self._tenant:
            self._refuse_foreign(heard)
        return heard

    def _read_bundle(self, heard: Heard, payload: bytes, now: Instant) -> None:
        too_long = len(payload) > MAX_BUNDLE_BYTES
        bundle = decode_bundle(payload[:HEADER_BYTES] if too_long else payload)
        if isinstance(bundle, Rejected) or bundle.first_n + bundle.count - 1 > MAX_N:
            rejected = bundle if isinstance(bundle, Rejected) else Rejected(Reason.BAD_BUNDLE, f"rows beyond {MAX_N}", payload)
            heard.refused.append((0, 0, rejected))
            return
        heard.epoch = bundle.epoch
        if too_long:
            rejected = Rejected(Reason.OVERSIZED, f"bundle of {len(payload)} bytes, at most {MAX_BUNDLE_BYTES}", payload)
            heard.refused.append((bundle.first_n, bundle.first_n + bundle.count - 1, rejected))
            return
        for n, raw in enumerate(bundle.rows, bundle.first_n):
            frame = decode_frame(raw)
            self._sort(heard, n, raw, frame, now)
        if not bundle.complete:
            first = bundle.first_n + len(bundle.rows)
            lost = Rejected(Reason.BAD_BUNDLE, f"body ends after {len(bundle.rows)} of {bundle.count} rows", payload)
            heard.refused.append((first, bundle.first_n + bundle.count - 1, lost))

    def _read_json(self, heard: Heard, payload: bytes, now: Instant) -> None:
        message = decode_json_message(payload, now.utc_us)
        if isinstance(message, Rejected):
            heard.refused.append((0, 0, message))
            return
        heard.epoch = message.epoch
        for n, row in enumerate(message.rows, message.first_n):
            if isinstance(row, Rejected):
                heard.refused.append((n, n, row))
                continue
            raw, frame = row
            if frame.clock == Clock.SET and frame.utc_offset_us == 0 and frame.t0_us == now.utc_us:
                frame = _dated_at_arrival(frame, now)
                raw = encode_frame(frame)
            self._sort(heard, n, raw, frame, now)

    def _sort(self, heard: Heard, n: int, raw: bytes, frame: Frame | Rejected, now: Instant) -> None:
        if isinstance(frame, Rejected):
            heard.refused.append((n, n, frame))
            return
        if not frame.self_numbered:
            detail = f"device {frame.device}: behind a box a device numbers its own frames (flag bit 0)"
            heard.refused.append((n, n, Rejected(Reason.NOT_SELF_NUMBERED, detail, raw)))
            return
        if self._intake.has_taken(frame):
            heard.repeats.append(n)
            return
        unchanged: bytes | None = raw
        if not frame.dated:
            dating = self._clocks.date(frame, last_instant_us(frame), now)
            if dating.utc_offset_us is not None:
                frame, unchanged = replace(frame, utc_offset_us=dating.utc_offset_us, clock=dating.clock), None
        row = self._intake.stamp(frame, unchanged, received=raw)
        if isinstance(row, Rejected):
            heard.refused.append((n, n, row))
            return
        heard.taken.append((n, row))
        if frame.layout == self._health_layout:
            heard.health.append(frame)

    def _refuse_foreign(self, heard: Heard) -> None:
        detail = f"node of tenant {heard.address.tenant} at a box of tenant {self._tenant}"
        for n, row in heard.taken:
            heard.refused.append((n, n, Rejected(Reason.WRONG_TENANT, detail, row.frame)))
        heard.refused += [(n, n, Rejected(Reason.WRONG_TENANT, detail, b"")) for n in heard.repeats]
        heard.repeats.clear()
        heard.taken.clear()
        heard.health.clear()


def answers(batch: list[Heard], *, stored: bool) -> Iterator[tuple[str, bytes]]:
    """(topic, payload) of the acks of a batch. `stored` False: its rows are not in the spool, only repeats and refusals are answered."""
    groups: dict[tuple[str, str, int, bool], list[Heard]] = {}
    for heard in batch:
        if heard.epoch is not None:
            groups.setdefault((heard.address.tenant, heard.address.node, heard.epoch, heard.as_json), []).append(heard)
    for (tenant, node, epoch, as_json), members in groups.items():
        for at in range(0, len(members), _MESSAGES_PER_ACK):
            some = members[at : at + _MESSAGES_PER_ACK]
            rows = to_ranges(n for heard in some for n in (*heard.repeats, *(n for n, _ in heard.taken if stored)))
            refusals = tuple(Refusal(first, last, str(r.reason)) for heard in some for first, last, r in heard.refused)
            if rows or refusals:
                ack = Ack(epoch, rows, refusals)
                leaf = "ack/json" if as_json else "ack"
                yield topic(tenant, node, leaf), encode_ack_json(ack) if as_json else encode_ack(ack)


def _dated_at_arrival(frame: Frame, now: Instant) -> Frame:
    """A JSON frame without any time, on the box's clocks: should the system clock be unset, a later frame of that boot can date it."""
    dating = box_dating(now)
    return replace(frame, t0_us=now.mono_us, utc_offset_us=dating.utc_offset_us, clock=dating.clock)
