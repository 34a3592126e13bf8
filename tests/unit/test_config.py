"""Settings: file, then environment, then options; unknown keys name their place and the nearest known key; secrets are masked."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import ConfigError
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


def test_a_child_gets_exactly_these_settings(tmp_path: Path) -> None:
    path = write(tmp_path, "[api]\nport = 5\ntoken = 'hush'\n[gateway]\nfiles = [{path = 'a.fit', athlete = 'ann', speed = 10}]\n")
    settings = load(path, {}).settings
    assert load(None, as_environment(settings)).settings == settings


def test_every_key_can_be_given_in_the_environment() -> None:
    environment = as_environment(load(None, {}).settings)
    assert len(environment) == len(known_keys())
    assert load(None, environment).settings == load(None, {}).settings
