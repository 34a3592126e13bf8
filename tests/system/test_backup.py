"""A site is backed up while athletes train in it, and comes back: nothing acknowledged before is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from broker.errors import BadInputError, ConfigError, StoreError
from paceline import site_backup
from paceline.cli import cli
from paceline.site_backup import INDEX, back_up, bring_back
from processors.log import SqliteLog
from processors.runner import Runner, replay
from processors.stores import fingerprint
from tests.system.stack import Stack, frame_of, gym_of


def followed_up(platform: Path) -> str:
    """The fingerprint of a restored state after what its log has besides."""
    with SqliteLog.open(platform / "log.db") as log:
        runner = Runner(log, platform / "state.db")
        runner.drain()
        runner.close()
    return fingerprint(platform / "state.db")


def replayed(platform: Path, to: Path) -> str:
    """The fingerprint of the state that its log alone makes."""
    with SqliteLog.open(platform / "log.db") as log:
        replay(log, to).close()
    return fingerprint(to)


async def test_backup_of_a_running_site_is_restored_and_equals_what_its_log_makes(tmp_path: Path) -> None:
    data = tmp_path / "site"
    async with Stack(data, gym_of(8, 3, 24)) as stack:
        gym = stack.gym()
        await gym.start()
        try:
            async with asyncio.timeout(60):
                while stack.counted("") < 12:  # in the middle of it
                    await asyncio.sleep(0.1)
            back_up(data, tmp_path / "running.tar")
            assert await gym.wait_drained(120)
        finally:
            report = await gym.stop()
        await stack.check([frame_of(one) for one in report.truth])
        before = stack.fingerprint()
    made = CliRunner().invoke(cli, ["backup", "--data", str(data), str(tmp_path / "ended.tar"), "--json"])
    assert made.exit_code == 0, made.output
    assert {"platform/log.db", "platform/state.db", "gateway/spool.db", "secrets/secrets.json"} <= json.loads(made.output)["parts"].keys()
    assert (tmp_path / "ended.tar").stat().st_mode & 0o777 == 0o600

    brought = CliRunner().invoke(cli, ["restore", "--data", str(tmp_path / "ended"), str(tmp_path / "ended.tar")])
    assert brought.exit_code == 0, brought.output
    assert fingerprint(tmp_path / "ended" / "platform" / "state.db") == before
    assert followed_up(tmp_path / "ended" / "platform") == before
    assert (tmp_path / "ended" / "secrets" / "secrets.json").read_bytes() == (data / "secrets" / "secrets.json").read_bytes()
    assert (tmp_path / "ended" / "secrets" / "secrets.json").stat().st_mode & 0o77 == 0

    bring_back(tmp_path / "running.tar", tmp_path / "running")
    platform = tmp_path / "running" / "platform"
    assert followed_up(platform) == replayed(platform, tmp_path / "replayed.db")


def test_damaged_or_foreign_file_and_a_folder_in_use_are_refused_with_a_cure(tmp_path: Path) -> None:
    data = tmp_path / "site"
    (data / "platform").mkdir(parents=True)
    (data / "platform" / "log.db").write_bytes(b"not a database, all the same a file")
    file = tmp_path / "one.tar"
    assert back_up(data, file) == {"platform/log.db": 35}
    with pytest.raises(ConfigError, match="is not empty"):
        bring_back(file, data)
    raw = file.read_bytes()
    file.write_bytes(raw.replace(b"all the same", b"all the sane"))
    with pytest.raises(BadInputError, match=r"platform/log.db is damaged"):
        bring_back(file, tmp_path / "a")
    file.write_bytes(b"nothing of ours")
    with pytest.raises(BadInputError, match="not a whole backup"):
        bring_back(file, tmp_path / "b")
    with tarfile.open(file, "w") as foreign:
        foreign.add(data / "platform" / "log.db", arcname=f"x{INDEX}")
    with pytest.raises(BadInputError, match="not a backup of a site"):
        bring_back(file, tmp_path / "c")
    with pytest.raises(ConfigError, match="there is no data folder"):
        back_up(tmp_path / "nowhere", file)
    with pytest.raises(StoreError, match="no backup"):
        back_up(data, tmp_path / "no" / "such" / "folder.tar")


def test_what_is_no_plain_file_is_refused_and_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_text("mine")
    link.symlink_to(file)
    for name in (pipe, link):
        with pytest.raises(ConfigError, match=f"{name.name}: is no plain file"):
            back_up(tmp_path / "data", name)
    assert pipe.is_fifo()
    assert link.read_text() == "mine"


def test_site_is_restored_into_an_empty_folder_that_cannot_be_moved_as_a_volume_is(tmp_path: Path) -> None:
    data, volume, file = tmp_path / "site", tmp_path / "volume", tmp_path / "one.tar"
    (data / "platform").mkdir(parents=True)
    (data / "platform" / "log.db").write_bytes(b"a log")
    (data / "site.json").write_bytes(b"{}")
    back_up(data, file)
    volume.mkdir()
    mounted = volume.stat().st_ino
    bring_back(file, volume)
    assert volume.stat().st_ino == mounted
    assert {path.relative_to(volume).as_posix() for path in volume.rglob("*")} == {"platform", "platform/log.db", "site.json"}


def test_backup_into_the_folder_it_is_made_of_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "site"
    (data / "platform").mkdir(parents=True)
    (data / "platform" / "log.db").write_bytes(b"a log")
    with pytest.raises(ConfigError, match="is in the data folder itself"):
        back_up(data, data / "monday.tar")
    assert [path.name for path in data.iterdir()] == ["platform"]


def test_restore_that_was_broken_off_is_told_from_a_site(tmp_path: Path) -> None:
    (tmp_path / "site" / ".restoring").mkdir(parents=True)
    with pytest.raises(ConfigError, match="broken off"):
        bring_back(tmp_path / "one.tar", tmp_path / "site")


def test_files_that_go_and_come_while_a_backup_is_taken_harm_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "platform").mkdir(parents=True)
    for name in ("a.json", "gone.json", "platform/gone.db", "kept.json"):
        (data / name).write_bytes(name.encode())
    (data / "kept.json").chmod(0o600)
    with closing(sqlite3.connect(data / "platform" / "state.db")) as db:
        db.execute("CREATE TABLE t (a)")
    copied, copy = list[str](), site_backup._copy

    def copying(path: Path, to: Path) -> None:
        if not copied:
            (data / "gone.json").unlink()
            (data / "platform" / "gone.db").unlink()
            (data / "come.json").write_text("come")
        copied.append(path.relative_to(data).as_posix())
        copy(path, to)

    monkeypatch.setattr(site_backup, "_copy", copying)
    assert set(back_up(data, tmp_path / "site.tar")) == {"a.json", "kept.json", "come.json", "platform/state.db"}
    assert copied[-2:] == ["come.json", "platform/state.db"]
    bring_back(tmp_path / "site.tar", tmp_path / "back")
    assert (tmp_path / "back" / "come.json").read_text() == "come"
    assert (tmp_path / "back" / "kept.json").stat().st_mode & 0o777 == 0o600
