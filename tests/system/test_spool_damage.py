"""Damaged spool files: truncated at any byte, flipped bits, a torn WAL. Opening never fails; only rows that were hit may be missing."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest

from gateway.spool import Spool, SpoolRow, SpoolSettings
from gateway.spool_row import encode_records
from gateway.spool_salvage import wal_leftovers

QUICK = SpoolSettings(min_window_s=0.0, max_window_s=0.0, cache_bytes=0, free_after_s=3600)
DEVICE = b"strap-7"


@pytest.fixture(autouse=True)
def _quiet():
    logging.getLogger("gateway").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("gateway").setLevel(logging.NOTSET)


def frames_of(seed: int, count: int, size: tuple[int, int] = (60, 300)) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(rng.randint(*size)) for _ in range(count)]


async def write(path: Path, frames: list[bytes], *, group: int = 20) -> int:
    """A closed spool with `frames` as rows 1..; returns its epoch."""
    spool = await Spool.open(path, QUICK)
    for at in range(0, len(frames), group):
        await spool.append([SpoolRow(frame, DEVICE.decode()) for frame in frames[at : at + group]])
    epoch = spool.epoch
    await spool.close()
    return epoch


async def write_unclosed(path: Path, target: Path, frames: list[bytes], *, group: int) -> int:
    """Copies of a spool's database and WAL as a power cut leaves them, nothing checkpointed since it was created."""
    spool = await Spool.open(path, QUICK)
    for at in range(0, len(frames), group):
        await spool.append([SpoolRow(frame, DEVICE.decode()) for frame in frames[at : at + group]])
    target.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", target / f"spool.db{suffix}")
    epoch = spool.epoch
    await spool.close()
    return epoch


async def survivors(path: Path) -> tuple[Spool, dict[int, bytes]]:
    """The open spool and all it delivers, read until it is settled (a salvage may come between)."""
    spool = await Spool.open(path, QUICK)
    for _ in range(5):
        got = dict(spool.read(0, 1_000_000, 1_000_000_000))
        await spool.flush()
        if len(got) == spool.stats().rows:
            break
    assert len(got) == spool.stats().rows
    return spool, got


async def check(path: Path, frames: list[bytes], intact: set[int], epoch: int | None) -> None:
    """Everything delivered is as it was; `intact` rows are there; new rows get new numbers."""
    spool, got = await survivors(path)
    assert all(got[n] == frames[n - 1] for n in got)
    assert intact <= got.keys(), f"lost although intact: {sorted(intact - got.keys())[:10]}"
    if epoch is not None:
        assert spool.epoch == epoch
    first = await spool.append([SpoolRow(b"new", "new")])
    assert first > max(got, default=0)
    assert dict(spool.read(first, 1, 100)) == {first: b"new"}
    await spool.close()


def intact_rows(image: bytes, frames: list[bytes]) -> set[int]:
    """Rows whose bytes still stand somewhere in the files."""
    return {n for n, record in enumerate(encode_records(1, [DEVICE] * len(frames), frames), 1) if record in image}


async def test_database_cut_at_every_byte_of_its_last_record(tmp_path):
    frames = frames_of(1, 40, (100, 140))
    path = tmp_path / "spool.db"
    epoch = await write(path, frames)
    whole = path.read_bytes()
    [record] = encode_records(len(frames), [DEVICE], frames[-1:])
    at = whole.rindex(record)
    for cut in range(at, at + len(record) + 1):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "spool.db").write_bytes(whole[:cut])
        await check(folder / "spool.db", frames, intact_rows(whole[:cut], frames), epoch)
        shutil.rmtree(folder)


async def test_database_cut_anywhere(tmp_path):
    frames = frames_of(2, 200)
    path = tmp_path / "spool.db"
    await write(path, frames)
    whole = path.read_bytes()
    rng = random.Random(2)
    for cut in [0, 1, 15, 16, 99, 100, 4095, 4096, 4097, *(rng.randrange(len(whole)) for _ in range(25))]:
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir(exist_ok=True)
        (folder / "spool.db").write_bytes(whole[:cut])
        await check(folder / "spool.db", frames, intact_rows(whole[:cut], frames), None)
        shutil.rmtree(folder)


async def test_wal_cut_at_every_byte_of_its_last_record(tmp_path):
    frames = frames_of(3, 12, (100, 140))
    epoch = await write_unclosed(tmp_path / "spool.db", tmp_path / "torn", frames, group=3)
    base, wal = (tmp_path / "torn" / "spool.db").read_bytes(), (tmp_path / "torn" / "spool.db-wal").read_bytes()
    [record] = encode_records(len(frames), [DEVICE], frames[-1:])
    at = wal.rindex(record)
    for cut in range(at, at + len(record) + 1):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "spool.db").write_bytes(base)
        (folder / "spool.db-wal").write_bytes(wal[:cut])
        await check(folder / "spool.db", frames, intact_rows(base + wal[:cut], frames), epoch)
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(4))
async def test_wal_with_flipped_bits_costs_only_rows_that_were_hit(tmp_path, seed):
    frames = frames_of(seed, 120)
    epoch = await write_unclosed(tmp_path / "spool.db", tmp_path / "torn", frames, group=4)
    path = tmp_path / "torn" / "spool.db"
    wal = flip(path.with_name("spool.db-wal"), 40, seed)
    intact = intact_rows(path.read_bytes() + wal, frames)
    await check(path, frames, intact, epoch)


async def test_wal_with_a_broken_head_is_carved(tmp_path):
    frames = frames_of(9, 120)
    epoch = await write_unclosed(tmp_path / "spool.db", tmp_path / "torn", frames, group=4)
    path = tmp_path / "torn" / "spool.db"
    with path.with_name("spool.db-wal").open("r+b") as file:
        file.write(struct.pack("<8I", *range(8)))
    await check(path, frames, set(range(1, 121)), epoch)


def flip(path: Path, bits: int, seed: int) -> bytes:
    """Flip `bits` different bits of a file; returns what it holds now."""
    image = bytearray(path.read_bytes())
    for bit in random.Random(seed).sample(range(len(image) * 8), bits):
        image[bit // 8] ^= 1 << bit % 8
    path.write_bytes(image)
    return bytes(image)


async def flipped(tmp_path: Path, bits: int, rows: int, seed: int) -> None:
    path = tmp_path / f"{seed}" / "spool.db"
    path.parent.mkdir()
    frames = frames_of(seed, rows)
    epoch = await write(path, frames)
    image = flip(path, bits, seed)
    await check(path, frames, intact_rows(image, frames), epoch)


@pytest.mark.parametrize("bits", [1, 10, 100, 300])
async def test_flipped_bits_cost_only_rows_that_were_hit(tmp_path, bits):
    for seed in range(6):
        await flipped(tmp_path, bits, 1_000, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
async def test_ten_thousand_flipped_bits(tmp_path, seed):
    await flipped(tmp_path, 10_000, 20_000, seed)


@pytest.mark.parametrize("damage", [b"\xd4\xff", b"\x00\x00", b"XX"])
async def test_damaged_schema_text_is_salvaged(tmp_path, damage):
    path = tmp_path / "spool.db"
    frames = frames_of(5, 100)
    epoch = await write(path, frames)
    image = path.read_bytes()
    path.write_bytes(image.replace(b"CREATE TABLE rows", b"CREATE TA" + damage + b"E rows"))
    await check(path, frames, set(range(1, 101)), epoch)


async def test_every_bit_of_the_head_flipped_in_turn(tmp_path):
    frames = frames_of(4, 60)
    path = tmp_path / "spool.db"
    epoch = await write(path, frames)
    whole = path.read_bytes()
    for bit in range(0, 100 * 8, 7):
        folder = tmp_path / f"bit-{bit}"
        folder.mkdir()
        image = bytearray(whole)
        image[bit // 8] ^= 1 << bit % 8
        (folder / "spool.db").write_bytes(image)
        await check(folder / "spool.db", frames, set(range(1, 61)), epoch)
        shutil.rmtree(folder)


async def test_salvage_does_not_bring_back_freed_rows_and_keeps_the_counts(tmp_path):
    path = tmp_path / "spool.db"
    frames = frames_of(6, 2_000)
    spool = await Spool.open(path, QUICK)
    for at in range(0, 2_000, 100):
        await spool.append([SpoolRow(frame, DEVICE.decode()) for frame in frames[at : at + 100]])
    spool.free([(1, 500), (900, 1_200)])
    await spool.flush()
    await spool.close()
    image = bytearray(path.read_bytes())
    image[:100] = bytes(100)
    path.write_bytes(image)
    spool = await Spool.open(path, QUICK)
    assert spool.ranges() == ((501, 899), (1_201, 2_000))
    assert [(d.taken, d.stored) for d in spool.stats().devices] == [(2_000, 801)]
    assert spool.stats().corrupt == 0
    assert [p for p in tmp_path.iterdir() if "corrupt" in p.name]
    await spool.close()


async def test_file_that_is_no_spool_is_set_aside(tmp_path):
    path = tmp_path / "spool.db"
    path.write_bytes(b"not a database at all " * 1_000)
    spool = await Spool.open(path, QUICK)
    assert await spool.append([SpoolRow(b"x", "d")]) >= 1
    await spool.close()
    [aside] = tmp_path.glob("spool.db.corrupt-*")
    assert aside.read_bytes().startswith(b"not a database")


async def test_kill_between_the_renames_of_a_salvage_is_finished_at_the_next_open(tmp_path):
    path = tmp_path / "spool.db"
    frames = frames_of(8, 50)
    epoch = await write(path, frames)
    path.rename(tmp_path / "spool.db.new")
    (tmp_path / "spool.db-wal").write_bytes(b"the WAL of the damaged file")
    await check(path, frames, set(range(1, 51)), epoch)


async def test_sqlite_itself_finds_a_spool_sound(tmp_path):
    await write(tmp_path / "spool.db", frames_of(1, 500))
    link = sqlite3.connect(tmp_path / "spool.db")
    assert link.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    link.close()


async def test_commit_interrupted_between_head_and_page_of_its_last_frame_is_no_damage(tmp_path):
    """kill -9 between SQLite's two writes: the head says "commit", the page behind it is of an earlier round; nothing of it was promised."""
    frames = frames_of(9, 60, (250, 300))
    epoch = await write_unclosed(tmp_path / "spool.db", tmp_path / "torn", frames, group=20)
    wal = bytearray((tmp_path / "torn" / "spool.db-wal").read_bytes())
    size = 24 + 4096
    commits = [i for i in range((len(wal) - 32) // size) if wal[32 + i * size + 4 : 32 + i * size + 8] != b"\0\0\0\0"]
    accepted = commits[-2] + 1
    assert wal_leftovers(bytes(wal), accepted, 41).committed  # whole, so something before it must have been damaged
    wal[-4096:] = bytes(4096)
    assert not wal_leftovers(bytes(wal), accepted, 41).committed
    (tmp_path / "torn" / "spool.db-wal").write_bytes(wal)
    spool, got = await survivors(tmp_path / "torn" / "spool.db")
    assert set(range(1, 41)) <= got.keys()
    assert all(got[n] == frames[n - 1] for n in got)
    assert (spool.epoch, spool.stats().corrupt) == (epoch, 0)
    await spool.close()


async def test_damage_before_a_whole_commit_is_counted(tmp_path):
    frames = frames_of(10, 60, (250, 300))
    await write_unclosed(tmp_path / "spool.db", tmp_path / "torn", frames, group=20)
    wal = bytearray((tmp_path / "torn" / "spool.db-wal").read_bytes())
    at = wal.index(frames[25])
    wal[at : at + 8] = bytes(8)
    (tmp_path / "torn" / "spool.db-wal").write_bytes(wal)
    spool, got = await survivors(tmp_path / "torn" / "spool.db")
    assert got.keys() >= set(range(1, 61)) - {26}
    assert spool.stats().corrupt >= (26 not in got)
    await spool.close()
