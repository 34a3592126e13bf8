"""Equipment control of a box, on a book on disk and machines by the book: once, only for whom it may be, and stopped when nobody watches."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.commands import (
    Answer,
    Command,
    CommandReason,
    Notice,
    NoticeEvent,
    NoticeReason,
    Reply,
    decode_answer,
    encode_command,
)
from broker.errors import StoreError
from device_profiles.samples import Identity
from gateway.answers import MAX_WAITING, Answers
from gateway.authority import SILENT_S, Situation, refusal
from gateway.clock import Instant
from gateway.command_book import CommandBook
from gateway.controllable import Controllable, Dialect
from gateway.equipment import Equipment, Surroundings
from gateway.settings import EquipmentSettings
from tests.machine_model import FecModel, FtmsModel

NOW_US = 1_790_000_000_000_000
GIVE_UP_S = 60.0


class Link:
    """A machine of the model behind a link that can be held up, broken and asked for its ranges."""

    def __init__(self, model: FtmsModel | FecModel, ranges: dict[int, bytes] | None = None) -> None:
        self.model = model
        self.dialect: Dialect = "fec" if isinstance(model, FecModel) else "ftms"
        self.identity = Identity()
        self.ranges = ranges or {}
        self.open = asyncio.Event()
        self.open.set()
        self.cancelled = 0
        self.fails: Exception | None = None

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fails is not None:
            raise self.fails
        return self.model.take(payload)

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        return self.ranges.get(what)


class Hall:
    """A box with one machine `mill`, bound to ann; the test moves its clock, its binding and its link to the platform."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.book = CommandBook(folder / "equipment.db")
        self.answers = Answers()
        self.controllable = Controllable()
        self.athlete: str | None = "ann"
        self.connected = True
        self.silent_s: float | None = 0.0
        self.utc_us = NOW_US
        self.equipment = Equipment(
            EquipmentSettings.model_validate({"platform_loss_s": 1, **settings}),
            self.book,
            self.answers,
            self.controllable,
            Surroundings(lambda device, utc_us: self.athlete, self._heard_us, self._connected),
            clock=self.now,
        )
        self.said: list[Answer] = []
        self.commands = 0
        self.looked = 0

    def _connected(self) -> bool:
        self.looked += 1
        return self.connected

    def now(self) -> Instant:
        return Instant(time.monotonic_ns() // 1000, self.utc_us)

    def _heard_us(self, device: str) -> int | None:
        return None if self.silent_s is None else self.now().mono_us - round(self.silent_s * 1e6)

    def send(
        self,
        action: str,
        value: float | None = None,
        *,
        ident: str = "",
        device: str = "mill",
        athlete: str = "ann",
        good_for_s: float = 60,
    ) -> str:
        self.commands += 1
        order = {"action": action} | ({} if value is None else {"value": value})
        ident = ident or f"command-{self.commands:04d}"
        expires_us = self.utc_us + round(good_for_s * 1e6)
        command = Command.model_validate({"id": ident, "device": device, "athlete": athlete, "expires_us": expires_us, "order": order})
        self.equipment.command(encode_command(command))
        return ident

    def listen(self) -> None:
        while len(self.answers):
            raw = self.answers._waiting[0]
            self.answers.sent(raw)
            self.said.append(decode_answer(raw))

    async def until(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while not what():
            self.listen()
            assert time.monotonic() < deadline, f"not reached; said {self.said}"
            await asyncio.sleep(0.01)

    def final(self, ident: str) -> tuple[str, str] | None:
        self.listen()
        found = [a for a in self.said if isinstance(a, Reply) and a.id == ident and a.state.final]
        return (str(found[-1].state), str(found[-1].reason or "")) if found else None

    async def ended(self, ident: str) -> tuple[str, str]:
        await self.until(lambda: self.final(ident) is not None)
        found = self.final(ident)
        assert found is not None
        return found

    def notices(self) -> list[tuple[str, str]]:
        self.listen()
        return [(str(a.event), str(a.reason)) for a in self.said if isinstance(a, Notice)]

    async def ready(self, device: str = "mill") -> None:
        """The machine was asked for its limits."""
        await self.until(lambda: self.equipment._machines[device].session._limits is not None)


@asynccontextmanager
async def running(hall: Hall, link: Link | None = None) -> AsyncIterator[Hall]:
    task = asyncio.create_task(hall.equipment.run())
    try:
        await hall.until(lambda: hall.equipment._group is not None and hall.controllable._listener is not None)
        if link is not None:
            hall.controllable.add("mill", link)
            await hall.ready()
        yield hall
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=GIVE_UP_S)
        hall.listen()
        hall.book.close()
        assert task.cancelled(), task


async def test_command_is_accepted_carried_out_and_done(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        assert await hall.ended(hall.send("start")) == ("done", "")
        assert await hall.ended(hall.send("speed_mps", 2.5)) == ("done", "")
        assert model.speed_kmh == 9
        assert [str(a.state) for a in hall.said if isinstance(a, Reply)] == ["accepted", "done"] * 2
        assert {a.at_us for a in hall.said} == {NOW_US}


async def test_repeat_is_answered_the_same_and_not_carried_out_again(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        ident = hall.send("start")
        await hall.ended(ident)
        for _ in range(5):
            hall.send("start", ident=ident)
        await hall.until(lambda: hall.equipment.counters["equipment_repeats"] == 5)
        assert model.got == [b"\x00", b"\x07"]
        hall.listen()
        assert [str(a.state) for a in hall.said if isinstance(a, Reply)] == ["accepted", *["done"] * 6]


async def test_repeat_while_under_way_is_told_that_it_was_accepted(tmp_path: Path) -> None:
    link = Link(FtmsModel())
    async with running(Hall(tmp_path), link) as hall:
        link.open.clear()
        ident = hall.send("start")
        hall.send("start", ident=ident)
        await hall.until(lambda: hall.equipment.counters["equipment_repeats"] == 1)
        link.open.set()
        assert await hall.ended(ident) == ("done", "")
        assert [str(a.state) for a in hall.said if isinstance(a, Reply)] == ["accepted", "accepted", "done"]


async def test_refusal_is_remembered_too(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        hall.athlete = None
        ident = hall.send("start")
        assert await hall.ended(ident) == ("refused", "not_bound")
        hall.athlete = "ann"
        hall.send("start", ident=ident)
        await hall.until(lambda: hall.equipment.counters["equipment_repeats"] == 1)
        assert hall.final(ident) == ("refused", "not_bound")
        assert model.got == []


async def test_limits_of_machine_and_gym_refuse_with_the_strictest(tmp_path: Path) -> None:
    model = FtmsModel()
    ranges = {0x2AD4: bytes.fromhex("3200d0070a00"), 0x2ACC: bytes.fromhex("0000000003000000")}
    rules = {"limits": {"max_speed_mps": 5}, "machines": [{"device": "mill", "max_speed_mps": 3}, {"device": "bike", "max_speed_mps": 1}]}
    async with running(Hall(tmp_path, **rules), Link(model, ranges)) as hall:
        assert await hall.ended(hall.send("speed_mps", 3.2)) == ("refused", "limit")
        assert await hall.ended(hall.send("speed_mps", 0.1)) == ("refused", "limit")
        assert await hall.ended(hall.send("target_power_w", 100)) == ("refused", "not_supported")
        assert await hall.ended(hall.send("speed_mps", 2.9)) == ("done", "")
        assert not any(str(a.state) == "accepted" for a in hall.said if isinstance(a, Reply) and a.id != "command-0004")


async def test_belt_is_stopped_when_the_platform_is_out_of_reach(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        await hall.ended(hall.send("start"))
        hall.connected = False
        await hall.until(lambda: not model.running)
        await hall.until(lambda: ("stopped", "platform_lost") in hall.notices())


async def test_short_outage_stops_nothing(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path, platform_loss_s=600), Link(model)) as hall:
        await hall.ended(hall.send("start"))
        hall.connected = False
        looked = hall.looked
        await hall.until(lambda: hall.looked > looked + 3)  # rounds of the watch
        assert model.running


async def test_belt_is_stopped_when_the_binding_ends_or_passes_to_somebody_else(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        for athlete in (None, "ben"):
            hall.athlete = "ann"
            await hall.ended(hall.send("start"))
            before = len(hall.notices())
            hall.athlete = athlete
            await hall.until(lambda: len(hall.notices()) > before)  # noqa: B023
            assert hall.notices()[-1] == ("stopped", "binding_ended")
            assert not model.running


async def test_order_of_the_next_athlete_comes_after_a_stop(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        await hall.ended(hall.send("start"))
        hall.athlete = "ben"
        assert await hall.ended(hall.send("speed_mps", 2, athlete="ben")) == ("done", "")
        assert [raw[0] for raw in model.got] == [0, 7, 8, 2]
        stopped = next(a for a in hall.said if isinstance(a, Notice))
        assert (stopped.athlete, stopped.reason) == ("ann", "binding_ended")


@pytest.mark.parametrize("athlete", [None, "ben"])
async def test_order_that_waits_when_its_binding_ends_is_not_carried_out(tmp_path: Path, athlete: str | None) -> None:
    model = FtmsModel()
    link = Link(model)
    async with running(Hall(tmp_path), link) as hall:
        link.open.clear()  # the machine takes its time over who has control
        orders = [hall.send("start"), hall.send("speed_mps", 2)]
        await hall.until(lambda: all(any(isinstance(a, Reply) and a.id == one for a in hall.said) for one in orders))
        hall.athlete = athlete
        if athlete is not None:
            orders.append(hall.send("incline_pct", 1, athlete=athlete))
        await hall.until(lambda: link.cancelled == 1)
        link.open.set()
        assert [await hall.ended(one) for one in orders[:2]] == [("refused", "not_bound")] * 2
        assert [await hall.ended(one) for one in orders[2:]] == [("done", "")] * len(orders[2:])
        assert [raw[0] for raw in model.got] == ([] if athlete is None else [0, 3])


async def test_stop_ends_the_wait_for_an_answer(tmp_path: Path) -> None:
    model = FtmsModel()
    link = Link(model)
    async with running(Hall(tmp_path), link) as hall:
        await hall.ended(hall.send("start"))
        link.open.clear()
        slow = hall.send("speed_mps", 5)
        await hall.until(lambda: any(isinstance(a, Reply) and a.id == slow for a in hall.said))
        stop = hall.send("stop")
        await hall.until(lambda: link.cancelled == 1)
        link.open.set()
        assert await hall.ended(stop) == ("done", "")
        assert await hall.ended(slow) == ("lost", "stopped")
        assert not model.running
        assert model.speed_kmh == 0


async def test_lost_link_owes_a_stop_that_goes_first_when_it_is_back(tmp_path: Path) -> None:
    model = FtmsModel()
    link = Link(model)
    async with running(Hall(tmp_path), link) as hall:
        await hall.ended(hall.send("start"))
        link.open.clear()
        slow = hall.send("speed_mps", 5)
        await hall.until(lambda: any(isinstance(a, Reply) and a.id == slow for a in hall.said))
        hall.controllable.remove("mill")
        assert await hall.ended(slow) == ("lost", "link_lost")
        assert await hall.ended(hall.send("start")) == ("refused", "not_controllable")
        model.held = False
        hall.controllable.add("mill", Link(model))
        await hall.until(lambda: not model.running)
        await hall.until(lambda: hall.notices() == [("stop_owed", "link_lost"), ("stopped", "link_lost")])


async def test_link_that_raises_is_a_message_without_answer(tmp_path: Path) -> None:
    model = FtmsModel()
    link = Link(model)
    async with running(Hall(tmp_path), link) as hall:
        link.fails = RuntimeError("the stack is confused")
        assert await hall.ended(hall.send("start")) == ("refused", "no_control")
        link.fails = None
        assert await hall.ended(hall.send("start")) == ("done", "")


async def test_end_of_the_box_stops_what_moves(tmp_path: Path) -> None:
    model = FtmsModel()
    hall = Hall(tmp_path)
    async with running(hall, Link(model)):
        await hall.ended(hall.send("start"))
    assert not model.running
    assert hall.notices() == [("stopped", "shutdown")]
    with CommandBook(tmp_path / "equipment.db") as book:
        assert book.moving() == []


async def killed(hall: Hall) -> None:
    """End the box so that nothing of its farewell happens."""
    hall.equipment._farewell = lambda: asyncio.sleep(0)  # type: ignore[method-assign]


async def test_killed_box_answers_lost_and_stops_what_it_left_moving(tmp_path: Path) -> None:
    model = FtmsModel()
    link = Link(model)
    hall = Hall(tmp_path)
    async with running(hall, link):
        await hall.ended(hall.send("start"))
        link.open.clear()
        open_one = hall.send("speed_mps", 3)
        await hall.until(lambda: any(isinstance(a, Reply) and a.id == open_one for a in hall.said))
        await killed(hall)
    again = Hall(tmp_path)
    again.utc_us += 300_000_000
    async with running(again):
        assert await again.ended(open_one) == ("lost", "box_restarted")
        assert again.notices() == [("stop_owed", "box_restarted")]
        again.send("speed_mps", 3, ident=open_one)  # a late repeat
        await again.until(lambda: again.equipment.counters["equipment_repeats"] == 1)
        model.held = False
        again.controllable.add("mill", Link(model))
        await again.until(lambda: not model.running)
        await again.until(lambda: again.notices()[-1] == ("stopped", "box_restarted"))
        assert model.speed_kmh == 0


async def test_answer_that_may_not_have_left_is_given_again_by_the_next_process(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    async with running(hall, Link(FtmsModel())):
        ident = hall.send("start")
        await hall.ended(ident)
    for age_s, told in ((60, ("done", "")), (700, None)):
        again = Hall(tmp_path)
        again.utc_us += age_s * 1_000_000
        async with running(again):
            assert again.final(ident) == told


async def test_box_that_comes_back_after_ten_minutes_stops_nothing_and_says_so(tmp_path: Path) -> None:
    model = FtmsModel()
    hall = Hall(tmp_path)
    async with running(hall, Link(model)):
        await hall.ended(hall.send("start"))
        await killed(hall)
    again = Hall(tmp_path)
    again.utc_us += 601_000_000
    async with running(again, Link(model)):
        await again.until(lambda: again.notices() == [("stop_failed", "too_late")])
        assert model.running


async def test_clock_that_was_lost_over_the_kill_does_not_spare_the_stop(tmp_path: Path) -> None:
    model = FtmsModel()
    hall = Hall(tmp_path)
    async with running(hall, Link(model)):
        await hall.ended(hall.send("start"))
        await killed(hall)
    again = Hall(tmp_path)
    again.utc_us = 1_000_000
    async with running(again, Link(model)):
        await again.until(lambda: not model.running)
        assert all(a.at_us is None for a in again.said if isinstance(a, Notice))


async def test_what_cannot_be_remembered_is_not_carried_out(tmp_path: Path) -> None:
    model = FtmsModel()
    async with running(Hall(tmp_path), Link(model)) as hall:
        hall.book._db.execute("PRAGMA query_only=ON")
        assert await hall.ended(hall.send("start")) == ("refused", "not_stored")
        assert model.got == []
        hall.book._db.execute("PRAGMA query_only=OFF")
        assert await hall.ended(hall.send("start")) == ("done", "")


async def test_run_that_crashed_answers_and_stops_what_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FtmsModel()
    link = Link(model)
    hall = Hall(tmp_path)
    crashing = asyncio.create_task(hall.equipment.run())
    await hall.until(lambda: hall.controllable._listener is not None)
    hall.controllable.add("mill", link)
    await hall.ready()
    await hall.ended(hall.send("start"))
    link.open.clear()
    open_one = hall.send("speed_mps", 2)
    await hall.until(lambda: any(isinstance(a, Reply) and a.id == open_one for a in hall.said))
    monkeypatch.setattr(hall.equipment._machines["mill"].session, "told", lambda *_: 1 / 0)
    monkeypatch.setattr(hall.equipment, "_farewell", lambda: asyncio.sleep(0))
    hall.controllable.told("mill", 0x2ADA, b"\x04")
    await asyncio.wait({crashing}, timeout=GIVE_UP_S)
    assert isinstance(crashing.exception(), ExceptionGroup)
    monkeypatch.undo()
    link.open.set()
    async with running(hall):
        assert await hall.ended(open_one) == ("lost", "box_restarted")
        await hall.until(lambda: not model.running)
        assert await hall.ended(hall.send("start")) == ("done", "")


async def test_document_that_is_no_command_is_answered_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    async with running(Hall(tmp_path), Link(FtmsModel())) as hall:
        hall.equipment.command(b"blink")
        hall.equipment.command(json.dumps({"id": "command-0001", "device": "mill", "order": "fly"}).encode())
        await hall.until(lambda: len(hall.said) == 2)
        assert [(a.id, str(a.reason)) for a in hall.said if isinstance(a, Reply)] == [("", "bad_command"), ("command-0001", "bad_command")]


async def test_more_commands_than_may_wait_are_refused(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    idents = [hall.send("start") for _ in range(70)]
    assert [hall.final(ident) for ident in idents] == [None] * 64 + [("refused", "busy")] * 6
    hall.book.close()


async def test_repeat_of_what_waits_or_is_under_way_is_never_refused_for_want_of_room(tmp_path: Path) -> None:
    link = Link(FtmsModel())
    async with running(Hall(tmp_path), link) as hall:
        link.open.clear()
        ident = hall.send("start")
        await hall.until(lambda: ident in hall.equipment._working)
        others = [hall.send("start", device="nowhere") for _ in range(64)]
        for repeated in (ident, others[0]):
            hall.send("start", ident=repeated)
        assert hall.equipment.counters["equipment_repeats"] == 2
        assert [hall.final(one) for one in (ident, others[0])] == [None, None]
        link.open.set()
        assert await hall.ended(ident) == ("done", "")
        assert await hall.ended(others[-1]) == ("refused", "not_controllable")
        assert (len(hall.equipment._queued), hall.equipment._working) == (0, set())


async def test_repeat_of_what_is_under_way_is_not_refused_by_a_disk_that_fails_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link(FtmsModel())
    async with running(Hall(tmp_path), link) as hall:
        link.open.clear()
        ident = hall.send("start")
        await hall.until(lambda: ident in hall.equipment._working)
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def fails(*_: object) -> bytes | None:
            loop.call_soon_threadsafe(failed.set)
            raise StoreError("equipment.db: disk I/O error", cure="replace the disk")

        monkeypatch.setattr(hall.book, "begin", fails)
        hall.send("start", ident=ident)
        await asyncio.wait_for(failed.wait(), GIVE_UP_S)
        link.open.set()
        assert await hall.ended(ident) == ("done", "")
        assert {str(a.state) for a in hall.said if isinstance(a, Reply)} == {"accepted", "done"}


async def test_trainer_on_ant_is_loaded_and_released_at_the_end(tmp_path: Path) -> None:
    model = FecModel()
    hall = Hall(tmp_path)
    async with running(hall, Link(model)):
        assert await hall.ended(hall.send("target_power_w", 180)) == ("done", "")
        assert model.power_w == 180
    assert model.got[-1] == bytes([48, *[255] * 6, 0])


GOOD = Situation(enabled=True, now_utc_us=NOW_US, athlete="ann", connected=True, silent_s=1.0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"enabled": False}, "disabled"),
        ({"now_utc_us": 1_000_000}, "clock_unset"),
        ({"now_utc_us": NOW_US + 60_000_000}, "expired"),
        ({"now_utc_us": NOW_US - 600_000_000}, "bad_command"),
        ({"athlete": None}, "not_bound"),
        ({"athlete": "ben"}, "not_bound"),
        ({"connected": False}, "not_controllable"),
        ({"silent_s": None}, "not_live"),
        ({"silent_s": SILENT_S + 1}, "not_live"),
    ],
    ids=lambda v: "-".join(map(str, v)) if isinstance(v, dict) else str(v),
)
def test_command_without_a_live_session_of_its_athlete_is_refused(change: dict[str, object], reason: str | None) -> None:
    order = {"action": "start"}
    made = {"id": "command-1", "device": "mill", "athlete": "ann", "expires_us": NOW_US + 30_000_000, "order": order}
    now = Situation(**{**{name: getattr(GOOD, name) for name in Situation.__slots__}, **change})
    why = refusal(Command.model_validate(made), now)
    assert (None if why is None else str(why[0])) == reason
    stop = refusal(Command.model_validate({**made, "order": {"action": "stop"}}), now)
    assert (None if stop is None else str(stop[0])) == (None if reason == "not_live" else reason)


def test_book_forgets_old_answers_and_keeps_what_is_owed(tmp_path: Path) -> None:
    with CommandBook(tmp_path / "equipment.db") as book:
        assert book.begin("command-1", "mill", b"accepted", NOW_US) is None
        assert book.begin("command-1", "mill", b"other", NOW_US) == b"accepted"
        book.finish("command-1", b"done")
        assert book.begin("command-2", "mill", b"accepted", NOW_US) is None
        book.moves("mill", "ann", NOW_US)
        book.alive(NOW_US + 90_000_000_000)
        assert book.begin("command-1", "mill", b"new", NOW_US) is None
        assert [ident for ident, _ in book.unfinished()] == ["command-2", "command-1"]
        assert [(m.device, m.athlete, m.alive_us) for m in book.moving()] == [("mill", "ann", NOW_US + 90_000_000_000)]
        book.rests("mill")
        assert book.moving() == []


def test_damaged_book_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "equipment.db").write_bytes(b"no database at all" * 500)
    with CommandBook(tmp_path / "equipment.db") as book:
        assert book.unfinished() == []
    assert (tmp_path / "equipment.db.damaged").exists()
    assert "put aside" in caplog.text


def test_book_that_cannot_be_opened_says_where(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"equipment\.db"):
        CommandBook(tmp_path / "nowhere" / "equipment.db")


async def test_answers_wait_in_order_and_the_oldest_goes_when_there_are_too_many() -> None:
    answers = Answers()
    for n in range(MAX_WAITING + 3):
        answers.put(b"answer %d" % n)
    assert answers.dropped == 3
    first = await answers.first()
    assert first == b"answer 3"
    answers.sent(b"answer %d" % 3)  # another object: not what `first` gave
    assert len(answers) == MAX_WAITING
    answers.sent(first)
    assert await answers.first() == b"answer 4"


def test_words_of_the_contract_are_used() -> None:
    """Every reason and event of the contract is one this box can give."""
    source = "".join(path.read_text("utf-8") for path in Path("gateway").glob("*.py"))
    for enum, name in ((CommandReason, "CommandReason"), (NoticeEvent, "NoticeEvent"), (NoticeReason, "NoticeReason")):
        for word in enum:
            assert f"{name}.{word.name}" in source, word


def test_database_of_the_book_is_durable_at_each_commit(tmp_path: Path) -> None:
    with CommandBook(tmp_path / "equipment.db") as book:
        assert book._db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert isinstance(book._db, sqlite3.Connection)
