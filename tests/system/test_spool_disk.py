"""Disks that fail: a 2 MB tmpfs that fills up, a read-only one, a file-size limit that makes writes fail. Mounting needs root."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.errors import StoreError
from gateway.spool import Spool, SpoolFullError, SpoolRow, SpoolSettings
from tests.small_disks import mount, small_disk_at

BIG = [SpoolRow(bytes([i]) * 900, f"strap-{i % 3}") for i in range(20)]
SETTINGS = SpoolSettings(cap_bytes=64_000_000, min_window_s=0.0, max_window_s=0.0, cache_bytes=0, free_after_s=0.05)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A tmpfs of 2 MB."""
    with small_disk_at(tmp_path / "disk", 2) as folder:
        yield folder


async def fill(spool: Spool, limit: int = 10_000) -> int:
    """Append until the spool refuses; returns the rows taken."""
    taken = 0
    with pytest.raises(SpoolFullError):
        while taken < limit:
            await spool.append(BIG)
            taken += len(BIG)
    return taken


async def drain(spool: Spool, rows: int) -> list[int]:
    """Read and free in packs until `rows` went out; no row may come twice."""
    out: list[int] = []
    at = 0
    while len(out) < rows:
        pack = spool.read(at, 50, 1_000_000)
        assert pack
        out += [n for n, _ in pack]
        at = pack[-1][0] + 1
        spool.free([(pack[0][0], pack[-1][0])])
        await spool.flush()
    return out


async def test_full_disk_refuses_cleanly_frees_still_work_and_it_recovers(small_disk):
    spool = await Spool.open(small_disk / "spool.db", SETTINGS)
    taken = await fill(spool)
    for _ in range(10):
        with pytest.raises(SpoolFullError):
            await spool.append(BIG)
    assert 500 < taken < 2_000
    assert spool.stats().rejected == 11 * len(BIG)
    assert "full" in spool.stats().alarm
    out = await drain(spool, taken // 2)
    stored = sum(d.stored for d in spool.stats().devices)
    assert out == list(range(1, stored + 1))
    assert stored == taken - spool.stats().rows
    assert await spool.append(BIG) == taken + 1
    await spool.close()
    again = await Spool.open(small_disk / "spool.db", SETTINGS)
    assert sum(d.stored for d in again.stats().devices) == stored
    assert again.stats().rows == taken + len(BIG) - stored
    assert await drain(again, again.stats().rows) == list(range(stored + 1, taken + len(BIG) + 1))
    await again.close()


async def test_disk_filled_by_others_stops_appends_not_frees(small_disk):
    spool = await Spool.open(small_disk / "spool.db", SETTINGS)
    for _ in range(20):
        await spool.append(BIG)
    hog = small_disk / "hog"
    with contextlib.suppress(OSError), hog.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    taken = 400 + await fill(spool)
    out = await drain(spool, 200)
    assert out == list(range(1, len(out) + 1))
    assert sum(d.stored for d in spool.stats().devices) == len(out)
    hog.unlink()
    assert await spool.append(BIG) == taken + 1
    await spool.close()


async def test_full_disk_with_drop_oldest_keeps_the_newest(small_disk):
    spool = await Spool.open(small_disk / "spool.db", SpoolSettings(**{**_fields(SETTINGS), "full_policy": "drop_oldest"}))
    for _ in range(200):
        await spool.append(BIG)
    stats = spool.stats()
    assert stats.rejected == 0
    assert stats.rows + stats.dropped == 4_000
    assert spool.ranges()[-1][1] == 4_000
    await spool.close()


def _fields(settings: SpoolSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


async def test_killed_on_a_full_disk_nothing_acknowledged_is_lost(small_disk):
    spool = await Spool.open(small_disk / "spool.db", SETTINGS)
    taken = await fill(spool)
    copy = small_disk.parent / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        (copy / f"spool.db{suffix}").write_bytes((small_disk / f"spool.db{suffix}").read_bytes())
    await spool.close()
    again = await Spool.open(copy / "spool.db", SETTINGS)
    assert [n for n, _ in again.read(0, 10_000, 100_000_000)] == list(range(1, taken + 1))
    await again.close()


async def test_read_only_disk_is_told_and_loses_nothing(small_disk):
    spool = await Spool.open(small_disk / "spool.db", SETTINGS)
    await spool.append(BIG)
    await spool.close()
    mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(StoreError, match="Read-only file system") as caught:
        await Spool.open(small_disk / "spool.db", SETTINGS)
    assert "writable" in caught.value.cure
    mount("-o", "remount,rw", str(small_disk))
    spool = await Spool.open(small_disk / "spool.db", SETTINGS)
    assert [n for n, _ in spool.read(0, 100, 1_000_000)] == list(range(1, 21))
    await spool.close()


async def test_writes_that_fail_raise_store_errors_and_the_spool_recovers(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SETTINGS)
    await spool.append(BIG)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # every write beyond 4 KB of a file fails with EFBIG, as EIO would
    try:
        for _ in range(3):
            with pytest.raises(StoreError):
                await spool.append(BIG)
        assert spool.stats().alarm
        assert spool.stats().rejected == 3 * len(BIG)
        assert [n for n, _ in spool.read(0, 100, 1_000_000)] == list(range(1, 21))
        spool.free([(1, 10)])
        await spool.flush()
        assert spool.ranges() == ((11, 20),)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await asyncio.sleep(0)
    assert await spool.append(BIG) == 21
    async with asyncio.timeout(60):
        while spool.stats().alarm:
            await asyncio.sleep(0.05)
    await spool.flush()
    assert sum(d.stored for d in spool.stats().devices) == 10
    await spool.close()
    again = await Spool.open(tmp_path / "spool.db", SETTINGS)
    assert again.ranges() == ((11, 40),)
    await again.close()
