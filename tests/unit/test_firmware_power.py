"""When a device on a battery sends, sleeps and stops."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.power import DEEP, LIGHT, MEASURE, SEND, Cell, Plan, pct_of

WRAP = 1 << 30


def cell(mv: int = 4000) -> Cell:
    made = Cell()
    made.measured(mv)
    return made


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_more_voltage_is_never_less_charge(a: int, b: int) -> None:
    assert 0 <= pct_of(min(a, b)) <= pct_of(max(a, b)) <= 100


def test_flags_come_at_once_and_go_well_above() -> None:
    made = cell()
    seen = []
    for mv in (3560, 3540, 3600, 3640, 3660, 3340, 3400, 3490, 3510):
        made.measured(mv)
        seen.append((made.low, made.empty))
    assert seen == [
        (False, False), (True, False), (True, False), (True, False), (False, False), (True, True), (True, True), (True, True), (True, False),
    ]  # fmt: skip


def test_rows_go_at_once_without_a_window() -> None:
    assert Plan().decide(0, 3, 0, True, cell()) == (SEND, 0)
    assert Plan().decide(0, 0, 0, True, cell()) == (MEASURE, 0)


def test_rows_wait_for_their_window() -> None:
    plan = Plan(batch_ms=60_000)
    assert plan.decide(0, 3, 1, True, cell()) == (MEASURE, 60_000)
    assert plan.decide(59_999, 3, 1, True, cell()) == (MEASURE, 1)
    assert plan.decide(60_000, 3, 1, True, cell()) == (SEND, 0)
    plan.sent(61_000)
    assert plan.decide(61_000, 1, 1, True, cell()) == (MEASURE, 60_000)


def test_a_ring_that_fills_ends_the_wait() -> None:
    assert Plan(batch_ms=60_000).decide(0, 300, 60, True, cell()) == (SEND, 0)


def test_windows_of_a_low_cell_are_far_apart() -> None:
    plan = Plan(batch_ms=60_000)
    assert plan.decide(0, 300, 90, True, cell(3500)) == (MEASURE, 240_000)


def test_an_empty_cell_neither_writes_nor_sends() -> None:
    assert Plan().decide(0, 300, 90, True, cell(3300))[0] == DEEP


def test_a_still_device_dozes_and_then_sleeps() -> None:
    plan = Plan(batch_ms=600_000, still_ms=300_000, nap_ms=60_000)
    assert plan.decide(0, 0, 0, True, cell())[0] == MEASURE
    assert plan.decide(1000, 0, 0, False, cell()) == (LIGHT, 1000)
    assert plan.decide(299_800, 0, 0, False, cell()) == (LIGHT, 200)
    assert plan.decide(300_000, 0, 0, False, cell()) == (DEEP, 60_000)
    assert plan.decide(570_000, 5, 1, False, cell()) == (DEEP, 30_000)
    assert plan.decide(600_000, 5, 1, False, cell()) == (SEND, 0)


def test_wrapping_ticks_change_nothing() -> None:
    plan = Plan(batch_ms=60_000)
    start = WRAP - 30_000
    plan.decide(start, 1, 1, True, cell())
    assert plan.decide((start + 59_000) % WRAP, 1, 1, True, cell()) == (MEASURE, 1000)
    assert plan.decide((start + 60_000) % WRAP, 1, 1, True, cell()) == (SEND, 0)


@pytest.mark.parametrize("settings", [{"batch_ms": -1}, {"batch_ms": 3_600_001}, {"full_pct": 0}])
def test_plans_that_cannot_work_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="batch_ms"):
        Plan(**settings)
