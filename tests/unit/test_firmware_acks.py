"""The kit reads acks as `broker.acks` writes them, and any other bytes as none."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from kit.acks import read_ack

from broker.acks import Ack, Refusal, decode_ack, encode_ack
from broker.bundles import MAX_N
from broker.frames import MAX_U64

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "acks.json").read_text())
ranges = st.tuples(st.integers(0, MAX_N), st.integers(0, MAX_N)).map(lambda pair: (min(pair), max(pair)))
acks = st.builds(
    Ack,
    st.integers(0, MAX_U64),
    st.lists(ranges, max_size=40).map(tuple),
    st.lists(st.builds(lambda pair, reason: Refusal(*pair, reason), ranges, st.text(max_size=16)), max_size=20).map(tuple),
)


def as_read(ack: Ack) -> tuple[object, ...]:
    return (ack.epoch, list(ack.stored), [(r.first, r.last, r.reason) for r in ack.refused])


def test_golden_acks_are_read_and_bad_ones_are_none() -> None:
    for one in VECTORS["good"]:
        ack = decode_ack(bytes.fromhex(one["hex"]))
        assert isinstance(ack, Ack)
        assert read_ack(bytes.fromhex(one["hex"])) == as_read(ack), one["about"]
    for one in VECTORS["bad"]:
        assert read_ack(bytes.fromhex(one["hex"])) is None, one["about"]


@given(acks)
def test_every_ack_is_read(ack: Ack) -> None:
    assert read_ack(memoryview(encode_ack(ack))) == as_read(ack)


@given(acks, st.data())
def test_what_is_read_of_a_damaged_ack_is_what_the_platform_reads(ack: Ack, data: st.DataObject) -> None:
    raw = bytearray(encode_ack(ack))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    read = read_ack(cut)
    if read is not None:
        theirs = decode_ack(cut)
        assert isinstance(theirs, Ack)
        assert read == as_read(theirs)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_ack_or_none(raw: bytes) -> None:
    read_ack(raw)
