"""The judge of `paceline node check`: a right node keeps every rule, and each way of breaking one is found under its name."""

from __future__ import annotations

import json

import pytest

from broker.bundles import encode_bundle
from broker.frames import SELF_NUMBERED, Clock, Frame, encode_frame
from broker.layouts import layout_named
from broker.topics import topic
from paceline.node_rules import RULES, NodeJudge

NOW_US = 1_800_000_000_000_000
UP = topic("gym", "watch", "up")


def frame(seq: int, **changes: object) -> bytes:
    motion = layout_named("motion.1")
    fields = {
        "layout": motion.id, "flags": SELF_NUMBERED, "device": "watch", "boot": 7, "seq": seq, "t0_us": seq * 1_000_000,
        "utc_offset_us": NOW_US - 60_000_000, "clock": int(Clock.NETWORK), "subject": "gym/ann",
        "records": motion.pack({"tick_ms": 0, "hr_bpm": 120 + seq}),
    }  # fmt: skip
    return encode_frame(Frame(**(fields | changes)))  # pyright: ignore[reportArgumentType]


def bundle(first: int, count: int = 1, epoch: int = 99) -> bytes:
    return encode_bundle(epoch, first, [frame(n) for n in range(first, first + count)])


class Node:
    """Feeds a judge; every send is half a second after the one before."""

    def __init__(self) -> None:
        self.judge = NodeJudge("gym", "watch")
        self.now_s = 100.0

    def send(self, payload: bytes, name: str = UP, qos: int = 1, retained: bool = False, after_s: float = 0.5) -> None:
        self.now_s += after_s
        self.judge.on_message(name, payload, qos, retained, self.now_s, NOW_US)

    def state(self, rule: str) -> str:
        return next(v.state for v in self.judge.verdicts() if v.rule == rule)

    def broken(self) -> set[str]:
        return {v.rule for v in self.judge.verdicts() if v.state == "broken"}


def right_life() -> Node:
    """Silence with probes, an ack, a refusal, a cut and a return."""
    node = Node()
    node.send(bundle(0, 3))
    node.judge.withhold(node.now_s)
    node.send(bundle(3))
    node.send(bundle(0, 3), after_s=2.0)
    node.send(bundle(0, 4), after_s=4.0)
    node.judge.settle([0, 1, 2], [3], node.now_s)
    node.send(bundle(4), after_s=3.0)
    node.judge.cut(node.now_s)
    node.send(bundle(4), after_s=3.0)
    node.judge.end_cut()
    return node


def test_right_node_breaks_nothing() -> None:
    node = right_life()
    assert node.broken() == set()
    assert {v.rule for v in node.judge.verdicts() if v.state == "not seen"} == {"json"}


def test_rules_without_occasion_are_not_called_kept() -> None:
    assert {v.state for v in Node().judge.verdicts()} == {"not seen"}


def test_every_rule_names_a_section_of_the_wire_document() -> None:
    from pathlib import Path

    headings = {line[3:] for line in Path("docs/wire.md").read_text().splitlines() if line.startswith("## ")}
    assert {section for _, section in RULES.values()} <= headings


def changed(n: int) -> bytes:
    return encode_bundle(99, n, [frame(n, records=layout_named("motion.1").pack({"tick_ms": 0, "hr_bpm": 99}))])


def json_message(**changes: object) -> bytes:
    item = {"device": "watch", "boot": 1, "seq": 0, "samples": [{"hr_bpm": 140}], "epoch": f"{5:016x}", "n": 0}
    return json.dumps(item | changes).encode()


BAD_CRC = bytes([*bundle(0)[:16], 0, 0, 0, 0, *bundle(0)[20:]])


@pytest.mark.parametrize(
    ("rule", "messages"),
    [
        ("topic", [(bundle(0), topic("gym", "other", "up"))]),
        ("topic", [(bundle(0), "pl/1/gym/watch/down")]),
        ("bundle", [(BAD_CRC, UP)]),
        ("bundle", [(bundle(0, 2)[:-3], UP)]),
        ("frame", [(encode_bundle(99, 0, [b"\x01\x02"]), UP)]),
        ("rows", [(bundle(0), UP), (encode_bundle(99, 2, [frame(1)]), UP)]),
        ("rows", [(bundle(0), UP), (bundle(1, epoch=98), UP)]),
        ("numbering", [(bundle(0), UP), (encode_bundle(99, 1, [frame(5)]), UP)]),
        ("identical", [(bundle(0), UP), (changed(0), UP)]),
        ("subject", [(encode_bundle(99, 0, [frame(0, subject="other/ann")]), UP)]),
        ("time", [(encode_bundle(99, 0, [frame(0, utc_offset_us=NOW_US + 301_000_000)]), UP)]),
        ("json", [(b"{", topic("gym", "watch", "up/json"))]),
        ("json", [(json_message(samples=[{"pulse": 1}]), topic("gym", "watch", "up/json"))]),
        ("json", [(json_message(epoch=None, n=None), topic("gym", "watch", "up/json"))]),
    ],
)
def test_wrong_message_is_found(rule: str, messages: list[tuple[bytes, str]]) -> None:
    node = Node()
    for payload, name in messages:
        node.send(payload, name)
    assert node.broken() == {rule}


def test_rows_sent_before_anybody_listened_are_no_gap() -> None:
    node = Node()
    node.send(bundle(6))
    node.send(bundle(0, 7))
    node.send(bundle(7))
    assert node.broken() == set()


def test_right_json_keeps_its_rule() -> None:
    node = Node()
    node.send(json_message(), topic("gym", "watch", "up/json"))
    assert node.broken() == set()
    assert node.state("json") == "kept"


@pytest.mark.parametrize(("qos", "retained"), [(0, False), (1, True)])
def test_qos_0_or_retained_is_found(qos: int, retained: bool) -> None:
    node = Node()
    node.send(bundle(0), qos=qos, retained=retained)
    assert node.broken() == {"qos"}


def test_node_that_never_sends_again_is_found() -> None:
    node = Node()
    node.send(bundle(0, 3))
    node.judge.withhold(node.now_s)
    node.judge.settle([0, 1, 2], [], node.now_s + 12)
    assert node.broken() == {"probe"}


def test_node_that_sends_only_newer_rows_again_is_found() -> None:
    node = Node()
    node.send(bundle(0, 3))
    node.judge.withhold(node.now_s)
    node.send(bundle(2), after_s=4)
    node.judge.settle([0, 1, 2], [], node.now_s + 8)
    assert node.broken() == {"probe"}


def test_flood_without_acks_is_found() -> None:
    node = Node()
    node.send(bundle(0, 3))
    node.judge.withhold(node.now_s)
    for _ in range(60):
        node.send(bundle(0, 3), after_s=0.2)
    node.judge.settle([0, 1, 2], [], node.now_s)
    assert node.broken() == {"flood"}


@pytest.mark.parametrize("kind", ["stored", "refused"])
def test_settled_row_sent_again_is_found(kind: str) -> None:
    node = Node()
    node.send(bundle(0))
    node.judge.settle([0] if kind == "stored" else [], [0] if kind == "refused" else [], node.now_s)
    node.send(bundle(0), after_s=3)
    assert node.broken() == {kind}


def test_settled_row_already_on_its_way_is_forgiven() -> None:
    node = Node()
    node.send(bundle(0))
    node.judge.settle([0], [], node.now_s)
    node.send(bundle(0), after_s=1)
    assert node.broken() == set()


def test_node_that_forgets_what_it_owed_at_a_cut_is_found() -> None:
    node = Node()
    node.send(bundle(0, 2))
    node.judge.cut(node.now_s)
    node.send(bundle(2), after_s=3)
    node.judge.end_cut()
    assert node.broken() == {"resume"}
