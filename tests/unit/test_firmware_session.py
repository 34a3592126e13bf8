"""Samples become frames of the wire: numbered without a gap, closed in time, of whom they are; sensors of a bridge; Wi-Fi that goes and comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from ble.bridge import MAX_SENSORS, Bridge
from fakes.network import Air, Network
from hypothesis import given
from hypothesis import strategies as st
from kit import wifi as wifis
from kit.clock import NETWORK, Clock
from kit.layouts import beats_1, machine_1, motion_1, presence_1
from kit.session import Session
from kit.wifi import Wifi

from broker.frames import Frame, decode_frame
from broker.layouts import layout_named
from device_profiles.catalogue import catalogue
from device_profiles.engine import Pack
from device_profiles.packs import pack
from paceline.device.rules import rule_text

BOOT = 0x1234_5678_9ABC_DEF0
LAYOUTS = {"beats_1": beats_1, "machine_1": machine_1, "motion_1": motion_1}


class World:
    """A session whose frames are kept, on a clock moved by hand."""

    def __init__(self, *, keeps: bool = True, max_bytes: int = 512) -> None:
        self.us = 1_000_000
        self.clock = Clock(BOOT, lambda: self.us & ((1 << 30) - 1))
        self.frames: list[Frame] = []
        self.keeps = keeps
        self.session = Session(self.append, self.clock, "band", BOOT, "gym/ann", 1000, max_bytes)

    def append(self, raw: memoryview) -> bool:
        frame = decode_frame(bytes(raw))
        assert isinstance(frame, Frame), frame
        self.frames.append(frame)
        return self.keeps

    def beat(self, bpm: int, at_us: int) -> None:
        self.session.start(beats_1, at_us).put(beats_1.HR_BPM, bpm)


def values_of(frame: Frame) -> list[dict[str, float | None]]:
    layout = {1: "motion.1", 2: "beats.1", 3: "machine.1", 5: "presence.1"}[frame.layout]
    return layout_named(layout).unpack(frame.records)


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.sampled_from(["beat", "gate", "poll", "bind", "date"])), max_size=60))
def test_every_sample_is_in_a_frame_once_and_frames_are_numbered_without_a_gap(steps: list[tuple[int, str]]) -> None:
    world = World()
    told: list[int] = []
    for wait_us, what in steps:
        world.us += wait_us
        world.clock.monotonic_us()
        if what == "beat":
            told.append(60 + len(told) % 150)
            world.beat(told[-1], world.clock.monotonic_us())
        elif what == "gate":
            world.session.start(presence_1, world.clock.monotonic_us()).put(presence_1.EVENT, 2)
        elif what == "bind":
            world.session.bind("gym/bob" if wait_us & 1 else "gym/ann")
        elif what == "date":
            world.clock.set_utc(1_800_000_000_000_000 + world.us, NETWORK)
        else:
            world.session.poll(world.clock.monotonic_us())
    world.session.close()
    assert [frame.seq for frame in world.frames] == list(range(len(world.frames)))
    beats = [row["hr_bpm"] for frame in world.frames if frame.layout == 2 for row in values_of(frame)]
    assert beats == told
    for frame in world.frames:
        ticks = [row["tick_ms"] for row in values_of(frame)]
        assert ticks == sorted(ticks)  # pyright: ignore[reportArgumentType]
        assert (frame.utc_offset_us is None) == (frame.clock == 0)


def test_frame_closes_when_it_is_old_or_full_and_a_late_sample_counts_with_the_one_before() -> None:
    world = World(max_bytes=200)
    world.beat(100, 2_000_000)
    world.beat(101, 1_900_000)  # older than what the frame began with
    world.beat(102, 2_400_000)
    world.session.poll(2_900_000)
    assert not world.frames
    world.session.poll(3_000_000)
    assert [row["tick_ms"] for row in values_of(world.frames[0])] == [0, 0, 400]
    for i in range(40):
        world.beat(60 + i, 4_000_000 + 1000 * i)
    assert len(world.frames) > 1
    world.beat(99, 200_000_000)  # beyond the ticks of a frame
    world.session.close()
    assert values_of(world.frames[-1])[0]["tick_ms"] == 0


def test_frame_that_nobody_keeps_is_counted_and_its_number_is_gone() -> None:
    world = World(keeps=False)
    world.beat(100, 0)
    world.session.close()
    world.beat(101, 0)
    world.session.close()
    assert world.session.lost == 2
    assert [frame.seq for frame in world.frames] == [0, 1]


class Straps:
    """A bridge over the sessions of one node."""

    def __init__(self) -> None:
        self.world = World()
        self.sessions: dict[str, Session] = {}
        self.forgotten: list[str] = []
        profile = catalogue().named("heart_rate_measurement")
        assert profile is not None
        rules = {"heart_rate_measurement": rule_text(profile)}
        self.bridge = Bridge(self.world.clock, "bridge-1", self.session_of, self.forget, Pack(pack([profile])), rules, LAYOUTS)

    def session_of(self, device: str) -> Session:
        return self.sessions.setdefault(device, Session(self.world.append, self.world.clock, device, BOOT))

    def forget(self, session: Session) -> None:
        session.close()
        self.forgotten.append(session.device)
        del self.sessions[session.device]

    def hear(self, address: str, packet: str) -> None:
        from kit.ticks import ticks_add, ticks_ms

        just_now = ticks_add(ticks_ms(), 600_000)  # nothing is late, however slow this machine is
        self.bridge.take(address, "heart_rate_measurement", bytes.fromhex(packet), just_now)


def test_straps_of_a_bridge_are_devices_of_their_own() -> None:
    straps = Straps()
    straps.hear("c00000000001", "10500004cc02")
    straps.hear("c00000000002", "0064")
    straps.bridge.lost("c00000000001")
    (frame,) = straps.world.frames
    assert frame.device == "bridge-1.c00000000001"
    assert frame.self_numbered
    assert [(row["rr_ms"], row["hr_bpm"]) for row in values_of(frame)] == [(1000, 80), (699, 80)]
    assert straps.bridge.samples == 3


def test_bridge_holds_so_many_straps_and_ends_the_one_heard_longest_ago() -> None:
    straps = Straps()
    for n in range(MAX_SENSORS):
        straps.world.us += 1000
        straps.hear(f"c0000000000{n}", "0064")
    straps.world.us += 1000
    straps.hear("c00000000000", "0065")
    straps.hear("d00000000000", "0066")
    assert straps.forgotten == ["bridge-1.c00000000001"]
    assert len(straps.sessions) == MAX_SENSORS


def test_ids_of_a_long_node_are_ids() -> None:
    straps = Straps()
    bridge = Bridge(straps.world.clock, "a" * 32, straps.session_of, straps.forget, None, {}, LAYOUTS)
    assert len(bridge.id_of("c00000000001")) == 32


@pytest.mark.parametrize(
    ("ssid", "password", "why"),
    [
        ("Hall", "long enough", ""),
        ("Hall", "wrong password", "does not take this password"),
        ("Attic", "", "is not heard here"),
        ("open", "", ""),
    ],
)
async def test_wifi_connects_or_says_why_not(ssid: str, password: str, why: str) -> None:
    said = await Wifi(Network(Air({"Hall": "long enough", "open": ""}))).connect(ssid, password)
    assert why in said
    assert bool(said) == bool(why)


async def test_wifi_that_is_tried_is_not_that_which_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wifis, "STEP_S", 0.001)
    air = Air({"Hall": "long enough", "Attic": "long enough"})
    wifi = Wifi(Network(air))
    keeping = asyncio.create_task(wifi.keep("Hall", "long enough"))

    async def is_linked_to(ssid: str) -> None:
        async with asyncio.timeout(60):
            while not (wifi.station.isconnected() and wifi.station.ssid == ssid):
                await asyncio.sleep(0.001)

    async def use(connect: Callable[[str, str], Awaitable[str]]) -> str:
        air.steps_to_connect = 50  # long enough for the keeper to see that its own link went
        assert await connect("Attic", "long enough") == ""
        assert wifi.station.ssid == "Attic"  # not the old one, in whose name a wrong password would be kept
        air.steps_to_connect = 3
        return "tried"

    await is_linked_to("Hall")
    assert await wifi.lend(use) == "tried"
    await is_linked_to("Hall")
    assert wifi.breaks == 0
    keeping.cancel()


async def test_wifi_that_is_cut_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wifis, "STEP_S", 0.001)
    monkeypatch.setattr(wifis, "FIRST_WAIT_S", 0.001)
    air = Air({"Hall": "long enough"})
    wifi, troubles = Wifi(Network(air)), []
    keeping = asyncio.create_task(wifi.keep("Hall", "long enough", troubles.append))

    async def becomes(connected: bool) -> None:
        async with asyncio.timeout(60):
            while wifi.station.isconnected() is not connected:
                await asyncio.sleep(0.001)

    await becomes(True)
    for n in range(1, 4):
        air.cut("Hall")
        async with asyncio.timeout(60):
            while len(troubles) < n:
                await asyncio.sleep(0.001)
        air.back("Hall")
        await becomes(True)
    keeping.cancel()
    assert wifi.breaks >= 3
    assert "not heard here" in troubles[0]
