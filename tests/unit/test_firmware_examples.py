"""The examples of the device kit: each is whole on each of its boards, fits a slot, and the commands say what a maker needs to know."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kit.config import Kept
from kit.provision import Setup

from broker.errors import BadInputError, ConfigError, LinkError
from paceline.cli import cli
from paceline.device.board import load_board, load_example, names_in
from paceline.device.console import ask, open_line
from paceline.device.image import build, sources_of
from paceline.device.project import budget_of, flash_lines, open_project, wiring_of
from paceline.device.simulated import keep

PAIRS = [(name, board) for name in names_in("devices") for board in load_example(name).boards]


def firmware(*args: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["firmware", *map(str, args)])
    return done.exit_code, done.output


@pytest.mark.parametrize(("name", "board"), PAIRS)
def test_example_is_built_for_its_board_and_fits_a_slot(name: str, board: str) -> None:
    project = open_project(name, board)
    image = build(project.board, project.example, (), project.main, 3)
    assert {"application.mpy", "board.mpy", "update_keys.mpy", "kit/device.mpy", "kit/start.mpy", "kit/slots.mpy"} <= set(image.modules)
    assert all(content[:2] == b"M\x06" for content in image.modules.values())  # bytecode of MicroPython 1.23 and later
    assert not [path for path in image.modules if path.startswith("fakes")]
    assert len(image.romfs) * 2 < project.board.flash.part("app_a").bytes or board == "sim"
    assert all(to for _, _, to in wiring_of(project))
    assert image.romfs == build(project.board, project.example, (), project.main, 3).romfs


@pytest.mark.parametrize(("name", "board"), PAIRS)
def test_budget_of_an_example_is_within_its_board(name: str, board: str) -> None:
    budget = budget_of(open_project(name, board))
    assert budget["heap_bytes"] <= budget["heap_of_board_bytes"]
    if board != "sim":
        assert budget["radio_bytes"] <= budget["radio_of_board_bytes"]
        assert budget["offline_hours"] > 0.5
        assert budget["hours_of_1000_mah"] > 5


def test_an_image_holds_only_what_its_example_imports() -> None:
    bike, bridge = (sources_of(load_example(name)) for name in ("bike_sensor", "strap_bridge"))
    assert "ble/central.py" in bridge
    assert "engine.py" in bridge
    assert not [path for path in bike if path.startswith("ble/")]
    assert "drivers/hall.py" in bike


def test_new_copies_an_example_and_says_what_to_wire_and_flash(tmp_path: Path) -> None:
    code, said = firmware("new", "bike_sensor", "--board", "esp32", "--out", tmp_path / "mine")
    assert code == 0, said
    for words in ("reed contact at the wheel", "GPIO 25", "erase-flash", "0x1000 ESP32_GENERIC-1.25.0.bin 0x8000", "hours of 1,000 mAh"):
        assert words in said
    partitions = "0x8000 build/esp32-bike_sensor.partitions.bin"
    assert said.index("firmware build") < said.index(partitions)  # the build makes it
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"application.py", "device.toml", "board.toml"}
    code, said = firmware("build", tmp_path / "mine", "--out", tmp_path / "build", "--json")
    assert code == 0, said
    told = json.loads(said)
    assert told["image"].endswith("esp32-bike_sensor.romfs")
    modules = tmp_path / "build" / "esp32-bike_sensor-modules"
    assert (modules / "boot.py").exists()
    urls = json.loads((modules / "package.json").read_text())["urls"]
    assert all((modules / file).exists() for _, file in urls)
    assert (tmp_path / "build" / "esp32-bike_sensor.partitions.bin").stat().st_size == 0xC00
    code, said = firmware("flash", tmp_path / "mine", "--out", tmp_path / "build", "--dry-run")
    assert code == 0
    assert "mpremote connect /dev/ttyUSB0" in said
    assert "mkdir :lib" not in said  # fails where the folder is already, when a board is flashed again


def test_new_never_overwrites_and_build_needs_a_whole_key(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    result = CliRunner().invoke(cli, ["firmware", "new", "wristband", "--out", str(tmp_path / "mine")])
    assert isinstance(result.exception, ConfigError)
    result = CliRunner().invoke(cli, ["firmware", "build", "wristband", "--out", str(tmp_path), "--key", "abcd"])
    assert isinstance(result.exception, ConfigError)
    assert "64 hexadecimal" in str(result.exception)


@pytest.mark.parametrize(("name", "board", "says"), [("bike", "", "no example 'bike'"), ("bike_sensor", "pico", "no board 'pico'")])
def test_unknown_names_are_told_what_there_is(name: str, board: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_project(name, board)


def test_module_that_does_not_compile_is_named(tmp_path: Path) -> None:
    main = tmp_path / "application.py"
    main.write_text("def make(port):\n    yield from *x\n")
    project = open_project("bike_sensor", "esp32")
    with pytest.raises((BadInputError, SyntaxError)):
        build(project.board, project.example, (), main)
    main.write_text("async def make(port):\n    print(*[x async for x in port])\n")  # Python, and nothing MicroPython knows
    with pytest.raises(BadInputError, match=r"application\.py does not compile"):
        build(project.board, project.example, (), main)


def test_flash_lines_name_the_base_image() -> None:
    assert flash_lines(open_project("strap_bridge", "sim"), "/dev/null") == []
    assert any("esp32s3 --port /dev/ttyACM0" in line for line in flash_lines(open_project("strap_bridge", "esp32s3"), "/dev/ttyACM0"))
    assert load_board("esp32").base is not None


def test_set_up_is_laid_out_as_a_device_keeps_it(tmp_path: Path) -> None:
    keep(tmp_path / "config", {"node": "bike", "port": 1884, "tls": False})
    kept = Kept(str(tmp_path / "config"))
    assert kept.load() == {"node": "bike", "port": 1884, "tls": False}
    kept.save({"node": "other"})
    assert Kept(str(tmp_path / "config")).load() == {"node": "other"}
    keep(tmp_path / "config", {"node": "again"})
    assert Kept(str(tmp_path / "config")).load() == {"node": "again"}


@contextmanager
def device_on_a_line(answers: bool = True) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A set-up behind a serial line of this machine (a pseudo terminal), which echoes and logs as a real console does."""
    kept: list[dict[str, Any]] = []

    async def trial(document: dict[str, Any]) -> str:
        return "" if document["wifi_ssid"] == "Hall" else "Wi-Fi Attic is not heard here"

    setup = Setup({}, lambda document: kept.append(dict(document)), lambda: {"name": "x"}, os.urandom, trial)
    ours, theirs = os.openpty()
    port = os.ttyname(theirs)

    def serve() -> None:
        loop = asyncio.new_event_loop()
        buffer = b""
        try:
            while raw := os.read(ours, 1024):
                buffer += raw
                while b"\n" in buffer:
                    line, _, buffer = buffer.partition(b"\n")
                    os.write(ours, b"7 I link up\r\n{broken\r\n")
                    if answers and (answer := loop.run_until_complete(setup.line(line.decode()))) is not None:
                        os.write(ours, answer.encode() + b"\r\n")
        except OSError:
            pass  # the line is closed
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield port, kept
    finally:
        os.close(theirs)
        os.close(ours)


def test_device_is_told_over_its_serial_line() -> None:
    told = {"do": "set", "code": "mqtt://10.0.0.5:1884/gym/band#pw", "wifi_ssid": "Attic"}
    with device_on_a_line() as (port, kept):
        line = open_line(port)
        assert ask(line, told, 60) == {"ok": False, "wrong": {"": "Wi-Fi Attic is not heard here"}}
        assert not kept
        assert ask(line, {**told, "wifi_ssid": "Hall"}, 60)["ok"]
        assert kept[-1]["node"] == "band"
        assert ask(line, {"do": "show"}, 60)["said"]["user"] == "gym/band"


def test_device_that_does_not_answer_is_an_error_with_a_cure() -> None:
    with device_on_a_line(answers=False) as (port, _), pytest.raises(LinkError, match="reset button"):
        ask(open_line(port), {"do": "show"}, 1)
    with pytest.raises(LinkError, match="plugged in"):
        open_line("/dev/no-such-line")
