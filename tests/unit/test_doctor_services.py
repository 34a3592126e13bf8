"""What the doctor says of servers beyond one machine that are away: a finding with the cure of each, and no traceback."""

from __future__ import annotations

from pathlib import Path

from paceline.config import Settings
from paceline.doctor import processes, servers
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
