"""docs/gym.md: from an empty Debian to the first heart rate on the wall, then a newer version and back; nothing lost.

In every run on a folder that only dpkg takes for a system; each night in a real Debian made by debootstrap, typing what the document says.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from device_profiles.files import Point, Points, Recording, write_gpx
from gateway.file_source import read_file
from gateway.spool import Spool, SpoolSettings
from tests.debian_machine import DebianMachine
from tests.servers import PROJECT
from tests.system.box_process import BoxProcess, read, until_shown
from tests.system.box_tree import Tree, base_python, package
from tests.system.gym_walk import Platform, blocks, credentials
from tests.virtual_room import room, strap

DOCUMENT = blocks((PROJECT / "docs/gym.md").read_text())
SPEED = 20
POINTS = 7_200  # six minutes at that speed: longer than what happens meanwhile


def write_ride(path: Path) -> str:
    """A recording with a heart rate; the device it is sent as."""
    start_us = 1_780_000_000_000_000
    points = [Point(start_us + i * 1_000_000, lat=48 + i * 2e-5, lon=11.5, hr_bpm=120 + i % 40) for i in range(POINTS)]
    write_gpx(Recording(Points.of(points)), path)
    return read_file(path, None)[1].device


async def rows_owed(data: Path) -> int:
    """Frames in the spool of a box that does not run."""
    spool = await Spool.open(data / "spool.db", SpoolSettings())
    rows = spool.stats().rows
    await spool.close()
    return rows


async def set_up(box: BoxProcess, form: dict[str, str]) -> None:
    url, code = await box.page()
    status, page = await read(url, {**form, "code": code})
    assert status == 200, page
    await box.said("uplink to .* is up")


async def through_two_versions(box: BoxProcess, platform: Platform, data: Path, device: str, upgrade, downgrade) -> None:
    """A heart rate is on the wall. The platform goes away, the box is upgraded and downgraded with frames owed, and all of them arrive."""
    await platform.stop()
    before, owed = platform.counted(device), 0
    assert before > 0
    kept = (data / "uplink.json").read_bytes()
    for install in (upgrade, downgrade):
        await until_owed(data)
        assert await box.end() == 0, box.log()
        owed = await rows_owed(data)
        assert owed > 0
        await asyncio.to_thread(install)
        assert await rows_owed(data) == owed
        assert (data / "uplink.json").read_bytes() == kept
        box.start()
        await box.said("gateway gym/box1 runs")
    await platform.start()
    await platform.has_all(device, before + owed + 1)  # what was owed, and something that came after it
    wall = await platform.live()
    assert wall is not None
    assert wall["dead_letters"] == 0
    assert await box.end() == 0, box.log()


async def until_owed(data: Path) -> None:
    """Wait until the spool of the running box holds what it cannot send."""
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(spool_rows, data):
            await asyncio.sleep(0.1)


def spool_rows(data: Path) -> int:
    db = sqlite3.connect(f"file:{data}/spool.db?mode=ro", uri=True)
    try:
        return db.execute("SELECT count(*) FROM rows").fetchone()[0]
    finally:
        db.close()


async def test_from_the_package_to_a_heart_rate_on_the_wall_then_newer_and_back_with_frames_owed(tmp_path):
    tree = Tree(tmp_path / "root")
    old, new = package(tmp_path, "1.0.0"), package(tmp_path, "1.1.0")
    tree.dpkg("-i", str(old))
    data, settings = tree.root / "var/lib/paceline", tree.root / "etc/paceline/gateway.toml"
    settings.write_text(settings.read_text().replace("/var/lib/paceline", str(data)))
    device = write_ride(data / "ride.gpx")
    box = BoxProcess(tmp_path, [base_python(), "-I", "-S", str(tree.root / "usr/bin/paceline")], options=["--config", str(settings)])
    async with Platform(tmp_path / "platform") as platform:
        await platform.start()
        box.start()
        await set_up(box, credentials(platform.type("paceline node add box1 --broker central --data data")))
        assert await box.end() == 0, box.log()
        file = f'\n[[gateway.files]]\npath = "{data}/ride.gpx"\nathlete = "ann"\nshift = "now"\nspeed = {SPEED}\n'
        settings.write_text(settings.read_text() + file)
        box.start()
        assert 120 <= (await platform.tile("ann"))["hr_bpm"] < 160
        await through_two_versions(box, platform, data, device, lambda: tree.dpkg("-i", str(new)), lambda: tree.dpkg("-i", str(old)))
        assert file in settings.read_text()


def test_the_document_has_every_step_of_the_walk():
    where = [block.where for block in DOCUMENT]
    assert where == ["platform", "platform", "platform", "box", "box", "box", "platform", "box upgrade"]
    assert "paceline run" in DOCUMENT[0].text
    assert "node add" in DOCUMENT[1].text
    assert "gateway package" in DOCUMENT[2].text


@pytest.mark.nightly
@pytest.mark.timeout(1800)
async def test_the_document_walked_in_an_empty_debian_with_its_own_systemd(tmp_path):
    run, add, pack, install, listed, play, name, change = (block.text for block in DOCUMENT)
    async with Platform(tmp_path / "platform") as platform, DebianMachine(tmp_path) as machine:
        assert run.strip() == "paceline run --data data"
        await platform.start()
        form = credentials(platform.type(add))
        await asyncio.to_thread(platform.type, pack)
        (deb,) = (platform.folder / "dist").glob("*.deb")
        shutil.copy(deb, machine.root / "root" / deb.name)
        await asyncio.to_thread(machine.type, install)
        assert "bluez" in machine.type("dpkg-query -W bluez")
        assert machine.type("systemd-analyze verify --man=no paceline-gateway.service 2>&1") == ""
        assert machine.type("systemctl is-enabled paceline-gateway").strip() == "enabled"

        said = await machine.until("journalctl -u paceline-gateway -o cat", "give the code")
        found = re.search(r"or open http://\S+:(\d+)/ and give the code (\S+)", said)
        assert found is not None
        url, code = f"http://127.0.0.1:{found[1]}/", found[2]
        assert code in machine.type("script -qec '/sbin/agetty --show-issue' /dev/null")  # it wants a terminal
        assert "waits to be set up" in machine.type("systemctl show -p StatusText paceline-gateway")
        status, page = await read(url, {**form, "code": code})
        assert status == 200, page
        await machine.until("systemctl show -p StatusText paceline-gateway", "uplink up")
        assert code not in machine.type("script -qec '/sbin/agetty --show-issue' /dev/null")

        async with virtual_daemon(tmp_path, machine.bus):
            wall = await platform.shows(lambda wall: any(tile["unknown"] and tile["hr_bpm"] for tile in wall["athletes"]))
            assert [tile["device"] for tile in wall["athletes"]] == ["ble-c00000000001"]
            assert "Strap 1" in await until_shown(url, ">live<")
            assert "Strap 1" in machine.type(listed)

        device = write_ride(machine.root / "root/ride.gpx")
        await asyncio.to_thread(machine.type, play)
        platform.type(name)
        tile = await platform.tile("ann")
        assert (tile["name"], tile["unknown"]) == ("Ann Keller", False)
        assert tile["zone"] in range(1, 6)

        data = machine.root / "var/lib/paceline"
        await platform.stop()
        counted, owed = platform.counted(device), 0
        assert counted > 0
        kept = (data / "uplink.json").read_bytes()
        for version in ("9.0.0", "0.0.9"):
            await until_owed(data)
            for other in (machine.root / "root").glob("*.deb"):
                other.unlink()
            await asyncio.to_thread(package, machine.root / "root", version, python="3.11")
            owed = spool_rows(data)
            await asyncio.to_thread(machine.type, change)
            assert machine.type("dpkg-query -W -f '${Status} ${Version}' paceline-gateway") == f"install ok installed {version}"
            await machine.until("systemctl is-active paceline-gateway", "active")
            assert spool_rows(data) >= owed
            assert (data / "uplink.json").read_bytes() == kept
        await platform.start()
        await platform.has_all(device, counted + owed + 1)
        assert "ride.gpx" in (machine.root / "etc/paceline/gateway.toml").read_text()
        assert await starts_again_when_it_hangs(machine)

        await asyncio.to_thread(machine.type, "apt-get remove --yes paceline-gateway")
        assert (data / "spool.db").exists()
        await asyncio.to_thread(machine.type, "apt-get purge --yes paceline-gateway")
        assert not data.exists()


@asynccontextmanager
async def virtual_daemon(folder: Path, bus: str):
    """A Bluetooth daemon with one strap on the bus of the machine, as root: whoever may speak to it is decided by the files of the packages."""
    (folder / "room.json").write_text(json.dumps(room(strap(1))))
    command = [
        sys.executable,
        "-m",
        "simulators.bluez",
        "--address",
        bus,
        "--control",
        str(folder / "control"),
        "--world",
        str(folder / "room.json"),
    ]
    process = await asyncio.create_subprocess_exec(*command, cwd=PROJECT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        yield
    finally:
        process.terminate()
        await process.wait()


async def starts_again_when_it_hangs(machine: DebianMachine) -> bool:
    """Stop the process in its tracks: its watchdog starves, and the manager starts another one, which is well."""
    folder = "/run/systemd/system/paceline-gateway.service.d"
    soon = "[Service]\\nWatchdogSec=5\\nTimeoutStopSec=5\\n"
    machine.type(f"mkdir -p {folder}; printf '{soon}' > {folder}/soon.conf; systemctl daemon-reload; systemctl restart paceline-gateway")
    pid = machine.type("systemctl show -p MainPID --value paceline-gateway").strip()
    machine.type(f"kill -STOP {pid}")
    await machine.until("journalctl -u paceline-gateway -o cat", "Watchdog timeout")
    await machine.until(f"systemctl show -p MainPID --value paceline-gateway | grep -vx -e {pid} -e 0 || true", "\n")
    await machine.until("systemctl show -p StatusText paceline-gateway", "uplink up")
    return machine.type("systemctl show -p NRestarts --value paceline-gateway").strip() != "0"
