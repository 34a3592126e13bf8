"""What a message of a device near by means: rows taken, rows refused with a reason, and the answer."""

from __future__ import annotations

import json
import random

import pytest

from broker.acks import Refusal, decode_ack
from broker.bundles import encode_bundle
from broker.errors import Reason, Rejected
from broker.frames import MAX_FRAME_BYTES, SELF_NUMBERED, Clock, Frame, decode_frame, encode_frame
from broker.json_frames import encode_json_message
from broker.layouts import layout_named
from broker.nodeconfig import Binding, NodeConfig
from gateway.clock import EARLIEST_UTC_US, Instant, OriginClocks
from gateway.intake import Intake
from gateway.near_reading import Heard, NearReading, answers

MOTION, HEALTH = layout_named("motion.1"), layout_named("health.1")
NOW = Instant(500_000_000, EARLIEST_UTC_US + 10**9)
S = 1_000_000


def frame(
    seq: int = 0, *, flags: int = SELF_NUMBERED, subject: str = "", t0_us: int = 5, offset: int | None = 17 * 10**14, samples: int = 1
) -> Frame:
    clock = Clock.UNKNOWN if offset is None else Clock.GNSS
    return Frame(MOTION.id, flags, "w-1", 77, seq, t0_us, offset, clock, subject, MOTION.pack({"tick_ms": 0}) * samples)


class Reader:
    """A reading for tenant `gym` with bindings that can change."""

    def __init__(self, *bindings: Binding) -> None:
        self.config = NodeConfig(version=1, bindings=bindings)
        self.spooled: set[tuple[str, int, int]] = set()
        self.intake = Intake(self, "gym", lambda: self.config)  # all that reading asks of the spool is `has_taken`
        self.reading = NearReading("gym", self.intake, OriginClocks(), HEALTH.id)

    def has_taken(self, device: str, boot: int, seq: int) -> bool:
        return (device, boot, seq) in self.spooled

    def bundle(self, *rows: bytes, name: str = "pl/1/gym/w-1/up", now: Instant = NOW) -> Heard:
        heard = self.reading.read(name, encode_bundle(0xE, 10, rows), now)
        assert heard is not None
        return heard


def taken(heard: Heard) -> list[Frame]:
    return [f for _, row in heard.taken if isinstance(f := decode_frame(row.frame), Frame)]


def ack_of(heard: Heard, *, stored: bool = True):
    ((name, payload),) = answers([heard], stored=stored)
    assert name == "pl/1/gym/w-1/ack"
    return decode_ack(payload)


def ack_of_foreign(heard: Heard):
    ((_, payload),) = answers([heard], stored=True)
    return decode_ack(payload)


def test_frame_without_a_binding_passes_byte_for_byte():
    raw = encode_frame(frame(3, subject="gym/ann"))
    heard = Reader().bundle(raw)
    assert [(n, row.frame, row.device) for n, row in heard.taken] == [(10, raw, "w-1")]
    assert ack_of(heard).stored == ((10, 10),)


def test_binding_at_the_time_of_the_frame_decides_whom_it_counts_for():
    reader = Reader(
        Binding(device="w-1", athlete="ann", to_us=17 * 10**14 + 100), Binding(device="w-1", athlete="bob", from_us=17 * 10**14 + 100)
    )
    heard = reader.bundle(encode_frame(frame(0, t0_us=99)), encode_frame(frame(1, t0_us=100)), encode_frame(frame(2, t0_us=1, offset=None)))
    assert [f.subject for f in taken(heard)] == ["gym/ann", "gym/bob", "gym/bob"]
    assert [(f.device, f.boot, f.seq, f.records, f.self_numbered) for f in taken(heard)] == [
        ("w-1", 77, i, frame().records, True) for i in range(3)
    ]


def test_frame_taken_before_is_answered_and_not_stamped_again():
    reader = Reader(Binding(device="w-1", athlete="bob"))
    reader.spooled.add(("w-1", 77, 1))
    heard = reader.bundle(*(encode_frame(frame(seq)) for seq in range(3)))
    assert [f.seq for f in taken(heard)] == [0, 2]
    assert heard.repeats == [11]
    assert ack_of(heard).stored == ((10, 12),)
    assert ack_of(heard, stored=False).stored == ((11, 11),)
    foreign = reader.bundle(encode_frame(frame(1)), name="pl/1/other/w-1/up")
    assert [(r.reason, r.first, r.last) for r in ack_of_foreign(foreign).refused] == [("wrong_tenant", 10, 10)]


def test_undated_live_frames_are_dated_once_the_clock_is_known():
    reader = Reader()
    dated = []
    for i in range(20):
        now = Instant(NOW.mono_us + i * 250_000, NOW.utc_us + i * 250_000)
        dated += taken(reader.bundle(encode_frame(frame(i, t0_us=7 * S + i * 250_000, offset=None)), now=now))
    assert [f.clock for f in dated[:8]] == [Clock.UNKNOWN] * 8
    assert dated[-1].clock == Clock.NETWORK
    assert dated[-1].t0_us + dated[-1].utc_offset_us == NOW.utc_us + 19 * 250_000


def test_each_bad_row_is_refused_with_its_reason_and_costs_no_other():
    reader = Reader()
    heard = reader.bundle(
        encode_frame(frame(0)),
        b"\x01\x02",
        encode_frame(frame(1, flags=0)),
        encode_frame(frame(2, subject="other/ann")),
        encode_frame(frame(3)),
    )
    assert [(first, r.reason) for first, _, r in heard.refused] == [
        (11, Reason.BAD_FRAME), (12, Reason.NOT_SELF_NUMBERED), (13, Reason.WRONG_TENANT),
    ]  # fmt: skip
    ack = ack_of(heard)
    assert ack.stored == ((10, 10), (14, 14))
    assert ack.refused == (Refusal(11, 11, "bad_frame"), Refusal(12, 12, "not_self_numbered"), Refusal(13, 13, "wrong_tenant"))


def test_node_of_another_tenant_is_refused_in_its_own_ack():
    heard = Reader().bundle(encode_frame(frame(0)), name="pl/1/other/w-1/up")
    assert (heard.taken, [r.reason for _, _, r in heard.refused]) == ([], [Reason.WRONG_TENANT])
    assert [name for name, _ in answers([heard], stored=True)] == ["pl/1/other/w-1/ack"]


def test_damaged_body_refuses_the_rows_it_swallowed():
    message = encode_bundle(0xE, 10, [encode_frame(frame(i)) for i in range(3)])
    heard = Reader().reading.read("pl/1/gym/w-1/up", message[:-5], NOW)
    assert [n for n, _ in heard.taken] == [10, 11]
    assert ack_of(heard).refused == (Refusal(12, 12, "bad_bundle"),)


def test_too_long_bundle_is_refused_by_its_header_and_an_unreadable_header_is_not_answered():
    reader = Reader().reading
    message = encode_bundle(0xE, 10, [encode_frame(frame(i)) for i in range(3)])
    heard = reader.read("pl/1/gym/w-1/up", message + bytes(70_000), NOW)
    assert ack_of(heard).refused == (Refusal(10, 12, "oversized"),)
    bad = reader.read("pl/1/gym/w-1/up", b"\x00" + message[1:], NOW)
    assert [r.reason for _, _, r in bad.refused] == [Reason.BAD_BUNDLE]
    assert list(answers([bad], stored=True)) == []


def test_full_spool_answers_nothing_but_refusals():
    reader = Reader()
    assert list(answers([reader.bundle(encode_frame(frame(0)))], stored=False)) == []
    heard = reader.bundle(encode_frame(frame(0)), b"\x01")
    ack = ack_of(heard, stored=False)
    assert (ack.stored, ack.refused) == ((), (Refusal(11, 11, "bad_frame"),))


def test_frame_without_room_for_its_stamp_is_kept_as_it_came_and_counted():
    reader = Reader(Binding(device="w-1", athlete="a" * 32))
    longest = frame(0, samples=38)
    raw = encode_frame(longest)
    assert MAX_FRAME_BYTES - 36 < len(raw) <= MAX_FRAME_BYTES
    heard = reader.bundle(raw)
    assert heard.taken[0][1].frame == raw
    assert reader.intake.without_room == 1


def test_json_message_is_converted_stamped_and_answered_in_json():
    reader = Reader(Binding(device="ann", athlete="ann"))
    message = {"device": "ann", "boot": 1, "seq": 4, "epoch": "00000000000000aa", "n": 9, "samples": [{"hr_bpm": 140}]}
    heard = reader.reading.read("pl/1/gym/ann/up/json", json.dumps(message).encode(), NOW)
    (out,) = taken(heard)
    assert (out.subject, out.seq, out.t0_us, out.clock) == ("gym/ann", 4, NOW.mono_us, Clock.NETWORK)
    assert out.t0_us + out.utc_offset_us == NOW.utc_us
    assert [(name, json.loads(payload)) for name, payload in answers([heard], stored=True)] == [
        ("pl/1/gym/ann/ack/json", {"epoch": "00000000000000aa", "stored": [[9, 9]], "refused": []})
    ]


def test_json_without_time_is_undated_while_the_box_has_no_time():
    heard = Reader().reading.read(
        "pl/1/gym/ann/up/json", b'{"device":"ann","boot":1,"seq":4,"samples":[{"hr_bpm":140}]}', Instant(5 * S, 99 * S)
    )
    (out,) = taken(heard)
    assert (out.t0_us, out.utc_offset_us, out.clock) == (5 * S, None, Clock.UNKNOWN)
    assert list(answers([heard], stored=True)) == []


def mutated(rng: random.Random, message: bytes) -> bytes:
    """A few bytes changed, cut or doubled."""
    raw = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        kind = rng.randrange(4)
        if kind == 0:
            raw[at] = rng.randrange(256)
        elif kind == 1:
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == 2 and len(raw) > 30:
            del raw[at : at + rng.randint(1, 20)]
        else:
            raw[at:at] = raw[at : at + rng.randint(1, 20)]
    return bytes(raw)


@pytest.mark.parametrize("count", [6_000, pytest.param(1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(3600)])])
def test_mutated_messages_never_raise_and_every_row_of_a_readable_header_is_answered_once(count):
    rng = random.Random(7)
    reader = Reader(Binding(device="w-1", athlete="ann")).reading
    rows = [encode_frame(frame(i, offset=None if i % 2 else 17 * 10**14)) for i in range(4)]
    seeds = {"up": encode_bundle(0xE, 10, rows), "up/json": encode_json_message([frame(0), frame(1)], 0xE, 5)}
    readable = 0
    for _ in range(count):
        leaf = rng.choice(tuple(seeds))
        heard = reader.read(f"pl/1/gym/w-1/{leaf}", mutated(rng, seeds[leaf]), NOW)
        assert heard is not None
        answered = sorted([n for n, _ in heard.taken] + [n for first, last, _ in heard.refused for n in range(first, last + 1)])
        assert answered == list(range(answered[0], answered[0] + len(answered)))
        for _, row in heard.taken:
            assert isinstance(decode_frame(row.frame), Frame)
        for _, payload in answers([heard], stored=True):
            readable += 1
            if leaf == "up":
                assert not isinstance(decode_ack(payload), Rejected)
    assert count // 10 < readable < count


@pytest.mark.parametrize("name", ["pl/1/gym/w-1/state", "pl/1/gym/w-1/ack", "other/1/gym/w-1/up", "pl/1/gym/w-1/up/x"])
def test_other_topics_are_not_read(name):
    assert Reader().reading.read(name, b"", NOW) is None


def test_ack_of_many_messages_stays_within_its_limits():
    reader = Reader()
    rows = [encode_frame(frame(0)), b"\x01"] * 127
    batch = []
    for i in range(64):
        heard = reader.reading.read("pl/1/gym/w-1/up", encode_bundle(0xE, 10 + i * 254, rows), NOW)
        batch.append(heard)
    acks = [decode_ack(payload) for _, payload in answers(batch, stored=True)]
    assert sum(len(ack.stored) for ack in acks) == sum(len(ack.refused) for ack in acks) == 64 * 127
