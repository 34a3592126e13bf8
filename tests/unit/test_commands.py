"""The contract of `cmd` and `rsp`: its examples and tables in docs/equipment.md are those of the code, and bad documents are refused by name.

`PACELINE_WRITE_VECTORS=1 pytest tests/unit/test_commands.py` writes the tables anew after a wanted change.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.commands import (
    MAX_COMMAND_BYTES,
    Command,
    CommandReason,
    CommandState,
    Notice,
    NoticeEvent,
    NoticeReason,
    Reply,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
    id_in,
)
from broker.errors import BadInputError

DOCUMENT = Path("docs/equipment.md")
SOURCE = Path("broker/commands.py")
WRITE = bool(os.environ.get("PACELINE_WRITE_VECTORS"))
GOOD = {
    "id": "0123-abcd",
    "device": "mill",
    "athlete": "ann",
    "expires_us": 1_790_000_000_000_000,
    "order": {"action": "speed_mps", "value": 2.5},
}


def examples(kind: str) -> list[str]:
    return re.findall(rf"```json {kind}\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)


def comments(word: str) -> dict[str, str]:
    """The words of an enum with what the code says of each."""
    body = SOURCE.read_text("utf-8").split(f"class {word}(StrEnum)")[1].split("\nclass ")[0]
    return dict(re.findall(r'= "(\w+)"  # (.+)', body))


def table(head: str, *words: str) -> str:
    rows = [f"| `{word}` | {about} |" for enum in words for word, about in comments(enum).items()]
    return "\n".join([f"| {head} | means |", "|---|---|", *rows, ""])


@pytest.mark.parametrize(
    ("name", "made"),
    [("reasons", table("reason", "CommandReason")), ("events", table("event or reason", "NoticeEvent", "NoticeReason"))],
    ids=["reasons", "events"],
)
def test_table_of_the_document_is_made_from_the_code(name: str, made: str) -> None:
    text = DOCUMENT.read_text("utf-8")
    head, tail = f"<!-- {name}: made by tests/unit/test_commands.py -->\n", f"<!-- end of {name} -->"
    before, rest = text.split(head)
    found, after = rest.split(tail)
    if WRITE:
        DOCUMENT.write_text(f"{before}{head}{made}{tail}{after}", "utf-8")
    else:
        assert found == made


def test_every_reason_and_event_is_explained() -> None:
    assert set(comments("CommandReason")) == set(CommandReason)
    assert set(comments("CommandState")) == set(CommandState)
    assert set(comments("NoticeEvent")) == set(NoticeEvent)
    assert set(comments("NoticeReason")) == set(NoticeReason) - {""}


def test_examples_of_the_document_are_commands_and_answers() -> None:
    commands = [decode_command(text.encode()) for text in examples("command")]
    assert [command.order.action for command in commands] == ["target_power_w", "simulation", "stop"]
    assert all(decode_command(encode_command(command)) == command for command in commands)
    replies = [decode_answer(text.encode()) for text in examples("reply")]
    assert [reply.state for reply in replies if isinstance(reply, Reply)] == ["refused", "done"]
    (notice,) = (decode_answer(text.encode()) for text in examples("notice"))
    assert isinstance(notice, Notice)
    assert all(
        json.loads(encode_answer(decode_answer(text.encode()))) == json.loads(text) for text in examples("reply") + examples("notice")
    )


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"id": "short"}, "id"),
        ({"id": "UPPER-CASE-ID"}, "id"),
        ({"device": "no device"}, "device"),
        ({"athlete": ""}, "athlete"),
        ({"expires_us": -1}, "expires_us"),
        ({"expires_us": None}, "expires_us"),
        ({"order": {"action": "fly"}}, "order"),
        ({"order": {"action": "speed_mps"}}, "order.speed_mps.value"),
        ({"order": {"action": "speed_mps", "value": "NaN"}}, "order.speed_mps.value"),
        ({"order": {"action": "stop", "value": 1}}, "order.stop.value"),
        ({"order": {"action": "simulation", "grade_pct": 90}}, "order.simulation.grade_pct"),
        ({"max_power_w": 200}, "max_power_w"),
    ],
)
def test_command_that_breaks_a_rule_is_refused_by_its_field(change: dict[str, object], names: str) -> None:
    with pytest.raises(BadInputError, match=re.escape(f"cmd: {names}")):
        decode_command(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"text"', b"[" * 4000, b" " * (MAX_COMMAND_BYTES + 1)])
def test_what_is_no_document_is_refused_and_has_no_id(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        decode_command(raw)
    with pytest.raises(BadInputError):
        decode_answer(raw)
    assert id_in(raw) == ("", "")


def test_refused_document_is_answered_to_its_id_when_that_can_be_read() -> None:
    assert id_in(json.dumps({**GOOD, "order": {"action": "fly"}}).encode()) == ("0123-abcd", "mill")
    assert id_in(b'{"id": 7, "device": ["mill"]}') == ("", "")
    assert id_in(b'{"id": "../../etc/passwd", "device": "A"}') == ("", "")


def test_answers_of_a_newer_node_are_read() -> None:
    reply = decode_answer(b'{"kind":"reply","id":"0123-abcd","device":"mill","state":"done","took_ms":12}')
    assert isinstance(reply, Reply)
    assert reply.state.final
    assert not CommandState.ACCEPTED.final


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_order(raw: bytes) -> None:
    with pytest.raises(BadInputError):
        decode_command(raw)
    id_in(raw)


@given(st.floats(-1000, 10_000), st.sampled_from(["target_power_w", "speed_mps", "incline_pct", "resistance"]), st.integers(0, 1 << 60))
def test_every_command_survives_the_wire(value: float, action: str, expires_us: int) -> None:
    command = Command.model_validate({**GOOD, "expires_us": expires_us, "order": {"action": action, "value": value}})
    assert decode_command(encode_command(command)) == command
