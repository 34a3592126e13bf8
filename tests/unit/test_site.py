"""What stays the same from one `paceline run` to the next: ports and secrets; and that one data folder has one site."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.credentials import new_secret
from broker.errors import ConfigError, StoreError
from broker.watch import Watch
from gateway.data_lock import locked_directory
from paceline.cli import cli
from paceline.config import Settings
from paceline.parts import run_api
from paceline.site import Site, open_site, publish_site
from paceline.supervise import free_port


def opened(data: Path, **other: object) -> Site:
    site = open_site(Settings.model_validate({"data": data, **other}))
    publish_site(site)
    return site


def ports(site: Site) -> tuple[int, int]:
    return site.settings.central.port, site.settings.near.port


def test_drawn_ports_are_none_of_those_for_outgoing_connections() -> None:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(10_000 <= free_port(host) < outgoing for host in ("127.0.0.1", "::1") for _ in range(20))


def test_ports_are_drawn_from_those_that_are_named_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = min(free_port() for _ in range(3))
    monkeypatch.setenv("PACELINE_PORTS", f"{first + 1}-{first + 200}")
    drawn = [free_port() for _ in range(20)]
    assert all(first < port <= first + 200 for port in drawn)
    assert len(set(drawn)) == len(drawn)
    monkeypatch.setenv("PACELINE_PORTS", "many")
    with pytest.raises(ConfigError, match="PACELINE_PORTS: 'many' names no ports"):
        free_port()


def test_drawn_ports_are_kept_because_devices_were_told_them(tmp_path: Path) -> None:
    first = opened(tmp_path)
    assert 0 not in ports(first)
    assert ports(opened(tmp_path)) == ports(first)
    assert opened(tmp_path).secret("central", "gym/box") == first.secret("central", "gym/box")


def test_a_kept_port_that_is_taken_meanwhile_is_drawn_again(tmp_path: Path) -> None:
    central, near = ports(opened(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", near))
        taken.listen()
        again = ports(opened(tmp_path))
    assert again[0] == central
    assert again[1] not in {0, near}


def test_a_port_that_is_set_beats_the_kept_one_and_a_damaged_record_is_no_record(tmp_path: Path) -> None:
    opened(tmp_path)
    assert ports(opened(tmp_path, near={"port": 1884}))[1] == 1884
    (tmp_path / "site.json").write_text("{")
    assert 0 not in ports(opened(tmp_path))


def test_second_run_on_a_data_folder_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    opened(tmp_path)
    before = (tmp_path / "site.json").read_bytes()
    with locked_directory(tmp_path, "site"), pytest.raises(ConfigError, match="in use by another site"):
        cli.main(["run", "--data", str(tmp_path), "--port", "0"], standalone_mode=False)
    assert (tmp_path / "site.json").read_bytes() == before


def test_processes_that_start_at_once_in_a_new_folder_draw_the_same_secrets(tmp_path: Path) -> None:
    for turn in range(5):
        settings = Settings.model_validate({"data": tmp_path / str(turn), "api": {"port": 1}})
        with ThreadPoolExecutor(8) as pool:
            sites = list(pool.map(lambda _n, settings=settings: open_site(settings), range(8)))
        assert len({site.settings.api.token.get_secret_value() for site in sites}) == 1
        assert len({site.secret("central", site.box_user) for site in sites}) == 1


def test_second_view_of_a_state_file_is_refused_before_it_touches_anything(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    with locked_directory(folder, "view"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PACELINE_KAFKA__BOOTSTRAP", "127.0.0.1:9")  # nobody is asked there
        with pytest.raises(ConfigError, match="in use by another view") as raised:
            cli.main(["process", "view", "--data", str(tmp_path)], standalone_mode=False)
        assert str(folder) in raised.value.message
        assert raised.value.cure
    assert not (folder / "state.db").exists()


@pytest.mark.parametrize("turn", range(3))
def test_no_secret_looks_like_an_option(turn: int) -> None:
    drawn = {new_secret() for _ in range(200)}
    assert len(drawn) == 200, turn
    assert not [secret for secret in drawn if secret.startswith("-") or len(secret) != 32]


def test_api_alone_in_a_folder_without_a_state_file_says_who_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no state file yet") as caught:
        asyncio.run(run_api(open_site(Settings(data=tmp_path)), Watch("api")))
    assert "paceline run" in caught.value.cure
    assert "kafka.bootstrap" in caught.value.cure
