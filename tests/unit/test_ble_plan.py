"""The plan of connects: one at a time per adapter, best adapter, back-off, slots, sights that are too old, resets, two boxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import ble_plan
from gateway.ble_plan import Attempt, Plan
from gateway.ble_states import HELD, TABLE, Event, State, after

S = 1_000_000
A, B, C = "C0:00:00:00:00:01", "C0:00:00:00:00:02", "C0:00:00:00:00:03"


def plan_with(*adapters: str, slots: int = 7) -> Plan:
    plan = Plan(slots=slots, random=lambda: 0.5)
    for name in adapters or ("hci0",):
        plan.adapter_up(name, 0)
    return plan


def hear(plan: Plan, address: str, at_us: int, *, adapter: str = "hci0", rssi: int = -50, wanted: bool = True, reason: str = "") -> None:
    plan.seen(address, adapter, rssi, at_us, wanted=wanted, reason=reason)


def state(plan: Plan, address: str) -> State:
    device = plan.device(address)
    assert device is not None
    return device.state


def test_one_connect_at_a_time_per_adapter_in_the_order_of_waiting():
    plan = plan_with()
    for i, address in enumerate((A, B, C)):
        hear(plan, address, i)
    assert plan.next(10) == [Attempt(A, "hci0")]
    assert plan.next(20) == []
    plan.up(A, 30)
    assert [one.address for one in plan.next(40)] == [B]
    plan.failed(B, "no answer in time", 50)
    assert [one.address for one in plan.next(60)] == [C]


def test_two_adapters_connect_side_by_side_and_a_device_goes_to_the_one_that_hears_it_best():
    plan = plan_with("hci0", "hci1")
    for address, left, right in ((A, -80, -50), (B, -50, -80)):
        hear(plan, address, 0, adapter="hci0", rssi=left)
        hear(plan, address, 0, adapter="hci1", rssi=right)
    assert set(plan.next(S)) == {Attempt(A, "hci1"), Attempt(B, "hci0")}


def test_while_the_best_adapter_connects_only_one_that_hears_nearly_as_well_takes_over():
    plan = plan_with("hci0", "hci1")
    for address, left, right in ((A, -50, -90), (B, -50, -55), (C, -50, -75)):
        hear(plan, address, 0, adapter="hci0", rssi=left)
        hear(plan, address, 0, adapter="hci1", rssi=right)
    assert plan.next(S) == [Attempt(A, "hci0"), Attempt(B, "hci1")]
    plan.up(B, S)
    assert plan.next(S) == []  # C waits for hci0
    plan.up(A, S)
    assert plan.next(S) == [Attempt(C, "hci0")]


def test_slots_are_kept_and_the_reason_says_so():
    plan = plan_with(slots=2)
    for address in (A, B, C):
        hear(plan, address, 0)
    for _ in range(2):
        (attempt,) = plan.next(1)
        plan.up(attempt.address, 2)
    assert plan.next(3) == []
    waiting = plan.device(C)
    assert waiting is not None
    assert plan.reason(waiting, 3) == "no free slot: all 2 of the adapters that hear it are in use"
    plan.lost(A, "link lost", 10 * S)
    assert [one.address for one in plan.next(10 * S)] == [C]


def test_failures_double_the_back_off_up_to_half_a_minute_and_a_lasting_link_forgives_them():
    plan, now, waits = plan_with(), 0, []
    for _ in range(9):
        hear(plan, A, now)
        assert plan.next(now) == [Attempt(A, "hci0")]
        plan.failed(A, "no answer in time", now)
        device = plan.device(A)
        assert device is not None
        waits.append(device.not_before_us - now)
        now = device.not_before_us + 1
    assert waits == [500_000, S, 2 * S, 4 * S, 8 * S, 16 * S, 30 * S, 30 * S, 30 * S]
    hear(plan, A, now)
    plan.next(now)
    plan.up(A, now)
    plan.lost(A, "link lost", now + 6 * S)
    hear(plan, A, now + 7 * S)
    assert plan.next(now + 7 * S) == [Attempt(A, "hci0")]


def test_link_that_breaks_at_once_counts_as_a_failure():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 0)
    plan.lost(A, "link lost", S)
    hear(plan, A, S + 200_000)
    assert plan.next(S + 300_000) == []
    assert plan.next(S + 600_000) == [Attempt(A, "hci0")]


def test_short_links_that_told_something_never_wait_longer_than_half_a_second():
    plan, now = plan_with(), 0
    for _ in range(9):
        hear(plan, A, now)
        assert plan.next(now) == [Attempt(A, "hci0")]
        plan.up(A, now)
        plan.lost(A, "link lost", now + S, told=True)
        now += S + 500_000


def test_device_that_only_its_owner_can_mend_rests_for_a_minute():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.failed(A, "asks to be paired", 0, rest=True)
    device = plan.device(A)
    assert device is not None
    assert device.not_before_us == 60 * S
    assert plan.reason(device, 0) == "asks to be paired; again in 60 s"


def test_sight_older_than_bluez_keeps_a_device_is_not_tried_unless_bluez_still_lists_it():
    plan = plan_with()
    hear(plan, A, 0)
    assert plan.next(26 * S) == []
    plan.listed("hci0", [A, "never heard"], 26 * S)
    assert plan.next(27 * S) == [Attempt(A, "hci0")]


def test_lost_device_is_tried_when_it_is_heard_anew_else_briefly_after_a_while():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 0)
    plan.lost(A, "link lost", 10 * S)
    hear(plan, A, 10 * S + 1000)  # BlueZ tells the loss itself like an advertisement
    assert plan.next(10 * S + 2000) == []
    plan.listed("hci0", [A], 13 * S)
    assert plan.next(13 * S) == [Attempt(A, "hci0", brief=True)]
    plan.failed(A, "no answer in time", 16 * S)
    hear(plan, A, 18 * S)
    assert plan.next(18 * S) == [Attempt(A, "hci0")]


def test_strap_connected_to_another_box_is_left_alone_until_it_advertises_again():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.failed(A, "no answer in time", 6 * S)
    plan.listed("hci0", [A], 8 * S)
    assert plan.next(8 * S) == []
    hear(plan, A, 9 * S)
    assert plan.next(9 * S) == [Attempt(A, "hci0")]


def test_newcomer_heard_badly_is_left_to_a_box_that_hears_it_better_for_less_than_half_a_second():
    plan = plan_with()
    hear(plan, A, 0, rssi=-95)
    assert plan.next(300_000) == []
    assert plan.next(ble_plan.SHY_LIMIT_US) == [Attempt(A, "hci0")]
    assert ble_plan.SHY_LIMIT_US < S / 2


def test_device_heard_anew_goes_before_one_that_failed_and_both_before_one_that_is_only_listed():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 0)
    plan.lost(A, "link lost", 10 * S)
    hear(plan, B, 10 * S)
    plan.next(10 * S)
    plan.failed(B, "no answer in time", 11 * S)
    plan.listed("hci0", [A], 14 * S)
    for address in (B, C):
        hear(plan, address, 14 * S)
    order = []
    for _ in range(3):
        (attempt,) = plan.next(14 * S)
        plan.up(attempt.address, 14 * S)
        order.append(attempt.address)
    assert order == [C, B, A]


def test_unwanted_device_says_why_and_is_tried_once_it_is_wanted():
    plan = plan_with()
    hear(plan, A, 0, wanted=False, reason="denied by 'x' of gateway.ble.deny")
    device = plan.device(A)
    assert device is not None
    assert (plan.next(0), plan.reason(device, 0), device.state) == ([], "denied by 'x' of gateway.ble.deny", State.REFUSED)
    hear(plan, A, 1)
    assert plan.next(1) == [Attempt(A, "hci0")]


def test_live_device_that_advertises_for_a_second_box_stays_live():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 1)
    hear(plan, A, 2)
    hear(plan, A, 3, wanted=False)
    assert state(plan, A) is State.LIVE


def test_device_not_heard_is_forgotten_after_a_minute_and_a_live_one_never():
    plan = plan_with()
    for address in (A, B):
        hear(plan, address, 0)
    plan.next(0)
    plan.up(A, 0)
    assert plan.sweep(59 * S) == []
    assert plan.sweep(61 * S) == [B]
    assert plan.device(B) is None
    assert state(plan, A) is State.LIVE


def test_adapter_that_went_takes_its_sights_and_a_late_loss_on_it_is_no_error():
    plan = plan_with("hci0", "hci1")
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 0)
    plan.adapter_down("hci0")
    plan.lost(A, "the adapter is off", S)
    assert plan.next(S) == []
    plan.adapter_up("hci0", 2 * S)
    hear(plan, A, 2 * S)
    assert plan.next(3 * S) == [Attempt(A, "hci0")]


def test_new_daemon_makes_old_sights_worthless_and_back_offs_too():
    plan = plan_with()
    hear(plan, A, 0)
    plan.next(0)
    plan.failed(A, "busy", 0)
    plan.forget_sights()
    assert plan.next(S) == []
    hear(plan, A, S)
    assert plan.next(S) == [Attempt(A, "hci0")]


def test_connects_refused_as_busy_three_times_in_a_row_are_tried_without_scanning():
    plan, now = plan_with(), 0
    for _ in range(3):
        hear(plan, A, now)
        assert plan.next(now) == [Attempt(A, "hci0")]
        plan.failed(A, "busy", now, busy=True)
        now += 10 * S
    hear(plan, A, now)
    assert plan.next(now) == [Attempt(A, "hci0", quiet=True)]
    plan.up(A, now)
    hear(plan, B, now)
    assert plan.next(now) == [Attempt(B, "hci0")]


def test_adapter_on_which_nothing_works_for_a_minute_is_reset_once_in_ten_minutes():
    plan = plan_with()
    for _ in range(6):
        plan.scan_failed("hci0")
    assert plan.resets(30 * S) == []
    assert plan.resets(61 * S) == ["hci0"]
    assert plan.resets(62 * S) == []
    for _ in range(6):
        plan.scan_failed("hci0")
    assert plan.resets(300 * S) == []
    assert plan.resets(662 * S) == ["hci0"]


def test_adapter_that_still_brings_data_is_not_reset():
    plan = plan_with()
    for _ in range(20):
        plan.scan_failed("hci0")
    plan.good("hci0", 60 * S)
    assert plan.resets(90 * S) == []


def test_beyond_capacity_the_device_heard_longest_ago_is_forgotten_but_never_a_live_one():
    plan = Plan(slots=7, random=lambda: 0.5, capacity=2)
    plan.adapter_up("hci0", 0)
    hear(plan, A, 0)
    plan.next(0)
    plan.up(A, 0)
    hear(plan, B, 1)
    hear(plan, C, 2)
    assert [device.address for device in plan.devices()] == [A, C]


def test_soonest_says_when_a_back_off_ends():
    plan = plan_with()
    assert plan.soonest_us(0) is None
    hear(plan, A, 0)
    plan.next(0)
    plan.failed(A, "no answer in time", 0)
    assert plan.soonest_us(0) == 500_000


def test_every_state_but_gone_can_be_left_and_an_impossible_event_is_an_error():
    assert {current for current, _ in TABLE} == set(State) - {State.GONE}
    assert {event for _, event in TABLE} == set(Event)
    with pytest.raises(ValueError, match="a device that is live cannot be attempt"):
        after(State.LIVE, Event.ATTEMPT)


@given(st.lists(st.tuples(st.sampled_from(["seen", "next", "up", "failed", "lost", "sweep", "adapter", "daemon"]), st.integers(0, 5), st.integers(0, 5 * S)), max_size=200))  # fmt: skip
def test_whatever_happens_slots_and_one_connect_per_adapter_hold(steps):
    plan, now = plan_with("hci0", "hci1", slots=2), 0
    for what, which, wait in steps:
        now += wait
        address, adapter = f"C0:00:00:00:00:0{which}", f"hci{which % 2}"
        device = plan.device(address)
        held = device.state if device is not None else None
        if what == "seen":
            hear(plan, address, now, adapter=adapter, rssi=-40 - which * 9, wanted=which != 5)
        elif what == "next":
            plan.next(now)
        elif what == "up" and held is State.CONNECTING:
            plan.up(address, now)
        elif what == "failed" and held is State.CONNECTING:
            plan.failed(address, "x", now, busy=which % 2 == 0)
        elif what == "lost" and held in HELD:
            plan.lost(address, "x", now)
        elif what == "sweep":
            plan.sweep(now)
        elif what == "adapter":
            plan.adapter_down(adapter)
            plan.adapter_up(adapter, now)
        elif what == "daemon":
            plan.forget_sights()
        for name in plan.adapters():
            radio = plan._radios[name]
            mine = [d for d in plan.devices() if d.adapter == name and d.state in HELD]
            assert len(radio.links) <= 2
            assert radio.links <= {d.address for d in mine}
            assert radio.connecting == "" or radio.connecting in radio.links
