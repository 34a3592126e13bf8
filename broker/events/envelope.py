"""An event and its two forms on the wire: CloudEvents 1.0 as structured JSON, and Kafka binary mode.

`id` is a function of type, entity, log position and ordinal, so a replay of the same log repeats ids and a consumer drops repeats by them.
What orders the events of an entity is their topic. Both forms hold the same; decoding either gives the event back. A document of a newer
minor version decodes too: fields we do not know are ignored then, and refused otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, cast

from pydantic import ValidationError

from broker.errors import BadInputError
from broker.events.catalogue import EventType, event_type
from broker.events.models import Data, utc_text, utc_us

Phase = Literal["provisional", "final", "correction"]
PHASES: Final = ("provisional", "final", "correction")
STRUCTURED: Final = "application/cloudevents+json; charset=UTF-8"
DATA_TYPE: Final = "application/json"
_CURE: Final = "see docs/events.md; `paceline events schema TYPE` prints what is expected"
_LOGPOSITION: Final = re.compile(r"(\d{16})\.(\d{4})", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_VERSION: Final = re.compile(r"1\.(\d{1,4})", re.ASCII)
_ATTRIBUTES: Final = (
    "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "tenant", "partitionkey", "recordedtime", "schemaversion",
    "phase", "logposition",
)  # fmt: skip
KafkaHeaders = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `position` is the log position it was derived at, `ordinal` tells apart several of one type and entity at that position;
    `time_us` is when it happened, `recorded_us` when that record was appended."""

    kind: EventType
    id: str
    tenant: str
    entity: str
    key: str
    time_us: int
    recorded_us: int
    phase: Phase
    position: int
    ordinal: int
    schemaversion: str
    data: Data

    @property
    def type(self) -> str:
        """The CloudEvents `type`."""
        return self.kind.name

    @property
    def topic(self) -> str:
        """The Kafka topic."""
        return self.kind.topic

    @property
    def body(self) -> bytes:
        """The whole event as structured JSON: what the outbox keeps."""
        return encode_structured(self)


def event_id(name: str, entity: str, position: int, ordinal: int = 0) -> str:
    """The id of an event: 32 hex digits."""
    text = f"{name}\0{entity}\0{position}" + (f"\0{ordinal}" if ordinal else "")
    return blake2b(text.encode(), digest_size=16).hexdigest()


def make_event(name: str, data: Data, *, time_us: int, recorded_us: int, phase: Phase, position: int, ordinal: int = 0) -> Event:
    """The event of type `name` that says `data`; BadInputError when data is of another type's model or a number out of range."""
    kind = event_type(name)
    if type(data) is not kind.model:
        raise BadInputError(f"{name}: data is {type(data).__name__}, not {kind.model.__name__}", cure=_CURE)
    if not (0 <= position < 10**16 and 0 <= ordinal < 10**4):
        raise BadInputError(
            f"{name}: position {position} or ordinal {ordinal} is out of range", cure="give a log position and a small count"
        )
    entity, key = str(getattr(data, kind.entity_field)), str(getattr(data, kind.key_field))
    return Event(
        kind=kind, id=event_id(name, entity, position, ordinal), tenant=key.partition("/")[0], entity=entity, key=key, time_us=time_us,
        recorded_us=recorded_us, phase=phase, position=position, ordinal=ordinal, schemaversion=kind.schemaversion, data=data,
    )  # fmt: skip


def attributes(event: Event) -> dict[str, str]:
    """The CloudEvents attributes and our extensions, in their fixed order."""
    values = (
        "1.0", event.id, f"/paceline/{event.tenant}", event.type, event.entity, utc_text(event.time_us), DATA_TYPE, event.tenant, event.key,
        utc_text(event.recorded_us), event.schemaversion, event.phase, f"{event.position:016d}.{event.ordinal:04d}",
    )  # fmt: skip
    return dict(zip(_ATTRIBUTES, values, strict=True))


def encode_structured(event: Event) -> bytes:
    """The JSON event format: attributes and `data` in one document."""
    return _json({**attributes(event), "data": event.data.model_dump(mode="json")})


def decode_structured(raw: bytes, where: str = "event") -> Event:
    """Inverse of `encode_structured`; BadInputError names `where` and the field."""
    document = _document(raw, where)
    data = document.pop("data", None)
    if not isinstance(data, dict):
        raise BadInputError(f"{where}: data must be an object", cure=_CURE)
    try:
        body = _json(cast("dict[str, object]", data))
    except (ValueError, RecursionError) as error:  # NaN, lone surrogates
        raise BadInputError(f"{where}: data cannot be read: {error}", cure=_CURE) from error
    return _event(document, body, where)


def encode_kafka(event: Event) -> tuple[list[tuple[str, bytes]], bytes, bytes]:
    """Headers, key and value of a Kafka record in binary mode: `content-type` and one `ce_*` header per attribute."""
    headers = [("content-type" if name == "datacontenttype" else f"ce_{name}", value.encode()) for name, value in attributes(event).items()]
    return headers, event.key.encode(), _json(event.data.model_dump(mode="json"))


def decode_kafka(headers: KafkaHeaders, key: bytes | None, value: bytes, where: str = "record") -> Event:
    """Inverse of `encode_kafka`; foreign headers are passed over, BadInputError names `where` and the field."""
    found: dict[str, object] = {}
    for name, raw in headers:
        attribute = "datacontenttype" if name == "content-type" else name.removeprefix("ce_") if name.startswith("ce_") else ""
        if not attribute:
            continue
        if attribute in found:
            raise BadInputError(f"{where}: header {name} is there twice", cure=_CURE)
        try:
            found[attribute] = raw.decode()
        except UnicodeDecodeError as error:
            raise BadInputError(f"{where}: header {name} is not UTF-8", cure=_CURE) from error
    event = _event(found, value, where)
    if key is not None and key != event.key.encode():
        raise BadInputError(f"{where}: the key is not ce_partitionkey", cure=_CURE)
    return event


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _document(raw: bytes, where: str) -> dict[str, object]:
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{where}: not JSON: {error}", cure=_CURE) from error
    if not isinstance(found, dict):
        raise BadInputError(f"{where}: must be a JSON object", cure=_CURE)
    return cast("dict[str, object]", found)


def _event(found: Mapping[str, object], data: bytes, where: str) -> Event:
    texts: dict[str, str] = {}
    for name in _ATTRIBUTES:
        value = found.get(name)
        if not isinstance(value, str) or not value:
            raise BadInputError(f"{where}: {name} must be a text", cure=_CURE)
        texts[name] = value
    kind = event_type(texts["type"], where)
    logposition, version = _LOGPOSITION.fullmatch(texts["logposition"]), _VERSION.fullmatch(texts["schemaversion"])
    wrong = [
        name
        for name, right in (
            ("specversion", texts["specversion"] == "1.0"),
            ("id", _ID.fullmatch(texts["id"]) is not None),
            ("datacontenttype", texts["datacontenttype"].partition(";")[0].strip() == DATA_TYPE),
            ("phase", texts["phase"] in PHASES),
            ("logposition", logposition is not None),
            ("schemaversion", version is not None),
        )
        if not right
    ]
    if wrong or logposition is None or version is None:
        raise BadInputError(f"{where}: {wrong[0]} {texts[wrong[0]]!r} is not allowed", cure=_CURE)
    says = _data(kind, data, newer=int(version[1]) > kind.minor, where=where)
    for name, field in (("subject", kind.entity_field), ("partitionkey", kind.key_field)):
        if getattr(says, field) != texts[name]:
            raise BadInputError(f"{where}: {name} is not data.{field}", cure=_CURE)
    if texts["partitionkey"].partition("/")[0] != texts["tenant"]:
        raise BadInputError(f"{where}: tenant is not that of partitionkey", cure=_CURE)
    if texts["source"] != f"/paceline/{texts['tenant']}":
        raise BadInputError(f"{where}: source is not that of the tenant", cure=_CURE)
    return Event(
        kind=kind, id=texts["id"], tenant=texts["tenant"], entity=texts["subject"], key=texts["partitionkey"],
        time_us=_time(texts, "time", where), recorded_us=_time(texts, "recordedtime", where), phase=cast("Phase", texts["phase"]),
        position=int(logposition[1]), ordinal=int(logposition[2]), schemaversion=texts["schemaversion"], data=says,
    )  # fmt: skip


def _data(kind: EventType, raw: bytes, *, newer: bool, where: str) -> Data:
    try:
        return kind.model.model_validate_json(raw, extra="ignore" if newer else "forbid")
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(("data", *(str(part) for part in first["loc"])))
        raise BadInputError(f"{where}: {field}: {first['msg']}", cure=_CURE) from error


def _time(texts: Mapping[str, str], name: str, where: str) -> int:
    try:
        return utc_us(texts[name])
    except ValueError as error:
        raise BadInputError(f"{where}: {name}: {error}", cure=_CURE) from error
