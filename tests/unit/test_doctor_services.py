"""What the doctor says of servers beyond one machine that are away: a finding with the cure of each, and no traceback."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
