"""What the doctor says of servers beyond one machine that are away: a finding with the cure of each, and no traceback."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.config import Settings
from paceline.doctor import clock, examine, processes, servers, tracks_folder
from paceline.site import Site
from paceline.supervise import free_port


def test_kafka_and_influx_that_are_away_are_findings_with_cures(tmp_path: Path) -> None:
    kafka, influx = free_port(), free_port()
    settings = Settings.model_validate(
        {
            "data": tmp_path,
            "kafka": {"bootstrap": f"127.0.0.1:{kafka}"},
            "influx": {"url": f"http://127.0.0.1:{influx}", "token": "a-token"},
        }
    )
    found = servers(settings)
    assert {one.check.partition(" ")[0] for one in found} == {"kafka", "influx"}
    for one in found:
        assert not one.ok
        assert one.cure
    assert str(kafka) in found[0].found


def test_servers_that_the_settings_do_not_name_are_not_asked(tmp_path: Path) -> None:
    assert servers(Settings(data=tmp_path)) == []


def test_process_that_left_its_address_and_is_gone_is_a_finding(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "platform.json").write_text(f'{{"host": "127.0.0.1", "port": {free_port()}}}')
    (folder / "gateway.json").write_text("{")
    (found,) = processes(Site(Settings(data=tmp_path)))
    assert (found.check, found.ok) == ("platform ready", False)
    assert "platform.log" in found.cure


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that says the same to everybody; its port."""

    class Says(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Says) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05 no HTTP\r\n\r\n", b"HTTP/1.1 404 none\r\ncontent-length: 2\r\n\r\n{}"])
def test_something_else_at_the_port_of_a_server_or_process_is_a_finding(answer: bytes, tmp_path: Path) -> None:
    with answering(answer) as at:
        (tmp_path / "metrics").mkdir()
        (tmp_path / "metrics" / "platform.json").write_text(f'{{"host": "127.0.0.1", "port": {at}}}')
        (found,) = processes(Site(Settings(data=tmp_path)))
        assert (found.check, found.ok) == ("platform ready", False)
        settings = Settings.model_validate({"data": tmp_path, "influx": {"url": f"http://127.0.0.1:{at}", "token": "a-token"}})
        for one in servers(settings):
            assert not one.ok
            assert one.cure


def test_clock_that_was_never_set_is_a_finding_with_its_cure() -> None:
    found = clock(1_000_000.0)
    assert not found.ok
    assert "timedatectl" in found.cure


def test_folder_of_tracks_is_looked_at_where_stages_share_one(tmp_path: Path) -> None:
    def settings(tracks: str) -> Settings:
        return Settings.model_validate({"data": tmp_path, "stages": {"tracks": tracks}})

    assert tracks_folder(settings("")) == tracks_folder(settings("s3://bucket/tracks")) == []
    assert [(one.check, one.ok) for one in tracks_folder(settings(str(tmp_path)))] == [("tracks folder", True), ("space for tracks", True)]
    (missing,) = tracks_folder(settings(str(tmp_path / "none")))
    assert not missing.ok
    assert "stages.tracks" in missing.cure


def test_port_of_a_broker_elsewhere_is_not_asked_to_be_free_here(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"data": tmp_path, "central": {"kind": "external", "host": "192.0.2.1", "port": 8883}, "api": {"port": free_port()}}
    )
    checks = {one.check: one.ok for one in asyncio.run(examine(Site(settings), running=False))}
    assert "central broker port" not in checks
    assert checks["page port"]
