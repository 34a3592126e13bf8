"""The sink on a real InfluxDB: five buckets written and read back, nothing lost and nothing doubled whatever the server does or is done to it.

influxd 1.8 with its v2 write API and Flux. Buckets are `<name>/autogen`; what only 2.x has is in test_influx_two.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from broker.errors import ConfigError, StoreError
from broker.influx import InfluxSettings
from broker.view_part import WHOLE, ViewPart
from paceline.doctor_services import clocks
from paceline.doctor_services import influx as doctor_of_influx
from paceline.load_influx import InfluxWatch
from processors import influx_queries as ask
from processors.hot_board import NONE_HOT
from processors.influx_admin import InfluxAdmin
from processors.influx_batch import Batch
from processors.influx_collector import Collector
from processors.influx_outbox import Change, Outbox
from processors.influx_packing import pack
from processors.influx_schema import BUCKETS
from processors.influx_sender import Sender
from processors.influx_sink import SinkFiles, named, open_outbox
from processors.influx_wire import Meaning, WriteLink
from processors.line_protocol import Field, Measurement, Points, encode_lines, field_text, tag_text
from simulators.load_plan import LoadPlan
from tests.any_way import T0_US, US
from tests.influx_faults import Fault, FaultProxy, answered, start_faults
from tests.influx_server import Influx, start_influx
from tests.influx_world import InfluxWorld, samples_in
from tests.system.stack import TENANT, Stack, gym_of
from tests.tenants_told import ATHLETES, TENANTS, rides_of, view_of

PROJECT = Path(__file__).resolve().parents[2]
START = "2026-01-01T00:00:00Z"
STOP = "2100-01-01T00:00:00Z"
LIMIT_S = 240.0
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1_800)]  # the first one may have to build the server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def influx(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Influx]:
    async with start_influx(tmp_path_factory.mktemp("influx"), asks_log_in=True) as server:
        server.say("CREATE USER tests WITH PASSWORD 'tests' WITH ALL PRIVILEGES")
        yield server


@pytest.fixture
def world(tmp_path: Path) -> Iterator[InfluxWorld]:
    made = InfluxWorld(tmp_path / "platform")
    yield made
    made.close()


def settings_for(influx: Influx, name: str, url: str = "", **more: object) -> InfluxSettings:
    """The buckets of a test are databases of its own."""
    for bucket in BUCKETS:
        influx.create_database(f"{name}_{bucket}")
    values = {
        "url": url or influx.url,
        "token": influx.token,
        "org": "-",
        "bucket": f"{name}_{{bucket}}/autogen",
        "timeout_s": 60.0,
        **more,
    }
    return InfluxSettings.model_validate(values)


@dataclass
class PartWorld:
    """The folder of a part of the tenants, kept by a view."""

    files: SinkFiles
    now_us: int


class Sinking:
    """Collector and sender of a world in this process, with the world's clock."""

    def __init__(
        self, world: InfluxWorld | PartWorld, influx: InfluxSettings, files: SinkFiles | None = None, part: ViewPart = WHOLE
    ) -> None:  # fmt: skip
        self.world, self.settings = world, influx
        self.admin = InfluxAdmin(influx)
        self.outbox = open_outbox(influx, files or world.files)
        self.collector = Collector(self.outbox, world.files.state, world.files.log, world.files.pulse, named("here", part), part)
        self.sender = Sender(self.outbox, lambda: WriteLink(influx), self.admin, clock_us=lambda: world.now_us, pace=0.05)

    def collect(self) -> None:
        while self.collector.look(self.world.now_us):
            pass

    async def send(self, *, until: Callable[[], bool] | None = None) -> None:
        """Send until nothing is owed (or `until`)."""
        task = asyncio.create_task(self.sender.run())
        try:
            await wait_for(until or (lambda: self.outbox.counters()["waiting_lines"] == 0 and not self._owed()))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _owed(self) -> bool:
        return any(self.outbox.owed(bucket) for bucket in BUCKETS)

    def close(self) -> None:
        self.collector.close()
        self.outbox.close()

    def rows(self, bucket: str, flux: Callable[..., str], *args: str) -> list[dict[str, str]]:
        return self.admin.query(flux(self.settings.named(bucket), *args, START, STOP))

    def tracks(self, *athletes: str) -> dict[tuple[str, int], float]:
        return {(name, us_of(row["_time"])): float(row["dist"]) for name in athletes for row in self.rows("live", ask.track, "gym", name)}


def us_of(text: str) -> int:
    """Microseconds of an RFC 3339 time."""
    whole, _, part = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * US + int(part.ljust(6, "0")[:6] or 0)


async def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.05)


@pytest.fixture
def sinking(world: InfluxWorld, influx: Influx, request: pytest.FixtureRequest) -> Iterator[Sinking]:
    made = Sinking(world, settings_for(influx, request.node.name.replace("test_", "")[:40]))
    yield made
    made.close()


async def test_all_five_buckets_are_written_and_read_back_with_flux(sinking, world):
    world.segments()
    world.ride_on(200)
    world.tell_health()
    world.finish()
    world.report_nodes()
    world.now_us += 3600 * US
    world.report_nodes()
    sinking.collect()
    await sinking.send()
    told = world.samples()
    assert sinking.tracks("anna", "bob") == told
    anna = sinking.rows("live", ask.track, "gym", "anna")
    assert {row["_measurement"] for row in anna} == {"tele"}
    placed = [row for row in anna if row["lat"]]
    assert len(placed) > 0.5 * len(anna)
    assert all(float(row["lat"]) == pytest.approx(47.0, abs=0.01) and 90 <= int(row["hr"]) <= 200 for row in placed)
    efforts = sinking.rows("seg", ask.efforts, "gym", "hill")
    assert len(efforts) == len({row["id"] for row in efforts}) >= 2
    assert all(15_000 < int(row["ms"]) < 25_000 for row in efforts)
    assert not any("anna" in value or "bob" in value for row in efforts for value in row.values())
    board = sinking.rows("seg", ask.board, "gym", "hill")
    assert {row["place"] for row in board} == {"01", "02"}
    assert all(int(row["gap"]) == 0 for row in board if row["place"] == "01")
    minutes = sinking.rows("agg", ask.totals, "gym", "act_1m")
    hours = sinking.rows("agg", ask.totals, "gym", "act_1h")
    assert sum(int(row["n"]) for row in minutes) == sum(int(row["n"]) for row in hours) == len(told)
    longest = {name: max(m for (of, _), m in told.items() if of == name) for name in ("anna", "bob")}
    assert sum(float(row["dist"]) for row in minutes) == pytest.approx(sum(longest.values()), abs=0.2 * len(minutes))
    assert {row["region"] for row in minutes} == {"N045E005"}
    health = {row["kind"]: row for row in sinking.rows("dev", ask.health, "gym")}
    assert (health["device"]["dev"], health["device"]["bat"], health["device"]["rssi"]) == ("watch-anna", "80", "-60")
    assert (health["gateway"]["spool"], health["gateway"]["hours_left"]) == ("7", "12.5")
    stages = {row["stage"]: row for row in sinking.rows("ops", ask.pipeline)}
    assert stages["live"]["out"] == str(len(told) + 1)  # and the report of health
    assert (stages["live"]["lag"], stages["live"]["lag_ms"]) == ("0", "85")
    assert stages.keys() == {"ingest", "live", "influx"}

    now = sinking.rows("seg", ask.board_now, "gym", "hill")
    assert [(row["place"], row["stands"]) for row in now] == [("01", "1"), ("02", "1")]
    world.erase("bob")
    sinking.collect()
    await sinking.send()
    (alone,) = sinking.rows("seg", ask.board_now, "gym", "hill")
    assert (alone["place"], alone["gap"]) == ("01", "0")
    second = [row for row in sinking.rows("seg", ask.board, "gym", "hill") if row["place"] == "02"]
    assert second[-1]["stands"] == "0"


async def test_killed_server_and_hours_without_one_lose_and_double_nothing(sinking, world, influx):
    world.ride_on(50)
    sinking.collect()
    await sinking.send()
    task = asyncio.create_task(sinking.sender.run())
    try:
        world.ride_on(50)
        sinking.collect()
        await influx.kill()
        for _ in range(4):
            world.ride_on(50)
            sinking.collect()
            await asyncio.sleep(0)
        await wait_for(lambda: sinking.sender.lanes["live"].error != "")
        assert "start it" in sinking.sender.lanes["live"].cure
        await influx.start()
        await wait_for(lambda: sinking.outbox.counters()["waiting_lines"] == 0)
        await wait_for(lambda: sinking.sender.lanes["live"].error == "")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert sinking.tracks("anna", "bob") == world.samples()
    assert len(world.samples()) == 2 * 300


FAULTS = [
    answered(429, "0"), answered(503), answered(500), Fault("reset"), Fault("answer_lost"), Fault("half_answer"), Fault("written_but_500"),
    Fault("half_request"), answered(502), answered(504),
]  # fmt: skip


async def test_faults_between_us_and_the_server_lose_and_double_nothing(world, influx):
    async with start_faults(influx.port, [fault for fault in FAULTS for _ in range(3)]) as proxy:
        sinking = Sinking(world, settings_for(influx, "faults", proxy.url))
        task = asyncio.create_task(sinking.sender.run())
        try:
            for _ in range(8):
                world.ride_on(25)
                sinking.collect()
                await asyncio.sleep(0.05)
            await wait_for(lambda: sinking.outbox.counters()["waiting_lines"] == 0 and not proxy.faults)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            direct = Sinking(world, settings_for(influx, "faults"), SinkFiles(world.files.folder / "second"))
            counters = sinking.outbox.counters()
            sinking.close()
    assert direct.tracks("anna", "bob") == world.samples()
    assert counters["sent"] == counters["made"]
    assert counters["dead"] == 0
    direct.close()


async def test_retry_after_is_honoured(world, influx):
    async with start_faults(influx.port, []) as proxy:
        sinking = Sinking(world, settings_for(influx, "retry", proxy.url))
        world.ride_on(25)
        sinking.collect()
        proxy.faults = [answered(429, "1")] * len(BUCKETS)
        await sinking.send()
        sinking.close()
    assert sum(fault.status == 429 for fault in proxy.met) >= 1
    assert gaps_after(proxy, 429) >= 0.9  # a second as the server asked; our own waits are a twentieth here


def gaps_after(proxy: FaultProxy, status: int) -> float:
    """The time from the first such answer to the first request that was let through after all of them."""
    first = next(at for at, fault in zip(proxy.times, proxy.met, strict=True) if fault.status == status)
    return min(at for at, fault in zip(proxy.times, proxy.met, strict=True) if fault.kind == "pass" and at > first) - first


async def test_samples_of_a_load_are_seen_once_they_can_be_asked_for(sinking):
    plan = LoadPlan("gym", 6, 2, 3, time.time_ns() // 1000 - 3 * US)
    ends = {(n, d): [plan.first_us(n, d) + k * plan.frame_us for k in range(3)] for n in range(2) for d in range(3)}
    watch, link = InfluxWatch(sinking.settings), WriteLink(sinking.settings)
    watch.begin(plan, plan.start_us)
    try:
        for k in range(3):
            lines = [f"tele,ath={plan.athlete(n, d)},kind=smooth,tenant=gym dist={k}.5 {at[k]}\n" for (n, d), at in ends.items()]
            assert link.write("live", "us", pack("".join(lines).encode())).meaning == Meaning.DONE
            await wait_for(lambda k=k: watch.sightings["influx"].watched.seen == 2 * (k + 1))  # of one athlete a node
    finally:
        watch.stop()
        link.close()
    assert watch.sightings["influx"].watched.strange == 0


BAD = (
    b"tele,ath=eve,kind=smooth,tenant=gym dist=1.0,hr=oops 1790000000000000\n",  # cannot be read
    b"tele,ath=eve,kind=smooth,tenant=gym dist=1.0,pw=2.5 1790000000000000\n",  # pw is a whole number
)


async def test_only_bad_lines_become_dead_letters_with_what_the_server_said(sinking, world):
    link = WriteLink(sinking.settings)
    assert link.write("live", "us", pack(b"tele,ath=eve,kind=smooth,tenant=gym pw=1i 1790000000000000\n")).meaning == Meaning.DONE
    link.close()
    world.ride_on(25)
    sinking.collect()
    sinking.outbox.commit(Change(batches=[Batch("live", "write", "us", 1, T0_US, pack(line)) for line in BAD]))
    world.ride_on(25)
    sinking.collect()
    await sinking.send()
    assert sinking.tracks("anna", "bob") == world.samples()
    letters = [stored.letter for stored in sinking.outbox.dead()]
    assert {letter.raw for letter in letters} == set(BAD)
    assert {letter.topic for letter in letters} == {"live"}
    said = {letter.raw: letter.detail for letter in letters}
    assert "unable to parse" in said[BAD[0]]
    assert "type conflict" in said[BAD[1]]
    assert sinking.outbox.counters()["refused"] == 2


async def test_lines_refused_for_what_the_server_had_are_written_once_that_is_gone(sinking, world, influx):
    link = WriteLink(sinking.settings)
    assert link.write("seg", "ns", pack(b'effort,seg=hill,sport=run,tenant=gym ms="slow" 1790000000000000000\n')).meaning == Meaning.DONE
    line = b'effort,seg=hill,sport=run,tenant=gym ms=60000i,id="e1",stands=1i 1790000000000000001\n'
    sinking.outbox.commit(Change(batches=[Batch("seg", "write", "ns", 1, T0_US, pack(line))]))
    await sinking.send()
    (kept,) = sinking.outbox.dead()
    assert "type conflict" in kept.letter.detail
    link.close()
    await asyncio.to_thread(influx.say, "DROP MEASUREMENT effort", sinking.settings.named("seg").partition("/")[0])
    assert sinking.outbox.owe_again([kept]) == 1
    await sinking.send()
    assert [(row["id"], row["ms"]) for row in sinking.rows("seg", ask.efforts, "gym", "hill")] == [("e1", "60000")]
    assert sinking.outbox.dead() == []
    counters = sinking.outbox.counters()
    assert (counters["refused"], counters["sent_again"], counters["dead"]) == (1, 1, 0)


async def test_a_full_disk_loses_nothing_that_is_still_with_the_platform(world, influx, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stderr}\n  cure: run this test as root in a container with CAP_SYS_ADMIN"
    try:
        sinking = Sinking(world, settings_for(influx, "disk"), SinkFiles(disk))
        world.ride_on(25)
        sinking.collect()
        ballast = disk / "ballast"
        handle = os.open(ballast, os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            while os.write(handle, bytes(4096)):
                pass
        os.close(handle)
        cures: set[str] = set()
        for _ in range(40):
            world.ride_on(25)
            try:
                sinking.collect()
            except StoreError as error:
                cures.add(error.cure)
        assert cures
        assert all("free space" in cure for cure in cures)
        ballast.unlink()
        sinking.collect()
        await sinking.send()
        assert sinking.tracks("anna", "bob") == world.samples()
        sinking.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_an_outbox_that_is_full_drops_the_oldest_and_counts_it_or_waits(world, influx):
    small = settings_for(influx, "small", outbox_mb=1)
    for drops in (True, False):
        files = SinkFiles(world.files.folder / f"drops-{drops}")
        sinking = Sinking(world, small, files)
        sinking.outbox.close()
        sinking.outbox = Outbox(files.outbox, cap_bytes=6_000, drop_oldest=drops)
        sinking.collector = Collector(sinking.outbox, world.files.state, world.files.log, world.files.pulse, "here")
        for _ in range(6):
            world.ride_on(50)
            sinking.collect()
        counters = sinking.outbox.counters()
        if drops:
            assert counters["waiting_bytes"] <= 6_000
            assert counters["dropped_full"] + counters["waiting_lines"] == counters["made"]
            assert counters["dropped_full"] > 0
        else:
            assert counters.get("dropped_full", 0) == 0
            assert sinking.outbox.is_full
            sinking.sender = Sender(sinking.outbox, lambda: WriteLink(small), sinking.admin, clock_us=lambda: world.now_us)
            while sinking.outbox.is_full:
                await sinking.send()
                sinking.collect()
            await sinking.send()
            assert sinking.tracks("anna", "bob") == world.samples()
        sinking.close()


async def test_an_erased_athlete_is_written_no_more_and_a_server_that_cannot_delete_is_said(sinking, world, caplog):
    world.ride_on(25)
    sinking.collect()
    world.erase("bob")
    world.ride_on(25)
    sinking.collect()
    await sinking.send()
    last_bob = max((t for name, t in sinking.tracks("anna", "bob") if name == "bob"), default=0)
    assert last_bob < T0_US + 25 * US
    assert sinking.tracks("anna") == {key: m for key, m in world.samples().items() if key[0] == "anna"}
    assert "leave live within 48 hours" in caplog.text


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)


async def test_whatever_tags_and_texts_hold_the_server_gives_back(influx):
    where = settings_for(influx, "words")
    measurement = Measurement("w", ("n", "tag"), (Field("text", "text"), Field("i", "int"), Field("f", "float", 3)), "ns")
    link, admin = WriteLink(where), InfluxAdmin(where)
    drawn: list[tuple[str, str, int]] = []

    @settings(max_examples=300)
    @given(WORDS, WORDS, st.integers(-(2**62), 2**62))
    def draw(tag: str, text: str, number: int) -> None:
        drawn.append((tag_text(tag), field_text(text), number))

    draw()
    drawn += [("a\\b", 'q"\\"', 1), ("a\\,b", "\\", 2), ("=,= ", 'é"', 3), ("\\=", "x\\\\", 4)]
    n = len(drawn)
    points = Points(
        measurement, [(f"{i:04d}", tag) for i, (tag, _, _) in enumerate(drawn)], np.arange(n),
        (np.arange(n), np.array([i for _, _, i in drawn]), np.array([i % 10**12 for _, _, i in drawn])),
        np.full(n, 1_790_000_000_000_000_000), {"text": [text for _, text, _ in drawn]},
    )  # fmt: skip
    verdict = link.write("live", "ns", pack(encode_lines(points)))
    link.close()
    assert verdict.meaning == Meaning.DONE, verdict.said
    flux = f'from(bucket: "{where.named("live")}") |> range(start: {START}, stop: {STOP}) |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")'
    rows = {int(row["n"]): row for row in admin.query(flux)}
    assert len(rows) == n
    for i, (tag, text, number) in enumerate(drawn):
        assert (rows[i]["tag"], rows[i]["text"], int(rows[i]["i"])) == (tag, text, number)
        assert float(rows[i]["f"]) == pytest.approx((number % 10**12) / 1000)


async def test_a_wrong_token_and_a_missing_bucket_say_their_cure_and_nothing_is_lost(world, influx):
    where = settings_for(influx, "token")
    world.ride_on(25)
    wrong = Sinking(world, where.model_copy(update={"token": SecretStr("tests:wrong")}))
    wrong.collect()
    await wrong.send(until=lambda: wrong.sender.lanes["live"].error != "")
    assert "influx.token" in wrong.sender.lanes["live"].cure
    assert "paceline influx setup" in wrong.sender.lanes["live"].cure
    found = doctor_of_influx(wrong.settings)
    assert {one.check: one.ok for one in found} == {"influx": True} | {f"influx {bucket}": False for bucket in BUCKETS}
    assert all("paceline influx setup" in one.cure for one in found[1:])
    wrong.close()
    nowhere = Sinking(world, where.model_copy(update={"bucket": "nowhere_{bucket}/autogen"}))
    await nowhere.send(until=lambda: nowhere.sender.lanes["live"].error != "")
    assert "influx.bucket" in nowhere.sender.lanes["live"].cure
    nowhere.close()
    right = Sinking(world, where)
    await right.send()
    assert right.tracks("anna", "bob") == world.samples()
    assert right.outbox.counters()["dead"] == 0
    right.close()


async def test_clock_that_differs_from_that_of_the_server_is_found_with_its_cure(influx):
    where = InfluxSettings(url=influx.url)
    assert [one.ok for one in await asyncio.to_thread(clocks, where, time.time)] == [True]
    for off_s, words in ((7_200, "ahead of the clock of"), (-7_200, "behind the clock of")):
        (found,) = await asyncio.to_thread(clocks, where, lambda off_s=off_s: time.time() + off_s)
        assert not found.ok
        assert f"{words} {influx.url}" in found.found
        assert "timedatectl" in found.cure


def paceline(world: InfluxWorld, where: InfluxSettings, *args: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "paceline", "influx", *args, "--data", str(world.files.folder.parent)]
    done = subprocess.run(command, env=environment(where), capture_output=True, text=True, timeout=300, check=False, cwd=PROJECT)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


async def test_the_commands_say_what_is_wrong_and_how_it_goes(world, influx):
    where = settings_for(influx, "commands")
    assert paceline(world, where, "check").count("can be written") == 5
    wrong = where.model_copy(update={"token": SecretStr("tests:wrong")})
    assert "paceline influx setup" in paceline(world, wrong, "check", code=1)
    with pytest.raises(ConfigError, match="CREATE DATABASE"):  # what 1.8 has instead of buckets
        InfluxAdmin(where).make_buckets()
    sinking = Sinking(world, where)
    sinking.outbox.commit(Change(batches=[Batch("live", "write", "us", 1, T0_US, pack(BAD[0]))]))
    await sinking.send()
    sinking.close()
    (dead,) = json.loads(paceline(world, where, "refused", "list", "--json"))
    assert (dead["bucket"], dead["unit"], dead["line"]) == ("live", "us", BAD[0].decode())
    assert "unable to parse" in dead["said"]


def environment(where: InfluxSettings, **more: str) -> dict[str, str]:
    return {
        **os.environ, "PACELINE_INFLUX__URL": where.url, "PACELINE_INFLUX__TOKEN": where.token.get_secret_value(),
        "PACELINE_INFLUX__ORG": where.org, "PACELINE_INFLUX__BUCKET": where.bucket, **more,
    }  # fmt: skip


def sink_process(world: InfluxWorld | PartWorld, where: InfluxSettings, **env: str) -> subprocess.Popen[bytes]:
    log = (world.files.folder / "sink.out").open("ab")
    command = [sys.executable, "-m", "paceline", "influx", "sink", "--data", str(world.files.folder.parent)]
    with log:
        return subprocess.Popen(command, env=environment(where, **env), stdout=log, stderr=log, cwd=PROJECT)


POINTS = ("before_commit:1", "after_commit:1", "before_done:2", "after_done:1")


async def test_a_sink_killed_at_any_point_goes_on_without_a_loss(tmp_path, influx):
    world = InfluxWorld(tmp_path / "site" / "platform", time.time_ns() // 1000 - 600 * US)
    where = settings_for(influx, "killed")
    for point in POINTS:
        world.ride_on(50)
        process = sink_process(world, where, PACELINE_KILL_AT=f"influx.{point}")
        await wait_for(lambda process=process: process.poll() is not None)
        assert process.returncode == -signal.SIGKILL, (world.files.folder / "sink.out").read_text()[-2000:]
    world.ride_on(50)
    process = sink_process(world, where)
    try:
        probe = Sinking(world, where, SinkFiles(world.files.folder / "probe"))
        expected = world.samples()
        await wait_for(
            lambda: json_of(world.files.status)["counters"].get("waiting_lines") == 0 and len(probe.tracks("anna", "bob")) >= len(expected)
        )
        assert probe.tracks("anna", "bob") == expected
        probe.close()
    finally:
        world.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0


def all_rows(sinking: Sinking) -> dict[str, list[tuple[str, ...]]]:
    """What dashboards of each tenant find: samples, efforts, places, totals."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for tenant in TENANTS:
        found[f"{tenant} efforts"] = values_of(sinking.rows("seg", ask.efforts, tenant, "hill"))
        found[f"{tenant} board"] = values_of(sinking.rows("seg", ask.board_now, tenant, "hill"))
        for totals in ("act_1m", "act_1h"):
            found[f"{tenant} {totals}"] = values_of(sinking.rows("agg", ask.totals, tenant, totals))
        for name in ATHLETES:
            if (tenant, name) != ("gym", "bob"):  # who is erased after the half, and this server deletes nothing
                found[f"{tenant} {name}"] = values_of(sinking.rows("live", ask.track, tenant, name))
    return found


def values_of(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """Rows without what the server says of its own answer."""
    return sorted(
        tuple(value for name, value in sorted(row.items()) if name not in ("", "result", "table", "_start", "_stop")) for row in rows
    )


async def test_sinks_of_parts_lose_and_double_nothing_when_one_is_killed_and_one_joins(tmp_path, influx):
    await sinks_of_parts(tmp_path, influx, "parts", {2: POINTS[2:3]})


@pytest.mark.nightly
async def test_sinks_of_parts_are_killed_at_every_point(tmp_path, influx):
    await sinks_of_parts(tmp_path, influx, "points", {1: POINTS, 2: POINTS})


async def sinks_of_parts(tmp_path: Path, influx: Influx, name: str, kills: dict[int, tuple[str, ...]]) -> None:
    """Two sinks of halves of the tenants, killed at points; then three of thirds: in InfluxDB is what one sink of everything writes."""
    t0_us = time.time_ns() // 1000 - 6_000 * US
    told = await asyncio.to_thread(rides_of, tmp_path / "cluster", NONE_HOT, t0_us)
    now_us = t0_us + 5_900 * US

    def world(name: str, part: ViewPart, upto: int) -> PartWorld:
        files = SinkFiles(tmp_path / name / "platform")
        view_of(files.state, told[:upto], part).close()
        return PartWorld(files, now_us)

    async def sunk(name: str, part: ViewPart, upto: int, where: InfluxSettings) -> Sinking:
        sinking = Sinking(world(name, part, upto), where, part=part)
        sinking.collect()
        sinking.collect()
        await sinking.send()
        sinking.close()
        return sinking

    one, where = settings_for(influx, f"{name}_one"), settings_for(influx, name)
    expected = all_rows(await sunk("one", WHOLE, len(told), one))
    half = len(told) // 2
    for number in (1, 2):
        part = ViewPart(number, 2)
        for point in kills.get(number, ()):
            killed = world(f"part{number}", part, half)
            process = sink_process(killed, where, PACELINE_VIEW__PART=str(part), PACELINE_KILL_AT=f"influx.{point}")
            await wait_for(lambda process=process: process.poll() is not None)
            assert process.returncode == -signal.SIGKILL, (killed.files.folder / "sink.out").read_text()[-2000:]
        await sunk(f"part{number}", part, half, where)
    for part in (ViewPart(number, 3) for number in (1, 2, 3)):  # a third joins: views and sinks go on with other tenants
        last = await sunk(f"part{part.number}", part, len(told), where)
    found = all_rows(last)
    assert all(len(rows) > 1 for name, rows in expected.items() if name.endswith(("act_1m", "anna")))
    assert found == expected


def json_of(path: Path) -> dict:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {"counters": {}}


async def test_a_site_with_influx_writes_all_that_its_gym_measured_whoever_is_killed(tmp_path, influx):
    where = settings_for(influx, "site")
    values = {**where.model_dump(), "token": where.token.get_secret_value()}
    gym = gym_of(7, members=3, samples=30, start_us=time.time_ns() // 1000 - 300 * US)
    async with Stack(tmp_path / "site", gym, settings={"influx": values}) as stack:
        assert stack.runs("influx")
        members = stack.gym()
        await members.start()
        try:
            for name in ("influx", "platform"):
                await asyncio.sleep(0.5)
                await stack.kill(name)
                await stack.start(name)
            assert await members.wait_drained(120), "devices still owe frames"
        finally:
            report = await members.stop()
        files = SinkFiles(stack.site.platform_dir)
        await stack.settled(report.frames_made)
        probe = InfluxAdmin(where)

        def written() -> dict[tuple[str, int], float]:
            rows = [
                row
                for name in {name for name, _ in samples_in(files.state)}
                for row in probe.query(ask.track(where.named("live"), TENANT, name, START, STOP))
            ]
            return {(row["ath"], us_of(row["_time"])): float(row["dist"]) for row in rows}

        await wait_for(lambda: written() == samples_in(files.state) != {})
        await wait_for(lambda: any(row["gw"] == "box" for row in probe.query(ask.health(where.named("dev"), TENANT, START, STOP))))
        await wait_for(lambda: json_of(files.status)["counters"].get("waiting_lines") == 0)
        assert json_of(files.status)["counters"].get("dead", 0) == 0
