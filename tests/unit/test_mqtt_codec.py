"""The MQTT codec: round trips, any split of the stream, limits, and violations as values."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import mqtt_codec as mqtt

TOPICS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40)
PUBLISHES = st.builds(
    lambda topic, payload, qos, pid, retain, dup: mqtt.Publish(topic, payload, qos, pid if qos else 0, dup, retain),
    TOPICS,
    st.binary(max_size=300) | st.integers(100, 20_000).map(bytes),
    st.integers(0, 1),
    st.integers(1, 65535),
    st.booleans(),
    st.booleans(),
)
WILLS = st.none() | st.builds(mqtt.Will, TOPICS, st.binary(max_size=50), st.integers(0, 1), st.booleans())
CONNECTS = st.builds(
    mqtt.Connect,
    TOPICS,
    st.none() | TOPICS,
    st.none() | st.binary(max_size=20),
    st.booleans(),
    st.integers(0, 65535),
    WILLS,
)


def encoded(event):
    match event:
        case mqtt.Publish():
            return mqtt.encode_publish(event.topic, event.payload, event.qos, event.pid, retain=event.retain, dup=event.dup)
        case mqtt.Connect():
            return mqtt.encode_connect(
                event.client_id, event.username, event.password, clean=event.clean, keepalive=event.keepalive, will=event.will
            )
        case mqtt.Connack():
            return mqtt.encode_connack(event.session_present, event.code)
        case mqtt.Suback():
            return mqtt.encode_suback(event.pid, event.codes)
        case mqtt.Subscribe():
            return mqtt.encode_subscribe(event.pid, event.filters)
        case mqtt.Puback():
            return mqtt.encode_puback(event.pid)
        case mqtt.Pingreq():
            return mqtt.PINGREQ
        case mqtt.Pingresp():
            return mqtt.PINGRESP
        case _:
            return mqtt.DISCONNECT


EVENTS = (
    PUBLISHES
    | CONNECTS
    | st.builds(mqtt.Connack, st.booleans(), st.integers(0, 5))
    | st.builds(mqtt.Suback, st.integers(1, 65535), st.tuples(st.integers(0, 2)))
    | st.builds(mqtt.Subscribe, st.integers(1, 65535), st.lists(st.tuples(TOPICS, st.integers(0, 1)), max_size=3).map(tuple))
    | st.builds(mqtt.Puback, st.integers(1, 65535))
    | st.sampled_from([mqtt.Pingreq(), mqtt.Pingresp(), mqtt.Disconnect()])
)


def split(stream, cuts):
    marks = [0, *sorted({c % (len(stream) + 1) for c in cuts}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.lists(st.integers(0, 100_000), max_size=20))
def test_every_packet_round_trips_through_any_split(events, cuts):
    parser = mqtt.PacketParser()
    heard = [event for piece in split(b"".join(map(encoded, events)), cuts) for event in parser.feed(piece)]
    assert heard == events
    assert parser.buffered == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.lists(st.integers(0, 100_000), max_size=20))
def test_hot_path_hears_the_same_as_the_event_path(events, cuts):
    parser = mqtt.PacketParser()
    runs = [parser.feed_publishes(piece) for piece in split(b"".join(map(encoded, events)), cuts)]
    publishes = [e for e in events if isinstance(e, mqtt.Publish)]
    assert [m for r in runs for m in r.messages] == [(p.topic.encode(), p.payload) for p in publishes]
    assert [int.from_bytes(p) for r in runs for p in r.pids] == [p.pid for p in publishes if p.qos]
    assert [int.from_bytes(p) for r in runs for p in r.acked] == [e.pid for e in events if isinstance(e, mqtt.Puback)]
    assert [e for r in runs for e in r.others] == [e for e in events if not isinstance(e, mqtt.Publish | mqtt.Puback)]
    assert parser.buffered == 0


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_any_bytes_give_events_or_one_violation_and_then_silence(stream, cuts):
    for feed in ("feed", "feed_publishes"):
        parser = mqtt.PacketParser(limit=200)
        out = [getattr(parser, feed)(piece) for piece in split(stream, cuts)]
        events = [e for o in out for e in (o if feed == "feed" else o.others)]
        assert sum(isinstance(e, mqtt.Violation) for e in events) <= 1
        if any(isinstance(e, mqtt.Violation) for e in events):
            assert isinstance(events[-1], mqtt.Violation)
            again = getattr(parser, feed)(mqtt.PINGRESP)
            assert not (again if feed == "feed" else again.others)
        assert parser.buffered <= 200 + 65_535 + 9


@pytest.mark.parametrize("chunk", [1, 7, 1000, 10_000_000])
@pytest.mark.parametrize("qos", [0, 1])
def test_oversized_publish_is_skipped_unbuffered_and_the_next_one_heard(chunk, qos):
    big = mqtt.encode_publish("a/b", bytes(range(256)) * 40, qos, 7 * qos)
    stream = mqtt.encode_publish("x", b"1") + big + mqtt.encode_publish("y", b"2")
    parser = mqtt.PacketParser(limit=1000)
    runs = []
    for at in range(0, len(stream), chunk):
        runs.append(parser.feed_publishes(stream[at : at + chunk]))
        assert parser.buffered <= 1000
    assert [m for r in runs for m in r.messages] == [(b"x", b"1"), (b"y", b"2")]
    [(topic, prefix, length)] = [o for r in runs for o in r.oversized]
    assert (topic, length) == (b"a/b", 256 * 40)
    assert (bytes(range(256)) * 40).startswith(prefix)
    assert [p for r in runs for p in r.pids] == [b"\x00\x07"] * qos


@pytest.mark.parametrize(
    "stream",
    [
        b"\x30\xff\xff\xff\xff\x01",  # remaining length of five bytes
        b"\x36\x05\x00\x01a\x00\x01",  # QoS 3
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x32\x03\x00\x01a",  # QoS 1 without packet id
        b"\x30\x02\x00\x09",  # topic longer than the packet
        b"\x30\x01\x00",  # no topic length
        b"\x00\x00",  # reserved type
        b"\x20\x03\x00\x00\x00",  # CONNACK too long
        b"\xf0\x00",  # AUTH is MQTT 5
    ],
)
def test_protocol_violation_is_a_value_and_ends_the_stream(stream):
    parser = mqtt.PacketParser()
    [event] = parser.feed(stream + mqtt.PINGRESP)
    assert isinstance(event, mqtt.Violation)
    hot = mqtt.PacketParser()
    run = hot.feed_publishes(stream + mqtt.PINGRESP)
    assert [type(e) for e in run.others] == [mqtt.Violation]
    assert not run.messages


def test_event_path_refuses_a_packet_beyond_its_limit_before_it_arrives():
    [event] = mqtt.PacketParser(limit=100).feed(b"\x30\x80\x80\x01")
    assert isinstance(event, mqtt.Violation)
    assert "100" in event.detail


def test_pubacks_are_joined():
    assert mqtt.encode_pubacks([b"\x00\x01", b"\x00\x02"]) == mqtt.encode_puback(1) + mqtt.encode_puback(2)
    assert mqtt.encode_pubacks([]) == b""


@pytest.mark.parametrize(("qos", "pid"), [(0, 1), (1, 0), (2, 1)])
def test_publish_with_a_packet_id_that_does_not_fit_its_qos_is_refused(qos, pid):
    with pytest.raises(ValueError, match="packet id"):
        mqtt.encode_publish("a", b"", qos, pid)
