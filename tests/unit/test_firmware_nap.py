"""Deep sleep of the bike sensor on a board that is not there: over many sleeps no turn of the wheel and no sample is lost, whatever ends them."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes import machine
from fakes.esp32 import Chip, Esp32
from fakes.flash import Nor
from fakes.network import Air, Network
from kit import nap
from kit.boots import Boots
from kit.config import Kept
from kit.device import Port
from kit.ring import Cursor, Ring

from broker.frames import Frame, decode_frame
from broker.layouts import layout_named
from paceline.device.board import board_module, load_board, load_example

SET_UP = {"node": "bike", "tenant": "gym", "host": "127.0.0.1", "port": 1, "password": "x", "tls": False, "wifi_ssid": "none"}
WHEEL_MM = 2105
PATIENCE_S = 60


class Bike:
    """A bike with its board; `turns` of its wheel, those that happen while the board sleeps too."""

    def __init__(self, folder: Path, application: ModuleType) -> None:
        Kept(str(folder / "config")).save(SET_UP)
        self.folder = folder
        self.application = application
        self.esp32 = Esp32(Chip(Nor(8, 4096), [(1, 0x40, 0, 8, "ring")]))
        self.turns = 0
        self.stops_at_the_magnet = False
        machine.reset()
        machine.power_on()

    def turn(self) -> None:
        pin = machine.Pin(25)
        pin.drive(1)
        pin.drive(0)
        pin.drive(int(not self.stops_at_the_magnet))
        self.turns += 1

    def start(self) -> Any:
        port = Port(machine, Network(Air({})), self.esp32, folder=str(self.folder), time_hosts=())
        return self.application.make(port)

    def awake(self, turns: int = 0, *, rides: int = 0) -> Any:
        """One start, until it sleeps by itself. So many turns come before its first sample, and `rides` while it measures, if it is awake for so long."""
        device = self.start()
        for _ in range(turns):
            time.sleep(0.02)  # longer than a contact bounces
            self.turn()

        async def life() -> None:
            living = asyncio.create_task(device.main())
            for _ in range(rides):
                await asyncio.sleep(0.02)
                self.turn()
            await asyncio.wait_for(living, PATIENCE_S)

        with pytest.raises(SystemExit) as ended:
            asyncio.run(life())
        assert ended.value.code == machine.ASLEEP
        return device

    def woken_by_a_turn(self) -> None:
        self.turns += 1
        machine.wake(machine.EXT0_WAKE)

    def frames(self) -> list[Frame]:
        """All that is in the ring, oldest first."""
        ring = Ring(self.esp32.Partition("ring"), lambda: 1)
        cursor, buf = Cursor(), memoryview(bytearray(2048))
        ring.oldest(cursor)
        found: list[Frame] = []
        while ring.seek(cursor):
            frame = decode_frame(bytes(buf[: ring.read(cursor, buf, 0)]))
            assert isinstance(frame, Frame)
            found.append(frame)
        return found

    def distances_m(self) -> dict[int, list[float]]:
        """Those of the samples, by boot, in order."""
        motion = layout_named("motion.1")
        found: dict[int, list[float]] = {}
        for frame in self.frames():
            if frame.layout == motion.id:
                found.setdefault(frame.boot, []).extend(float(row["distance_m"]) for row in motion.unpack(frame.records))
        return found


@pytest.fixture
def bike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bike]:
    example = load_example("bike_sensor")
    board = ModuleType("board")
    exec(board_module(load_board("sim"), example, 1), board.__dict__)
    board.SETTINGS.update(still_ms=400, period_ms=60, nap_ms=5000)
    keys = ModuleType("update_keys")
    keys.__dict__["KEYS"] = ()
    for module in (board, keys):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "devices.bike_sensor", raising=False)
    application = importlib.import_module("devices.bike_sensor")
    monkeypatch.setattr(application, "_LOOK_MS", 200)
    yield Bike(tmp_path, application)
    sys.modules.pop("devices.bike_sensor", None)
    machine.reset()
    machine.power_on()


def test_no_turn_and_no_sample_is_lost_over_ten_sleeps(bike: Bike) -> None:
    """The far end is out of reach all the while: everything is in the ring in the end, the turns that woke the board too."""
    until: list[int] = []
    for _ in range(10):
        bike.awake(rides=7)
        until.append(bike.turns)
        bike.woken_by_a_turn()
    frames = bike.frames()
    for boot in {frame.boot for frame in frames}:
        numbers = [frame.seq for frame in frames if frame.boot == boot]
        assert numbers == list(range(len(numbers)))
    assert [distances[-1] for distances in bike.distances_m().values()] == pytest.approx([n * WHEEL_MM / 1000 for n in until], abs=0.01)
    first_after = [distances[0] for distances in bike.distances_m().values()]
    assert first_after[1:] == pytest.approx([(n + 1) * WHEEL_MM / 1000 for n in until[:-1]], abs=0.01)
    assert all(distances == sorted(distances) for distances in bike.distances_m().values())


def test_sleep_is_no_start_that_failed_and_is_told_in_health(bike: Bike) -> None:
    for _ in range(8):  # more than lead to safe mode
        device = bike.awake()
        bike.woken_by_a_turn()
    assert not device.boots.safe
    assert Boots(Kept(str(bike.folder / "boots"))).failed == 1  # that of the power
    health = layout_named("health.1")
    causes = [health.unpack(frame.records)[0]["reset_cause"] for frame in bike.frames() if frame.layout == health.id]
    assert set(causes[1:]) == {5}


def test_board_that_only_looked_around_sleeps_again_soon_and_counts_no_turn(bike: Bike) -> None:
    bike.awake(3)
    assert machine.state["sleeps_ms"] == 5000
    assert bike.esp32.wake_level == bike.esp32.WAKEUP_ALL_LOW
    machine.wake(machine.TIMER_WAKE)
    bike.application.board.SETTINGS["still_ms"] = 3_600_000  # it does not wait for that now
    bike.awake()
    assert list(bike.distances_m().values())[-1][-1] == pytest.approx(3 * WHEEL_MM / 1000, abs=0.01)


def test_wheel_that_stands_with_its_magnet_at_the_contact_wakes_when_it_leaves(bike: Bike) -> None:
    bike.stops_at_the_magnet = True
    bike.awake(2)
    assert bike.esp32.wake_level == bike.esp32.WAKEUP_ANY_HIGH
    machine.Pin(25).drive(1)
    machine.wake(machine.EXT0_WAKE)
    bike.stops_at_the_magnet = False
    bike.awake(4)
    assert list(bike.distances_m().values())[-1][-1] == pytest.approx(6 * WHEEL_MM / 1000, abs=0.01)


def test_turn_at_the_last_moment_keeps_it_awake(bike: Bike, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what is remembered and the sleep: the sleep does not come, and the turn is in a sample."""
    remembered: list[bytes] = []
    kept = bike.application.Odometer.kept

    def late(odometer: Any, level: int) -> bytes:
        data = kept(odometer, level)
        remembered.append(data)
        if len(remembered) == 1:
            time.sleep(0.02)
            bike.turn()
        return data

    monkeypatch.setattr(bike.application.Odometer, "kept", late)
    bike.awake(2)
    assert len(remembered) == 2
    assert list(bike.distances_m().values())[-1][-1] == pytest.approx(3 * WHEEL_MM / 1000, abs=0.01)


@pytest.mark.parametrize("memory", [b"", b"PLO1", b"XXXX\x05\x00\x00\x00\x01", bytes(9)])
def test_memory_of_somebody_else_is_none_of_ours(bike: Bike, memory: bytes) -> None:
    machine.state["memory"] = memory
    machine.wake(machine.EXT0_WAKE)
    bike.awake(2)
    assert list(bike.distances_m().values())[-1][-1] == pytest.approx(2 * WHEEL_MM / 1000, abs=0.01)


def test_reset_after_a_sleep_does_not_count_what_the_chip_still_holds(bike: Bike) -> None:
    bike.awake(5)
    machine.state["cause"] = machine.WDT_RESET
    bike.turns = 0
    bike.awake(2)
    assert list(bike.distances_m().values())[-1][-1] == pytest.approx(2 * WHEEL_MM / 1000, abs=0.01)
    assert nap.recalled(machine) == b""


def test_image_on_trial_does_not_sleep(bike: Bike) -> None:
    """Each start of a trial counts; it must reach the far end first."""
    device = bike.start()

    class OnTrial:
        on_trial = True

    device.updater = OnTrial()
    assert not asyncio.run(nap.sleep(device, 5000, machine.Pin(25), lambda level: b"", lambda: False))
    assert machine.state["sleeps_ms"] is None
