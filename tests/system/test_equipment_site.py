"""A whole site commands a virtual trainer: the HTTP API and `paceline equipment`, through platform, broker and box, over kills of the platform."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from paceline.site import publish_site
from paceline.site_api import ask
from simulators.bluez.process import virtual_bluetooth
from tests.system.coach import seen
from tests.system.stack import Stack
from tests.virtual_room import room

pytestmark = pytest.mark.timeout(900)  # as slow as the machine is busy
BIKE, BIKE_ID = "C0:00:00:00:0B:1C", "ble-c00000000b1c"
LIMIT_S = 300.0


async def paceline(*args: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paceline", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(os.environ)
    )
    async with asyncio.timeout(LIMIT_S):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_command_line_and_api_command_a_machine_of_a_running_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "site"
    bike = {"kind": "trainer", "address": BIKE, "name": "Bike 1", "seed": 1}
    async with virtual_bluetooth(tmp_path / "room", room(bike)) as bluetooth:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bluetooth.address)
        async with Stack(data, gateway={"ble": {"enabled": True}}) as stack:
            publish_site(stack.site)

            async def api(method: str, path: str, body: object = None) -> dict[str, Any]:
                return await asyncio.to_thread(ask, stack.site, method, path, body)

            async def look() -> dict[str, float]:
                return (await bluetooth.do("look", device=BIKE))["state"]

            async def heard() -> dict[str, float]:
                return {one["device"]: one["stored"] for one in (await api("GET", "devices"))["devices"]}

            async def send(*args: str) -> tuple[int, str]:
                return await paceline("equipment", "send", BIKE_ID, *args, "--data", str(data))

            await seen(heard, lambda devices: devices.get(BIKE_ID, 0) > 0)
            code, said = await send("target_power_w", "200")
            assert code == 1
            assert "nobody is bound to" in said
            assert "cure: bind an athlete" in said

            await api("POST", "bindings", {"node": "box", "device": BIKE_ID, "athlete": "ann", "name": "Ann"})
            await _until_taken(send)
            await seen(look, lambda state: abs(state["power_w"] - 200) < 3)

            code, said = await send("target_power_w", "2500")
            assert code == 1
            assert "refused limit" in said
            assert "the machine allows 0 to 1000 W" in said

            # a command sent while the platform is killed and started again is answered in the end, once
            sent = await api(
                "POST", f"equipment/{BIKE_ID}", {"order": {"action": "simulation", "grade_pct": 3}, "id": "my-road-1", "good_for_s": 120}
            )
            assert sent["state"] == "sent"
            await stack.kill("platform")
            await stack.start("platform")

            async def state_of() -> dict[str, Any]:
                return await api("GET", f"equipment/{BIKE_ID}/my-road-1")

            assert (await seen(state_of, lambda line: line["state"] in {"done", "refused", "lost"}))["state"] == "done"
            await seen(look, lambda state: state["grade_pct"] == 3)

            code, said = await paceline("equipment", "send", BIKE_ID, "stop", "--json", "--data", str(data))
            assert (code, json.loads(said)["state"]) == (0, "done"), said
            await seen(look, lambda state: state["running"] == 0)
            code, said = await paceline("equipment", "log", "--data", str(data))
            assert code == 0
            assert "simulation 3" in said
            assert said.rstrip().endswith("done")


async def _until_taken(send: Any) -> None:
    """The box is told of the binding a second or two after it was made."""
    for _ in range(60):
        code, said = await send("target_power_w", "200")
        if code == 0:
            assert "done" in said
            return
        assert "not_bound" in said or "not_live" in said or "not_controllable" in said, said
    raise AssertionError(said)
