"""The platform's disk is full: nothing it could not store is acknowledged, the box keeps it, and all is well once there is room."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.doctor import folder as folder_findings
from tests.small_disks import small_disk_at
from tests.system.stack import Stack, frame_of, gym_of

FRAMES = 3 * 160


@pytest.fixture
def platform_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 3 MB in the place of the platform's folder. Mounting needs root."""
    with small_disk_at(tmp_path / "site" / "platform", 3) as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Take all the space but a few pages, as another program would."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        os.posix_fallocate(file.fileno(), 0, free - 32_768)
    return ballast


async def test_full_disk_of_the_platform_acknowledges_nothing_and_recovers(tmp_path: Path, platform_disk: Path) -> None:
    gym = gym_of(31, 3, 160, speed=40.0)
    async with Stack(tmp_path / "site", gym) as stack:
        running = stack.gym()
        await running.start()
        try:
            await until(lambda: stack.counted("member") >= 30)
            ballast = fill(platform_disk)
            wrong = [one for one in folder_findings(platform_disk) if not one.ok]
            assert wrong
            assert all("free space there" in one.cure for one in wrong)
            assert await running.wait_drained(120), "the box has a disk of its own and takes everything"
            await until(lambda: "nothing is acknowledged until the log can be written" in stack.log("platform"))
            assert in_log(stack) < FRAMES
            await asyncio.sleep(1.5)  # acks on their way
            assert owed_by_the_box(stack) >= FRAMES - in_log(stack)
            await stack.kill("platform")
            await stack.start("platform", wait=False)  # whether or not it can start on a full disk: it must not harm what is there
            await asyncio.sleep(1.0)
            ballast.unlink()
        finally:
            report = await running.stop()
        await stack.kill("platform")
        await stack.start("platform")
        await stack.check([frame_of(made) for made in report.truth])
        await until(lambda: owed_by_the_box(stack) == 0)


def ask(path: Path, query: str) -> int:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(query).fetchone()[0]
    finally:
        db.close()


def in_log(stack: Stack) -> int:
    return ask(stack.site.log_db, "SELECT coalesce(sum(count), 0) FROM block")


def owed_by_the_box(stack: Stack) -> int:
    """Rows of the spool that nobody acknowledged (deleted ones leave the table some seconds later)."""
    return ask(stack.site.gateway_dir / "spool.db", "SELECT count(*) FROM rows")


async def until(what, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)
