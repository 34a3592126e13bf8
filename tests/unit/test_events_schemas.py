"""docs/events.md, its schemas and its examples say what the code does; no released schema is broken by a later one.

`PACELINE_WRITE_EVENTS=1 pytest tests/unit/test_events_schemas.py` writes tables and the schemas of new versions; released ones stay as they are.
"""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from broker.events.catalogue import CATALOGUE, EventType
from broker.events.envelope import Event, decode_kafka, decode_structured, encode_kafka, encode_structured
from broker.events.folding import fold
from broker.events.schemas import breaks, schema_file, schema_of, schema_text

from .events_made import EVENTS

SCHEMAS, EXAMPLES, DOCUMENT = Path("docs/events/schemas"), Path("docs/events/examples"), Path("docs/events.md")
KINDS = list(CATALOGUE.values())
WRITE = bool(os.environ.get("PACELINE_WRITE_EVENTS"))
PROSE = {"title", "description", "default", "format", "$id", "$schema", "x-topic", "x-key", "x-personal-data", "x-retention-days"}


def faults(schema: dict[str, Any], value: Any, at: str = "$") -> list[str]:
    """JSON Schema 2020-12 as far as our schemas use it, written from its text; an unknown word is an error of the test."""
    found: list[str] = []
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None), "boolean": bool}
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    for word, wants in schema.items():
        match word:
            case "type":
                bad = not isinstance(value, types[wants]) or isinstance(value, bool) != (wants == "boolean")
            case "const":
                bad = value != wants
            case "enum":
                bad = value not in wants
            case "pattern":
                bad = isinstance(value, str) and re.search(wants, value) is None
            case "minimum":
                bad = number and value < wants
            case "maximum":
                bad = number and value > wants
            case "minLength":
                bad = isinstance(value, str) and len(value) < wants
            case "maxLength":
                bad = isinstance(value, str) and len(value) > wants
            case "minItems":
                bad = isinstance(value, list) and len(value) < wants
            case "maxItems":
                bad = isinstance(value, list) and len(value) > wants
            case "required":
                bad = isinstance(value, dict) and not set(wants) <= set(value)
            case "anyOf":
                bad = all(faults(one, value, at) for one in wants)
            case "properties":
                bad = False
                for name, field in wants.items():
                    if isinstance(value, dict) and name in value:
                        found += faults(field, value[name], f"{at}.{name}")
            case "items" | "prefixItems":
                bad = False
                parts = value if isinstance(value, list) else []
                each = [wants] * len(parts) if word == "items" else wants
                for n, (field, part) in enumerate(zip(each, parts, strict=False)):
                    found += faults(field, part, f"{at}[{n}]")
            case _:
                assert word in PROSE, f"the test does not know the word {word}"
                bad = False
        if bad:
            found.append(f"{at}: {word}")
    return found


def types_table() -> str:
    lines = ["| type | what it says | personal data |", "|---|---|---|"]
    lines += [f"| [`{kind.name}`](events/examples/{kind.name}.json) | {kind.meaning} | {kind.personal} |" for kind in KINDS]
    return "\n".join(lines) + "\n"


def topics_table() -> str:
    lines = ["| topic | entity (`subject`) | key | kept for |", "|---|---|---|---|"]
    rows = {kind.topic: f"| `{kind.topic}` | `{kind.entity_field}` | `{kind.key_field}` | {kind.retention_days} days |" for kind in KINDS}
    return "\n".join([*lines, *rows.values()]) + "\n"


@pytest.mark.parametrize(("mark", "table"), [("types", types_table), ("topics", topics_table)])
def test_tables_of_the_document_are_those_of_the_catalogue(mark: str, table: Any) -> None:
    text = DOCUMENT.read_text()
    found = re.search(rf"(<!-- {mark}: .*? -->\n)(.*?)(\n<!-- end -->)", text, re.DOTALL)
    assert found is not None, mark
    if WRITE:
        DOCUMENT.write_text(text[: found.start(2)] + table() + text[found.end(2) :])
        return
    assert found[2] == table()


def test_one_topic_has_one_entity_one_key_and_one_retention() -> None:
    for topic in {kind.topic for kind in KINDS}:
        assert len({(k.entity_field, k.key_field, k.retention_days) for k in KINDS if k.topic == topic}) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_schema_of_this_version_is_released_and_breaks_no_earlier_one(kind: EventType) -> None:
    path = SCHEMAS / schema_file(kind)
    if WRITE and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema_text(kind))
    assert path.read_text() == schema_text(kind), "a released schema never changes: raise `minor` of the type"
    released = sorted(path.parent.glob("*.json"), key=lambda file: int(file.stem.split(".")[1]))
    assert [file.stem for file in released] == [f"1.{n}" for n in range(kind.minor + 1)]
    for earlier in released:
        assert breaks(json.loads(earlier.read_text()), schema_of(kind)) == [], earlier


def test_no_schema_or_example_is_of_a_type_that_is_gone() -> None:
    assert {path.name for path in SCHEMAS.iterdir()} == set(CATALOGUE)
    assert {path.stem for path in EXAMPLES.iterdir()} == set(CATALOGUE)


@given(EVENTS)
def test_every_event_follows_its_schema(event: Event) -> None:
    assert faults(schema_of(event.kind), json.loads(encode_structured(event))) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_example_follows_its_schema_and_is_decoded(kind: EventType) -> None:
    raw = (EXAMPLES / f"{kind.name}.json").read_bytes()
    document = json.loads(raw)
    assert faults(schema_of(kind), document) == []
    event = decode_structured(raw, kind.name)
    assert event.kind is kind
    assert json.loads(encode_structured(event)) == document
    headers, key, value = encode_kafka(event)
    assert decode_kafka(headers, key, value) == event
    assert raw == json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def test_the_examples_are_one_story_that_can_be_folded() -> None:
    events = [decode_structured(path.read_bytes()) for path in sorted(EXAMPLES.iterdir())]
    assert len({event.id for event in events}) == len(events)
    assert {event.tenant for event in events} == {"gym"}
    assert {topic for topic, _ in fold(sorted(events, key=lambda event: event.position))} <= {kind.topic for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_document_without_one_of_its_promised_fields_or_with_a_wrong_one_breaks_its_schema(kind: EventType) -> None:
    document = json.loads((EXAMPLES / f"{kind.name}.json").read_text())
    first = json.loads((SCHEMAS / kind.name / "1.0.json").read_text())["properties"]["data"]
    for name in document:
        assert faults(schema_of(kind), {key: value for key, value in document.items() if key != name})
    for name in document["data"]:
        less = {key: value for key, value in document["data"].items() if key != name}
        assert bool(faults(schema_of(kind), {**document, "data": less})) == (name in first["properties"]), "only later fields are optional"
        wrong = "no" if isinstance(document["data"][name], bool) else True
        assert faults(schema_of(kind), {**document, "data": {**document["data"], name: wrong}})


OLD: dict[str, Any] = {
    "type": "object",
    "title": "Old",
    "properties": {
        "a": {"type": "string", "maxLength": 9, "minLength": 1, "pattern": "^x"},
        "b": {"type": "integer", "minimum": 0},
        "c": {"enum": ["one", "two"], "type": "string"},
        "d": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
        "e": {"type": "array", "items": {"type": "object", "properties": {"f": {"type": "string"}}, "required": ["f"]}},
    },
    "required": ["a", "b", "d", "e"],
}


def edited(*path: str | int, to: Any) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    place: Any = new
    for step in path[:-1]:
        place = place[step]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return new


P = "properties"


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        edited(P, "new", to={"type": "string"}),
        edited("title", to="New"),
        edited(P, "a", "maxLength", to=10),
        edited(P, "a", "maxLength", to=None),
        edited(P, "b", "minimum", to=-1),
        edited(P, "c", "enum", to=["one", "two", "three"]),
        edited(P, "d", "anyOf", 0, "maximum", to=10),
        edited(P, "e", "items", P, "g", to={"type": "string"}),
    ],
)
def test_a_schema_may_grow(new: dict[str, Any]) -> None:
    assert breaks(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "where"),
    [
        (edited(P, "c", to=None), "event.c: removed"),
        (edited("required", to=["a", "b", "d", "e", "c"]), "event.c: required"),
        (edited("required", to=["b", "d", "e"]), "event.a: no longer promised"),
        (edited(P, "a", "type", to="integer"), "event.a: type"),
        (edited(P, "b", "type", to="number"), "event.b: type"),
        (edited(P, "a", "maxLength", to=8), "event.a: maxLength narrowed"),
        (edited(P, "b", "minimum", to=1), "event.b: minimum narrowed"),
        (edited(P, "b", "maximum", to=100), "event.b: maximum narrowed"),
        (edited(P, "a", "pattern", to="^y"), "event.a: pattern"),
        (edited(P, "c", "enum", to=["one"]), "event.c: no longer"),
        (edited(P, "b", to={"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]}), "event.b: anyOf"),
        (edited(P, "d", "anyOf", to=[{"type": "integer", "maximum": 9}]), "event.d: anyOf"),
        (edited(P, "d", "anyOf", 0, "maximum", to=8), "event.d[anyOf][0]: maximum"),
        (edited(P, "e", "items", P, "f", to=None), "event.e[items].f: removed"),
        (edited(P, "e", "items", "required", to=[]), "event.e[items].f: no longer"),
        (edited(P, "e", "minItems", to=1), "event.e: minItems"),
        (edited("x-key", to="board"), "event: x-key"),
    ],
)
def test_a_schema_may_not_break_its_readers(new: dict[str, Any], where: str) -> None:
    assert any(line.startswith(where) for line in breaks(OLD, new)), breaks(OLD, new)
