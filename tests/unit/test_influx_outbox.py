"""The outbox and what follows it: one commit for lines and cursors, requests in order, bounds, and what was dealt with is forgotten once."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import ConfigError, LinkError, StoreError
from processors.dead_store import MAX_RAW_BYTES
from processors.influx_batch import Batch
from processors.influx_lines import LineMaker
from processors.influx_outbox import MOST_LINES, Change, Cursor, Outbox
from processors.influx_packing import pack
from processors.influx_points import Row, Written, points_of
from processors.influx_refused import said_of
from processors.influx_schema import BUCKETS, PIPE, TELE, Bucket
from processors.influx_sender import MOST_HALVES, Sender, StoppedError, WaitError
from processors.influx_wire import Meaning, Verdict
from processors.line_protocol import ABSENT, Points
from processors.series_guard import SeriesGuard

T0_US = 1_790_000_000_000_000
CAP = 1_000_000


def opened(folder: Path, **more: object) -> Outbox:
    return Outbox(folder / "influx.db", **{"cap_bytes": CAP, **more})


def write(lines: bytes, *, bucket: str = "live", unit: str = "us", newest_us: int = T0_US) -> Batch:
    return Batch(bucket, "write", unit, lines.count(b"\n"), newest_us, pack(lines))


def lines(first: int, count: int) -> bytes:
    return b"".join(b"m f=%di %d\n" % (i, i) for i in range(first, first + count))


@pytest.fixture
def outbox(tmp_path):
    made = opened(tmp_path)
    yield made
    made.close()


def test_lines_and_cursors_are_there_together_after_a_restart(tmp_path):
    first = opened(tmp_path)
    first.commit(Change(batches=[write(lines(0, 3))], cursors={"believed": Cursor(7, "g")}, counts={"made": 3}))
    first.close()
    again = opened(tmp_path)
    assert again.cursor("believed") == Cursor(7, "g")
    owed = again.owed("live")
    assert owed is not None
    assert gzip.decompress(owed.batch.body) == lines(0, 3)
    again.close()


def test_a_commit_that_fails_changes_nothing(outbox, monkeypatch):
    bad = Change(batches=[write(lines(0, 3))], cursors={"believed": Cursor(1, "g")}, efforts={"e": Written("s", "run", "t", object(), 1)})  # type: ignore[arg-type]
    with pytest.raises((StoreError, sqlite3.Error)):
        outbox.commit(bad)
    assert outbox.owed("live") is None
    assert outbox.cursor("believed") == Cursor()


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["live", "seg"]), st.sampled_from(["us", "ns"]), st.integers(1, 9_000)), max_size=12))
def test_requests_hold_every_line_once_in_order_and_never_too_many(tmp_path_factory, batches) -> None:
    outbox = opened(tmp_path_factory.mktemp("outbox"), cap_bytes=10**9)
    expected: dict[str, bytes] = {"live": b"", "seg": b""}
    for number, (bucket, unit, count) in enumerate(batches):
        text = lines(number * 10_000, count)
        outbox.commit(Change(batches=[write(text, bucket=bucket, unit=unit)]))
        expected[bucket] += text
    for bucket, text in expected.items():
        found = b""
        while (owed := outbox.owed(bucket)) is not None:
            body = gzip.decompress(owed.batch.body)
            assert body.count(b"\n") == owed.batch.lines <= MOST_LINES
            found += body
            outbox.done(owed.ids, {"sent": owed.batch.lines})
        assert found == text
    outbox.close()


def test_an_erasure_goes_behind_what_was_owed_before_and_ahead_of_what_came_after(outbox):
    for batch in (write(lines(0, 1)), Batch("live", "erase", "", 0, 0, b"gym/ann"), write(lines(1, 1))):
        outbox.commit(Change(batches=[batch]))
    kinds = []
    while (owed := outbox.owed("live")) is not None:
        kinds.append(owed.batch.kind)
        outbox.done(owed.ids, {})
    assert kinds == ["write", "erase", "write"]


def test_beyond_the_cap_the_oldest_lines_go_and_are_counted_and_erasures_stay(tmp_path):
    noise = np.random.default_rng(1).bytes(1_000)
    outbox = opened(tmp_path, cap_bytes=3_500)
    outbox.commit(Change(batches=[Batch("live", "erase", "", 0, 0, b"gym/ann")]))
    for i in range(6):
        outbox.commit(Change(batches=[Batch("live", "write", "us", 10 + i, T0_US, noise)]))
    counters = outbox.counters()
    assert counters["dropped_full"] == 10 + 11 + 12
    assert counters["waiting_lines"] == 13 + 14 + 15
    assert counters["waiting_bytes"] <= 3_500
    first = outbox.owed("live")
    assert first is not None
    assert first.batch.kind == "erase"
    outbox.close()


def test_an_outbox_that_waits_drops_nothing_and_says_that_it_is_full(tmp_path):
    outbox = opened(tmp_path, cap_bytes=1_000, drop_oldest=False)
    assert not outbox.is_full
    outbox.commit(Change(batches=[Batch("live", "write", "us", 1, T0_US, bytes(2_000))]))
    assert outbox.is_full
    owed = outbox.owed("live")
    assert owed is not None
    outbox.done(owed.ids, {})
    assert not outbox.is_full
    outbox.close()


def test_another_version_is_refused_with_its_cure(tmp_path):
    opened(tmp_path).close()
    db = sqlite3.connect(tmp_path / "influx.db")
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        opened(tmp_path)


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path):
    (tmp_path / "influx.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(StoreError, match=r"influx\.db"):
        opened(tmp_path)


def test_a_file_that_another_program_holds_says_so_and_goes_on_when_it_is_free(tmp_path):
    outbox = opened(tmp_path, busy_s=0.01)
    holder = sqlite3.connect(tmp_path / "influx.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="cannot store: database is locked") as raised:
        outbox.commit(Change(batches=[write(lines(0, 1))]))
    assert "another program" in raised.value.cure
    assert outbox.owed("live") is None
    holder.execute("ROLLBACK")
    holder.close()
    outbox.commit(Change(batches=[write(lines(0, 1))]))
    assert outbox.owed("live") is not None
    outbox.close()


def test_a_damaged_file_says_that_it_is_to_be_removed(tmp_path):
    with closing(opened(tmp_path)) as outbox:
        for number in range(200):
            outbox.commit(Change(batches=[write(lines(number * 1_000, 900))]))
    path = tmp_path / "influx.db"
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xa5" * (path.stat().st_size - 4_096))
    with pytest.raises(StoreError, match=r"influx\.db.*malformed") as raised, closing(opened(tmp_path)) as outbox:
        outbox.owed("live")
    assert "remove the file" in raised.value.cure
    path.unlink()
    opened(tmp_path).close()


# sending


class Scripted:
    """A link whose answer is a function of the lines; it remembers what it was given."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []

    def write(self, bucket: str, unit: str, body: bytes) -> Verdict:
        text = gzip.decompress(body)
        self.bodies.append(text)
        return self.answer(text)

    def close(self) -> None: ...


class Eraser:
    def __init__(self, can: bool = True) -> None:
        self.can, self.asked = can, []

    def erase(self, *of: str) -> bool:
        self.asked.append(of)
        return self.can


def sender_of(outbox: Outbox, now_us: int = T0_US, eraser: Eraser | None = None) -> Sender:
    return Sender(outbox, lambda: Scripted(None), eraser or Eraser(), clock_us=lambda: now_us)


@settings(max_examples=30)
@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=8))
def test_of_wrong_lines_only_those_are_set_aside_and_all_others_written(tmp_path_factory, count, wrong) -> None:
    outbox = opened(tmp_path_factory.mktemp("outbox"))
    outbox.commit(Change(batches=[write(lines(0, count))]))
    wrong = {i for i in wrong if i < count}
    written: set[bytes] = set()

    def answer(text: bytes) -> Verdict:
        rows = text.splitlines(keepends=True)
        bad = [row for row in rows if int(row.split()[-1]) in wrong]
        if bad:  # a server that takes all or nothing, as 2.x does with lines it cannot read
            return Verdict(Meaning.BAD, None, f"wrong: {bad[0]!r}")
        written.update(rows)
        return Verdict(Meaning.DONE)

    link = Scripted(answer)
    assert sender_of(outbox).send_one("live", link)
    dead = {stored.letter.raw for stored in outbox.dead()}
    assert dead == {b"m f=%di %d\n" % (i, i) for i in wrong}
    assert written == {b"m f=%di %d\n" % (i, i) for i in range(count)} - dead
    assert outbox.owed("live") is None
    counters = outbox.counters()
    assert (counters.get("sent", 0), counters.get("refused", 0)) == (count - len(wrong), len(wrong))
    outbox.close()


def test_a_batch_of_nothing_but_wrong_lines_costs_a_bounded_number_of_requests(outbox):
    outbox.commit(Change(batches=[write(lines(0, 5_000))]))
    link = Scripted(lambda _text: Verdict(Meaning.BAD, None, "all wrong"))
    sender_of(outbox).send_one("live", link)
    assert len(link.bodies) <= 2 * MOST_HALVES + 2
    assert outbox.counters()["refused"] == 5_000


def test_what_is_too_large_goes_in_halves(outbox):
    outbox.commit(Change(batches=[write(lines(0, 100))]))
    link = Scripted(lambda text: Verdict(Meaning.SPLIT) if text.count(b"\n") > 30 else Verdict(Meaning.DONE))
    sender_of(outbox).send_one("live", link)
    assert outbox.counters()["sent"] == 100
    assert outbox.counters()["dead"] == 0


@pytest.mark.parametrize(
    ("verdict", "error"),
    [(Verdict(Meaning.AGAIN, 7.0, "busy"), WaitError), (Verdict(Meaning.STOPPED, None, "no", "do this"), StoppedError)],
)
def test_what_cannot_be_written_now_stays_owed(outbox, verdict, error):
    outbox.commit(Change(batches=[write(lines(0, 10))]))
    with pytest.raises(error):
        sender_of(outbox).send_one("live", Scripted(lambda _text: verdict))
    owed = outbox.owed("live")
    assert owed is not None
    assert owed.batch.lines == 10


def test_a_link_that_breaks_between_halves_starts_again_with_the_whole_and_sets_nothing_aside_twice(outbox):
    outbox.commit(Change(batches=[write(lines(0, 8))]))
    calls = 0

    def answer(text: bytes) -> Verdict:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise LinkError("gone")
        return Verdict(Meaning.BAD, None, "3 is wrong") if b" 3\n" in text else Verdict(Meaning.DONE)

    link, sender = Scripted(answer), sender_of(outbox)
    with pytest.raises(LinkError):
        sender.send_one("live", link)
    assert outbox.counters()["dead"] == 0
    sender.send_one("live", link)
    assert [stored.letter.raw for stored in outbox.dead()] == [b"m f=3i 3\n"]
    assert outbox.counters()["sent"] == 7


def test_points_older_than_their_bucket_keeps_are_not_sent(outbox):
    outbox.commit(Change(batches=[write(lines(0, 5))]))
    link = Scripted(lambda _text: Verdict(Meaning.DONE))
    sender_of(outbox, T0_US + 49 * 3_600_000_000).send_one("live", link)
    assert link.bodies == []
    assert outbox.counters()["expired"] == 5


@pytest.mark.parametrize("can", [True, False])
def test_an_athlete_is_erased_where_the_server_can_and_said_where_it_cannot(outbox, can, caplog):
    outbox.commit(Change(batches=[Batch("live", "erase", "", 0, 0, b"gym/ann")]))
    eraser = Eraser(can)
    sender_of(outbox, eraser=eraser).send_one("live", Scripted(None))
    assert eraser.asked == [("live", "gym", "ann")]
    assert outbox.owed("live") is None
    assert ("deletes nothing" in caplog.text) != can


def test_a_token_that_may_not_delete_stops_the_lane_until_it_may(outbox):
    outbox.commit(Change(batches=[Batch("live", "erase", "", 0, 0, b"gym/ann")]))
    refuses = [True]

    class Guarded(Eraser):
        def erase(self, *of: str) -> bool:
            if refuses:
                raise ConfigError("refuses the token", cure="set influx.token")
            return super().erase(*of)

    sender = sender_of(outbox, eraser=Guarded())
    with pytest.raises(StoppedError, match="refuses the token") as raised:
        sender.send_one("live", Scripted(None))
    assert raised.value.cure == "set influx.token"
    assert outbox.owed("live") is not None
    refuses.clear()
    assert sender.send_one("live", Scripted(None))
    assert outbox.owed("live") is None


def test_a_disk_that_is_full_when_a_request_was_dealt_with_has_it_sent_once(outbox, monkeypatch):
    outbox.commit(Change(batches=[write(lines(0, 5))]))
    link = Scripted(lambda text: Verdict(Meaning.BAD, None, "wrong") if b" 4\n" in text else Verdict(Meaning.DONE))
    sender = sender_of(outbox)
    real, full = outbox.done, [True, True]

    def done(*args) -> None:
        if full:
            full.pop()
            raise StoreError("disk full", cure="free space")
        real(*args)

    monkeypatch.setattr(outbox, "done", done)
    for _ in range(2):
        with pytest.raises(StoreError):
            sender.send_one("live", link)
    asked = len(link.bodies)
    assert sender.send_one("live", link)
    assert len(link.bodies) == asked
    assert outbox.owed("live") is None
    assert (outbox.counters()["sent"], outbox.counters()["refused"]) == (4, 1)


# refused lines, once more


def refuse(outbox: Outbox, text: bytes, bucket: str = "live", unit: str = "us") -> None:
    outbox.commit(Change(batches=[write(text, bucket=bucket, unit=unit)]))
    sender_of(outbox).send_one(bucket, Scripted(lambda _text: Verdict(Meaning.BAD, None, "no: such thing")))


def test_refused_lines_are_owed_again_behind_what_waits_with_their_unit_and_are_kept_no_more(outbox):
    refuse(outbox, lines(0, 2))
    refuse(outbox, lines(7, 1), "seg", "ns")
    outbox.commit(Change(batches=[write(lines(20, 1), bucket="seg", unit="ns")]))
    assert outbox.owe_again(outbox.dead()) == 3
    assert outbox.dead() == []
    requests = []
    for bucket in ("live", "seg"):
        while (owed := outbox.owed(bucket)) is not None:
            requests.append((bucket, owed.batch.unit, gzip.decompress(owed.batch.body)))
            outbox.done(owed.ids, {})
    assert requests == [("live", "us", lines(0, 2)), ("seg", "ns", lines(20, 1) + lines(7, 1))]
    assert outbox.counters()["sent_again"] == 3


def test_lines_refused_again_are_kept_again_and_sending_twice_owes_once(outbox):
    refuse(outbox, b"m f=1i %d\n" % T0_US)
    kept = outbox.dead()
    assert (outbox.owe_again(kept), outbox.owe_again(kept)) == (1, 0)
    sender_of(outbox).send_one("live", Scripted(lambda _text: Verdict(Meaning.BAD, None, "still no")))
    (again,) = outbox.dead()
    assert (said_of(again.letter), again.letter.raw) == (("us", "still no"), kept[0].letter.raw)
    assert outbox.counters()["refused"] == 2


def test_refused_lines_too_old_for_their_bucket_expire_when_they_are_sent_again(outbox):
    refuse(outbox, b"m f=1i %d\n" % (T0_US - 49 * 3_600_000_000))
    outbox.owe_again(outbox.dead())
    link = Scripted(None)
    sender_of(outbox).send_one("live", link)
    assert link.bodies == []
    assert outbox.counters()["expired"] == 1


def test_a_line_that_was_cut_to_be_kept_is_not_sent_again(outbox):
    refuse(outbox, b"m f=1i,t=" + b"x" * MAX_RAW_BYTES + b" 1\n")
    assert outbox.owe_again(outbox.dead()) == 0
    assert len(outbox.dead()) == 1


def test_refused_lines_of_an_erased_athlete_are_kept_no_more(outbox):
    for name in (b"ann", b"anna"):
        refuse(outbox, b"tele,ath=%b,kind=smooth,tenant=gym dist=1.0 1\n" % name)
    outbox.commit(Change(batches=[Batch("live", "erase", "", 0, 0, b"gym/ann")]))
    sender_of(outbox).send_one("live", Scripted(None))
    assert [stored.letter.raw[:13] for stored in outbox.dead()] == [b"tele,ath=anna"]
    assert outbox.counters()["dead"] == 1


def test_refused_lines_of_an_athlete_whose_erasure_waits_are_not_owed_behind_it(outbox):
    for name in (b"ann", b"anna"):
        refuse(outbox, b"tele,ath=%b,kind=smooth,tenant=gym dist=1.0 1\n" % name)
    outbox.commit(Change(batches=[Batch("live", "erase", "", 0, 0, b"gym/ann")]))
    assert outbox.owe_again(outbox.dead()) == 1
    sender_of(outbox).send_one("live", Scripted(None))
    assert outbox.dead() == []
    owed = outbox.owed("live")
    assert owed is not None
    assert gzip.decompress(owed.batch.body).startswith(b"tele,ath=anna,")


def test_lines_owed_again_beside_a_running_sink_count_towards_its_cap(tmp_path):
    noise = np.random.default_rng(1).bytes(1_200).hex().encode()
    running = opened(tmp_path, cap_bytes=1_500)
    refuse(running, b'm f="%b" 1\n' % noise)
    beside = opened(tmp_path)
    assert beside.owe_again(beside.dead()) == 1
    beside.close()
    assert running.commit(Change(batches=[Batch("live", "write", "us", 4, T0_US, bytes(600))])) == 1
    assert running.counters()["waiting_bytes"] == 600
    running.close()


# series


def small(limit: int) -> dict[str, Bucket]:
    return {"live": Bucket("live", 1_600, 100, limit, (TELE,), "")}


def test_new_series_are_refused_at_the_limit_and_known_ones_pass(caplog):
    guard = SeriesGuard({}, small(10))
    keys = [b"k%d" % i for i in range(12)]
    allowed, noted = guard.admit("live", keys[:7], 0)
    assert allowed.all()
    assert len(noted) == 7
    assert guard.states() == {"live": "ok"}
    guard.admit("live", keys[:8], 0)
    assert guard.states() == {"live": "alarm"}
    assert "8 of 10" in caplog.text
    allowed, _ = guard.admit("live", keys, 0)
    assert allowed.tolist() == [True] * 10 + [False] * 2
    assert guard.states() == {"live": "full"}
    assert guard.admit("live", keys[:7], 0)[1] == []


def test_a_series_not_seen_for_as_long_as_its_bucket_keeps_data_makes_room():
    guard = SeriesGuard({}, small(2))
    guard.admit("live", [b"old", b"new"], 0)
    _, noted = guard.admit("live", [b"new"], 1_000_000_000)
    assert len(noted) == 1
    guard.forget(1_700_000_000)
    assert guard.count("live") == 1
    assert guard.admit("live", [b"other"], 1_700_000_000)[0].all()


def test_series_are_known_again_after_a_restart(tmp_path):
    outbox = opened(tmp_path)
    change = Change()
    maker = LineMaker(SeriesGuard({}), T0_US, change)
    maker.add(points_of(PIPE, [Row((f"n{i}", "live"), (1, None, None, None, None, None), i) for i in range(5)]))
    maker.seal()
    outbox.commit(change)
    assert len(outbox.series("ops")) == 5
    assert SeriesGuard({bucket: outbox.series(bucket) for bucket in BUCKETS}).count("ops") == 5
    outbox.close()


def test_lines_of_a_refused_series_are_left_out_and_counted():
    change = Change()
    guard = SeriesGuard({}, {**BUCKETS, "live": small(2)["live"]})
    maker = LineMaker(guard, T0_US, change)
    n = 6
    absent = tuple(np.full(n, ABSENT, np.int64) for _ in range(7))
    maker.add(
        Points(TELE, [(f"a{i}", "smooth", "gym") for i in range(3)], np.arange(n) % 3, (np.arange(n), *absent), np.full(n, T0_US), {})
    )
    maker.seal()
    (batch,) = change.batches
    assert batch.lines == 4
    assert change.counts == {"refused_series": 2, "made": 4}
    assert b"ath=a2" not in gzip.decompress(batch.body)


def test_many_points_become_batches_of_a_size_the_server_likes():
    change = Change()
    maker = LineMaker(SeriesGuard({}), T0_US, change)
    n = 45_000
    maker.add(points_of(PIPE, [Row(("n", "live"), (i, None, None, None, None, None), i) for i in range(n)]))
    maker.seal()
    assert [batch.lines for batch in change.batches] == [20_000, 20_000, 5_000]
    text = b"".join(gzip.decompress(batch.body) for batch in change.batches)
    assert text.count(b"\n") == n
