"""docs/wire.md and tests/vectors say what the code does: the tables are made from it, every vector decodes as it claims.

`PACELINE_WRITE_VECTORS=1 pytest tests/unit/test_wire_document.py` writes tables and vectors anew after a wanted change.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from broker.acks import Ack, decode_ack, encode_ack_json
from broker.bundles import decode_bundle
from broker.errors import Reason, Rejected
from broker.frames import Frame, decode_frame
from broker.json_frames import JsonMessage, decode_json_message
from broker.layouts import all_layouts
from tests.wire_vectors import JSON_NOW_US, all_vectors

VECTORS = Path("tests/vectors")
DOCUMENT = Path("docs/wire.md")
WRITE = bool(os.environ.get("PACELINE_WRITE_VECTORS"))

REASONS = {
    Reason.BAD_BUNDLE: "the header or the row framing of a bundle cannot be read",
    Reason.BAD_FRAME: "not the msgpack array a frame is, or a field of the wrong type or range",
    Reason.BAD_RECORDS: "no record, or not a whole number of records",
    Reason.OVERSIZED: "more than 1,024 bytes a frame or 65,536 a message",
    Reason.BAD_ID: "a device or subject that is not an id",
    Reason.BAD_JSON: "the JSON form does not follow section 6",
    Reason.WRONG_TENANT: "the subject belongs to another tenant than the credential",
    Reason.FUTURE_TIME: "dated more than 5 minutes after its arrival",
    Reason.RESERVED_FLAG: "a flag bit that is not defined",
    Reason.NOT_SELF_NUMBERED: "from a device behind a box without flag bit 0: only a device that numbers itself may go through a box",
    Reason.CORRUPT_ROW: "the node itself found its stored row damaged",
}


def layouts_table() -> str:
    parts: list[str] = []
    for layout in all_layouts().values():
        parts.append(f"**{layout.id}: `{layout.name}`**, {layout.size} bytes: {layout.about}\n")
        parts.append("| byte | field | type | unit | scale | offset | absent |\n|---|---|---|---|---|---|---|")
        at = 0
        for field in layout.fields:
            names = "" if field.values is None else ": " + ", ".join(f"{raw} {name}" for raw, name in field.values.items())
            absent = "" if field.absent is None else str(field.absent)
            parts.append(f"| {at} | {field.name} | {field.type} | {field.unit}{names} | {field.scale:g} | {field.offset:g} | {absent} |")
            at += int(field.type[1:]) // 8
        parts.append("")
    return "\n".join(parts)


def reasons_table() -> str:
    return "| reason | means |\n|---|---|\n" + "".join(f"| `{reason}` | {REASONS[reason]} |\n" for reason in Reason)


@pytest.mark.parametrize(("name", "make"), [("layouts", layouts_table), ("reasons", reasons_table)])
def test_table_of_the_document_is_made_from_the_code(name: str, make: Any) -> None:
    text = DOCUMENT.read_text("utf-8")
    head, tail = f"<!-- {name}: made by tests/unit/test_wire_document.py -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(head)
    found, after = rest.split(tail)
    if WRITE:
        DOCUMENT.write_text(f"{before}{head}{make()}{tail}{after}", "utf-8")
    else:
        assert found == make()


@pytest.mark.parametrize("name", ["layouts", "frames", "bundles", "acks", "json"])
def test_vectors_are_what_the_code_makes(name: str) -> None:
    path = VECTORS / f"{name}.json"
    made = json.dumps(all_vectors()[name], indent=1) + "\n"
    if WRITE:
        path.write_text(made, "utf-8")
    assert path.read_text("utf-8") == made


def load(name: str) -> dict[str, list[dict[str, Any]]]:
    return json.loads((VECTORS / f"{name}.json").read_text("utf-8"))


def test_every_good_frame_decodes_to_its_fields_and_every_bad_one_to_its_reason() -> None:
    vectors = load("frames")
    for vector in vectors["good"]:
        frame = decode_frame(bytes.fromhex(vector["hex"]))
        assert isinstance(frame, Frame), vector
        assert frame.seq == int(vector["fields"]["seq"])
        assert frame.records.hex() == vector["fields"]["records"]
    for vector in vectors["bad"]:
        rejected = decode_frame(bytes.fromhex(vector["hex"]))
        assert isinstance(rejected, Rejected), vector
        assert rejected.reason == vector["reason"], vector


def test_every_bundle_gives_its_rows() -> None:
    for vector in load("bundles")["good"]:
        bundle = decode_bundle(bytes.fromhex(vector["hex"]))
        assert not isinstance(bundle, Rejected)
        assert [row.hex() for row in bundle.rows] == vector["rows"]
        assert (f"{bundle.epoch:016x}", bundle.first_n, bundle.count) == (vector["epoch"], vector["first_n"], vector["count"])
    for vector in load("bundles")["bad"]:
        bundle = decode_bundle(bytes.fromhex(vector["hex"]))
        if vector["reason"] == "damaged_body":
            assert not isinstance(bundle, Rejected)
            assert not bundle.complete
        else:
            assert isinstance(bundle, Rejected)
            assert bundle.reason == vector["reason"]


def test_every_ack_decodes() -> None:
    for vector in load("acks")["good"]:
        ack = decode_ack(bytes.fromhex(vector["hex"]))
        assert isinstance(ack, Ack)
        assert json.loads(encode_ack_json(ack)) == vector["json"]
    for vector in load("acks")["bad"]:
        assert isinstance(decode_ack(bytes.fromhex(vector["hex"])), Rejected), vector


def test_every_json_message_converts_to_its_frames_or_is_refused_with_its_reason() -> None:
    for vector in load("json")["good"]:
        message = decode_json_message(vector["text"].encode(), JSON_NOW_US)
        assert isinstance(message, JsonMessage)
        assert [row[0].hex() for row in message.rows if not isinstance(row, Rejected)] == vector["frames"]
    for vector in load("json")["bad"]:
        message = decode_json_message(vector["text"].encode(), JSON_NOW_US)
        first = message if isinstance(message, Rejected) else message.rows[0]
        assert isinstance(first, Rejected), vector
        assert first.reason == vector["reason"], vector


def test_document_names_every_topic_leaf_and_limit() -> None:
    from broker.bundles import MAX_BUNDLE_BYTES, MAX_ROWS
    from broker.frames import MAX_FRAME_BYTES
    from broker.topics import LEAVES
    from gateway.window import WindowSettings

    text = DOCUMENT.read_text("utf-8")
    for leaf in LEAVES:
        assert f"| `{leaf}` |" in text
    for number in (MAX_BUNDLE_BYTES, MAX_ROWS, MAX_FRAME_BYTES, WindowSettings().rows):
        assert f"{number:,}" in text
    assert not re.search(r"\bTODO\b", text)
