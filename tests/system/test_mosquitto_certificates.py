"""mosquitto with client certificates whose common name is the user name: no secret travels at all."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from broker.mosquitto import MosquittoSettings, TlsSettings, password_path, write_config
from tests.debian_packages import find_or_unpack, library_environment
from tests.mqtt_client import ConnectRefusedError, PahoClient
from tests.servers import ServedBroker, find_or_install_mosquitto, free_port, make_certificates


async def test_the_certificate_is_the_identity(tmp_path: Path) -> None:
    server = make_certificates(tmp_path / "tls")
    node = make_certificates(tmp_path / "tls", name="gym/box1")
    tls = TlsSettings(
        certfile=server.certfile,
        keyfile=server.keyfile,
        cafile=server.cafile,
        require_client_certificate=True,
        certificate_is_identity=True,
    )

    def settings(port: int) -> MosquittoSettings:
        run_as = "root" if os.geteuid() == 0 else ""
        return MosquittoSettings(directory=tmp_path / "home", port=port, tls=tls, platform_users=("platform/ingest",), run_as=run_as)

    binary = find_or_install_mosquitto()
    port = free_port()
    write_config(settings(port))
    broker = ServedBroker(
        kind="mosquitto-tls",
        command=lambda p: [str(binary), "-c", str(write_config(settings(p)))],
        environment=library_environment(binary),
        password_file=password_path(settings(port)),
        log_path=tmp_path / "log",
        port=port,
        cafile=server.cafile,
    )
    await broker.start()
    try:
        with_certificate = ssl.create_default_context(cafile=str(server.cafile))
        with_certificate.load_cert_chain(node.certfile, node.keyfile)
        with PahoClient(broker, None, client_id="any", context=with_certificate) as box:
            box.subscribe("pl/1/gym/box1/up")
            box.publish("pl/1/gym/box1/up", b"mine")
            box.publish("pl/1/gym/box2/up", b"not mine")
            assert box.stays_connected(0.2)
        assert "as gym/box1" in broker.log()
        with pytest.raises((ConnectRefusedError, OSError)):
            PahoClient(broker, None, client_id="any").connect()
    finally:
        await broker.stop()


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
