"""Events on the wire: both forms hold the same, and a broken one is refused with its field named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.events import models
from broker.events.catalogue import CATALOGUE
from broker.events.envelope import Event, decode_kafka, decode_structured, encode_kafka, encode_structured, event_id, make_event
from broker.events.models import utc_text, utc_us

from .events_made import EVENTS, TIMES_US


def started(position: int = 7, ordinal: int = 0) -> Event:
    data = models.ActivityStarted(activity="a1", subject="gym/ann", started_at=utc_text(1_000_000))
    return make_event(
        "paceline.user.activity.started.v1", data, time_us=1_000_000, recorded_us=2_000_000, phase="provisional", position=position,
        ordinal=ordinal,
    )  # fmt: skip


def changed(**values: object) -> bytes:
    return json.dumps({**json.loads(encode_structured(started())), **values}).encode()


@given(EVENTS)
def test_structured_form_round_trips(event: Event) -> None:
    raw = encode_structured(event)
    assert decode_structured(raw) == event
    assert event.body == raw
    assert encode_structured(decode_structured(raw)) == raw


@given(EVENTS)
def test_kafka_form_round_trips(event: Event) -> None:
    headers, key, value = encode_kafka(event)
    assert decode_kafka(headers, key, value) == event
    assert decode_kafka([("traceparent", b"\xff"), *reversed(headers)], None, value) == event


@given(EVENTS)
def test_both_forms_hold_the_same(event: Event) -> None:
    document = json.loads(encode_structured(event))
    headers, key, value = encode_kafka(event)
    assert document.pop("data") == json.loads(value)
    assert {name.removeprefix("ce_"): raw.decode() for name, raw in headers if name != "content-type"} == {
        name: text for name, text in document.items() if name != "datacontenttype"
    }
    assert key.decode() == document["partitionkey"]
    assert dict(headers)["content-type"] == b"application/json"


@given(EVENTS)
def test_attribute_names_are_those_cloudevents_allows(event: Event) -> None:
    names = set(json.loads(encode_structured(event))) - {"data"}
    assert all(name.isascii() and name.isalnum() and name.islower() and len(name) <= 20 for name in names)
    assert names >= {"id", "source", "specversion", "type"}


@given(TIMES_US)
def test_times_keep_their_microsecond(t_us: int) -> None:
    assert utc_us(utc_text(t_us)) == t_us


@given(st.lists(TIMES_US, min_size=2, max_size=5))
def test_times_sort_as_text(times: list[int]) -> None:
    assert sorted(times) == [utc_us(text) for text in sorted(map(utc_text, times))]


@given(st.text(max_size=40))
def test_a_text_is_a_time_only_in_the_one_form(text: str) -> None:
    try:
        t_us = utc_us(text)
    except ValueError:
        return
    assert utc_text(t_us) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-01T10:00:00Z", "2026-05-01T10:00:00.000000", "2026-05-01T10:00:00.000000+00:00", "2026-02-30T10:00:00.000000Z",
        "2026-05-01T10:00:00.000000Z\n", "٢٠٢٦-05-01T10:00:00.000000Z", "2026-05-01T24:00:00.000000Z", "0000-05-01T10:00:00.000000Z",
    ],
)  # fmt: skip
def test_other_forms_of_time_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        utc_us(text)


def test_ids_stand_for_type_entity_position_and_ordinal() -> None:
    assert started().id == event_id("paceline.user.activity.started.v1", "a1", 7) == started(ordinal=0).id
    others = {event_id("paceline.user.activity.closed.v1", "a1", 7), event_id("paceline.user.activity.started.v1", "a2", 7)}
    assert len({started().id, started(position=8).id, started(ordinal=1).id, *others}) == 5
    assert event_id("t", "a", 1) == "0e5ca2b7b52f807d0c52f51ca55ef5a8"  # never changes: consumers keep ids


@pytest.mark.parametrize("name", ["id", "source", "type", "subject", "time", "tenant", "partitionkey", "recordedtime", "schemaversion"])
@pytest.mark.parametrize("value", [None, 7, "", "nonsense"])
def test_a_wrong_attribute_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(BadInputError, match=name) as refused:
        decode_structured(changed(**{name: value}), "row 3")
    assert "row 3" in str(refused.value)
    assert refused.value.cure


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"phase": "maybe"}, "phase"),
        ({"logposition": "7"}, "logposition"),
        ({"schemaversion": "2.0"}, "schemaversion"),
        ({"datacontenttype": "application/xml"}, "datacontenttype"),
        ({"subject": "a2"}, "subject"),
        ({"partitionkey": "gym/bob"}, "partitionkey"),
        ({"data": None}, "data"),
        ({"data": {"activity": "a1", "subject": "gym/ann"}}, "data.started_at"),
        ({"data": {"activity": "a1", "subject": "gym/ann", "started_at": 5}}, "data.started_at"),
        ({"data": {"activity": "a1", "subject": "Ann Example", "started_at": utc_text(1)}}, "data.subject"),
        ({"data": {"activity": "a1", "subject": "gym/ann", "started_at": utc_text(1), "name": "Ann"}}, "data.name"),
        ({"data": {"activity": "\ud800", "subject": "gym/ann", "started_at": utc_text(1)}}, "data"),
        ({"data": {"activity": "a1", "subject": "gym/ann", "started_at": float("nan")}}, "data"),
    ],
)  # fmt: skip
def test_a_wrong_document_is_refused(values: dict[str, object], word: str) -> None:
    with pytest.raises(BadInputError, match=word):
        decode_structured(changed(**values))


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        decode_structured(raw)


@given(EVENTS, st.data())
def test_a_missing_header_or_a_foreign_key_is_refused(event: Event, draw: st.DataObject) -> None:
    headers, key, value = encode_kafka(event)
    gone = draw.draw(st.integers(0, len(headers) - 1))
    with pytest.raises(BadInputError):
        decode_kafka([*headers[:gone], *headers[gone + 1 :]], key, value)
    with pytest.raises(BadInputError, match="twice"):
        decode_kafka([*headers, headers[gone]], key, value)
    with pytest.raises(BadInputError, match="key"):
        decode_kafka(headers, key + b"x", value)
    with pytest.raises(BadInputError, match="UTF-8"):
        decode_kafka([("ce_x", b"\xff"), *headers], key, value)


def test_a_newer_minor_version_may_hold_fields_unknown_here() -> None:
    document = json.loads(started().body)
    document["data"]["weather"] = {"rain": True}
    with pytest.raises(BadInputError, match="weather"):
        decode_structured(json.dumps(document).encode())
    document["schemaversion"] = "1.7"
    assert decode_structured(json.dumps(document).encode()).data == started().data


def test_an_event_takes_only_the_data_of_its_type() -> None:
    with pytest.raises(BadInputError, match="ActivityStarted"):
        make_event("paceline.user.activity.closed.v1", started().data, time_us=0, recorded_us=0, phase="final", position=1)
    with pytest.raises(BadInputError, match="unknown"):
        make_event("paceline.user.activity.paused.v1", started().data, time_us=0, recorded_us=0, phase="final", position=1)
    for position, ordinal in ((-1, 0), (10**16, 0), (0, -1), (0, 10_000)):
        with pytest.raises(BadInputError, match="range"):
            started(position, ordinal)


def test_names_topics_and_fields_of_the_catalogue_belong_together() -> None:
    assert len(CATALOGUE) == 15
    for name, kind in CATALOGUE.items():
        assert name == f"{kind.topic.removesuffix('.v1')}.{kind.event}.v1"
        assert {kind.entity_field, kind.key_field, *filter(None, [kind.void])} <= set(kind.model.model_fields)
        assert "name" not in kind.model.model_fields
        health = {"hr_avg_bpm", "power_avg_w"} & set(kind.model.model_fields)
        assert (kind.personal.value == "health") == bool(health), name
