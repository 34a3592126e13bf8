"""mosquitto with client certificates whose common name is the user name: no secret travels at all."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from paceline.ca_revocation import BrokerPlace, knock_with
from tests.debian_packages import find_or_unpack, library_environment
from tests.mqtt_client import PahoClient
from tests.servers import make_certificates, start_mosquitto_by_certificate


async def test_the_certificate_is_the_identity(tmp_path: Path) -> None:
    node = make_certificates(tmp_path / "tls", name="gym/box1")
    async with start_mosquitto_by_certificate(tmp_path) as broker:
        with_certificate = ssl.create_default_context(cafile=str(broker.cafile))
        with_certificate.load_cert_chain(node.certfile, node.keyfile)
        with PahoClient(broker, None, client_id="any", context=with_certificate) as box:
            box.subscribe("pl/1/gym/box1/up")
            box.publish("pl/1/gym/box1/up", b"mine")
            box.publish("pl/1/gym/box2/up", b"not mine")
            assert box.stays_connected(0.2)
        assert "as gym/box1" in broker.log()
        without = ssl.create_default_context(cafile=str(broker.cafile))
        assert not knock_with(BrokerPlace(broker.host, broker.port), without)


@pytest.mark.nightly
@pytest.mark.parametrize("lists", ["the machine's", "empty"])
def test_mosquitto_is_unpacked_without_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: str) -> None:
    if lists == "empty":
        (tmp_path / "none" / "partial").mkdir(parents=True)
        (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path}/none";\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    binary = find_or_unpack("mosquitto", "usr/sbin/mosquitto", ("mosquitto",), tmp_path / "tools")
    assert binary.is_relative_to(tmp_path)
    assert not list((tmp_path / "tools").glob("*.deb"))
    done = subprocess.run([str(binary), "-h"], env=library_environment(binary), capture_output=True, text=True, timeout=30, check=False)
    assert "mosquitto version 2" in done.stdout
    if lists == "empty":
        assert not [found for found in (tmp_path / "none").iterdir() if found.is_file()]
