"""`paceline gateway` with sensors, from the outside: a gateway process that hears straps, and the commands beside it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.bluez.process import VirtualBluetooth, environment, virtual_bluetooth
from tests.virtual_room import room, strap

LIMIT_S = 60.0
ASKS = {
    "services": [
        {"uuid": "180D", "characteristics": [{"uuid": "2A37", "flags": ["notify"], "encrypted": True}]},
        {"uuid": "180A", "characteristics": [{"uuid": "2A29", "flags": ["read"], "value": "4d616b6572"}]},
    ]
}


@pytest.fixture
async def bluetooth(tmp_path: Path) -> AsyncIterator[VirtualBluetooth]:
    asks = strap(3, advertise_s=0.2, passkey="004711") | {"kind": "table", "options": ASKS}
    async with virtual_bluetooth(tmp_path / "bluez", room(strap(1, advertise_s=0.2), strap(2, advertise_s=0.2), asks)) as served:
        yield served


async def paceline(bluetooth: VirtualBluetooth, *args: str, **settings: str) -> tuple[int, str, str]:
    variables = {f"PACELINE_GATEWAY__BLE__{name.upper()}": value for name, value in settings.items()}
    env = {**environment(bluetooth.address), **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paceline", "gateway", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    async with asyncio.timeout(LIMIT_S):
        out, error = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), error.decode()


async def devices(bluetooth: VirtualBluetooth, folder: Path) -> dict[str, dict[str, object]]:
    _, out, _ = await paceline(bluetooth, "devices", "--data", str(folder), "--json")
    return {row["device"]: row for row in json.loads(out)["devices"]} if out else {}


async def test_scan_lists_straps_with_profile_and_reason(bluetooth, tmp_path):
    code, out, error = await paceline(bluetooth, "scan", "--seconds", "2", "--json", "--data", str(tmp_path / "site"), deny='["Strap 2"]')
    assert code == 0, error
    rows = {row["device"]: row for row in json.loads(out)["devices"]}
    assert rows["ble-c00000000001"]["profiles"] == ["heart_rate_measurement"]
    assert (rows["ble-c00000000001"]["state"], rows["ble-c00000000002"]["state"]) == ("near", "refused")
    assert "gateway.ble.deny" in rows["ble-c00000000002"]["reason"]
    _, table, _ = await paceline(bluetooth, "scan", "--seconds", "1", "--data", str(tmp_path / "site"))
    assert "ble-c00000000001" in table


async def test_scan_without_a_daemon_says_the_cure(bluetooth, tmp_path):
    await bluetooth.kill()
    code, _, error = await paceline(bluetooth, "scan", "--seconds", "1", "--data", str(tmp_path / "site"))
    assert (code, "systemctl start bluetooth" in error) == (1, True)


async def test_pairing_of_a_device_that_is_not_there_names_it(bluetooth, tmp_path):
    code, _, error = await paceline(bluetooth, "pair", "Nobody", "--seconds", "1", "--data", str(tmp_path / "site"))
    assert (code, "'Nobody' is not heard" in error) == (1, True)


async def test_strap_that_asks_for_pairing_is_live_after_the_command_and_a_wrong_passkey_is_refused(bluetooth, tmp_path):
    site = tmp_path / "site"
    env = {
        **environment(bluetooth.address),
        "PACELINE_GATEWAY__BLE__ENABLED": "true",
        "PACELINE_CENTRAL__PORT": "1",
        "PACELINE_NEAR__PORT": "1",
    }
    with (tmp_path / "gateway.log").open("wb") as log:
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "paceline", "gateway", "--data", str(site), env=env, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(2 * LIMIT_S):
            while True:
                known = await devices(bluetooth, site)
                states = {device[-1]: (row["state"], row["reason"]) for device, row in known.items()}
                if [states.get(n, ("", ""))[0] for n in "12"] == ["live", "live"] and "asks to be paired" in str(states.get("3")):
                    break
                await asyncio.sleep(0.3)
            assert known["ble-c00000000001"]["battery_pct"] == 87
            assert known["ble-c00000000001"]["about"]
            code, _, error = await paceline(bluetooth, "pair", "Strap 3", "--passkey", "1", "--data", str(site))
            assert (code, "passkey" in error) == (1, True)
            code, out, error = await paceline(bluetooth, "pair", "ble-c00000000003", "--passkey", "4711", "--data", str(site))
            assert (code, out.strip()) == (0, "ble-c00000000003 is paired"), error
            while (await devices(bluetooth, site)).get("ble-c00000000003", {}).get("state") != "live":
                await asyncio.sleep(0.3)
    finally:
        gateway.terminate()
        async with asyncio.timeout(LIMIT_S):
            await gateway.wait()
    assert gateway.returncode == 0, (tmp_path / "gateway.log").read_text()[-3000:]
    code, _, error = await paceline(bluetooth, "devices", "--data", str(tmp_path / "other"))
    assert (code, "no gateway with a radio" in error) == (2, True)
