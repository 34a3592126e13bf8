"""Who is near a finish gate: the straps heard strongest, also when more are near than it keeps."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example, with the modules that a build makes for it."""
    board, keys = ModuleType("board"), ModuleType("update_keys")
    keys.KEYS = ()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "board", board)
    monkeypatch.setitem(sys.modules, "update_keys", keys)
    monkeypatch.delitem(sys.modules, "devices.finish_gate", raising=False)
    from devices import finish_gate

    monkeypatch.delitem(sys.modules, "devices.finish_gate", raising=False)
    return finish_gate


def address(number: int) -> bytes:
    return number.to_bytes(6, "big")


def test_a_strap_that_comes_near_is_heard_in_a_crowd(gate: Any) -> None:
    ears = gate.Ears(None)
    for i in range(gate.MAX_NEAR):
        ears.hear(address(i), -80, 1000)
    ears.hear(address(5), -40, 1500)  # it is at the line now
    assert ears.strongest(1600) == (5, -40)
    ears.hear(address(100), -35, 1700)  # a new one, nearer still
    assert ears.strongest(1800) == (100, -35)
    assert len(ears.heard) == gate.MAX_NEAR


def test_a_weak_strap_puts_nobody_out_and_those_gone_make_room(gate: Any) -> None:
    ears = gate.Ears(None)
    for i in range(gate.MAX_NEAR):
        ears.hear(address(i), -60, 1000)
    ears.hear(address(100), -90, 1100)
    assert address(100) not in ears.heard
    ears.hear(address(100), -90, 1000 + gate.FRESH_MS)
    assert list(ears.heard) == [address(100)]
