"""What every log promises: contiguous positions, durable appends, reads across appends, waiting, trimming."""

import asyncio
import multiprocessing
import sqlite3
import threading

import pytest

from broker.errors import Reason, StoreError
from broker.logrecord import Kind, LogRecord
from processors.accept import DeadLetter
from processors.log import SqliteLog


def record(i, us=None, size=20):
    return LogRecord(Kind.FRAME, f"gym/a{i % 7}", "gym", "box", 1_000 + i if us is None else us, i.to_bytes(4) * (size // 4))


def records(first, count):
    return [record(i) for i in range(first, first + count)]


@pytest.fixture(params=["sqlite"])
def open_log(request, tmp_path):
    """A function that opens the same log again and again (as after a restart)."""
    opened = []

    def reopen():
        opened.append(SqliteLog.open(tmp_path / "log.db"))
        return opened[-1]

    yield reopen
    for log in opened:
        log.close()


def test_empty_log_ends_at_zero_and_reads_nothing(open_log):
    log = open_log()
    assert log.end() == 0
    assert log.read(0, 10) == (1, [])


def test_positions_are_contiguous_from_one_across_appends(open_log):
    log = open_log()
    assert [log.append(records(at, n)) for at, n in ((0, 3), (3, 1), (4, 5))] == [1, 4, 5]
    assert log.end() == 9


@pytest.mark.parametrize("fresh", [False, True])
def test_reads_of_any_size_from_anywhere_return_the_records_in_order(open_log, fresh):
    log = open_log()
    for at in range(0, 60, 6):
        log.append(records(at, 6))
    log = open_log() if fresh else log
    for after in (0, 1, 5, 6, 31, 59, 60, 70):
        for limit in (1, 5, 6, 7, 1000):
            first, found = log.read(after, limit)
            assert first == after + 1
            assert found == records(after, max(0, min(limit, 60 - after)))


def test_append_survives_reopening(open_log):
    log = open_log()
    log.append(records(0, 5))
    log.close()
    assert open_log().read(0, 10) == (1, records(0, 5))


def test_appended_time_never_goes_back_though_the_clock_does(open_log):
    log = open_log()
    log.append([record(0, us=5_000)])
    log.append([record(1, us=4_000), record(2, us=6_000), record(3, us=5_500)])
    open_log().append([record(4, us=1)])
    assert [r.appended_us for r in open_log().read(0, 10)[1]] == [5_000, 5_000, 6_000, 6_000, 6_000]
    assert [r.appended_us for r in log.read(0, 10)[1]] == [5_000, 5_000, 6_000, 6_000, 6_000]


def test_a_second_opener_sees_and_continues_the_positions(open_log):
    one, two = open_log(), open_log()
    assert [one.append(records(0, 2)), two.append(records(2, 2)), one.append(records(4, 1))] == [1, 3, 5]
    assert one.read(0, 10) == two.read(0, 10) == (1, records(0, 5))


def test_trim_forgets_whole_blocks_and_keeps_positions(open_log):
    log = open_log()
    for at in range(0, 20, 5):
        log.append(records(at, 5))
    assert log.trim(8) == 5
    assert log.read(0, 3) == (6, records(5, 3))
    assert log.trim(10**9) == 10
    assert (log.end(), log.append(records(20, 1))) == (20, 21)
    assert open_log().read(0, 100) == (16, records(15, 6))


def test_appending_only_dead_letters_takes_no_position(open_log):
    log = open_log()
    log.append(records(0, 1))
    assert log.append([], [DeadLetter(1, "gym", "box", "t", 1, 1, Reason.BAD_FRAME, "", b"x")]) == 2
    assert log.end() == 1


async def test_wait_returns_at_once_when_there_is_more_and_false_after_its_time(open_log):
    log = open_log()
    assert not await log.wait(0, 0.05)
    log.append(records(0, 1))
    assert await log.wait(0, 0)
    assert not await log.wait(1, 0)


@pytest.mark.parametrize("same", [True, False])
async def test_wait_is_woken_by_an_append_of_this_or_another_opener(open_log, same):
    log = open_log()
    other = log if same else open_log()
    waiting = asyncio.create_task(log.wait(0, 20))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await asyncio.to_thread(other.append, records(0, 1))
    assert await asyncio.wait_for(waiting, 60)


async def test_close_ends_waiting(open_log):
    log = open_log()
    waiting = asyncio.create_task(log.wait(0, 20))
    await asyncio.sleep(0.02)
    log.close()
    assert not await asyncio.wait_for(waiting, 60)


def test_threads_appending_and_reading_together_lose_nothing(open_log):
    log = open_log()

    def fill(base):
        for i in range(20):
            log.append(records(base + 3 * i, 3))

    threads = [threading.Thread(target=fill, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    seen = []
    while any(thread.is_alive() for thread in threads) or len(seen) < 180:
        first, found = log.read(len(seen), 50)
        assert first == len(seen) + 1
        seen += found
    assert sorted(r.body for r in seen) == sorted(r.body for base in (0, 1000, 2000) for r in records(base, 60))
    assert [r.appended_us for r in seen] == sorted(r.appended_us for r in seen)


def _append_in_process(path, base):
    with SqliteLog.open(path) as log:
        for i in range(25):
            log.append(records(base + 2 * i, 2))


def test_two_processes_appending_at_once_get_distinct_positions(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_in_process, args=(tmp_path / "log.db", base)) for base in (0, 500)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with SqliteLog.open(tmp_path / "log.db") as log:
        assert log.end() == 100
        assert sorted(r.body for r in log.read(0, 1000)[1]) == sorted(r.body for b in (0, 500) for r in records(b, 50))


def test_damaged_block_is_named_and_the_rest_stays_readable(tmp_path):
    with SqliteLog.open(tmp_path / "log.db") as log:
        for at in (0, 5, 10):
            log.append(records(at, 5))
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute("UPDATE block SET body = zeroblob(length(body)) WHERE first_pos = 6")
    db.close()
    with SqliteLog.open(tmp_path / "log.db") as log:
        assert log.read(0, 5) == (1, records(0, 5))
        with pytest.raises(StoreError, match="positions 6 to 10") as caught:
            log.read(5, 5)
        assert "read after 10" in caught.value.cure
        assert log.read(10, 5) == (11, records(10, 5))


def test_file_that_is_no_log_is_refused_with_its_name(tmp_path):
    (tmp_path / "log.db").write_bytes(b"not a database, but long enough to look at" * 100)
    with pytest.raises(StoreError, match=r"log\.db"):
        SqliteLog.open(tmp_path / "log.db")


def test_failed_append_stores_nothing_and_the_next_one_goes_on(tmp_path):
    with SqliteLog.open(tmp_path / "log.db") as log:
        log.append(records(0, 2))
        pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
        log._writer.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreError, match="full"):
            log.append([record(i, size=4000) for i in range(50)], [DeadLetter(1, "g", "b", "t", 1, 1, Reason.BAD_FRAME, "", b"x")])
        assert log.end() == 2
        log._writer.execute("PRAGMA max_page_count=100000")
        assert log.append(records(2, 1)) == 3
        assert log.read(0, 10) == (1, records(0, 3))


def test_large_append_is_split_into_blocks_and_read_back_whole(tmp_path):
    batch = [record(i, size=60_000) for i in range(200)]
    with SqliteLog.open(tmp_path / "log.db") as log:
        log.append(batch)
        assert log.append(records(0, 1)) == 201
    with SqliteLog.open(tmp_path / "log.db") as log:
        assert log.read(0, 200) == (1, batch)
        assert log._reader.execute("SELECT count(*) FROM block").fetchone()[0] > 2
