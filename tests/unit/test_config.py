"""Settings: file, then environment, then options; unknown keys name their place and the nearest known key; secrets are masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.errors import ConfigError
from broker.nodeconfig import parse_node_config
from gateway.settings import load_settings
from paceline.config import as_environment, known_keys, load


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return path


def test_defaults_need_nothing() -> None:
    loaded = load(None, {})
    assert loaded.origins == {}
    assert str(loaded.settings.data) == "data"


def test_environment_wins_over_file_and_option_over_both(tmp_path: Path) -> None:
    path = write(tmp_path, 'tenant = "a"\n[api]\nport = 1\n[gateway.spool]\ncap_bytes = 2000000\n')
    loaded = load(path, {"PACELINE_API__PORT": "2", "PACELINE_GATEWAY__SPOOL__CAP_BYTES": "3000000", "HOME": "/"}, {"api.port": 3})
    assert (loaded.settings.tenant, loaded.settings.api.port, loaded.settings.gateway.spool.cap_bytes) == ("a", 3, 3_000_000)
    origins = {key: origin for key, _, origin in loaded.rows()}
    assert origins["tenant"] == str(path)
    assert origins["api.port"] == "option"
    assert origins["gateway.spool.cap_bytes"] == "PACELINE_GATEWAY__SPOOL__CAP_BYTES"
    assert origins["near.port"] == "default"


def test_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    path = write(tmp_path, 'tenant = "a"\n')
    assert load(None, {"PACELINE_CONFIG": str(path)}).settings.tenant == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gateway.spool]\ncap_byte = 1\n", ("site.toml", "gateway.spool.cap_byte", "did you mean gateway.spool.cap_bytes?")),
        ("[gateway.spool]\ncap_bytes = 10\n", ("site.toml", "gateway.spool.cap_bytes", "greater than or equal")),
        ('tenant = "Not An Id"\n', ("site.toml", "tenant", "not an id")),
        ("tenant = \n", ("site.toml", "line 1")),
        ("[gateway]\nfiles = [{path = 'a.fit', speeds = 2}]\n", ("site.toml", "gateway.files.0.speeds", "Extra inputs")),
    ],
)
def test_wrong_file_names_file_key_and_cure(tmp_path: Path, text: str, says: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), {})
    for part in says:
        assert part in str(caught.value)


def test_wrong_variable_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"PACELINE_API__PRT\n.*PACELINE_API__PORT"):
        load(None, {"PACELINE_API__PRT": "1"})


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file"):
        load(tmp_path / "none.toml", {})


def test_secrets_are_masked() -> None:
    shown = {key: value for key, value, _ in load(None, {"PACELINE_API__TOKEN": "hush"}).rows()}
    assert shown["api.token"] == "********"


@pytest.mark.parametrize("share", ["all", "ingest", "a/plus/+/and/hash/#", "S" * 20, "a" * 33])
def test_a_group_of_ingest_processes_that_can_be_guessed_is_refused_with_the_cure(share: str) -> None:
    with pytest.raises(ConfigError, match=r"PACELINE_INGEST__SHARE.*openssl rand") as caught:
        load(None, {"PACELINE_INGEST__SHARE": share})
    assert repr(share) not in str(caught.value)


def test_the_group_of_ingest_processes_reaches_a_child_and_is_shown_to_nobody() -> None:
    loaded = load(None, {"PACELINE_INGEST__SHARE": "0123456789abcdef"})
    assert "0123456789abcdef" not in str(loaded.rows())
    assert as_environment(loaded.settings)["PACELINE_INGEST__SHARE"] == "0123456789abcdef"


def test_key_of_the_radio_reaches_a_child_and_is_shown_to_nobody(tmp_path: Path) -> None:
    path = write(tmp_path, '[gateway.ant]\nenabled = true\nkey = "0123456789abcdef"\nsticks = ["usb", "/dev/ttyUSB0"]\n')
    loaded = load(path, {})
    assert load(None, as_environment(loaded.settings)).settings == loaded.settings
    rows = {key: value for key, value, _ in loaded.rows()}
    assert rows["gateway.ant.key"] == "********"
    assert {key: value for key, value, _ in load(None, {}).rows()}["gateway.ant.key"] == "(none)"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("enabled = true", "16 hex digits"),
        ('enabled = true\nkey = "0123456789abcdeg"', "16 hex digits"),
        ('enabled = true\nkey = "0123456789abcdef"\nsticks = []', "at least one"),
        ('enabled = true\nkey = "0123456789abcdef"\nsticks = ["ttyUSB0"]', "ttyUSB0"),
        ('enabled = true\nkey = "0123456789abcdef"\nsticks = ["/dev/a", "/dev/a"]', "named twice"),
    ],
)
def test_wrong_radio_is_refused_without_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, f"[gateway.ant]\n{text}\n"), {})
    assert says in str(caught.value)
    assert "gateway.ant" in str(caught.value)
    assert "0123456789" not in str(caught.value)


def test_a_child_gets_exactly_these_settings(tmp_path: Path) -> None:
    path = write(tmp_path, "[api]\nport = 5\ntoken = 'hush'\n[gateway]\nfiles = [{path = 'a.fit', athlete = 'ann', speed = 10}]\n")
    settings = load(path, {}).settings
    assert load(None, as_environment(settings)).settings == settings


def test_every_key_can_be_given_in_the_environment() -> None:
    environment = as_environment(load(None, {}).settings)
    assert len(environment) == len(known_keys())
    assert load(None, environment).settings == load(None, {}).settings


FILE = {"path": "a.fit", "shift": "now"}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TENANT", "Gym A", "PACELINE_TENANT: tenant: .*'Gym A' is not an id"),
        ("TENANT", "platform", "PACELINE_TENANT: tenant: .*reserved"),
        ("GATEWAY__NODE", "upload", "PACELINE_GATEWAY__NODE: gateway.node: .*reserved for uploaded files"),
        ("GATEWAY__NODE", "-x", "PACELINE_GATEWAY__NODE: gateway.node: .*is not an id"),
        ("GATEWAY__FILES", json.dumps([FILE | {"athlete": "Ann B"}]), r"gateway\.files\.0\.athlete: .*'Ann B' is not an id"),
        ("GATEWAY__FILES", json.dumps([FILE, FILE | {"device": "a/b"}]), r"gateway\.files\.1\.device: .*'a/b' is not an id"),
        ("GATEWAY__FILES", json.dumps([FILE, FILE]), "gateway.files: .*two replays are the same"),
        ("GATEWAY__FILES", json.dumps([FILE | {"device": "d"}, FILE | {"device": "d", "speed": 2}]), "gateway.files: .*same device"),
        ("CENTRAL__HOST", "", "central.host: "),
    ],
)
def test_wrong_id_or_name_is_refused_with_its_key(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(None, {f"PACELINE_{name}": value})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"tenant": "Gym"}, "tenant"),
        ({"tenant": "platform"}, "tenant"),
        ({"node": "a b"}, "node"),
        ({"files": [FILE | {"device": "?"}]}, r"files\.0\.device"),
        ({"files": [FILE, FILE]}, "files"),
        ({"near": {"host": "h", "port": 1, "username": "gym/box", "password": "p"}}, "near"),
    ],
)
def test_gateway_file_is_refused_with_its_key(tmp_path: Path, change: dict[str, object], key: str) -> None:
    path = tmp_path / "gateway.json"
    good = {"data_dir": "d", "tenant": "gym", "node": "box", "password": "p", "uplink": {"host": "h", "port": 1}}
    path.write_text(json.dumps(good | change))
    with pytest.raises(ConfigError, match=rf"gateway\.json: {key}: "):
        load_settings(path)


@pytest.mark.parametrize(("device", "athlete"), [("D", "ann"), ("d", "Ann")])
def test_node_configuration_is_refused_with_its_key(device: str, athlete: str) -> None:
    raw = json.dumps({"version": 1, "bindings": [{"device": device, "athlete": athlete}]}).encode()
    with pytest.raises(ConfigError, match=r"cfg: bindings\.0\.(device|athlete): .*is not an id"):
        parse_node_config(raw, "cfg")
