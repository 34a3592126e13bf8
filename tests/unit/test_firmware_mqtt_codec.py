"""The kit's MQTT packets: those of our other codec, split anywhere, and nothing but ProtocolError for bytes that are none."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from kit import mqtt_codec as kit

from broker import mqtt_codec as wire
from broker.mqtt_packets import Will

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
pids = st.integers(1, 65535)


def kinds_of(stream: bytes, pieces: list[int], size: int = 512) -> list[tuple[object, ...]]:
    """Every packet the receiver finds when the stream comes in pieces."""
    receiver = kit.Receiver(size)
    found: list[tuple[object, ...]] = []
    at = 0
    while at < len(stream):
        piece = stream[at : at + (pieces.pop() if pieces else 7)]
        space = receiver.space()
        piece = piece[: len(space)]
        assert piece, "no space"
        space[: len(piece)] = piece
        receiver.took(len(piece))
        at += len(piece)
        while kind := receiver.next():
            if kind == kit.PUBLISH:
                payload = None if receiver.payload is None else bytes(receiver.payload)
                found.append((kind, bytes(receiver.topic), payload, receiver.qos, receiver.pid))
            elif kind == kit.CONNACK:
                found.append((kind, receiver.session_present, receiver.code))
            elif kind == kit.SUBACK:
                found.append((kind, receiver.pid, receiver.refused))
            else:
                found.append((kind, receiver.pid))
    return found


@given(
    texts,
    st.none() | texts,
    st.booleans(),
    st.integers(0, 65535),
    st.none() | st.builds(Will, texts, st.binary(max_size=30), st.integers(0, 1), st.booleans()),
)
def test_connect_is_that_of_the_other_codec(client: str, user: str | None, clean: bool, keepalive_s: int, will: Will | None) -> None:
    words = None if will is None else (will.topic, will.payload, will.qos, will.retain)
    made = kit.connect_packet(client, user, user, keepalive_s, clean, words)
    assert bytes(made) == wire.encode_connect(client, user, user, clean=clean, keepalive=keepalive_s, will=will)


@given(pids, st.lists(texts, min_size=1, max_size=4))
def test_subscribe_is_that_of_the_other_codec(pid: int, topics: list[str]) -> None:
    assert bytes(kit.subscribe_packet(pid, topics, 1)) == wire.encode_subscribe(pid, [(topic, 1) for topic in topics])


@given(texts, st.binary(max_size=300), st.integers(0, 1), pids, st.booleans(), st.booleans())
def test_publish_is_that_of_the_other_codec(topic: str, payload: bytes, qos: int, pid: int, retain: bool, dup: bool) -> None:
    dup = dup and qos > 0
    wanted = wire.encode_publish(topic, payload, qos, pid if qos else 0, retain=retain, dup=dup)
    buf = bytearray(1000)
    raw = topic.encode()
    end = kit.put_publish(buf, 3, raw, payload, qos, retain, dup, pid)
    assert bytes(buf[3:end]) == wanted
    assert len(wanted) == kit.publish_bytes(len(raw), len(payload), qos)


def test_lengths_around_the_bytes_of_the_length_field() -> None:
    for size in (0, 110, 122, 123, 124, 16_370, 16_380, 16_381, 16_382, 20_000):
        payload = bytes(size)
        buf = bytearray(size + 20)
        end = kit.put_publish(buf, 0, b"a", payload, 0, False, False, 0)
        assert bytes(buf[:end]) == wire.encode_publish("a", payload)
        assert end == kit.publish_bytes(1, size, 0)


packets = st.one_of(
    st.builds(lambda s, c: (wire.encode_connack(s, c), (kit.CONNACK, s, c)), st.booleans(), st.integers(0, 5)),
    st.builds(lambda p, c: (wire.encode_suback(p, [c]), (kit.SUBACK, p, c == 128)), pids, st.sampled_from([0, 1, 128])),
    st.builds(lambda p: (wire.encode_puback(p), (kit.PUBACK, p)), pids),
    st.builds(
        lambda t, b, q, p: (wire.encode_publish(t, b, q, p if q else 0), (kit.PUBLISH, t.encode(), b, q, p if q else 0)),
        texts,
        st.binary(max_size=200),
        st.integers(0, 1),
        pids,
    ),
)


@given(st.lists(packets, max_size=8), st.lists(st.integers(1, 90), max_size=40))
def test_packets_are_found_however_they_come(made: list[tuple[bytes, tuple[object, ...]]], pieces: list[int]) -> None:
    assert kinds_of(b"".join(raw for raw, _ in made), pieces) == [said for _, said in made]


@given(st.integers(300, 3000), st.integers(0, 1), st.lists(st.integers(1, 400), max_size=40))
def test_a_message_longer_than_the_buffer_is_passed_over_with_its_number(size: int, qos: int, pieces: list[int]) -> None:
    stream = wire.encode_publish("cfg", bytes(size), qos, 9 if qos else 0) + wire.encode_puback(3)
    assert kinds_of(stream, pieces, 256) == [(kit.PUBLISH, b"cfg", None, qos, 9 if qos else 0), (kit.PUBACK, 3)]


@given(st.binary(max_size=400), st.lists(st.integers(1, 90), max_size=40))
def test_any_bytes_are_packets_or_a_protocol_error(raw: bytes, pieces: list[int]) -> None:
    with contextlib.suppress(kit.ProtocolError):
        kinds_of(raw, pieces, 256)


@given(st.lists(packets, min_size=1, max_size=5), st.data())
def test_damaged_packets_are_packets_or_a_protocol_error(made: list[tuple[bytes, object]], data: st.DataObject) -> None:
    raw = bytearray(b"".join(one for one, _ in made))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(kit.ProtocolError):
        kinds_of(bytes(raw), [], 256)
