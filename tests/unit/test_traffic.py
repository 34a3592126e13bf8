"""`paceline tap`: every kind of message is described, and a bad one with its reason."""

from __future__ import annotations

import json

import pytest

from broker.acks import Ack, Refusal, encode_ack
from broker.bundles import encode_bundle
from broker.frames import encode_frame
from broker.topics import topic
from paceline.traffic import describe, line
from tests.wire_vectors import JSON_NOW_US, LEAST, frame


def lines(leaf: str, payload: bytes) -> str:
    seen = describe(topic("gym", "box", leaf), payload, JSON_NOW_US)
    json.dumps(seen)
    return "\n".join(line(seen))


def test_bundle_shows_each_row_and_the_reason_of_a_bad_one() -> None:
    text = lines("up", encode_bundle(5, 10, [encode_frame(frame()), b"\xc1"]))
    assert "epoch 0000000000000005 2 frames" in text
    assert "n=10 watch-7 motion.1 seq 42 x1 gym/ann network" in text
    assert "hr_bpm=141" in text
    assert "n=11 BAD bad_frame" in text


@pytest.mark.parametrize(
    ("leaf", "payload", "says"),
    [
        ("up", b"nonsense", "BAD bad_bundle: no bundle header"),
        ("up", encode_bundle(5, 0, [encode_frame(frame())])[:-1], "1 rows damaged"),
        ("up/json", json.dumps(LEAST).encode(), "ann motion.1 seq 7 x1 (unbound) set  hr_bpm=140"),
        ("up/json", b"{", "BAD bad_json"),
        ("ack", encode_ack(Ack(5, ((0, 2), (4, 4)), (Refusal(3, 3, "bad_records"),))), "stored 0-2 4-4, refused 3-3 bad_records"),
        ("ack", b"\xc1", "BAD bad_frame"),
        ("cfg", b'{"version": 3}', '{"version": 3}'),
        ("cfg", b'{"version": 3, "colour": 1}', "BAD bad_config"),
        ("state", b'{"online": true}', '{"online": true}'),
        ("state", b"{", "BAD bad_json"),
        ("cfg", b"", "null"),
    ],
)
def test_message_is_described(leaf: str, payload: bytes, says: str) -> None:
    assert says in lines(leaf, payload)


def test_foreign_topic_is_said_to_be_one() -> None:
    assert line(describe("a/b", b"x", 0)) == ["BAD   a/b: not a topic of ours"]
