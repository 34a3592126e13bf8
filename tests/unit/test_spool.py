"""The spool on a real file: numbering, frees, counts, limits, and a random history against a plain model."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.errors import StoreError
from gateway.spool import Spool, SpoolFullError, SpoolRow, SpoolSettings
from gateway.spool_disk import FILE_VERSION, version_word

FAST = SpoolSettings(cap_bytes=2_000_000, min_window_s=0.0, max_window_s=0.0, free_after_s=3600.0)


def rows_of(first: int, count: int, device: str = "strap") -> list[SpoolRow]:
    return [SpoolRow(f"frame {n} ".encode() * 5, device) for n in range(first, first + count)]


def counts(spool: Spool) -> dict[str, tuple[int, int, int]]:
    return {d.device: (d.taken, d.stored, d.refused) for d in spool.stats().devices}


async def test_rows_get_consecutive_numbers_from_one_and_come_back_as_they_were(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", FAST)
    firsts = await asyncio.gather(*(spool.append(rows_of(i * 10, 3)) for i in range(20)))
    assert sorted(firsts) == list(range(1, 61, 3))
    assert spool.end == 61
    assert spool.ranges() == ((1, 60),)
    read = dict(spool.read(1, 1000, 1_000_000))
    for i, first in enumerate(firsts):
        assert [read[n] for n in range(first, first + 3)] == [row.frame for row in rows_of(i * 10, 3)]
    assert [n for n, _ in spool.read(10, 5, 1_000_000)] == [10, 11, 12, 13, 14]
    assert len(spool.read(1, 100, 120)) < 5
    assert len(spool.read(1, 100, 1)) == 1
    await spool.close()


async def test_reopened_spool_keeps_epoch_numbers_and_counts(tmp_path):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, FAST, random_bits=lambda bits: (1 << bits) - 5)
    await spool.append(rows_of(0, 50, "a"))
    await spool.append(rows_of(0, 50, "b"))
    spool.free([(1, 20), (60, 70)])
    spool.free([(1, 20)])
    spool.refuse([(21, 25), (21, 22)], "bad_frame")
    await spool.flush()
    assert counts(spool) == {"a": (50, 20, 5), "b": (50, 11, 0)}
    await spool.append(rows_of(0, 10, "c"))
    await spool.close()
    again = await Spool.open(path, FAST)
    assert again.epoch == (1 << 64) - 5
    assert again.ranges() == ((26, 59), (71, 110))
    assert counts(again) == {"a": (50, 20, 5), "b": (50, 11, 0), "c": (10, 0, 0)}
    assert again.stats().refused == {"bad_frame": 5}
    assert await again.append(rows_of(0, 1)) == 111
    assert [n for n, _ in again.read(1, 200, 1_000_000)] == [*range(26, 60), *range(71, 112)]
    await again.close()


def version_of(path: Path, word: int | None = None) -> int:
    with closing(sqlite3.connect(path)) as link:
        if word is not None:
            link.execute(f"PRAGMA user_version={word}")
        return link.execute("PRAGMA user_version").fetchone()[0]


async def test_spool_of_before_versions_is_taken_on_with_its_rows_and_notes_its_version(tmp_path):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, FAST)
    await spool.append(rows_of(0, 5))
    await spool.close()
    assert version_of(path) == version_word(FILE_VERSION)
    version_of(path, 0)
    again = await Spool.open(path, FAST)
    assert (again.epoch, again.ranges()) == (spool.epoch, ((1, 5),))
    await again.close()
    assert version_of(path) == version_word(FILE_VERSION)
    assert not list(tmp_path.glob("*corrupt*"))


async def test_spool_of_a_newer_program_is_refused_with_its_name_and_left_as_it_was(tmp_path):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, FAST)
    await spool.append(rows_of(0, 5))
    await spool.close()
    version_of(path, version_word(FILE_VERSION + 1))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"of version {FILE_VERSION + 1}, this program writes {FILE_VERSION}") as raised:
        await Spool.open(path, FAST)
    assert str(path) in raised.value.message
    assert "start the newer program" in raised.value.cure
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*corrupt*"))
    version_of(path, version_word(FILE_VERSION))
    again = await Spool.open(path, FAST)
    assert again.ranges() == ((1, 5),)
    await again.close()


@pytest.mark.parametrize("bit", range(32))
async def test_flipped_bit_of_the_version_is_damage_and_no_newer_program(tmp_path, bit):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, FAST)
    await spool.append(rows_of(0, 5))
    await spool.close()
    word = version_word(FILE_VERSION) ^ (1 << bit)
    version_of(path, word - (1 << 32) if word >> 31 else word)
    again = await Spool.open(path, FAST)
    assert (again.epoch, again.ranges()) == (spool.epoch, ((1, 5),))
    await again.close()
    assert list(tmp_path.glob("spool.db.corrupt-*"))
    assert version_of(path) == version_word(FILE_VERSION)


async def test_another_file_has_another_epoch(tmp_path):
    one, two = await Spool.open(tmp_path / "1.db", FAST), await Spool.open(tmp_path / "2.db", FAST)
    assert one.epoch != two.epoch
    await one.close()
    await two.close()


async def test_second_opener_is_told(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", FAST)
    with pytest.raises(StoreError, match="in use by another process"):
        await Spool.open(tmp_path / "spool.db", FAST)
    await spool.close()


async def test_append_after_close_is_told(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", FAST)
    await spool.close()
    with pytest.raises(StoreError, match="closed"):
        await spool.append(rows_of(0, 1))


async def test_close_commits_what_waits(tmp_path):
    slow = SpoolSettings(min_window_s=0.2, max_window_s=0.2)
    spool = await Spool.open(tmp_path / "spool.db", slow)
    await spool.append(rows_of(0, 1))
    answers = []
    for i in range(30):
        spool.append_nowait(rows_of(i, 1), lambda first_n, error: answers.append((first_n, error)))
    await spool.close()
    assert answers == [(n, None) for n in range(2, 32)]
    again = await Spool.open(tmp_path / "spool.db", FAST)
    assert again.ranges() == ((1, 31),)
    await again.close()


async def test_cancelled_append_is_stored_all_the_same_and_harms_nobody(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(min_window_s=0.1, max_window_s=0.1))
    await spool.append(rows_of(0, 1))
    task = asyncio.create_task(spool.append(rows_of(1, 1)))
    await asyncio.sleep(0)
    task.cancel()
    assert await spool.append(rows_of(2, 1)) == 3
    assert spool.ranges() == ((1, 3),)
    await spool.close()


async def test_concurrent_appends_share_a_commit(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(min_window_s=0.1, max_window_s=0.1))
    await spool.append(rows_of(0, 1))
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    spool._file._link.set_trace_callback(count)
    await asyncio.gather(*(spool.append(rows_of(i, 1)) for i in range(200)))
    assert commits == 1
    await spool.close()


async def test_full_spool_refuses_new_rows_counts_them_and_recovers(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(cap_bytes=1_000_000, min_window_s=0, max_window_s=0))
    big = [SpoolRow(bytes([i]) * 1000, "strap") for i in range(50)]
    taken = 0
    with pytest.raises(SpoolFullError, match="full") as caught:
        while taken < 5_000:
            await spool.append(big)
            taken += 50
    assert "cure" in str(caught.value)
    assert 300 < taken < 1_000
    assert spool.stats().rejected == 50
    assert "full" in spool.stats().alarm
    assert spool.stats().hours_left < 1
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1_000_000 + 100_000  # shared memory index included
    spool.free([(1, taken // 2)])
    await spool.flush()
    assert await spool.append(big) == taken + 1
    assert spool.stats().alarm == ""
    await spool.close()
    again = await Spool.open(tmp_path / "spool.db", FAST)
    assert counts(again) == {"strap": (taken + 50, taken // 2, 0)}
    assert again.stats().rejected == 50
    await again.close()


async def test_drop_oldest_makes_room_and_counts_what_it_drops(tmp_path):
    spool = await Spool.open(
        tmp_path / "spool.db", SpoolSettings(cap_bytes=1_000_000, full_policy="drop_oldest", min_window_s=0, max_window_s=0)
    )
    for i in range(60):
        await spool.append([SpoolRow(bytes([i]) * 1000, "strap") for _ in range(50)])
    [(first, last)] = spool.ranges()
    assert last == 3_000
    assert spool.stats().dropped == first - 1 > 1_000
    assert spool.stats().rejected == 0
    read = spool.read(first, 5_000, 10_000_000)
    assert [n for n, _ in read] == list(range(first, last + 1))
    assert all(frame == bytes([(n - 1) // 50]) * 1000 for n, frame in read)
    await spool.close()


async def test_limits_change_at_run_time(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings(cap_bytes=4_000_000, min_window_s=0, max_window_s=0))
    big = [SpoolRow(b"x" * 1000, "strap") for _ in range(100)]
    for _ in range(20):
        await spool.append(big)
    spool.set_limits(1_000_000, "reject_new")
    with pytest.raises(SpoolFullError):
        await spool.append(big)
    spool.set_limits(1_000_000, "drop_oldest")
    assert await spool.append(big) == 2_001
    assert spool.stats().dropped > 1_000
    spool.free(spool.ranges())
    await spool.flush()
    assert (tmp_path / "spool.db").stat().st_size < 1_000_000 or spool.stats().bytes < 100_000
    with pytest.raises(StoreError, match="too small"):
        spool.set_limits(10, "reject_new")
    await spool.close()


async def test_row_with_a_flipped_bit_goes_to_quarantine_and_never_out(tmp_path):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, FAST)
    await spool.append(rows_of(0, 100))
    await spool.close()
    link = sqlite3.connect(path)
    [(record,)] = link.execute("SELECT record FROM rows WHERE n = 40").fetchall()
    link.execute("UPDATE rows SET record = ? WHERE n = 40", (record[:-1] + bytes([record[-1] ^ 1]),))
    link.commit()
    link.close()
    spool = await Spool.open(path, FAST)
    assert [n for n, _ in spool.read(1, 200, 1_000_000)] == [n for n in range(1, 101) if n != 40]
    assert spool.ranges() == ((1, 39), (41, 100))
    await spool.flush()
    assert spool.stats().corrupt == 1
    await spool.close()
    link = sqlite3.connect(path)
    assert link.execute("SELECT n FROM quarantine").fetchall() == [(40,)]
    link.close()


async def test_file_destroyed_while_open_is_salvaged_and_appends_go_on(tmp_path):
    path = tmp_path / "spool.db"
    spool = await Spool.open(path, SpoolSettings(min_window_s=0, max_window_s=0, cache_bytes=0))
    for i in range(20):
        await spool.append(rows_of(i * 100, 100))
    spool._file._link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:  # the root page of rows and everything of the header
        file.write(b"\xff" * 100)
        for page in range(6, 12):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    epoch = spool.epoch
    for _ in range(600):
        got = spool.read(1, 5_000, 10_000_000)
        if len(got) >= 1_900:
            break
        await asyncio.sleep(0.1)
    assert len(got) >= 1_900
    first = await spool.append(rows_of(0, 10))
    assert first > 2_000
    assert spool.epoch == epoch
    assert counts(spool)["strap"][0] == 2_010
    assert list(tmp_path.glob("spool.db.corrupt-*"))
    assert spool.stats().corrupt == 2_010 - sum(last - first + 1 for first, last in spool.ranges())
    await spool.close()


class History(RuleBasedStateMachine):
    """Any order of appends, frees, refusals, flushes and reopenings against a dict."""

    @initialize(folder=st.just(None))
    def begin(self, folder) -> None:
        import tempfile
        from pathlib import Path

        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "spool.db"
        self.rows: dict[int, bytes] = {}
        self.next_n = 1
        self.taken = self.stored = 0
        self.refused: dict[str, int] = {}
        self.spool = self.call(Spool.open(self.path, FAST))
        self.epoch = self.spool.epoch

    def call(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    @rule(sizes=st.lists(st.integers(1, 1024), min_size=1, max_size=12))
    def append(self, sizes) -> None:
        frames = [bytes([self.next_n + i & 0xFF]) * size for i, size in enumerate(sizes)]
        assert self.call(self.spool.append([SpoolRow(frame, "d") for frame in frames])) == self.next_n
        for frame in frames:
            self.rows[self.next_n] = frame
            self.next_n += 1
        self.taken += len(frames)

    @rule(first=st.integers(0, 60), width=st.integers(1, 30), reason=st.sampled_from([None, "bad_frame", "oversized"]))
    def leave(self, first, width, reason) -> None:
        gone = [n for n in range(first, first + width) if self.rows.pop(n, None) is not None]
        if reason is None:
            self.spool.free([(first, first + width - 1)])
            self.stored += len(gone)
        else:
            self.spool.refuse([(first, first + width - 1)], reason)
            if gone:
                self.refused[reason] = self.refused.get(reason, 0) + len(gone)

    @rule()
    def flush(self) -> None:
        self.call(self.spool.flush())
        stats = self.spool.stats()
        assert stats.refused == self.refused
        assert [(d.taken, d.stored, d.refused) for d in stats.devices] in (
            [] if not self.taken else [(self.taken, self.stored, sum(self.refused.values()))],
            [(self.taken, self.stored, sum(self.refused.values()))],
        )

    @rule()
    def reopen(self) -> None:
        self.call(self.spool.close())
        self.spool = self.call(Spool.open(self.path, FAST))
        assert self.spool.epoch == self.epoch

    @rule(first=st.integers(0, 80), max_rows=st.integers(1, 40), max_bytes=st.integers(1, 5_000))
    def read(self, first, max_rows, max_bytes) -> None:
        expected: list[tuple[int, bytes]] = []
        room = max_bytes
        for n in sorted(self.rows):
            if n < first or len(expected) == max_rows or (expected and len(self.rows[n]) > room):
                if n < first:
                    continue
                break
            expected.append((n, self.rows[n]))
            room -= len(self.rows[n])
        assert self.spool.read(first, max_rows, max_bytes) == expected

    @invariant()
    def same_rows(self) -> None:
        if hasattr(self, "spool"):
            assert [n for a, b in self.spool.ranges() for n in range(a, b + 1)] == sorted(self.rows)
            assert self.spool.end == self.next_n

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.call(self.spool.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
