"""Bluetooth of the kit against a room of sensors at the level of the radio's events: all are heard, whatever goes wrong, and nothing grows."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ble.advert import MAX_BYTES, advert, name_of, services_of
from ble.budget import check
from ble.central import MAX_EVENTS, MAX_NEAR, PROCEDURE_MS, SILENT_MS, Central, uuid_number
from ble.heart_rate_server import HeartRateServer, measurement
from ble.walk import Walk
from fakes.bluetooth import BLE, UUID, Peripheral, Room, number_of
from hypothesis import given
from hypothesis import strategies as st

import device_profiles.engine
from device_profiles.catalogue import catalogue
from device_profiles.packs import micropython_source
from paceline.device.board import load_board
from paceline.device.rules import rules_module
from tests.firmware import KIT, LANES, run

NAMES = ("heart_rate_measurement", "csc_measurement", "cycling_power_measurement", "rsc_measurement", "treadmill_data", "indoor_bike_data")
PROFILES = [profile for name in NAMES if (profile := catalogue().named(name)) is not None]
SPACE: dict[str, dict[int, tuple[tuple[int, str], ...]]] = {}
exec(rules_module(PROFILES), SPACE)
SERVICES = SPACE["SERVICES"]
STEP_MS = 20


def strap(n: int, **more: object) -> Peripheral:
    def packets(index: int) -> bytes:
        return bytes((0, 60 + (n + index) % 100))

    return Peripheral(f"c0000000{n:04x}", f"strap {n}", {0x180D: ((0x2A37, packets), (0x2A38, packets))}, **more)


class World:
    """A central in a room, stepped by hand."""

    def __init__(self, *sensors: Peripheral, max_links: int = 3, allow: tuple[str, ...] = ()) -> None:
        self.room = Room()
        for sensor in sensors:
            self.room.add(sensor)
        self.radio = BLE(self.room)
        self.heard: list[tuple[str, str, bytes]] = []
        self.lost: list[str] = []
        self.central = Central(
            self.radio,
            SERVICES,
            lambda address, profile, payload, at_ms: self.heard.append((address, profile, payload)),
            number_of,
            max_links=max_links,
            allow=allow,
            on_lost=self.lost.append,
        )
        self.radio.active(True)
        self.radio.irq(self.central._irq)
        self.now_ms = 0

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now_ms + round(seconds * 1000)
        while self.now_ms < end and not until():
            self.now_ms += STEP_MS
            self.room.step(self.now_ms)
            self.central.step(self.now_ms)

    def of(self, sensor: Peripheral) -> list[bytes]:
        return [payload for address, _, payload in self.heard if address == sensor.address.hex()]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time of the central is the world's: adverts are dated by the last step."""
    monkeypatch.setattr("ble.central.ticks_ms", lambda: World_now[0])
    monkeypatch.setattr("ble.central.ticks_diff", lambda later, earlier: later - earlier)


World_now = [0]


def test_sensors_of_five_services_are_all_heard_by_their_profile() -> None:
    sensors = []
    for n, profile in enumerate(PROFILES[:5]):
        packets = [packet for golden in profile.golden for packet in golden.packets]
        service = int(profile.service[4:8], 16)
        sensors.append(
            Peripheral(
                f"c000000000{n:02x}",
                profile.name,
                {service: ((int(profile.key[4:8], 16), lambda i, p=packets: p[i] if i < len(p) else None),)},
            )
        )
    world = stepped(World(*sensors, max_links=4))
    world.run(300, lambda: len({address for address, _, _ in world.heard}) == 4)
    world.run(20)
    for sensor, profile in zip(sensors, PROFILES, strict=False):
        if heard := world.of(sensor):
            packets = [packet for golden in profile.golden for packet in golden.packets]
            assert heard == packets[: len(heard)]
            assert {name for address, name, _ in world.heard if address == sensor.address.hex()} == {profile.name}
    assert len({address for address, _, _ in world.heard}) >= 4


def stepped(world: World) -> World:
    """Its steps move the central's clock."""
    run = world.room.step

    def step(now_ms: int) -> None:
        World_now[0] = now_ms
        run(now_ms)

    world.room.step = step
    World_now[0] = 0
    return world


def test_as_many_as_may_are_connected_the_strongest_first_and_scanning_ends() -> None:
    sensors = [strap(n, rssi_dbm=-90 + n) for n in range(6)]
    world = stepped(World(*sensors, max_links=2))
    world.run(20, lambda: len(world.central.links) == 2)
    world.run(5)
    assert {link.near.address for link in world.central.links.values()} <= {sensor.address.hex() for sensor in sensors}
    assert len(world.central.links) == 2
    assert not world.radio._scanning
    states = {address: state for address, _, state, _ in world.central.states}
    assert sorted(states.values()) == ["live", "live", "near", "near", "near", "near"]


def test_only_allowed_addresses_are_connected() -> None:
    mine, other = strap(1), strap(2)
    world = stepped(World(mine, other, allow=(mine.address.hex(),)))
    world.run(10)
    assert world.of(mine)
    assert not world.of(other)


def test_lost_link_comes_back_and_is_told() -> None:
    sensor = strap(1, period_ms=250)
    sensor.drop_after = 20
    world = stepped(World(sensor))
    world.run(60)
    assert len(world.lost) >= 3
    assert world.central.breaks == len(world.lost)
    assert world.of(sensor) == [bytes((0, 60 + (1 + i) % 100)) for turn in range(20) for i in range(20)][: len(world.of(sensor))]
    assert len(world.of(sensor)) > 60


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("takes_connects", "does not take the connection"),
        ("refuses", "does not take the connection"),
        ("mute_service", "discovery does not end"),
    ],
)
def test_sensor_that_fails_waits_longer_each_time_and_others_are_heard(fault: str, why: str) -> None:
    bad, good = strap(1, rssi_dbm=-30), strap(2)
    setattr(bad, fault, fault != "takes_connects")
    world = stepped(World(bad, good, max_links=1))
    world.run(120)
    assert world.of(good)
    reasons = {address: reason for address, _, _, reason in world.central.states}
    assert reasons[bad.address.hex()] == why
    setattr(bad, fault, fault == "takes_connects")
    world.room.peripherals.remove(good)
    world.radio.lose(next(iter(world.central.links)))
    world.run(200)
    assert world.of(bad)


def test_silent_link_is_broken_off() -> None:
    sensor = strap(1)
    world = stepped(World(sensor))
    world.run(5)
    sensor.silent = True
    world.run(SILENT_MS / 1000 + 5, lambda: bool(world.lost))
    assert world.lost == [sensor.address.hex()]


def test_sensor_without_a_known_characteristic_is_left() -> None:
    sensor = Peripheral("c00000000001", "odd", {0x180D: ((0x2A99, lambda i: b"\0"),)})
    world = stepped(World(sensor))
    world.run(5)
    assert [reason for _, _, _, reason in world.central.states] == ["no characteristic of it is known here"]
    assert not world.heard


def test_connection_that_comes_after_it_was_given_up_is_closed() -> None:
    sensor = strap(1)
    sensor.takes_connects = False
    world = stepped(World(sensor))
    world.run(3)
    assert world.central._connecting is not None
    world.central._connecting = None
    sensor.takes_connects = True
    world.room.step(world.now_ms)
    world.run(20, lambda: bool(world.of(sensor)))
    assert world.of(sensor)
    assert len(world.radio.links) == 1


def test_flood_of_packets_and_adverts_grows_nothing() -> None:
    world = stepped(World(strap(1)))
    world.run(5)
    handle = next(iter(world.central.links))
    for _ in range(3 * MAX_EVENTS):
        world.radio._tell(18, (handle, 3, b"\0\x50"))
    assert len(world.central._packets) == MAX_EVENTS
    assert world.central.dropped == 2 * MAX_EVENTS
    for n in range(500):
        world.radio._tell(5, (0, n.to_bytes(6, "big"), 0, -80, advert((0x180D,), "x")))
        if n % 10 == 0:
            world.central.step(world.now_ms)
    assert len(world.central.near) <= MAX_NEAR


@given(st.randoms(use_true_random=False))
def test_whatever_goes_wrong_everything_is_heard_again(dice: random.Random) -> None:
    sensors = [strap(n, rssi_dbm=-50 - n) for n in range(3)]
    world = stepped(World(*sensors))
    for _ in range(25):
        sensor = dice.choice(sensors)
        for fault in ("refuses", "mute_service", "silent"):
            setattr(sensor, fault, dice.random() < 0.2)
        sensor.takes_connects = dice.random() < 0.8
        if world.radio.links and dice.random() < 0.3:
            world.radio.lose(dice.choice(list(world.radio.links)))
        world.run(dice.choice((0.5, 3, 15)))
        assert len(world.central.links) <= 3
    for sensor in sensors:
        sensor.refuses = sensor.mute_service = sensor.silent = False
        sensor.takes_connects = True
    world.heard.clear()
    world.run(200, lambda: len({address for address, _, _ in world.heard}) == 3)
    assert len({address for address, _, _ in world.heard}) == 3


@given(st.binary(max_size=62))
def test_no_advert_raises(data: bytes) -> None:
    assert all(0 <= uuid < 65536 for uuid in services_of(data))
    assert name_of(data).isprintable()


@given(
    st.lists(st.tuples(st.sampled_from([9, 10, 11, 12, 13, 14, 17]), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), max_size=60)
)
def test_no_order_of_events_breaks_the_walk(events: list[tuple[int, int, int, int]]) -> None:
    walk = Walk({0x180D: ((0x2A37, "heart_rate_measurement"),)})
    calls = [walk.next()]
    for event, a, b, status in events:
        data = {9: (a, b, 0x180D), 11: (b, a, 0x10, 0x2A37), 13: (a, 0x2902)}.get(event, (a, status) if event == 17 else (status,))
        if walk.take(event, data):
            calls.append(walk.next())
    assert walk.live == bool(walk.live and walk.sources)
    assert len(calls) <= len(events) + 1


def test_advert_says_services_and_name_and_fits() -> None:
    data = advert((0x180D,), "band-7", 832)
    assert (services_of(data), name_of(data)) == ([0x180D], "band-7")
    assert len(data) <= MAX_BYTES
    with pytest.raises(ValueError, match="shorter name"):
        advert((0x180D,), "a name of more than it holds")


@given(st.integers(0, 400), st.lists(st.integers(300, 2500), max_size=12), st.booleans())
def test_server_says_what_the_profile_of_a_strap_reads(hr_bpm: int, intervals_ms: list[int], contact: bool) -> None:
    packet = measurement(hr_bpm, tuple(intervals_ms), contact)
    assert len(packet) <= 20
    profile = catalogue().named("heart_rate_measurement")
    assert profile is not None
    fields, trouble = profile.decoder.decode(packet)
    assert not trouble
    if contact:
        assert fields["hr_bpm"] == hr_bpm
        read = fields.get("rr_s", [])
        assert all(abs(1000 * a - b) <= 0.5 for a, b in zip(read, intervals_ms[-8:], strict=True))
    else:
        assert "hr_bpm" not in fields


def test_server_tells_all_links_and_advertises_while_there_is_room() -> None:
    radio = BLE(Room())
    server = HeartRateServer(radio, UUID, "band-7", max_links=2)
    server.start()
    assert services_of(radio.advertised) == [0x180D]
    assert server.tell(140) == 0
    radio.come(1)
    assert radio.advertised
    radio.come(2)
    assert radio.advertised is None
    assert server.tell(140, (430,)) == 2
    assert server.tell(None) == 0
    del radio.links[2]  # gone without a word
    assert server.tell(141) == 1
    radio.come(2)
    radio.go(1)
    assert radio.advertised
    assert [link for link, _, _ in radio.notified] == [1, 2, 1]


def test_uuids_of_the_real_module_are_buffers() -> None:
    assert uuid_number(b"\x37\x2a") == 0x2A37
    assert uuid_number(bytes(16)) is None


def test_what_does_not_fit_is_said_with_figures() -> None:
    memory = load_board("esp32").memory.model_dump()
    assert check(memory, 64_000, tls=True, ble=True) == []
    assert "200000 bytes are wanted, 134000 are free" in check(memory, 200_000, tls=False, ble=False)[0]
    assert "TLS and Bluetooth want 74000 bytes, 60000 are free" in check(memory, 1, tls=True, ble=True, free_radio_bytes=60_000)[0]
    assert "in one piece" in check(memory, 1, tls=True, ble=False, largest_block_bytes=9_000)[0]
    assert PROCEDURE_MS < SILENT_MS


def test_both_lanes_hear_and_read_the_same(tmp_path: Path) -> None:
    """Keys, requests and the set-up too: one script on a device's heap of 128 K words and on CPython."""
    shutil.copy(KIT.parents[1] / "tests" / "lanes" / "edge.py", tmp_path)
    shutil.copy(device_profiles.engine.__file__, tmp_path / "engine.py")
    (tmp_path / "profile_pack.py").write_text(micropython_source(PROFILES))
    (tmp_path / "sensor_rules.py").write_text(rules_module(PROFILES))
    lines = [f"{profile.name} {packet.hex()}" for profile in PROFILES for golden in profile.golden for packet in golden.packets]
    said = [run(lane, tmp_path / "edge.py", stdin="\n".join(lines).encode()) for lane in LANES]
    assert said[0] == said[1]
    heard = {line.split()[0]: int(line.split()[1]) for line in said[0].splitlines() if line.split()[0] in NAMES}
    assert set(heard) == set(NAMES)
    assert all(count > 3 for count in heard.values())
