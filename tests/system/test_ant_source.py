"""The ANT+ source with real transports: a pty and pyusb with a virtual bus behind it, sticks that are pulled out, silent or busy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import pytest
import usb.backend.libusb1

from broker.errors import ConfigError
from broker.liveness import unwatched
from gateway.ant_serial import SerialStick
from gateway.ant_source import AntSource
from gateway.ant_survey import survey
from gateway.ant_transport import open_stick
from gateway.ant_usb import UsbStick
from gateway.clock import Instant
from gateway.controllable import Controllable
from gateway.intake import read_clock
from gateway.settings import AntSettings
from gateway.sightings import Sightings
from simulators.ant_machines import Trainer
from simulators.ant_pty import PtyStick
from simulators.ant_room import room
from simulators.ant_stick import StickFaults, StickModel, VirtualStick
from simulators.ant_usb import VirtualUsb
from tests.ant_world import KEY
from tests.servers import PROJECT
from tests.unit.test_ant_devices import Heard

LIMIT_S = 60.0


async def until(what: Callable[[], object], said: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline, f"not reached: {said()}"
        await asyncio.sleep(0.02)


class Box:
    """A source as the gateway wires it, with what it heard."""

    def __init__(self, *sticks: str, scan: str = "auto", clock: Callable[[], Instant] = read_clock) -> None:
        self.heard = Heard()
        self.sightings = Sightings()
        self.controllable = Controllable()
        settings = AntSettings.model_validate({"enabled": True, "key": KEY.hex(), "sticks": sticks, "scan": scan})
        self.source = AntSource(
            settings, self.heard, self.sightings, self.controllable,
            random=Random(1).random, alive=unwatched(), clock=clock,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.source.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def count(self, name: str) -> int:
        return self.source.counted().get(f"ant_{name}", 0)

    def pages_after(self, pages: int) -> Callable[[], bool]:
        return lambda: self.count("pages") >= pages


@contextlib.asynccontextmanager
async def plugged(stick: VirtualStick, link: Path) -> AsyncIterator[PtyStick]:
    shell = PtyStick(stick, link)
    task = asyncio.create_task(shell.run())
    await asyncio.sleep(0)
    try:
        yield shell
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[VirtualStick]], VirtualUsb]:
    """Puts virtual sticks where pyusb looks for libusb."""

    def make(sticks: list[VirtualStick]) -> VirtualUsb:
        backend = VirtualUsb(sticks)
        monkeypatch.setattr(usb.backend.libusb1, "get_backend", lambda find_library=None: backend)
        return backend

    return make


async def test_stick_on_a_pty_pulled_out_and_back_is_heard_again(tmp_path: Path):
    link = tmp_path / "ant"
    box = Box(str(link))
    faults = StickFaults(corrupt_every=100, lose_every=77)
    async with plugged(VirtualStick(room("hr:10,trainer"), KEY, faults=faults), link) as shell, box.running():
        await until(box.pages_after(100), box.source.counted)
        for _ in range(2):
            shell.unplug()
            await until(lambda: box.count("listening") == 0)
            assert box.controllable.devices == ()
            shell.plug()
            await until(lambda: box.count("listening") == 1)
            await until(box.pages_after(box.count("pages") + 50))
        await until(lambda: len(box.heard.samples) == 11, box.source.counted)
        assert shell.unread == 0
        assert box.count("reopened") >= 2


async def test_stick_that_is_plugged_in_later_is_found(tmp_path: Path):
    link = tmp_path / "ant"
    box = Box(str(link))
    async with box.running():
        await until(lambda: box.count("reopened") >= 1)
        async with plugged(VirtualStick(room("hr"), KEY), link):
            await until(box.pages_after(8), box.source.counted)


async def test_stick_that_falls_silent_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.ant_stick.QUIET_S", 1.0)
    link = tmp_path / "ant"
    box = Box(str(link))
    stick = VirtualStick(room("hr"), KEY)
    async with plugged(stick, link), box.running():
        await until(box.pages_after(8))
        stick.faults.deaf = True
        await until(lambda: box.count("listening") == 0)
        stick.faults.deaf = False
        await until(box.pages_after(box.count("pages") + 8), box.source.counted)


async def test_two_sticks_hear_one_room_and_each_page_counts_once(tmp_path: Path):
    box = Box(str(tmp_path / "one"), str(tmp_path / "two"))
    trainers = room("hr:3")
    async with (
        plugged(VirtualStick(trainers, KEY), tmp_path / "one"),
        plugged(VirtualStick(room("hr:3"), KEY), tmp_path / "two") as second,
        box.running(),
    ):
        await until(lambda: box.count("listening") == 2 and box.count("heard_by_two") > 40)
        second.unplug()
        await until(lambda: box.count("listening") == 1)
        await until(box.pages_after(box.count("pages") + 24))
        await until(lambda: len(box.heard.samples) == 3)


async def test_stick_without_scan_hears_as_many_as_it_has_channels(tmp_path: Path):
    box = Box(str(tmp_path / "ant"))
    stick = VirtualStick(room("trainer:3"), KEY, model=StickModel(can_scan=False, channels=4))
    async with plugged(stick, tmp_path / "ant"), box.running():
        await until(lambda: len(box.heard.samples) == 3, box.source.counted)


async def test_trainer_obeys_and_page_71_answers(tmp_path: Path):
    box = Box(str(tmp_path / "ant"))
    trainers = [Trainer(9), Trainer(10)]
    async with plugged(VirtualStick([*trainers, *room("hr:5")], KEY), tmp_path / "ant"), box.running():
        await until(lambda: len(box.controllable.devices) == 2, box.source.counted)
        link = box.controllable.get("ant-17-9")
        assert link is not None
        assert link.dialect == "fec"
        capable = await link.read(54, timeout_s=LIMIT_S)
        assert capable is not None
        assert capable[7] == 0b111
        for watts in (150, 250, 150):
            page = bytes((49, 255, 255, 255, 255, 255)) + (4 * watts).to_bytes(2, "little")
            answer = await link.write(page, timeout_s=LIMIT_S)
            assert answer is not None
            assert (answer[0], answer[1], answer[3]) == (71, 49, 0)
            assert answer[6:8] == page[6:8]
            assert trainers[0].target_w == watts
        stop = bytes((48, 255, 255, 255, 255, 255, 255, 0))
        cancelled = asyncio.create_task(link.write(bytes((49, 255, 255, 255, 255, 255, 0, 15)), timeout_s=LIMIT_S))
        await asyncio.sleep(0)
        cancelled.cancel()
        answer = await link.write(stop, timeout_s=LIMIT_S)
        assert answer is not None
        assert answer[1] == 48
        assert trainers[0].mode == 48
        assert trainers[1].commands == []
        assert await link.read(99, timeout_s=0.5) is None


async def test_command_to_a_machine_that_left_ends_with_an_error(tmp_path: Path):
    box = Box(str(tmp_path / "ant"))
    trainer = Trainer(9)
    stick = VirtualStick([trainer], KEY)
    async with plugged(stick, tmp_path / "ant") as shell, box.running():
        await until(lambda: box.controllable.devices)
        link = box.controllable.get("ant-17-9")
        assert link is not None
        stick.faults.fail_transfers = 100
        with pytest.raises(OSError, match="no answer from the device"):
            await link.write(bytes((48, *[255] * 6, 0)), timeout_s=LIMIT_S)
        stick.leave(trainer)
        writing = asyncio.create_task(link.write(bytes((48, *[255] * 6, 0)), timeout_s=LIMIT_S))
        await asyncio.sleep(0.1)
        shell.unplug()
        with pytest.raises(OSError, match="away"):
            await writing


async def test_usb_stick_pulled_out_and_back_is_heard_again(bus: Callable[[list[VirtualStick]], VirtualUsb]):
    backend = bus([VirtualStick(room("hr:5"), KEY, faults=StickFaults(corrupt_every=50))])
    box = Box("usb")
    async with box.running():
        await until(box.pages_after(40), box.source.counted)
        backend.unplug()
        await until(lambda: box.count("listening") == 0)
        backend.plug()
        await until(box.pages_after(box.count("pages") + 40), box.source.counted)


async def test_usb_stick_that_does_not_answer_is_reset(bus: Callable[[list[VirtualStick]], VirtualUsb]):
    stick = VirtualStick(room("hr"), KEY, faults=StickFaults(deaf=True))
    backend = bus([stick])
    resets: list[bool] = []
    real = backend.reset_device

    def reset(handle: object) -> None:
        resets.append(True)
        stick.faults.deaf = False
        real(handle)

    backend.reset_device = reset  # type: ignore[method-assign]
    box = Box("usb")
    async with box.running():
        await until(box.pages_after(4), box.source.counted)
    assert resets


async def test_two_usb_sticks_are_told_apart(bus: Callable[[list[VirtualStick]], VirtualUsb]):
    bus([VirtualStick(room("hr"), KEY), VirtualStick(room("trainer"), KEY)])
    box = Box("usb", "usb")
    async with box.running():
        await until(lambda: box.count("listening") == 2 and len(box.heard.samples) >= 2, box.source.counted)


async def test_usb_read_ahead_is_bounded_and_loses_nothing(
    bus: Callable[[list[VirtualStick]], VirtualUsb], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gateway.ant_usb.MAX_WAITING", 4)
    bus([VirtualStick(room("hr:40"), KEY)])
    box = Box("usb")
    async with box.running():
        await until(box.pages_after(50))
        time.sleep(1.0)  # the event loop stands still
        await until(box.pages_after(box.count("pages") + 200))
        assert box.count("skipped_bytes") == 0


async def test_transports_name_what_is_wrong_and_the_cure(bus: Callable[[list[VirtualStick]], VirtualUsb], tmp_path: Path):
    with pytest.raises(OSError, match="not there: plug the stick in"):
        SerialStick.open(str(tmp_path / "none"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="not a serial line"):
        SerialStick.open(str(tmp_path / "file"))
    async with plugged(VirtualStick([], KEY), tmp_path / "ant"):
        first = SerialStick.open(str(tmp_path / "ant"))
        with pytest.raises(OSError, match="used by another program"):
            SerialStick.open(str(tmp_path / "ant"))
        await first.close()
        await first.close()
        with pytest.raises(OSError, match="closed"):
            await first.read()
    bus([])
    with pytest.raises(OSError, match="no ANT stick free among 0"):
        await UsbStick.open()
    with pytest.raises(ConfigError, match="neither usb nor a device"):
        await open_stick("ttyUSB0")


async def test_doctor_says_what_each_stick_is_and_why_one_cannot_be_used(bus: Callable[[list[VirtualStick]], VirtualUsb], tmp_path: Path):
    bus([VirtualStick([], KEY, model=StickModel(can_scan=False, channels=4))])
    paths = [str(tmp_path / name) for name in ("ant", "busy", "none")]
    settings = AntSettings.model_validate({"enabled": True, "key": KEY.hex(), "sticks": ["usb", "usb", *paths]})
    async with plugged(VirtualStick([], KEY), tmp_path / "ant"), plugged(VirtualStick([], KEY), tmp_path / "busy"):
        holder = SerialStick.open(paths[1])
        usb_one, usb_two, free, busy, none = await survey(settings)
        await holder.close()
    assert usb_one.ok
    assert "hears 4 devices, it cannot scan" in usb_one.found
    assert not usb_two.ok
    assert free.ok
    assert "number 4711, hears a whole room" in free.found
    assert busy.ok
    assert "used by another program" in busy.found
    assert not none.ok
    assert "not there" in none.found
    assert KEY.hex() not in repr((usb_one, usb_two, free, busy, none))


async def test_idle_sticks_cost_next_to_nothing(bus: Callable[[list[VirtualStick]], VirtualUsb], tmp_path: Path):
    """Nothing spins: in two seconds without a sensor, the loop turns a few times only."""
    bus([VirtualStick([], KEY)])
    box = Box("usb", str(tmp_path / "ant"))
    async with plugged(VirtualStick([], KEY), tmp_path / "ant"), box.running():
        await until(lambda: box.count("listening") == 2)
        turns = 0

        async def count() -> None:
            nonlocal turns
            loop = asyncio.get_running_loop()
            real = loop._run_once  # type: ignore[attr-defined]

            def counted() -> None:
                nonlocal turns
                turns += 1
                real()

            loop._run_once = counted  # type: ignore[attr-defined]
            try:
                await asyncio.sleep(2)
            finally:
                del loop._run_once  # type: ignore[attr-defined]

        await count()
        assert turns < 60


async def test_virtual_stick_runs_as_a_process(tmp_path: Path):
    link, truth = tmp_path / "ant", tmp_path / "truth"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "simulators.ant_pty",
            "--link",
            str(link),
            "--sensors",
            "hr:3,trainer",
            "--key",
            KEY.hex(),
            "--truth",
            str(truth),
        ],
        cwd=PROJECT,
    )
    box = Box(str(link))
    try:
        async with box.running():
            await until(box.pages_after(30), box.source.counted)
            process.send_signal(signal.SIGUSR1)
            await until(lambda: box.count("listening") == 0)
            assert not os.path.lexists(link)
            process.send_signal(signal.SIGUSR2)
            await until(box.pages_after(box.count("pages") + 30), box.source.counted)
    finally:
        process.terminate()
        process.wait(LIMIT_S)
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    assert set(lines[-1]["meant"]) == set(box.heard.samples) | {"ant-17-23758"}
    assert len(lines) > 60


def test_virtual_stick_names_a_wrong_plan(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "simulators.ant_pty", "--link", str(tmp_path / "ant"), "--sensors", "horse:2"],
        check=False, cwd=PROJECT, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 2
    assert "'horse:2' is no sensor" in done.stderr
