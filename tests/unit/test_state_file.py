"""A state file that a view keeps and an API reads: too old, or replaced."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from broker.errors import StoreError
from paceline.parts import while_the_same
from processors.kafka_view import OLD_S, forget_when_old
from processors.state_db import StateDb


def made(folder: Path, age_s: float) -> tuple[Path, float]:
    """A state file that was kept for the last time so long ago, and now."""
    path = folder / "state.db"
    StateDb(path).close()
    kept_s = path.stat().st_mtime
    return path, kept_s + age_s


def test_a_file_kept_within_a_month_stays(tmp_path: Path) -> None:
    path, now_s = made(tmp_path, OLD_S - 1)
    forget_when_old(path, now_s)
    assert path.exists()


def test_a_file_that_missed_what_is_gone_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, now_s = made(tmp_path, OLD_S + 1)
    forget_when_old(path, now_s)
    assert not list(tmp_path.iterdir())
    assert "made again" in caplog.text


def test_what_is_written_beside_a_file_counts_as_keeping_it(tmp_path: Path) -> None:
    path, now_s = made(tmp_path, OLD_S + 1)
    beside = path.with_name("state.db-wal")
    beside.touch()
    os.utime(beside, (now_s, now_s))
    forget_when_old(path, now_s)
    assert path.exists()


async def test_an_api_ends_when_its_file_is_another_one(tmp_path: Path) -> None:
    path, _ = made(tmp_path, 0)
    watching = asyncio.create_task(while_the_same(path))
    other = tmp_path / "other"
    StateDb(other).close()
    await asyncio.sleep(0)  # it has looked once
    other.replace(path)
    async with asyncio.timeout(60):
        with pytest.raises(StoreError, match="is another file now") as ended:
            await watching
    assert "start this again" in ended.value.cure
