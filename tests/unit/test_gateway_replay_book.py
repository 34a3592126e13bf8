"""The book of unfinished replays: a restart goes on under the same numbers, byte for byte, and a finished replay begins anew."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.errors import ConfigError, StoreError
from broker.frames import Clock, encode_frame
from broker.nodeconfig import NodeConfig
from device_profiles.files import Point, Points, Recording, write_gpx
from gateway import file_source
from gateway.clock import EARLIEST_UTC_US, Instant
from gateway.file_source import FileSource, samples_of_frames
from gateway.intake import Intake
from gateway.replay_book import MAX_PAGES, NAME, Page, ReplayBook, key_of, read_pages
from gateway.settings import FileReplay, GatewaySettings
from gateway.spool import Spool, SpoolSettings

NOON = Instant(5_000_000, EARLIEST_UTC_US + 10**12)
LATER = Instant(1_000, NOON.utc_us + 3_600_000_000)  # an hour on, after a reboot: the monotonic clock began again
REPLAY = FileReplay(path=Path("x.gpx"), shift="now")


def page(name: str = "a", **more: object) -> Page:
    facts: dict[str, object] = {
        "replay": name, "content": "c", "device": "d", "boot": 2**64 - 1, "began_utc_us": 1, "utc_us": 2, "clock": Clock.NETWORK, "samples": 1,
    }  # fmt: skip
    return Page.model_validate(facts | more)


class Killed(BaseException):
    """What a test ends a replay with where no clean-up may run."""


class DyingIntake(Intake):
    """The real intake on a real spool; the process dies after so many batches."""

    def __init__(self, spool: Spool, batches: int) -> None:
        super().__init__(spool, "gym", lambda: NodeConfig(version=0))
        self.left = batches

    async def append(self, rows):
        if self.left == 0:
            raise Killed
        self.left -= 1
        return await super().append(rows)


@pytest.fixture
async def spool(tmp_path, monkeypatch):
    monkeypatch.setattr(file_source, "BATCH_FRAMES", 1)
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings())
    yield spool
    await spool.close()


def walk(path: Path, minutes: int = 5) -> FileReplay:
    points = [Point(1_780_000_000_000_000 + i * 1_000_000, lat=48.0, lon=11.0, hr_bpm=100 + i % 50) for i in range(60 * minutes)]
    write_gpx(Recording(Points.of(points)), path)
    return FileReplay(path=path, athlete="ann", device="ride", speed=0, shift="now")


def source(replay: FileReplay, spool: Spool, folder: Path, boot: int, *, batches: int = 10**6, now: Instant = NOON) -> FileSource:
    book = ReplayBook(folder)
    return FileSource(replay, DyingIntake(spool, batches), "gym", book=book, random_boot=lambda: boot, clock=lambda: now)


def raws(spool: Spool) -> list[bytes]:
    return [raw for _, raw in spool.read(1, 1000, 1_000_000)]


async def test_killed_replay_goes_on_with_the_same_bytes_and_a_finished_one_begins_anew(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx")
    with pytest.raises(Killed):
        await source(replay, spool, tmp_path, 1, batches=4).run()
    assert [(p.boot, p.began_utc_us) for p in read_pages(tmp_path)] == [(1, NOON.utc_us)]
    await source(replay, spool, tmp_path, 2, now=LATER).run()
    first = raws(spool)
    recording, _ = file_source.read_file(replay.path, None)
    who, utc_us = file_source.Identity("ride", 1), NOON.utc_us - 299_000_000  # of the first start, though it went on an hour later
    undisturbed = file_source.frames_of(recording, who, subject="gym/ann", utc_offset_us=utc_us, clock=Clock.NETWORK)
    assert list(dict.fromkeys(first)) == [encode_frame(frame) for frame in undisturbed]
    assert read_pages(tmp_path) == ()
    await source(replay, spool, tmp_path, 3, now=LATER).run()
    assert len(set(raws(spool))) == 20  # another recording


async def test_ordered_end_takes_nothing_again(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx")
    with pytest.raises(asyncio.CancelledError):
        await _cancelled(source(replay, spool, tmp_path, 1), after=3, spool=spool)
    assert [p.frames for p in read_pages(tmp_path)] == [3]
    await source(replay, spool, tmp_path, 2).run()
    assert len(raws(spool)) == len(set(raws(spool))) == 10


async def _cancelled(one: FileSource, after: int, spool: Spool) -> None:
    intake = one._intake
    assert isinstance(intake, DyingIntake)
    append = intake.append

    async def until_cancelled(rows):
        if one.status.frames == after:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)
        return await append(rows)

    intake.append = until_cancelled
    await asyncio.create_task(one.run())


async def test_nothing_is_taken_before_the_page_is_kept(tmp_path, spool, monkeypatch):
    monkeypatch.setattr(file_source, "FULL_WAIT_S", 0.0)
    replay = walk(tmp_path / "walk.gpx")
    one = source(replay, spool, tmp_path, 1, batches=0)
    kept: list[str] = []
    put = one._book.put

    async def failing_once(new: Page) -> None:
        kept.append("refused" if not kept else "kept")
        if len(kept) == 1:
            raise StoreError("disk full")
        await put(new)

    monkeypatch.setattr(one._book, "put", failing_once)
    with pytest.raises(Killed):
        await one.run()
    assert (kept, one.status.full_waits) == (["refused", "kept"], 1)


async def test_another_file_or_another_setting_is_another_recording(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx")
    with pytest.raises(Killed):
        await source(replay, spool, tmp_path, 1, batches=2).run()
    walk(tmp_path / "walk.gpx", minutes=2)
    with pytest.raises(Killed):
        await source(replay, spool, tmp_path, 2, batches=2).run()
    assert [p.boot for p in read_pages(tmp_path)] == [2]  # the file before is no more
    other = replay.model_copy(update={"athlete": "bob"})
    await source(other, spool, tmp_path, 3).run()
    assert [p.boot for p in read_pages(tmp_path)] == [2]


async def test_recorded_times_need_no_page(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx").model_copy(update={"shift": "none"})
    await source(replay, spool, tmp_path, 1).run()
    assert not (tmp_path / NAME).exists()


async def test_samples_of_frames_are_those_of_the_replay(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx", minutes=1).model_copy(update={"speed": 1000.0})
    await source(replay, spool, tmp_path, 1).run()
    recording, _ = file_source.read_file(replay.path, None)
    assert sum(samples_of_frames(replay, recording)) == 60
    assert len(raws(spool)) == len(samples_of_frames(replay, recording))
    assert len({encode_frame(f) for f in one_page(recording, replay)}) == len(raws(spool))


def one_page(recording: Recording, replay: FileReplay):
    who = file_source.Identity("ride", 1)
    return file_source.frames_of(
        recording, who, samples=file_source.samples_of_frame(replay, recording), utc_offset_us=None, clock=Clock.UNKNOWN
    )


async def test_unset_clock_stays_unset_for_the_whole_recording(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx")
    with pytest.raises(Killed):
        await source(replay, spool, tmp_path, 1, batches=4, now=Instant(5, 5)).run()
    await source(replay, spool, tmp_path, 2).run()
    assert len(set(raws(spool))) == 10


async def test_a_begun_replay_does_not_wait_for_its_start_again(tmp_path, spool):
    replay = walk(tmp_path / "walk.gpx").model_copy(update={"start_after_s": 86_000.0})
    book = ReplayBook(tmp_path)
    await book.put(page(key_of(replay), content="of another file"))
    async with asyncio.timeout(60):
        await source(replay, spool, tmp_path, 1).run()


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"version":2,"pages":[]}', b'{"version":1,"pages":[{"boot":-1}]}'])
async def test_damaged_book_is_set_aside(tmp_path, damage):
    (tmp_path / NAME).write_bytes(damage)
    with pytest.raises(ConfigError, match=r"replays\.json"):
        read_pages(tmp_path)
    book = ReplayBook(tmp_path)
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == damage
    await book.put(page())
    assert read_pages(tmp_path) == (page(),)


async def test_book_is_bounded_and_names_the_file_it_cannot_write(tmp_path):
    book = ReplayBook(tmp_path)
    book._pages = {(f"r{i}", "c"): page(f"r{i}") for i in range(MAX_PAGES)}
    await book.put(page("new"))
    assert [p.replay for p in read_pages(tmp_path)] == [f"r{i}" for i in range(1, MAX_PAGES)] + ["new"]
    (tmp_path / f".{NAME}.new").mkdir()
    with pytest.raises(StoreError, match=r"replays\.json"):
        await book.finish(page("new"))
    assert book.find(REPLAY, "c") is None
    assert len(read_pages(tmp_path)) == MAX_PAGES


def test_the_same_replay_twice_is_refused():
    uplink = {"host": "localhost", "port": 1}
    with pytest.raises(ValueError, match="two replays are the same"):
        GatewaySettings.model_validate(
            {"data_dir": "d", "tenant": "gym", "node": "box", "password": "x", "uplink": uplink, "files": [REPLAY.model_dump()] * 2}
        )
