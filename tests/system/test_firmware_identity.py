"""A device whose certificate is its identity: the key is made on it, an authority signs its request, and mosquitto knows it by that alone."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

from broker.bundles import Bundle, decode_bundle
from broker.enrolment import new_code
from broker.frames import Frame, decode_frame
from paceline.device.project import open_project
from paceline.device.simulated import RESET, lay_out
from tests.identity_site import IdentitySite
from tests.mqtt_client import PahoClient
from tests.servers import make_certificates, start_mosquitto_by_certificate
from tests.system.test_firmware_device import Board


def signed(folder: Path, request: str) -> str:
    """The certificate that the authority in `folder` makes for a request, as an operator does it."""
    (folder / "device.csr").write_text(request)
    command = ["openssl", "x509", "-req", "-in", "device.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


async def test_a_broker_knows_a_device_by_the_certificate_for_its_own_key(tmp_path: Path) -> None:
    ingest = make_certificates(tmp_path / "tls", name="platform/ingest")
    async with start_mosquitto_by_certificate(tmp_path) as broker:
        assert broker.cafile is not None
        project = open_project("bike_sensor", "sim")
        lay_out(project, tmp_path / "board", {})
        board = Board(project, tmp_path / "board", "micropython")
        told = {
            "code": f"mqtts://localhost:{broker.port}/gym/keyed#no-password-is-asked",
            "wifi_ssid": "sim",
            "ca_pem": broker.cafile.read_text(),
        }

        async def ask(**asked: object) -> dict[str, object]:
            board.said.clear()
            assert board.process.stdin is not None
            board.process.stdin.write(json.dumps(asked).encode() + b"\n")
            return json.loads(await board.says('"ok": '))

        async with board.running():
            await board.says("join the Wi-Fi")
            refused = await ask(do="set", **told)
            assert not refused["ok"]
            request = await ask(do="request", code=told["code"])
            certificate = signed(tmp_path / "tls", str(request["pem"]))
            assert (await ask(do="certificate", pem=certificate))["ok"]
            assert await ask(do="set", **told) == {"ok": True, "wrong": {}}
            assert await board.ends() == RESET
        context = ssl.create_default_context(cafile=str(broker.cafile))
        context.load_cert_chain(ingest.certfile, ingest.keyfile)
        with PahoClient(broker, None, client_id="any", context=context) as platform:
            platform.subscribe("pl/1/gym/keyed/up")
            async with board.running():
                received = await asyncio.to_thread(platform.wait_messages, 1)
            bundle = decode_bundle(received[0].payload)
        assert isinstance(bundle, Bundle)
        frame = decode_frame(bundle.rows[0])
        assert isinstance(frame, Frame)
        assert frame.device == "keyed"
        assert "as gym/keyed" in broker.log()


async def test_a_device_enrols_by_the_code_of_a_box_and_moves_to_another_root_by_itself(tmp_path: Path) -> None:
    async with IdentitySite(tmp_path) as site:
        project = open_project("bike_sensor", "sim")
        lay_out(project, tmp_path / "board", {})
        board = Board(project, tmp_path / "board", "micropython")
        code, guessed = site.code("gym/keyed"), site.code("gym/guessed")
        told = {"do": "set", "wifi_ssid": "sim"}

        async def ask(**asked: object) -> dict[str, object]:
            board.said.clear()
            assert board.process.stdin is not None
            board.process.stdin.write(json.dumps(asked).encode() + b"\n")
            return json.loads(await board.says('"ok": '))

        async with board.running():
            await board.says("join the Wi-Fi")
            refused = await ask(**told, code=replace(guessed, code=new_code()).text)
            assert "paceline node add" in str(refused["wrong"])
            foreign = await ask(**told, code=replace(code, root="x" * 43).text)
            assert "does not have the authority" in str(foreign["wrong"])
            assert await ask(**told, code=code.text) == {"ok": True, "wrong": {}}
            assert await board.ends() == RESET
        [first] = site.authority.book.certificates("gym/keyed", "node")
        with PahoClient(site.broker, None, client_id="any", context=site.shown("platform/ingest")) as platform:
            site.authority.rotate()
            platform.subscribe("pl/1/gym/keyed/up")
            async with board.running():
                assert await board.ends() == RESET, f"it does not renew and start again: {board.said[-12:]}"
            assert site.authority.behind() == ["gym/box"], "the box of the site does not run"
            site.authority.retire(force=True)
            before = len(platform.messages)
            async with board.running():
                received = await asyncio.to_thread(platform.wait_messages, before + 1)
        bundle = decode_bundle(received[-1].payload)
        assert isinstance(bundle, Bundle)
        latest = site.authority.book.certificates("gym/keyed", "node")
        assert {kept.root for kept in latest} == {first.root, first.root + 1}
        assert {kept.key_hash for kept in latest} == {first.key_hash}, "the key stays in the device"
