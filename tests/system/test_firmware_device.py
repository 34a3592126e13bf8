"""Whole devices beside a real site: five examples on simulated boards, from the set-up page to the live page, and an update over the air."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.layouts import layout_named
from paceline.commands.firmware_run import enrolment_code
from paceline.device.board import names_in
from paceline.device.image import build
from paceline.device.manifest import Release, sign
from paceline.device.offer import Offer, server_of
from paceline.device.project import Project, open_project
from paceline.device.simulated import ASLEEP, RESET, command_of, environment, lay_out
from paceline.live_client import fetch_live
from paceline.site import publish_site
from processors.stores import ReadStore
from tests.servers import free_port
from tests.system.stack import TENANT, Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_S = 120
MOTION = layout_named("motion.1")
KEY = Ed25519PrivateKey.from_private_bytes(b"u" * 32)
PUBLIC = (KEY.public_key().public_bytes_raw(),)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with Stack(tmp_path_factory.mktemp("site")) as running:
        publish_site(running.site)
        yield running


async def paceline(*args: object) -> tuple[int | None, str]:
    command = [sys.executable, "-m", "paceline", "firmware", *map(str, args)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, said.decode()


async def tile(stack: Stack, athlete: str, good: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The tile of an athlete once it is as wanted."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        live = await fetch_live(stack.site)
        for one in (live or {}).get("athletes", []):
            if one["athlete"] == athlete and good(one):
                return one
        await asyncio.sleep(0.2)
    raise TimeoutError(f"no tile of {athlete} as wanted: {live}")


def tracked(stack: Stack, athlete: str, field: str) -> list[float]:
    """What is stored of a field of an athlete's samples, where it is known."""
    store = ReadStore(stack.state)
    try:
        track = store.tracks(f"{TENANT}/{athlete}").get(MOTION.id)
    finally:
        store.close()
    values = [] if track is None else [MOTION.field(field).to_si(int(raw)) for raw in track.records[field]]
    return [value for value in values if value is not None]


async def comes(what: Callable[[], object], within_s: float) -> bool:
    """Whether it holds in time."""
    deadline = time.monotonic() + within_s
    while not (found := what()) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return bool(found)


def document_of(stack: Stack, node: str, **more: object) -> dict[str, Any]:
    near = stack.site.settings.near
    password = enrolment_code(stack.site, "near", node).partition("#")[2]
    told = {"wifi_ssid": "sim", "host": near.host, "port": near.port, "tls": False, "tenant": TENANT, "node": node, "password": password}
    return {**told, "athlete": node, **more}


class Board:
    """A simulated board that runs until it is stopped; `said` are its lines."""

    def __init__(self, project: Project, folder: Path, interpreter: Any, page_port: int = 0) -> None:
        self.command = [*command_of(folder, 0, interpreter, project.board.flash.bytes), str(page_port or free_port())]
        self.environment = environment(folder)
        self.said: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Board]:
        """One start; `code` is how it ended by itself, None if it was stopped."""
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *self.command, env=self.environment, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        reading = asyncio.create_task(self._read())
        try:
            yield self
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            await reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.said.append(line.decode().rstrip())

    async def says(self, text: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := [line for line in self.said if text in line]:
                return found[-1]
            await asyncio.sleep(0.05)
        raise TimeoutError(f"the board does not say {text!r}: {self.said[-12:]}")

    async def ends(self) -> int:
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


async def test_every_example_runs_and_its_frames_are_stored(stack: Stack, tmp_path: Path) -> None:
    """All five on MicroPython, and a copy of one in a folder of its own on CPython, at the same time."""
    code, said = await paceline("new", "wristband", "--board", "sim", "--out", tmp_path / "mine")
    assert code == 0
    assert "MAX30102 module" in said
    common = ("--sim", "--data", stack.site.data, "--quiet", "--json")
    there = ("--seconds", 5, "--interpreter", "micropython")
    here = ("--seconds", 14, "--interpreter", "cpython", "--name", "my-band")  # a heart rate takes eight seconds of light
    mine = ("run", tmp_path / "mine", *common, *here)
    runs = await asyncio.gather(*(paceline("run", name, *common, *there) for name in names_in("devices")), paceline(*mine))
    while not await comes(lambda: tracked(stack, "my-band", "hr_bpm"), 10):  # light that a busy machine took too late is no heart rate
        assert len(runs) < 12, "never eight seconds of light in time"
        runs.append(await paceline(*mine))
    for code, said in runs:
        told = json.loads(said)
        assert code == 0, told
        assert told["taken"] == told["stored"] > 0
        assert not told["refused"]
    await tile(stack, "bike-sensor", lambda one: one["speed_mps"] is not None)
    speeds_mps = tracked(
        stack, "bike-sensor", "speed_mps"
    )  # a turn that a busy machine lets happen late is a slow one, and its next one is quick
    assert pytest.approx(2.105 / 0.27, rel=0.05) in speeds_mps
    assert all(0 <= speed_mps < 2.105 / 0.1 for speed_mps in speeds_mps)
    runner = await tile(stack, "gps-tracker", lambda one: one["lat"] is not None)
    assert runner["lat"] == pytest.approx(47.3, abs=0.01)
    strap = await tile(stack, "strap-bridge", lambda one: one["hr_bpm"] is not None)
    assert 100 <= strap["hr_bpm"] <= 165
    band = await tile(stack, "my-band", lambda one: one["hr_bpm"] is not None)
    assert abs(band["hr_bpm"] - 72) <= 2


async def test_device_out_of_the_box_is_set_up_by_its_page_and_then_by_its_console(stack: Stack, tmp_path: Path) -> None:
    project = open_project("bike_sensor", "sim")
    lay_out(project, tmp_path, {})
    port = free_port()
    board = Board(project, tmp_path, "micropython", port)
    code = enrolment_code(stack.site, "near", "boxed")
    async with board.running():
        assert "paceline-" in await board.says("join the Wi-Fi")
        form = {"wifi_ssid": "", "code": code, "athlete": "boxed"}
        assert b"is needed" in await post(port, form)
        refused = await post(port, {**form, "wifi_ssid": "sim", "code": code + "x"})
        assert b"422" in refused
        assert b"password" in refused.partition(b"<form")[0]
        assert b"The broker took it" in await post(port, {**form, "wifi_ssid": "sim"})
        assert await board.ends() == RESET
    async with board.running():
        await tile(stack, "boxed", lambda one: one["speed_mps"] is not None)
        assert board.process.stdin is not None
        deadline = time.monotonic() + PATIENCE_S
        while True:  # the wall may show a frame before its device has heard that it is stored
            board.said.clear()
            board.process.stdin.write(b'{"do": "show"}\n')
            shown = json.loads(await board.says('"said": '))["said"]
            if shown["stored"] or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        assert shown["user"] == f"{TENANT}/boxed"
        assert shown["stored"] > 0
        board.process.stdin.write(b'{"do": "request"}\n')
        assert "CERTIFICATE REQUEST" in await board.says('"pem"')
        moved = {"do": "set", "code": enrolment_code(stack.site, "near", "moved"), "wifi_ssid": "sim", "athlete": "moved"}
        board.process.stdin.write(json.dumps(moved).encode() + b"\n")
        assert await board.ends() == RESET
    async with board.running():
        await tile(stack, "moved", lambda one: one["speed_mps"] is not None)
    assert not [line for line in board.said if "Traceback" in line]


async def post(port: int, fields: dict[str, str]) -> bytes:
    """The page's answer to a form; it is asked again until it listens."""
    body = urlencode(fields).encode()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    return answer


def changed(project: Project, folder: Path, more: str) -> Project:
    """The example with lines after its own."""
    main = folder / "main_of_test.py"
    main.write_text(project.main.read_text() + more)
    return Project(project.example, project.board, main)


async def test_what_the_platform_refuses_is_said_and_blinks(stack: Stack, tmp_path: Path) -> None:
    stranger = """

_make = make


def make(port):
    device = _make(port)
    device.subject_of = lambda device: "other/ann"
    levels = []
    led = device._led
    value = led.value

    def seen(*level):
        if level:
            levels.append(level[0])
            if levels[-4:] == [1, 0, 1, 0] and device.refused:
                print("blinked")
        return value(*level)

    led.value = seen
    return device
"""
    project = changed(open_project("bike_sensor", "sim"), tmp_path, stranger)
    lay_out(project, tmp_path / "board", document_of(stack, "early"))
    board = Board(project, tmp_path / "board", "cpython")
    async with board.running():
        assert "refused: wrong_tenant" in await board.says("refused")
        await board.says("blinked")
        assert board.process.stdin is not None
        board.process.stdin.write(b'{"do": "show"}\n')
        assert '"refused": "wrong_tenant"' in await board.says('"said"')


async def test_bike_sensor_that_sleeps_deeply_loses_no_turn_and_no_frame(stack: Stack, tmp_path: Path) -> None:
    """Three rides with a sleep after each: what was measured reaches the platform, and the odometer goes on with the turn that woke the board."""
    sleepy = """

board.SETTINGS.update(still_ms=3000)
_kept = Odometer.kept


def kept(odometer, level):
    print("odometer:", odometer.turns)
    return _kept(odometer, level)


Odometer.kept = kept
"""
    project = changed(open_project("bike_sensor", "sim"), tmp_path, sleepy)
    lay_out(project, tmp_path / "board", document_of(stack, "sleepy"))
    board = Board(project, tmp_path / "board", "micropython")
    turns, told = 0, []
    for _ in range(3):
        board.said.clear()
        async with board.running():
            assert await board.ends() == ASLEEP
        turns += int((await board.says("stands after turns:")).rpartition(":")[2])
        assert int((await board.says("odometer:")).rpartition(":")[2]) == turns
        told.append(json.loads(await board.says('"taken"')))
    assert turns > 20
    assert sum(one["taken"] for one in told) == sum(one["stored"] for one in told) + told[-1]["owed"]
    assert not any(one["lost"] + one["refused"] for one in told)
    await tile(stack, "sleepy", lambda one: one["speed_mps"] is not None)


async def test_update_over_the_air_is_tried_confirmed_and_rolled_back_when_it_hangs(stack: Stack, tmp_path: Path) -> None:
    """Version 2 proves itself by its first acknowledged bundle; version 3 hangs, and after its tries version 2 runs again."""
    quick = "\n\nfrom kit import updater as _updater\n\n_updater.FIRST_S = 1\nprint('runs version', board.VERSION)\n"
    hangs = quick + "\nwhile True:\n    pass\n"
    base = open_project("bike_sensor", "sim")
    first, third = changed(base, tmp_path, quick), None
    (tmp_path / "third").mkdir()
    third = changed(base, tmp_path / "third", hangs)
    offers = [offer_of(first, 2)]
    server = server_of(offers, "127.0.0.1", free_port())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    folder = tmp_path / "board"
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        lay_out(first, folder, document_of(stack, "updated", update_url=url), PUBLIC, 1)
        board = Board(first, folder, "micropython")
        async with board.running():
            await board.says("runs version 1")
            assert await board.ends() == RESET
        async with board.running():
            await board.says("runs version 2")
            await board.says("version 2 is confirmed")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
    server = server_of([offer_of(third, 3)], "127.0.0.1", server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        async with board.running():
            assert await board.ends() == RESET
        for _ in range(3):
            board.said.clear()
            async with board.running():
                await board.says("runs version 3")  # and no more: a watchdog would reset it now
        board.said.clear()
        async with board.running():
            await board.says("runs version 2")
            await tile(stack, "updated", lambda one: one["status"] == "live")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


def offer_of(project: Project, version: int) -> Offer:
    image = build(project.board, project.example, PUBLIC, project.main, version).romfs
    release = Release("application", version, 0, int(time.time()) + 3600, "sim-bike_sensor")
    return Offer(release, sign(release, image, KEY), image)
