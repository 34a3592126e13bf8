"""Tokens: made once, kept as hashes, refused when revoked, and nothing to guess from."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.errors import BadInputError, ConfigError
from paceline.cli import cli
from processors.api import tokens
from processors.api.tokens import Access, Tokens, add_token, read_tokens, revoke_token


@pytest.fixture(autouse=True)
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "RECHECK_S", 0.0)


def test_token_carries_tenant_and_role(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    staff, screen = add_token(path, "gym", "staff"), add_token(path, "hall", "screen")
    known = Tokens(path, "site-token", "home")
    assert known.access(staff) == Access("gym", "staff")
    assert known.access(screen) == Access("hall", "screen")
    assert known.access("site-token") == Access("home", "staff")
    ident = staff.split("-")[1]
    for wrong in (
        "",
        "plt-",
        "plt-00000000-x",
        staff[:-1],
        staff + "x",
        f"plt-{ident}-",
        screen.replace(screen[4:12], ident),
        "site-toke",
        "\udcff",
    ):
        assert known.access(wrong) is None


def test_file_keeps_no_secret_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "tokens.json"
    made = add_token(path, "gym", "staff", "desk")
    assert made.split("-", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (found,) = read_tokens(path).values()
    assert (found.tenant, found.role, found.note) == ("gym", "staff", "desk")


def test_revoked_token_is_refused_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    one, other = add_token(path, "gym", "staff"), add_token(path, "gym", "staff")
    known = Tokens(path, "", "gym")
    assert known.access(one) is not None
    revoke_token(path, one.split("-")[1])
    assert known.access(one) is None
    assert known.access(other) is not None
    with pytest.raises(BadInputError, match="token list"):
        revoke_token(path, one.split("-")[1])


def test_an_empty_site_token_opens_nothing(tmp_path: Path) -> None:
    assert Tokens(tmp_path / "none.json", "", "gym").access("") is None


@pytest.mark.parametrize("damage", ["{", '{"tokens": [{"id": "a"}]}', '{"token": []}'])
def test_damaged_file_refuses_all_but_the_sites_own(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    made = add_token(path, "gym", "staff")
    known = Tokens(path, "site-token", "gym")
    assert known.access(made) is not None
    path.write_text(damage)
    os.utime(path, (1, 1))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"tokens\.json"):
            known.access(made)
    assert known.access("site-token") is not None


@pytest.mark.parametrize(("tenant", "role"), [("Gym!", "staff"), ("gym", "platform"), ("*", "staff"), ("", "screen")])
def test_no_token_for_what_is_no_tenant_or_role(tenant: str, role: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError):
        add_token(tmp_path / "tokens.json", tenant, role)
    assert read_tokens(tmp_path / "tokens.json") == {}


def test_command_adds_lists_and_revokes(tmp_path: Path) -> None:
    run = CliRunner()
    data = ["--data", str(tmp_path)]
    made = run.invoke(cli, ["token", "add", "gym", "--role", "screen", "--note", "wall", *data])
    assert made.exit_code == 0
    token = made.output.strip()
    assert Tokens(tmp_path / "secrets" / "tokens.json", "", "x").access(token) == Access("gym", "screen")
    listed = run.invoke(cli, ["token", "list", "--json", *data])
    (one,) = json.loads(listed.output)
    assert (one["tenant"], one["role"], one["note"]) == ("gym", "screen", "wall")
    assert token.split("-", 2)[2] not in listed.output
    assert "gym" in run.invoke(cli, ["token", "list", *data]).output
    assert run.invoke(cli, ["token", "revoke", one["id"], *data]).exit_code == 0
    assert json.loads(run.invoke(cli, ["token", "list", "--json", *data]).output) == []
