"""The password file: what mosquitto writes we read, what we write it reads (the broker contract logs in with it)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import credentials
from broker.credentials import (
    ITERATIONS,
    SALT_BYTES,
    Verifier,
    add_user,
    hash_secret,
    new_secret,
    parse_passwords,
    read_passwords,
    remove_user,
    verify_secret,
)
from broker.errors import BadInputError, ConfigError
from broker.topics import Principal

# made by mosquitto_passwd 2.0.11 for the secret "correct horse"
MOSQUITTO_LINE = "gym/box1:$7$101$/v+2+V/6GL7mLU20$dEp1lkETzQ7ObdpD9ndAQLE3WW4KhDBBMjVnxKB2oIcNMSX7nAeKVjHqKQKgc0lXXqzjDb9C+J1EprUMmLNvyw=="


@given(st.text(max_size=40), st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES))
def test_a_hash_round_trips_through_the_file_and_verifies_only_its_secret(secret: str, salt: bytes) -> None:
    stored = hash_secret(secret, salt=salt)
    assert parse_passwords(f"gym/box:{stored.encode()}\n", "f") == {"gym/box": stored}
    assert verify_secret(secret, stored)
    assert not verify_secret(secret + "x", stored)


def test_a_line_made_by_mosquitto_passwd_is_read() -> None:
    stored = parse_passwords(MOSQUITTO_LINE + "\n", "f")["gym/box1"]
    assert stored.iterations == ITERATIONS
    assert verify_secret("correct horse", stored)
    assert stored.encode() == MOSQUITTO_LINE.partition(":")[2]


def test_iterations_are_kept_with_the_hash() -> None:
    stored = hash_secret("s", iterations=7)
    assert stored.encode().startswith("$7$7$")
    assert verify_secret("s", stored)
    with pytest.raises(ConfigError, match="iterations 0"):
        hash_secret("s", iterations=0)


@pytest.mark.parametrize(
    "line",
    [
        "gym/box",
        "gym/box:plain",
        "gym/box:$6$abc$def",
        "gym/box:$7$101$!!!$AAAA",
        "gym/box:$7$x$AAAAAAAAAAAAAAAA$AAAA",
        "gym/box:$7$99999999999$AAAAAAAAAAAAAAAA$" + "A" * 86 + "==",
        "Gym/Box:$7$101$AAAAAAAAAAAAAAAA$" + "A" * 86 + "==",
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match=r"secrets\.txt: line 2") as caught:
        parse_passwords(f"# comment\n{line}\n", "secrets.txt")
    assert caught.value.cure


def test_a_user_listed_twice_is_refused() -> None:
    line = f"gym/box:{hash_secret('a').encode()}\n"
    with pytest.raises(ConfigError, match="line 2"):
        parse_passwords(line * 2, "f")


def test_users_are_added_replaced_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "passwords"
    first = add_user(path, "gym/box1")
    add_user(path, "gym/box2", "given")
    assert len(first) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = add_user(path, "gym/box1")
    users = read_passwords(path)
    assert verify_secret(second, users["gym/box1"])
    assert not verify_secret(first, users["gym/box1"])
    assert verify_secret("given", users["gym/box2"])
    assert remove_user(path, "gym/box2")
    assert not remove_user(path, "gym/box2")
    assert list(read_passwords(path)) == ["gym/box1"]
    assert [p.name for p in path.parent.iterdir()] == ["passwords"]


def test_a_name_that_is_no_principal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="tenant/node"):
        add_user(tmp_path / "p", "box1")
    assert not (tmp_path / "p").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwords"
    secret = add_user(path, "gym/box1")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        add_user(path, "gym/box2")
    assert verify_secret(secret, read_passwords(path)["gym/box1"])
    assert [p.name for p in tmp_path.iterdir()] == ["passwords"]


def test_verifier_knows_right_from_wrong_and_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    verifier = Verifier(path)
    assert verifier.principal("gym/box1", "x") is None
    secret = add_user(path, "gym/box1")
    assert verifier.principal("gym/box1", secret) == Principal("gym", "box1")
    assert verifier.principal("gym/box1", secret + "x") is None
    assert verifier.principal("gym/box2", secret) is None
    assert verifier.principal(None, secret) is None
    assert verifier.principal("gym/box1", None) is None
    remove_user(path, "gym/box1")
    assert verifier.principal("gym/box1", secret) is None


def test_verifier_refuses_everybody_while_the_file_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "passwords"
    secret = add_user(path, "gym/box1")
    verifier = Verifier(path)
    assert verifier.principal("gym/box1", secret) is not None
    good = path.read_text()
    path.write_text("rubbish\n")
    for _ in range(2):
        with pytest.raises(ConfigError, match="line 1"):
            verifier.principal("gym/box1", secret)
    path.write_text(good)
    assert verifier.principal("gym/box1", secret) is not None


def test_a_reconnect_storm_hashes_each_secret_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "passwords"
    secrets = {f"gym/box{i}": add_user(path, f"gym/box{i}", new_secret()) for i in range(5)}
    verifier = Verifier(path)
    hashed: list[str] = []
    slow = credentials.verify_secret
    monkeypatch.setattr(credentials, "verify_secret", lambda secret, stored: hashed.append(secret) or slow(secret, stored))
    for _ in range(20):
        for name, secret in secrets.items():
            assert verifier.principal(name, secret) is not None
    assert sorted(hashed) == sorted(secrets.values())


def test_the_name_of_the_node_of_uploads_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="reserved for uploaded files"):
        add_user(tmp_path / "passwords", "gym/upload")
    assert not (tmp_path / "passwords").exists()
    line = f"gym/upload:{hash_secret('x').encode()}"
    with pytest.raises(ConfigError, match="the file: line 2: the node name 'upload' is reserved") as caught:
        parse_passwords(f"{MOSQUITTO_LINE}\n{line}\n", "the file")
    assert "remove the line" in caught.value.cure
