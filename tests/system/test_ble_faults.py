"""Everything that goes wrong with Bluetooth, one by one: each has an answer, and a strap that can be heard is heard again."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import ble_silence
from gateway.ble_link import Limits
from gateway.ble_pairing import pair
from gateway.ble_plan import Attempt, Plan
from gateway.ble_scan import AdapterScan
from gateway.ble_survey import surveying
from gateway.settings import BleSettings
from simulators.bluez.process import VirtualBluetooth, environment, virtual_bluetooth
from tests.ble_box import Box, box_of, sent, until
from tests.virtual_room import room, strap

ONE, TWO = "C0:00:00:00:00:01", "C0:00:00:00:00:02"
QUICK = Limits(link_s=1.5, resolve_s=20.0)


@pytest.fixture
async def bluetooth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualBluetooth]:
    async with virtual_bluetooth(tmp_path / "bluez", room(strap(1, advertise_s=0.2), strap(2, advertise_s=0.2))) as served:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", served.address)
        yield served


async def struck(bluetooth: VirtualBluetooth, name: str, times: int = 1) -> None:
    async with asyncio.timeout(60):
        while (await bluetooth.do("state"))["struck"].get(name, 0) < times:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "fault", ["in_progress", "abort_by_local", "connect_fails", "drop_in_resolve", "notify_refused", "unlikely_in_read"]
)
async def test_connect_that_fails_is_tried_again_and_its_neighbour_is_not_kept_waiting(fault, bluetooth, tmp_path):
    times = 1 if fault == "abort_by_local" else 2
    await bluetooth.do("fault", name=fault, device=ONE, times=times)
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        await struck(bluetooth, fault, times)
    assert box.source.counters.failures + box.source.counters.losses >= (0 if fault == "abort_by_local" else 1)
    assert box.stored == sent(bluetooth)


async def test_connect_that_hangs_is_given_up_and_the_other_strap_is_live_meanwhile(bluetooth, tmp_path):
    await bluetooth.do("fault", name="hang_connect", device=ONE, value=600)
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        await struck(bluetooth, "hang_connect")
    assert box.source.counters.failures >= 1


async def test_after_three_connects_that_hang_the_next_one_is_made_without_scanning(bluetooth, tmp_path, monkeypatch):
    quiet: list[int] = []
    hush = AdapterScan.hush

    async def noted(scan: AdapterScan) -> None:
        await hush(scan)
        quiet.append((await bluetooth.do("state"))["adapters"]["hci0"]["discovering"])

    monkeypatch.setattr(AdapterScan, "hush", noted)
    await bluetooth.do("fault", name="hang_connect", value=600, times=3)
    async with box_of(tmp_path / "box", limits=Limits(link_s=0.5)) as box:
        await box.until_live(2)
        await until(lambda: all(scan.scanning for scan, _ in box.source._scans.values()))
    assert quiet
    assert set(quiet) == {0}


async def test_slow_services_are_waited_for_although_the_link_must_stand_soon(bluetooth, tmp_path):
    await bluetooth.do("fault", name="slow_resolve", device=ONE, value=6)
    async with box_of(tmp_path / "box", limits=Limits(link_s=5.0, resolve_s=60.0)) as box:
        await box.until_live(2)
        await struck(bluetooth, "slow_resolve")
    assert box.source.counters.failures == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ble_silence, "PERIODS", 3)
    monkeypatch.setattr(ble_silence, "MIN_US", 3_000_000)


async def test_strap_that_is_silent_although_linked_is_connected_anew_once_and_then_left(bluetooth, tmp_path, impatient):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        await bluetooth.do("silent", device=ONE, seconds=600)
        await until(lambda: any(link.address == ONE and link.memory.renewed for link in box.source.live), what=box.words, limit_s=120)
    assert box.source.counters.renewals >= 1


async def test_adapter_turned_off_is_turned_on_again_and_the_straps_come_back(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        losses = box.source.counters.losses
        await bluetooth.do("power", adapter="hci0", on=False)
        await until(lambda: box.source.counters.losses == losses + 2, what=box.words)
        await box.until_live(2)
    assert box.stored == sent(bluetooth)


async def test_adapter_turned_off_stays_off_when_the_settings_say_so(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK, power=False) as box:
        await box.until_live(2)
        await bluetooth.do("power", adapter="hci0", on=False)
        await until(lambda: not box.source.live, what=box.words)
        await until(lambda: not box.source.watch.adapters["hci0"].powered)
        await bluetooth.do("power", adapter="hci0", on=True)
        await box.until_live(2)


async def test_adapter_pulled_out_and_plugged_in_again_is_used_again(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        await bluetooth.do("unplug", adapter="hci0")
        await until(lambda: not box.source.live and not box.source.watch.adapters, what=box.words)
        await bluetooth.do("plug", adapter="hci0")
        await box.until_live(2)
    assert box.stored == sent(bluetooth)


async def test_adapter_that_is_away_for_a_moment_only_is_used_again(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        losses = box.source.counters.losses
        await bluetooth.do("unplug", adapter="hci0")
        await bluetooth.do("plug", adapter="hci0")
        await until(lambda: box.source.counters.losses == losses + 2, what=box.words)
        await box.until_live(2)
    assert box.stored == sent(bluetooth)


async def test_scan_whose_stop_is_refused_is_no_obstacle(bluetooth, tmp_path):
    await bluetooth.do("fault", name="stop_in_progress", times=3)
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
    async with box_of(tmp_path / "again", limits=QUICK) as again:
        await again.until_live(2)


async def test_daemon_that_comes_later_than_the_box_is_waited_for(bluetooth, tmp_path):
    await bluetooth.kill()
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await until(lambda: "no Bluetooth daemon" in box.source.watch.last_error)
        await bluetooth.start()
        await box.until_live(2)


async def test_d_bus_that_is_killed_ends_all_links_and_the_box_can_still_end(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        await bluetooth.bus.kill()
        await until(lambda: not box.source.live and not box.source.watch.up, what=box.words)


_ORPHAN = """
import asyncio, sys
from bleak import BleakClient, BleakScanner
async def main():
    client = BleakClient(await BleakScanner.find_device_by_address(sys.argv[1], timeout=30))
    await client.connect()
    print("linked", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_strap_left_connected_by_a_process_that_was_killed_is_freed_and_heard(bluetooth, tmp_path):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ORPHAN, ONE, stdout=asyncio.subprocess.PIPE, env=environment(bluetooth.address)
    )
    assert child.stdout is not None
    async with asyncio.timeout(60):
        assert (await child.stdout.readline()).strip() == b"linked"
    child.send_signal(signal.SIGKILL)
    await child.wait()
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
    assert box.source.counted()["ble_strays"] >= 1


async def test_denied_strap_is_left_alone_and_the_operator_reads_why(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK, deny=["Strap 2"]) as box:
        await box.until_live(1)
        await until(lambda: box.sighting("ble-c00000000002") is not None)
        refused = box.sighting("ble-c00000000002")
    assert refused is not None
    assert (refused.state, refused.reason) == ("refused", "denied by 'strap 2' of gateway.ble.deny")
    assert set(box.stored) == {"ble-c00000000001"}


async def test_only_what_is_allowed_is_connected(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK, allow=["ble-c00000000002"]) as box:
        await box.until_live(1)
        await until(lambda: (found := box.sighting("ble-c00000000001")) is not None and found.reason == "not in gateway.ble.allow")
    assert set(box.stored) == {"ble-c00000000002"}


async def test_more_straps_than_slots_wait_with_the_reason(bluetooth, tmp_path):
    async with box_of(tmp_path / "box", limits=QUICK, slots=1) as box:
        await box.until_live(1)
        await until(lambda: any("no free slot" in one.reason for one in box.sightings.all()), what=box.words)


@pytest.mark.parametrize("passive", [True, False])
async def test_passive_scan_finds_straps_and_where_there_is_none_the_box_scans_actively(passive, tmp_path, monkeypatch):
    world = room(strap(1, advertise_s=0.2), strap(2, advertise_s=0.2))
    world["adapters"][0]["passive"] = passive
    async with virtual_bluetooth(tmp_path / "bluez", world) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", limits=QUICK, scan="passive") as box:
            await box.until_live(2)
            modes = [scan.mode for scan, _ in box.source._scans.values()]
    assert modes == ["passive" if passive else "active"]


def rotating(number: int, **options: object) -> dict[str, object]:
    return strap(number, advertise_s=0.2, **options) | {"address": f"40:00:00:00:00:{number:02X}"}


async def test_strap_that_rotates_its_address_keeps_its_id_by_its_serial_number(tmp_path, monkeypatch):
    async with virtual_bluetooth(tmp_path / "bluez", room(rotating(1))) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", limits=QUICK) as box:
            await box.until_live(1)
            (before,) = box.source.live
            answer = await bluetooth.do("rotate", device=before.address)
            losses = box.source.counters.losses
            await bluetooth.do("drop", device=answer["address"])
            await until(lambda: box.source.counters.losses > losses, what=box.words)
            await box.until_live(1)
            (after,) = box.source.live
    assert after.address == answer["address"] != before.address
    assert after.device == before.device != "ble-400000000001"
    assert set(box.stored) == {before.device}


async def test_strap_known_by_its_serial_number_is_shown_as_lost_under_that_id(tmp_path, monkeypatch):
    async with virtual_bluetooth(tmp_path / "bluez", room(rotating(1))) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", limits=QUICK) as box:
            await box.until_live(1)
            (link,) = box.source.live
            await until(lambda: [one.state for one in box.sightings.all()] == ["live"], what=box.words)
            await bluetooth.do("fault", name="hang_connect", device=link.address, value=600)
            await bluetooth.do("drop", device=link.address)
            await until(lambda: [one.state for one in box.sightings.all()] != ["live"], what=box.words)
            (shown,) = box.sightings.all()
    assert shown.device == link.device != "ble-400000000001"
    assert shown.state in {"lost", "waiting", "connecting"}


async def test_bonded_strap_keeps_its_identity_address_and_id_when_it_rotates(tmp_path, monkeypatch):
    no_serial = {"services": [{"uuid": "180D", "characteristics": [{"uuid": "2A37", "flags": ["notify"]}]}]}
    async with virtual_bluetooth(tmp_path / "bluez", room(rotating(1) | {"kind": "table", "options": no_serial})) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with surveying(BleSettings()) as survey:
            found = await survey.until(lambda one: True, 60)
            assert found is not None
            assert await pair(found.path, no_passkey) == found.advert.address
        async with box_of(tmp_path / "box", limits=QUICK) as box:
            await until(lambda: len(box.source.live) == 1, what=box.words)
            (before,) = box.source.live
            answer = await bluetooth.do("rotate", device=before.address)
            losses = box.source.counters.losses
            await bluetooth.do("drop", device=answer["address"])
            await until(lambda: box.source.counters.losses > losses and len(box.source.live) == 1, what=box.words)
            (after,) = box.source.live
    assert after.device == before.device == "ble-400000000001"


async def no_passkey() -> int | None:
    return None


async def test_reads_that_give_nothing_and_a_short_packet_are_no_obstacle(tmp_path, monkeypatch):
    odd = {
        "services": [
            {"uuid": "180D", "characteristics": [{"uuid": "2A37", "flags": ["notify"]}]},
            {
                "uuid": "180A",
                "characteristics": [{"uuid": "2A29", "flags": ["read"]}, {"uuid": "2A25", "flags": ["read"], "value": "ff00"}],
            },
            {"uuid": "180F", "characteristics": [{"uuid": "2A19", "flags": ["read", "notify"]}]},
        ]
    }
    async with virtual_bluetooth(tmp_path / "bluez", room(strap(1, advertise_s=0.2) | {"kind": "table", "options": odd})) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", limits=QUICK) as box:
            await until(lambda: bool(box.source.live and box.source.live[0].profiles), what=box.words)
            for payload in ("", "00", "16", "1648000300040005", "0648"):
                await bluetooth.do("say", device=ONE, uuid="2A37", hex=payload)
            await until(lambda: box.source.live[0].packets == 5, what=box.words)
    assert [rr for rr, _ in box.stored["ble-c00000000001"] if rr is not None] == [750, 1000, 1250]
    assert box.stored["ble-c00000000001"][-1] == (None, 72)


async def test_strap_with_two_batteries_and_two_makers_is_heard(tmp_path, monkeypatch):
    battery = {"uuid": "180F", "characteristics": [{"uuid": "2A19", "flags": ["read", "notify"], "value": "4b"}]}
    about = {"uuid": "180A", "characteristics": [{"uuid": "2A29", "flags": ["read"], "value": "41636d65"}]}
    twice = {"services": [{"uuid": "180D", "characteristics": [{"uuid": "2A37", "flags": ["notify"]}]}, *[about, battery] * 2]}
    async with virtual_bluetooth(tmp_path / "bluez", room(strap(1, advertise_s=0.2) | {"kind": "table", "options": twice})) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with box_of(tmp_path / "box", limits=QUICK) as box:
            await until(lambda: bool(box.source.live and box.source.live[0].memory.battery_pct == 75), what=box.words)
            (link,) = box.source.live
            assert link.memory.identity is not None
            assert link.memory.identity.manufacturer == "Acme"


async def test_daemon_that_hangs_is_noticed_by_silence_and_does_not_keep_the_box_from_ending(bluetooth, tmp_path, impatient):
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        assert bluetooth.process is not None
        bluetooth.process.send_signal(signal.SIGSTOP)
        try:
            await until(lambda: not box.source.live, what=box.words, limit_s=120)
        finally:
            bluetooth.process.send_signal(signal.SIGCONT)
        await box.until_live(2)
        bluetooth.process.send_signal(signal.SIGSTOP)
    bluetooth.process.send_signal(signal.SIGCONT)


async def test_source_that_fails_by_an_error_of_ours_ends_its_links_and_begins_anew(bluetooth, tmp_path, monkeypatch):
    failed = asyncio.Event()
    nexts = Plan.next

    def once(plan: Plan, now_us: int) -> list[Attempt]:
        if armed and not failed.is_set():
            failed.set()
            raise RuntimeError("an error of ours")
        return nexts(plan, now_us)

    armed = False
    monkeypatch.setattr(Plan, "next", once)
    async with box_of(tmp_path / "box", limits=QUICK) as box:
        await box.until_live(2)
        armed = True
        await until(failed.is_set)
        await until(lambda: not box.source.live, what=box.words)
        await box.until_live(2)
    assert box.stored == sent(bluetooth)


def own_tasks() -> set[asyncio.Task]:
    """All tasks but the one that bleak's manager keeps as long as the loop lives."""
    return {task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") != "_monitor_bus_disconnect"}


async def test_box_that_is_ended_at_any_moment_leaves_no_link_scan_or_task(bluetooth, tmp_path):
    for delay_s in (0.0, 0.05, 0.2, 0.35, 0.5, 0.8, 1.2):
        async with box_of(tmp_path / f"box{delay_s}", limits=QUICK):
            await asyncio.sleep(delay_s)
        async with asyncio.timeout(60):
            while True:
                state = await bluetooth.do("state")
                if not state["adapters"]["hci0"]["linked"] and not state["adapters"]["hci0"]["discovering"]:
                    break
                await asyncio.sleep(0.05)
    await until(lambda: own_tasks() == {asyncio.current_task()}, what=own_tasks)


def by_device(box: Box) -> set[str]:
    return {link.device for link in box.source.live if link.device}  # a link has its name once its identity was read


async def test_two_boxes_in_one_hall_hear_each_beat_once_and_hand_a_strap_over(tmp_path, monkeypatch, capsys):
    straps = [strap(i, advertise_s=0.2, rssi={"hci0": -50 if i % 2 else -85, "hci1": -85 if i % 2 else -50}) for i in range(1, 5)]
    async with virtual_bluetooth(tmp_path / "bluez", room(*straps, adapters=2)) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        left, right = {"adapters": ["hci0"], "power": False}, {"adapters": ["hci1"]}
        async with box_of(tmp_path / "one", limits=QUICK, **left) as one, box_of(tmp_path / "two", limits=QUICK, **right) as two:
            await until(lambda: len(by_device(one)) + len(by_device(two)) == 4, what=lambda: one.words() + two.words())
            assert not by_device(one) & by_device(two)
            await until(lambda: all(link.packets > 1 for link in one.source.live + two.source.live))
            await until(lambda: all(device.state != "connecting" for box in (one, two) for device in box.source._plan.devices()))
            moving = by_device(one)
            await bluetooth.do("power", adapter="hci0", on=False)
            began = time.monotonic()
            await until(lambda: moving <= by_device(two), what=two.words)
            linked_s = time.monotonic() - began
            await until(lambda: moving <= {link.device for link in two.source.live if link.packets}, what=two.words)
            heard_s = time.monotonic() - began
            assert not one.source.live
        with capsys.disabled():
            print(f"\n{len(moving)} straps handed over: linked to the other box after {linked_s:.2f} s, all heard after {heard_s:.2f} s")
        heard = {device: one.stored.get(device, []) + two.stored.get(device, []) for device in {*one.stored, *two.stored}}
        for device, beats in sent(bluetooth).items():
            assert sorted(heard[device], key=str) == sorted(beats, key=str)
