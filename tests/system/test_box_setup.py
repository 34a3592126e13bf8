"""First start of a box: page, code, a try on a real broker, then the gateway; later starts go straight to it. In a real browser too."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat

import pytest

from simulators.bluez.process import virtual_bluetooth
from tests.chromium import open_chromium
from tests.servers import ServedBroker, free_port, start_amqtt, start_mosquitto
from tests.system.box_process import BoxProcess, read, until_shown
from tests.system.gateway_process import BOX, PLATFORM, Collector
from tests.virtual_room import room, strap

USERS = (BOX, PLATFORM)
DEVICES = {
    "written_us": 1_790_000_000_000_000,
    "devices": [
        {"device": "ble-a4c138010203", "kind": "ble", "name": "Chest strap 7", "profiles": ["heart_rate_measurement"], "rssi_dbm": -61,
         "battery_pct": 80, "state": "live", "reason": ""},
        {"device": "ant-17-4711", "kind": "ant", "name": "Trainer 3", "profiles": ["fitness_equipment"], "rssi_dbm": None, "battery_pct": None,
         "state": "near", "reason": ""},
        {"device": "ble-ffeeddccbbaa", "kind": "ble", "name": "Treadmill by the window", "profiles": ["treadmill_data"], "rssi_dbm": -88,
         "battery_pct": None, "state": "waiting", "reason": "for a free connection: 7 of 7 are in use"},
    ],
}  # fmt: skip


def form_of(broker: ServedBroker, code: str, **more: str) -> dict[str, str]:
    return {"code": code, "host": broker.host, "port": str(broker.port), "node": BOX, "password": broker.password(BOX), **more}


async def test_a_box_is_set_up_once_and_goes_on_by_itself_after_a_kill(tmp_path):
    async with start_amqtt(tmp_path / "central", users=USERS) as broker, Collector(broker) as platform:
        box = BoxProcess(tmp_path, env={"RUNTIME_DIRECTORY": str(tmp_path)})
        box.start()
        url, code = await box.page()
        assert code in (tmp_path / "setup.issue").read_text()
        assert "Set up this box" in (await read(url))[1]
        assert f'value="{code}"' in (await read(f"{url}?code={code}"))[1]

        status, page = await read(url, form_of(broker, "AAAA-AAAA"))
        assert (status, "not the code of this box" in page) == (403, True)
        status, page = await read(url, form_of(broker, code, port="no"))
        assert (status, "a port is a number" in page) == (422, True)
        status, page = await read(url, form_of(broker, code, password="wrong-word"))
        assert (status, "refused" in page) == (502, True), page
        status, page = await read(url, form_of(broker, code, port=str(free_port())))
        assert (status, "127.0.0.1:" in page) == (502, True), page
        assert not (box.data_dir / "uplink.json").exists()

        status, page = await read(url, form_of(broker, code))
        assert status == 200
        page = await until_shown(url, ">up<")
        assert BOX in page
        assert stat.S_IMODE((box.data_dir / "uplink.json").stat().st_mode) == 0o600
        assert broker.password(BOX) not in page + box.log()
        assert not (tmp_path / "setup.issue").exists()
        await read(url, form_of(broker, code, host="elsewhere"))  # the code is used up: nothing is taken any more
        assert json.loads((box.data_dir / "uplink.json").read_text())["host"] == broker.host
        assert (await read(url, Host="evil.example"))[0] == 421
        await platform.until(lambda p: p.state.get("online"))

        await box.end(signal.SIGKILL)
        box.start()
        await box.said("uplink to .* is up")
        assert "is not set up yet" not in box.log()
        assert await box.end() == 0, box.log()


async def test_sensors_near_are_listed_before_anybody_sets_the_box_up_and_live_afterwards(tmp_path):
    async with (
        start_amqtt(tmp_path / "central", users=USERS) as broker,
        virtual_bluetooth(tmp_path / "air", room(strap(1), strap(2))) as air,
    ):
        box = BoxProcess(tmp_path, env={"DBUS_SYSTEM_BUS_ADDRESS": air.address, "PACELINE_GATEWAY__BLE__ENABLED": "true"})
        box.start()
        url, code = await box.page()
        page = await until_shown(url, "Strap 2")
        assert "Set up this box" in page
        assert "heart rate measurement" in page
        assert (await read(url, form_of(broker, code)))[0] == 200
        page = await until_shown(url, ">live<")
        assert "Strap 1" in page
        assert await box.end() == 0, box.log()


async def test_wrong_codes_close_the_page_for_a_while(tmp_path):
    async with start_amqtt(tmp_path / "central", users=USERS) as broker:
        box = BoxProcess(tmp_path)
        box.start()
        url, code = await box.page()
        answers = [(await read(url, form_of(broker, "AAAA-AAAA")))[0] for _ in range(5)]
        assert answers == [403] * 5
        status, page = await read(url, form_of(broker, code))
        assert (status, "too many wrong codes: try again in" in page) == (429, True)
        assert not (box.data_dir / "uplink.json").exists()
        assert await box.end() == 0, box.log()


async def test_authority_of_the_broker_can_be_pasted_and_the_page_closed_afterwards(tmp_path):
    async with start_mosquitto(tmp_path / "central", users=USERS, tls=True) as broker:
        assert broker.cafile is not None
        box = BoxProcess(tmp_path, env={"PACELINE_BOX__AFTER": "closed"})
        box.start()
        url, code = await box.page()
        form = form_of(broker, code, tls="on", host="localhost")
        status, page = await read(url, form)
        assert (status, "TLS failed" in page) == (502, True), page
        status, page = await read(url, {**form, "ca_pem": broker.cafile.read_text()})
        assert (status, "This page is closed now" in page) == (200, True), page
        await box.said("uplink to .* is up")
        with pytest.raises(OSError, match="refused"):
            await read(url)
        assert await box.end() == 0, box.log()


async def test_a_taken_port_and_a_taken_folder_are_said_with_their_cure(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        box = BoxProcess(tmp_path, env={"PACELINE_BOX__PORT": str(other.getsockname()[1])})
        box.start()
        assert await asyncio.to_thread(box.process.wait, 60) == 2
        assert "box.port" in box.log()
    first, second = BoxProcess(tmp_path), BoxProcess(tmp_path)
    first.start()
    await first.page()
    second.log_path = tmp_path / "second.log"
    second.start()
    assert await asyncio.to_thread(second.process.wait, 60) == 2
    assert "in use by another gateway" in second.log()
    assert await first.end() == 0, first.log()


async def test_a_person_with_a_phone_sets_a_box_up_in_a_real_browser(tmp_path):
    async with start_amqtt(tmp_path / "central", users=USERS) as broker, open_chromium() as browser:
        box = BoxProcess(tmp_path)
        box.start()
        url, code = await box.page()
        (box.data_dir / "devices.json").write_text(json.dumps(DEVICES))
        page = await browser.page(390, 844)
        await page.go(f"{url}?code={code}")
        assert await page.js("document.querySelector('#code').value") == code
        assert await page.js("document.documentElement.scrollWidth <= innerWidth")
        await fill(page, host=broker.host, port="1", node=BOX, password=broker.password(BOX))
        await page.click("input[name=tls]")
        await page.click("button")
        await page.until("document.querySelector('[role=alert]')?.textContent.includes('Check host, port')")
        await fill(page, port=str(broker.port), password=broker.password(BOX))
        await page.click("button")
        await page.until("document.querySelector('h1').textContent === 'gym/box'")
        async with asyncio.timeout(60):
            while await page.js("document.querySelector('dd').textContent") != "up":
                await page.go(url)
        assert await page.js("[...document.querySelectorAll('li b')].map(b => b.textContent)") == [d["name"] for d in DEVICES["devices"]]
        assert await page.js("document.documentElement.scrollWidth <= innerWidth")
        assert all(asked.startswith((url, "data:")) for asked in page.requests)
        assert [said for said in page.complaints if "502" not in said] == []
        assert await box.end() == 0, box.log()


async def fill(page, **fields: str) -> None:
    for name, text in fields.items():
        await page.click(f"#{name}")
        await page.js(f"document.querySelector('#{name}').select()")
        await page.write(text)
