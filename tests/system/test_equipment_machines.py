"""A box commands virtual machines: a trainer and a treadmill over unmodified bleak and a private D-Bus, a trainer over a virtual ANT stick.

The gateway is its own process, the broker a real mosquitto. What is asserted of a machine is what somebody beside it would see.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simulators.ant_machines import Trainer
from simulators.ant_pty import PtyStick
from simulators.ant_stick import VirtualStick
from simulators.bluez.process import VirtualBluetooth, virtual_bluetooth
from tests.ant_world import KEY
from tests.servers import ServedBroker, start_mosquitto
from tests.system.coach import USER, Coach, seen
from tests.system.gateway_process import BOX, GatewayProcess
from tests.virtual_room import room

pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy
BIKE, MILL = "C0:00:00:00:0B:1C", "C0:00:00:00:00:71"
BIKE_ID, MILL_ID = "ble-c00000000b1c", "ble-c00000000071"
ANT_ID = "ant-17-4711"
BOUND = {BIKE_ID.replace("-", "_"): "ann", MILL_ID.replace("-", "_"): "ann", ANT_ID.replace("-", "_"): "ann"}


class Machines:
    """The room, the box and the coach of one test."""

    def __init__(self, bluetooth: VirtualBluetooth, central: ServedBroker, box: GatewayProcess, coach: Coach) -> None:
        self.bluetooth, self.central, self.box, self.coach = bluetooth, central, box, coach

    async def act(self, machine: str, name: str, value: float = 1.0) -> None:
        await self.bluetooth.do("act", device=machine, name=name, value=value)

    async def see(self, machine: str, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        async def look() -> dict[str, float]:
            return (await self.bluetooth.do("look", device=machine))["state"]

        return await seen(look, holds)

    async def noticed(self, device: str, event: str, reason: str) -> None:
        await self.coach.until(lambda: (event, reason) in self.coach.notices(device), f"{event} {reason} of {device}")


@asynccontextmanager
async def machines(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: object) -> AsyncIterator[Machines]:
    sensors = [
        {"kind": "trainer", "address": BIKE, "name": "Bike 1", "seed": 1},
        {"kind": "treadmill", "address": MILL, "name": "Mill 1", "seed": 2},
    ]
    async with (
        virtual_bluetooth(folder / "room", room(*sensors)) as bluetooth,
        start_mosquitto(folder / "central", users=(BOX, USER)) as central,
        Coach(central) as coach,
    ):
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        equipment = {"platform_loss_s": 2, "limits": {"max_power_w": 400}, **settings}
        box = GatewayProcess(folder, central, ble={"enabled": True}, equipment=equipment)
        await coach.bind(**BOUND)
        box.start()
        try:
            yield Machines(bluetooth, central, box, coach)
        finally:
            await box.end()


async def test_erg_session_on_a_trainer_from_the_first_target_to_lost_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machines(tmp_path, monkeypatch) as hall:
        coach = hall.coach
        assert await coach.first(BIKE_ID, "target_power_w", 120) == ("done", "")
        await hall.see(BIKE, lambda s: s["controlled"] == 1 and abs(s["power_w"] - 120) < 3)
        for target_w in (180, 240, 90):
            assert await coach.do(BIKE_ID, "target_power_w", target_w) == ("done", "")
            await hall.see(BIKE, lambda s, w=target_w: abs(s["power_w"] - w) < 3)
        assert await coach.do(BIKE_ID, "simulation", grade_pct=4.5) == ("done", "")
        await hall.see(BIKE, lambda s: s["grade_pct"] == 4.5 and s["target_w"] == -1)

        # limits: the machine's, the gym's, and what the machine has not at all
        assert await coach.do(BIKE_ID, "resistance", 150) == ("refused", "limit")
        assert await coach.do(BIKE_ID, "target_power_w", 401) == ("refused", "limit")
        assert await coach.do(BIKE_ID, "speed_mps", 2) == ("refused", "not_supported")
        assert await coach.answer(await coach.send(BIKE_ID, "target_power_w", 100, athlete="ben")) == ("refused", "not_bound")
        assert await coach.do("ble-000000000001", "start") == ("refused", "not_bound")

        # the machine fails an order, does not answer one, and takes the same one in the end
        await hall.act(BIKE, "refuse", 5)
        assert await coach.do(BIKE_ID, "target_power_w", 200) == ("refused", "failed")
        await hall.act(BIKE, "refuse", -1)
        await hall.act(BIKE, "mute", 1)
        assert await coach.do(BIKE_ID, "target_power_w", 200) == ("done", "")

        # control is taken back, refused, and given again
        await hall.act(BIKE, "lose_control")
        await hall.noticed(BIKE_ID, "control_lost", "")
        await hall.act(BIKE, "deny", 1)
        assert await coach.do(BIKE_ID, "target_power_w", 210) == ("refused", "no_control")
        assert await coach.do(BIKE_ID, "target_power_w", 220) == ("done", "")
        await hall.see(BIKE, lambda s: s["target_w"] == 220)

        # the same command again is answered, not carried out
        before = list(coach.sent)[-1]
        assert await coach.do(BIKE_ID, "target_power_w", 130) == ("done", "")
        await coach.again(before)
        await coach.until(lambda: coach.finals(before) == [("done", "")] * 2, "the answer once more")
        await hall.see(BIKE, lambda s: s["target_w"] == 130)

        assert await coach.do(BIKE_ID, "stop") == ("done", "")
        await hall.see(BIKE, lambda s: s["running"] == 0)
        assert all(len(set(coach.finals(ident))) == 1 for ident in coach.sent)


async def test_belt_is_stopped_whatever_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with machines(tmp_path, monkeypatch) as hall:
        coach = hall.coach

        async def running() -> None:
            assert await coach.first(MILL_ID, "start") == ("done", "")
            assert await coach.do(MILL_ID, "speed_mps", 2.5) == ("done", "")
            await hall.see(MILL, lambda s: s["running"] == 1 and s["target_kmh"] == 9 and s["speed_kmh"] > 0.5)

        await running()
        assert await coach.do(MILL_ID, "incline_pct", 3) == ("done", "")
        await hall.see(MILL, lambda s: s["target_incline_pct"] == 3)

        # somebody on the belt presses stop: nothing moves it before a start
        await hall.act(MILL, "user_stop")
        await hall.noticed(MILL_ID, "halted", "user")
        assert await coach.do(MILL_ID, "speed_mps", 2) == ("refused", "halted")
        await hall.see(MILL, lambda s: s["running"] == 0)

        # the platform is out of reach
        await running()
        await hall.central.kill()
        await hall.see(MILL, lambda s: s["running"] == 0)
        await hall.central.start()
        await hall.noticed(MILL_ID, "stopped", "platform_lost")

        # the athlete leaves
        await running()
        await coach.bind(**{BIKE_ID.replace("-", "_"): "ann"})
        await hall.see(MILL, lambda s: s["running"] == 0)
        await hall.noticed(MILL_ID, "stopped", "binding_ended")
        assert await coach.do(MILL_ID, "start") == ("refused", "not_bound")
        await coach.bind(**BOUND)

        # the radio link breaks: the stop is owed, and goes first when the link is back
        await running()
        await hall.bluetooth.do("drop", device=MILL)
        await hall.noticed(MILL_ID, "stop_owed", "link_lost")
        await hall.see(MILL, lambda s: s["running"] == 0)
        await hall.noticed(MILL_ID, "stopped", "link_lost")

        # the box ends
        await running()
        assert await hall.box.end(signal.SIGTERM) == 0, hall.box.log()
        await hall.see(MILL, lambda s: s["running"] == 0)


async def test_kill_9_of_the_box_stops_the_belt_and_carries_nothing_out_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = ("equipment.before_write:2", "equipment.after_write:2", "equipment.done:1")  # the first write asks for control
    async with machines(tmp_path, monkeypatch) as hall:
        coach = hall.coach
        for point in points:
            assert await coach.first(MILL_ID, "start") == ("done", "")
            await hall.box.end(signal.SIGTERM)
            hall.box.start(kill_at=point)
            started = await _started(coach)
            assert await hall.box.ended() == -signal.SIGKILL
            before = await hall.see(MILL, lambda s: True)
            assert before["running"] == (0 if point == points[0] else 1), point
            hall.box.start()
            await coach.again(started)
            lost = point != points[-1]
            assert await coach.answer(started) == (("lost", "box_restarted") if lost else ("done", "")), point
            await hall.see(MILL, lambda s: s["running"] == 0)
            await hall.noticed(MILL_ID, "stopped", "box_restarted")
            asked = len(coach.finals(started))
            await coach.again(started)
            await coach.until(lambda n=asked, i=started: len(coach.finals(i)) > n, "the answer once more")
            assert len(set(coach.finals(started))) == 1
            assert (await hall.see(MILL, lambda s: True))["running"] == 0
            coach.said.clear()


async def _started(coach: Coach) -> str:
    """A start that the box did not refuse: the first ones may come before it found the machine."""
    while True:
        ident = await coach.send(MILL_ID, "start")
        again = 0
        while not coach.heard(ident) and again < 600:
            again += 1
            await asyncio.sleep(0.1)
            if again % 20 == 0:
                await coach.again(ident)
        if not coach.finals(ident) or coach.finals(ident)[0][0] == "done":
            return ident


async def test_trainer_on_an_ant_stick_holds_its_targets_and_is_released(tmp_path: Path) -> None:
    trainer = Trainer(4711)
    link = tmp_path / "stick"
    stick = PtyStick(VirtualStick([trainer], KEY), link)
    living = asyncio.create_task(stick.run())
    try:
        async with start_mosquitto(tmp_path / "central", users=(BOX, USER)) as central, Coach(central) as coach:
            box = GatewayProcess(tmp_path, central, ant={"enabled": True, "key": KEY.hex(), "sticks": [str(link)]})
            await coach.bind(**BOUND)
            box.start()
            try:
                await _ride(coach, trainer)
                assert await box.end() == 0, box.log()
                assert trainer.resistance_pct == 0
            finally:
                await box.end()
    finally:
        living.cancel()
        await asyncio.wait({living})
    assert os.path.lexists(link) is False


async def _ride(coach: Coach, trainer: Trainer) -> None:
    assert await coach.first(ANT_ID, "target_power_w", 150) == ("done", "")
    await coach.until(lambda: trainer.target_w == 150 and abs(trainer.power_w - 150) < 3, "150 W")
    assert await coach.do(ANT_ID, "simulation", grade_pct=3) == ("done", "")
    await coach.until(lambda: trainer.grade_pct == pytest.approx(3), "3 %")
    assert await coach.do(ANT_ID, "speed_mps", 2) == ("refused", "not_supported")
    assert await coach.do(ANT_ID, "target_power_w", 2500) == ("refused", "limit")
    assert await coach.do(ANT_ID, "stop") == ("done", "")
    await coach.until(lambda: trainer.resistance_pct == 0, "no load")
    trainer.capabilities = 0b001
    assert await coach.do(ANT_ID, "target_power_w", 100) == ("refused", "not_supported")
    trainer.capabilities = 0b111
    assert await coach.do(ANT_ID, "target_power_w", 100) == ("done", "")


async def test_box_that_cannot_remember_commands_refuses_them_and_takes_samples_all_the_same(tmp_path: Path) -> None:
    async with start_mosquitto(tmp_path / "central", users=(BOX, USER)) as central, Coach(central) as coach:
        box = GatewayProcess(tmp_path, central)
        (box.data_dir / "equipment.db").mkdir(parents=True)
        box.start()
        try:
            assert await coach.do(MILL_ID, "start") == ("refused", "not_stored")
            assert "no machine can be commanded" in box.log()
        finally:
            await box.end()
