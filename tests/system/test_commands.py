"""Commands on a real data folder made by a short run: doctor, replay, dlq, config, api and ingest alone, mosquitto from its written file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.topics import topic
from paceline.link import Link, publishing
from paceline.live_client import fetch_live
from paceline.site import Site, add_nodes, publish_site
from paceline.supervise import Role, at_once
from paceline.verify import pending, read_stored
from processors.stores import fingerprint
from simulators.gym import GymSettings, run_gym
from tests.debian_packages import library_environment
from tests.mqtt_client import PahoClient
from tests.servers import ServedBroker, find_or_install_mosquitto, free_port
from tests.system.stack import Stack

NOBODY = GymSettings("127.0.0.1", 1, "gym", 1, "", seconds=3.0)


def paceline(*args: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "paceline", *map(str, args)], capture_output=True, text=True, timeout=240, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")},
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if not code or done.stdout else done.stderr


async def run(*args: object, code: int = 0) -> str:
    return await asyncio.to_thread(paceline, *args, code=code)


async def findings(data: Path, code: int) -> dict[str, dict[str, Any]]:
    said = json.loads(await run("doctor", "--data", data, "--json", code=code))
    assert said["ok"] is (code == 0)
    return {one["check"]: one for one in said["findings"]}


def wrong(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    assert all(one["cure"] for one in found.values() if not one["ok"])
    return {name: one["found"] for name, one in found.items() if not one["ok"]}


async def settled(stack: Stack) -> None:
    async with asyncio.timeout(60):
        while pending(stack.site.state_db) or not stack.site.state_db.exists():
            await asyncio.sleep(0.2)


async def online(stack: Stack) -> None:
    async with asyncio.timeout(60):
        while not any(node["online"] for node in (await fetch_live(stack.site) or {"nodes": ()})["nodes"]):
            await asyncio.sleep(0.2)


async def offline(stack: Stack) -> None:
    """The platform has heard that its box ended."""
    async with asyncio.timeout(60):
        while any(node["online"] for node in (await fetch_live(stack.site) or {"nodes": ({"online": True},)})["nodes"]):
            await asyncio.sleep(0.2)


async def refused(stack: Stack, count: int) -> None:
    """So many dead letters are stored."""
    async with asyncio.timeout(60):
        while dead_letters(stack.site.log_db) != count:
            await asyncio.sleep(0.2)


def dead_letters(log_db: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{log_db}?mode=ro", uri=True)) as db:
        return db.execute("SELECT count(*) FROM dead").fetchone()[0]


async def bad_message(site: Site) -> None:
    user = f"{site.settings.tenant}/stranger"
    secret = add_nodes(site, "central", [user])[user]
    where = site.settings.central
    async with publishing(Link(where.host, where.port, user, secret)) as publish:
        await publish(topic(site.settings.tenant, "stranger", "up"), b"no bundle")


async def test_commands_on_the_data_of_a_short_run(tmp_path: Path) -> None:
    data = tmp_path / "site"
    async with Stack(data, NOBODY) as stack:
        publish_site(stack.site)
        await online(stack)
        assert wrong(await findings(data, 0)) == {}
        assert stack.gym_settings is not None
        assert (await run_gym(stack.gym_settings)).drained
        await bad_message(stack.site)
        await refused(stack, 1)
        await settled(stack)

        await stack.end("gateway")
        await offline(stack)
        found = wrong(await findings(data, 1))
        assert set(found) == {"platform"}  # no box online; its credential was tried and works
        known = json.loads((data / "secrets" / "secrets.json").read_text())
        (data / "secrets" / "secrets.json").write_text(json.dumps({**known, "central:gym/box": "wrong"}))
        found = wrong(await findings(data, 1))
        assert set(found) == {"platform", "rights of the box"}
        assert "refuses gym/box" in found["rights of the box"]
        (data / "secrets" / "secrets.json").write_text(json.dumps(known))
        await stack.kill("broker-near")
        assert "near broker" in wrong(await findings(data, 1))
        assert "cure: start it" in await run("doctor", "--data", data, code=1)

    listed = json.loads(await run("dlq", "list", "--data", data, "--json"))
    assert listed["counts"] == {"bad_bundle": 1}
    number = listed["letters"][0]["id"]
    assert "bad_bundle" in await run("dlq", "list", "--data", data)
    assert "bad_bundle" in await run("dlq", "show", number, "--data", data)
    assert "bad_bundle" in await run("dlq", "show", number, "--data", data, "--json")
    assert "no dead letter 999" in await run("dlq", "show", 999, "--data", data, code=1)
    tried = json.loads(await run("dlq", "replay", number, "--data", data, "--json"))
    assert (tried["records"], tried["done"], list(tried["still_refused"])) == (0, [], [str(number)])
    assert f"{number}: still" in await run("dlq", "replay", "--all", "--data", data)
    assert "--all" in await run("dlq", "replay", "--data", data, code=2)

    again = json.loads(await run("replay", "--data", data, "--to", tmp_path / "again.db", "--json"))
    assert again["fingerprint"] == fingerprint(stack.site.state_db)
    small = json.loads(await run("replay", "--data", data, "--to", tmp_path / "small.db", "--batch", 1, "--json"))
    assert small == again
    assert "exists already" in await run("replay", "--data", data, "--to", tmp_path / "again.db", code=2)
    assert "there is no log" in await run("replay", "--data", tmp_path / "none", "--to", tmp_path / "x.db", code=2)

    shown = json.loads(await run("config", "show", "--data", data, "--json"))
    assert shown["data"] == {"value": str(data), "origin": "option"}
    assert json.loads(await run("config", "check", "--data", data, "--json"))["ok"] is True
    (tmp_path / "bad.toml").write_text("tenent = 'gym'")
    assert "did you mean tenant?" in await run("config", "check", "--config", tmp_path / "bad.toml", code=2)


async def test_ingest_alone_acknowledges_and_api_alone_shows_what_is_stored(tmp_path: Path) -> None:
    async with Stack(tmp_path / "site", NOBODY) as stack:
        assert stack.gym_settings is not None
        report = await run_gym(stack.gym_settings)
        await settled(stack)
        await stack.end("platform")
        platform = stack.roles["platform"]
        stack.roles |= {"api": replace(platform, name="api", args=("api",)), "ingest": Role("ingest", ("ingest",), platform.env, at_once)}
        await stack.start("ingest")
        assert (await run_gym(stack.members(replace(NOBODY, name="late")))).drained
        await stack.start("api")
        api = stack.site.settings.api
        snapshot = json.loads(await asyncio.to_thread(_get, f"http://{api.host}:{api.port}/api/live"))
        assert snapshot["frames_stored"] == report.frames_made
        assert [one["subject"] for one in snapshot["athletes"]] == ["gym/member0000"]  # nobody ran the stages for the late one
        await stack.end("ingest")
    await run("replay", "--data", tmp_path / "site", "--to", tmp_path / "all.db", "--json")
    assert set(read_stored(tmp_path / "all.db").samples) == {"gym/member0000", "gym/late0000"}


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:
        return response.read()


async def test_mosquitto_starts_with_what_broker_config_wrote(tmp_path: Path) -> None:
    home, port = tmp_path / "mosquitto", free_port()
    said = paceline("broker", "config", "mosquitto", "--directory", home, "--port", port, "--user", "gym/box", "--user", "platform/ingest")
    secrets = dict(line.split() for line in said.splitlines() if line.startswith(("gym/", "platform/")))
    binary = find_or_install_mosquitto()
    config = home / "mosquitto.conf"
    if os.geteuid() == 0:
        config.write_text(config.read_text() + "\nuser root\n")  # else it gives up root and cannot read the test's folder
    broker = ServedBroker(
        "mosquitto", lambda _: [str(binary), "-c", str(config)], library_environment(binary), home / "passwords", tmp_path / "log", port,
        secrets=secrets,
    )  # fmt: skip
    await broker.start()
    try:
        with PahoClient(broker, "platform/ingest") as platform, PahoClient(broker, "gym/box") as box:
            platform.subscribe("pl/1/+/+/up")
            box.publish("pl/1/gym/other/up", b"not its own")
            box.publish("pl/1/gym/box/up", b"its own")
            assert platform.wait_messages(1)[0].payload == b"its own"
    finally:
        await broker.stop()


@pytest.mark.parametrize("way", ["a file in the way", "no rights"])
def test_doctor_says_when_the_folder_cannot_be_written(tmp_path: Path, way: str) -> None:
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" / "data" if way == "a file in the way" else Path("/proc/data")
    said = paceline("doctor", "--data", data, code=1)
    assert "WRONG data folder" in said
    assert "--data" in said


def test_doctor_says_which_port_is_taken_before_the_first_run(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "site.toml"
        config.write_text(f"[central]\nport = {taken.getsockname()[1]}\n[api]\nport = 0\n")
        said = paceline("doctor", "--config", config, "--data", tmp_path / "new", code=1)
    assert "WRONG central broker port" in said
    assert not (tmp_path / "new").exists()


def test_running_site_names_the_missing_folder(tmp_path: Path) -> None:
    said = paceline("simulate", "--data", tmp_path / "none", code=2)
    assert "site.json" in said
