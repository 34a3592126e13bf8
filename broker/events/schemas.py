"""JSON Schemas (2020-12) of the events, made from the models, and what a new version of one may not do to its readers.

A schema describes the structured form; its `properties.data` is that of a Kafka value. It allows fields it does not name: a reader must
pass over them, so that a minor version may add some. Every released version stays in docs/events/schemas/{type}/{schemaversion}.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from broker.events.catalogue import EventType
from broker.events.envelope import DATA_TYPE, PHASES

Schema = dict[str, Any]
_UTC: Final[Schema] = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$",
}
_PROSE: Final = frozenset({"title", "description", "default", "examples", "$id", "$schema", "x-personal-data", "x-retention-days"})
_LOWER: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems"})
_UPPER: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems"})


def schema_of(kind: EventType) -> Schema:
    """The schema of an event of that type, in structured form."""
    data = _plain(kind.model.model_json_schema(mode="serialization"))
    properties: Schema = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Drop repeats by it"},
        "source": {"type": "string", "pattern": "^/paceline/.+$"},
        "type": {"const": kind.name},
        "subject": {"type": "string", "minLength": 1, "description": f"The entity: data.{kind.entity_field}"},
        "time": {**_UTC, "description": "When it happened"},
        "datacontenttype": {"const": DATA_TYPE},
        "tenant": {"type": "string", "minLength": 1},
        "partitionkey": {"type": "string", "minLength": 1, "description": f"The key of the Kafka record: data.{kind.key_field}"},
        "recordedtime": {**_UTC, "description": "When the platform stored what caused it"},
        "schemaversion": {"type": "string", "pattern": "^1[.][0-9]{1,4}$"},
        "phase": {"enum": list(PHASES)},
        "logposition": {
            "type": "string",
            "pattern": "^[0-9]{16}[.][0-9]{4}$",
            "description": "The log record behind it, and a count there",
        },
        "data": data,
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:paceline:events:{kind.name}:{kind.schemaversion}",
        "title": kind.name,
        "description": kind.meaning,
        "x-topic": kind.topic,
        "x-key": kind.key_field,
        "x-personal-data": kind.personal.value,
        "x-retention-days": kind.retention_days,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }


def schema_text(kind: EventType) -> str:
    """The schema as it stands in its file."""
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def schema_file(kind: EventType) -> str:
    """Where it stands below the folder of schemas."""
    return f"{kind.name}/{kind.schemaversion}.json"


def breaks(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "event") -> list[str]:
    """What of `new` breaks a reader of `old`, or refuses what was written under `old`; empty when nothing does.

    Allowed: a new optional field, another value of an enumeration, a wider limit, other prose. Refused: a field removed or renamed, an old
    one no longer promised, a new one required, another type (also nullable), a value or limit narrowed, another pattern or format.
    """
    return list(_breaks(old, new, at))


def _breaks(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[str]:
    yield from _fields(old, new, at)
    for word in sorted(({*old, *new} - _PROSE) - {"properties", "required"}):
        was, now = old.get(word), new.get(word)
        if was == now:
            continue
        if word in _LOWER | _UPPER:
            if now is not None and (was is None or (now > was) == (word in _LOWER)):
                yield f"{at}: {word} narrowed from {was} to {now}"
        elif word == "enum" and was is not None and now is not None:
            if gone := [value for value in was if value not in now]:
                yield f"{at}: no longer one of {gone}"
        elif (pairs := _pairs(was, now)) is not None:
            for place, one, other in pairs:
                yield from _breaks(one, other, f"{at}[{word}]{place}")
        else:
            yield f"{at}: {word} changed from {was} to {now}"


def _pairs(was: object, now: object) -> list[tuple[str, Schema, Schema]] | None:
    """Schemas below a word, one by one; None when the word holds no schemas, or another number of them."""
    if isinstance(was, dict) and isinstance(now, dict):
        return [("", cast("Schema", was), cast("Schema", now))]
    if isinstance(was, list) and isinstance(now, list):
        olds, news = cast("list[object]", was), cast("list[object]", now)
        if len(olds) == len(news) and all(isinstance(part, dict) for part in (*olds, *news)):
            return [(f"[{n}]", cast("Schema", one), cast("Schema", other)) for n, (one, other) in enumerate(zip(olds, news, strict=True))]
    return None


def _fields(old: Mapping[str, Any], new: Mapping[str, Any], at: str) -> Iterator[str]:
    was: Mapping[str, Any] = old.get("properties", {})
    now: Mapping[str, Any] = new.get("properties", {})
    promised: set[str] = set(old.get("required", ()))
    owed: set[str] = set(new.get("required", ()))
    for name, field in was.items():
        if name not in now:
            yield f"{at}.{name}: removed"
            continue
        yield from _breaks(field, now[name], f"{at}.{name}")
    for name in sorted((promised - owed) & now.keys()):
        yield f"{at}.{name}: no longer promised"
    for name in sorted(owed - promised):
        yield f"{at}.{name}: required, and was not"


def _plain(schema: Schema) -> Schema:
    """The schema without references (none of ours is recursive), generated titles, and the ban on unknown fields."""
    shared: Schema = schema.pop("$defs", {})

    def walk(value: object, *, names: bool) -> Any:
        if isinstance(value, list):
            return [walk(part, names=False) for part in cast("list[object]", value)]
        if not isinstance(value, dict):
            return value
        found = cast("Schema", value)
        if not names and "$ref" in found:
            return walk(shared[str(found["$ref"]).rpartition("/")[2]], names=False)
        skip = () if names else ("title", "additionalProperties")
        return {key: walk(part, names=not names and key == "properties") for key, part in found.items() if key not in skip}

    return walk(schema, names=False)
