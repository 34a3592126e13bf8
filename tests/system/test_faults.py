"""Faults of links, clocks and boxes on one running site: whatever happens, nothing is lost and nothing counts twice.

All tests share the processes: a central broker, the platform, and two boxes with a near broker each, whose uplinks pass a proxy. Each test
has members of its own, and ends with the stores equal, bit for bit, to the undisturbed run of everything that was sent so far.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from broker.frames import Clock, Frame, read_frame
from broker.logrecord import Kind
from paceline.site import Site
from processors.log import SqliteLog
from processors.stores import ReadStore
from simulators.faults import parse_faults
from simulators.gym import Gym, GymSettings, TruthReport
from simulators.numbering import ClockPlan
from simulators.outbox import OutboxSettings
from simulators.truth import Truth, compare
from tests.proxy import Mode, Proxy, start_proxy
from tests.system.stack import START_US, TENANT, Stack, frame_of, gym_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
EAGER = OutboxSettings(retry_us=400_000, max_retry_us=1_600_000)
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Boxes:
    """The site, its second box, and the links of both to the central broker."""

    stack: Stack
    second: Site
    link: Proxy
    second_link: Proxy


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def boxes(tmp_path_factory):
    stack = Stack(tmp_path_factory.mktemp("site"))
    second = stack.add_box("b", "box-b")
    port = stack.site.settings.central.port
    async with start_proxy(port, seed=1) as link, start_proxy(port, seed=2) as second_link:
        stack.route("gateway", link.port)
        stack.route("gateway-b", second_link.port)
        async with stack:
            yield Boxes(stack, second, link, second_link)


@asynccontextmanager
async def training(settings: GymSettings):
    """The gym while it trains."""
    gym = Gym(settings)
    await gym.start()
    try:
        yield gym
    finally:
        await gym.stop()


async def trained(gym: Gym, timeout_s: float = 120) -> TruthReport:
    """Wait until the boxes have acknowledged everything."""
    assert await gym.wait_drained(timeout_s), "devices still owe frames"
    report = gym.report()
    assert report.frames_refused == 0
    return report


async def trains(settings: GymSettings, timeout_s: float = 120) -> TruthReport:
    async with training(settings) as gym:
        return await trained(gym, timeout_s)


async def until(what: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "not reached in time"
        await asyncio.sleep(0.05)


def frames(*reports: TruthReport):
    return [frame_of(made) for report in reports for made in report.truth]


async def test_uplink_cut_for_an_hour_of_training(boxes: Boxes) -> None:
    boxes.link.mode = Mode.CUT
    report = await trains(boxes.stack.members(gym_of(11, 3, 3600, name="hour", speed=1200.0, samples_per_frame=30)))
    assert boxes.stack.counted("hour") == 0
    boxes.link.mode = Mode.PASS
    await boxes.stack.check(frames(report))


async def test_thirty_percent_loss_on_both_hops(boxes: Boxes) -> None:
    faults = parse_faults("drop:0.3,duplicate:0.3,reorder:0.3")
    gym = boxes.stack.members(gym_of(12, 3, 20, name="loss", speed=8.0, faults=faults, outbox=EAGER))
    boxes.link.loss, before = 0.3, boxes.link.resets
    boxes.link.cut()
    report = await trains(gym)
    await until(lambda: boxes.link.resets - before >= 3)
    boxes.link.loss = 0.0
    await boxes.stack.check(frames(report))


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_thirty_percent_loss_to_the_end(boxes: Boxes) -> None:
    faults = parse_faults("drop:0.3,duplicate:0.3,reorder:0.3")
    boxes.link.loss = 0.3
    boxes.link.cut()
    try:
        report = await trains(boxes.stack.members(gym_of(22, 4, 60, name="longloss", speed=8.0, faults=faults, outbox=EAGER)), 240)
        await boxes.stack.check(frames(report), 600)
    finally:
        boxes.link.loss = 0.0


@pytest.mark.parametrize(
    ("first", "second"),
    [(Mode.HALF_OPEN, Mode.ONE_WAY_UP), pytest.param(Mode.ONE_WAY_DOWN, Mode.STALL, marks=pytest.mark.nightly)],
)
async def test_half_open_and_one_way_links(boxes: Boxes, first: Mode, second: Mode) -> None:
    """Both boxes at once, so that one wait for the timeouts is enough; their devices have such links to the boxes too."""
    names = (f"{first.value[0]}{first.value[-1]}a", f"{second.value[0]}{second.value[-1]}b")
    plan = parse_faults("half_open@1-5,one_way:0@6-9,one_way:1@10-12")
    gyms = (
        boxes.stack.members(gym_of(13, 2, 16, name=names[0], faults=plan, outbox=EAGER)),
        boxes.stack.members(gym_of(14, 2, 16, name=names[1], faults=plan, outbox=EAGER), boxes.second),
    )
    links = (boxes.link, boxes.second_link)
    await until(lambda: all(link.alive for link in links))
    dialled = [link.connections for link in links]
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(training(gym)) for gym in gyms]
        boxes.link.mode, boxes.second_link.mode = first, second
        reports = [await trained(gym) for gym in running]
    await until(lambda: all(link.connections > before for link, before in zip(links, dialled, strict=True)))
    boxes.link.mode = boxes.second_link.mode = Mode.PASS
    for link in links:
        link.cut()
    await boxes.stack.check(frames(*reports))


@pytest.mark.parametrize("box", ["first", "none"])
async def test_clock_at_1970_or_unknown_then_corrected(boxes: Boxes, box: str) -> None:
    """Samples before the correction lie in the track where they truly were, behind a box and without one."""
    broker = "near" if box == "first" else "central"
    wrong = gym_of(15, 2, 16, name=f"epoch-{box[0]}", faults=parse_faults("clock_1970@0-8"))
    undated = gym_of(16, 2, 16, name=f"undated-{box[0]}", clock=ClockPlan(dated_after_us=8_000_000))
    reports = await asyncio.gather(*(trains(boxes.stack.members(gym, broker=broker)) for gym in (wrong, undated)))
    assert all(made.dated_us is None or made.dated_us < START_US / 2 for r in reports for made in r.truth if made.seq < 7)
    await boxes.stack.check(frames(*reports))


def day_old(seconds: int, members: int) -> GymSettings:
    """Members who trained for so long a day before everybody else, in frames of half a minute."""
    return gym_of(17, members, seconds, name="yesterday", start_us=START_US - DAY_US, speed=10_000.0, samples_per_frame=30)


async def test_day_old_backlog_while_members_train(boxes: Boxes) -> None:
    """Live frames do not wait behind the backlog."""
    boxes.link.mode = Mode.CUT
    old = await trains(boxes.stack.members(day_old(28_800, 1)))
    boxes.link.delay_s = 0.3
    boxes.link.mode = Mode.PASS
    await until(lambda: boxes.stack.counted("yesterday"))  # the box is back, the backlog flows
    live = await trains(boxes.stack.members(gym_of(18, 3, 16, name="today", speed=8.0)))
    await until(lambda: boxes.stack.counted("today") == 48)
    boxes.link.delay_s = 0.0
    await boxes.stack.check(frames(old, live))
    order = in_log(boxes.stack)
    last_old = max(at for at, device in enumerate(order) if device.startswith("yesterday"))
    places = [at for at, device in enumerate(order) if device.startswith("today")]
    assert sum(at < last_old for at in places) > len(places) / 2, "live frames waited behind the backlog"


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_live_latency_beside_a_day_old_backlog(tmp_path: Path) -> None:
    """Members at 4 Hz in real time, without and then with ten whole days of training in the same box; prints the ratio of their p99."""
    async with Stack(tmp_path / "site") as stack, start_proxy(stack.site.settings.central.port) as link:
        await stack.end("gateway")
        stack.route("gateway", link.port)
        await stack.start("gateway")
        p99_ms: dict[str, float] = {}
        for name in ("alone", "beside"):
            if name == "beside":
                link.mode = Mode.CUT
                old = await trains(stack.members(day_old(86_400, 10)), 400)
            await stack.end("platform")  # its latencies begin afresh
            await stack.start("platform")
            await asyncio.sleep(5)  # and its kernels are loaded
            link.mode = Mode.PASS
            await until(lambda name=name: name == "alone" or stack.counted("yesterday"))  # the box is back, the backlog flows
            live = gym_of(28, 50, 240, name=name, start_us=None, speed=1.0, rate_hz=4.0)
            report = await trains(stack.members(live), 200)
            await until(lambda name=name: stack.counted(name) == 50 * 240, 120)
            p99_ms[name] = (await snapshot(stack))["latency_ms"]["p99"]
            stack.owed += frames(report)
        await stack.check(frames(old), 400)
        ratio = p99_ms["beside"] / p99_ms["alone"]
        print(
            json.dumps(
                {"name": "backlog", "figures": {"p99_ms": p99_ms["beside"], "ratio": ratio}, "baseline": {"p99_ms": p99_ms["alone"]}}
            )
        )


async def snapshot(stack: Stack) -> dict[str, Any]:
    """What the page of the platform shows."""
    api = stack.site.settings.api
    async with httpx.AsyncClient() as client:
        answer = await client.get(
            f"http://{api.host}:{api.port}/api/live", headers={"Authorization": f"Bearer {api.token.get_secret_value()}"}
        )
        answer.raise_for_status()
        return answer.json()


def in_log(stack: Stack) -> list[str]:
    """The devices of all frames in the order of the log."""
    with SqliteLog.open(stack.site.log_db) as log:
        _, records = log.read(0, 1_000_000)
    found = [read_frame(record.body) for record in records if record.kind == Kind.FRAME]
    return [frame.device for frame in found if isinstance(frame, Frame)]


async def configure(boxes: Boxes, version: int, athlete: str, device: str) -> None:
    folder = boxes.stack.site.platform_dir / "nodes" / TENANT
    folder.mkdir(parents=True, exist_ok=True)
    document = {"version": version, "bindings": [{"device": device, "athlete": athlete}]}
    (folder / "box.json").write_text(json.dumps(document))
    accepted = boxes.stack.site.gateway_dir / "cfg.json"
    await until(lambda: accepted.exists() and json.loads(accepted.read_text())["version"] == version)


async def test_binding_changed_between_send_and_resend(boxes: Boxes) -> None:
    """A frame keeps the athlete it was first stored for, though the device sends it again under another binding."""
    stack = boxes.stack
    await configure(boxes, 1, "before", "swap0000")
    await stack.end("gateway")
    await stack.start("gateway", kill_at="near.after_spool:1")
    async with training(stack.members(gym_of(19, 1, 12, name="swap", stamped=False, outbox=EAGER))) as gym:
        assert await stack.died("gateway", 120)
        await stack.kill("broker-near")  # the device cannot send before the box knows the new binding
        await stack.start("gateway")
        await configure(boxes, 2, "after", "swap0000")
        await stack.start("broker-near")
        report = await trained(gym)
    await until(lambda: stack.counted("swap") >= 12)
    store = ReadStore(stack.state)
    before = {seq for _, _, seq, subject, _ in store.frames() if subject == f"{TENANT}/before"}
    store.close()
    assert before
    assert before == set(range(len(before)))
    made = [replace(m, subject=f"{TENANT}/{'before' if m.seq in before else 'after'}") for m in report.truth]
    await stack.check([frame_of(m) for m in made])


async def test_box_re_imaged_while_devices_hold_unacknowledged_frames(boxes: Boxes) -> None:
    """Its spool and epoch are gone; the devices send again what the platform already has."""
    stack, site = boxes.stack, boxes.second
    settings = stack.members(gym_of(20, 3, 16, name="reimaged", speed=8.0, outbox=EAGER), site)
    async with start_proxy(settings.port) as deaf, training(replace(settings, port=deaf.port)) as gym:
        deaf.mode = Mode.ONE_WAY_UP  # no ack comes back
        await until(lambda: stack.counted("reimaged") == 48)
        await stack.kill("gateway-b")
        shutil.rmtree(site.gateway_dir)
        await stack.start("gateway-b")
        repeats = stack.counter("repeats")
        deaf.mode = Mode.PASS
        deaf.cut()
        report = await trained(gym)
        await until(lambda: stack.counter("repeats") > repeats)
    await stack.check(frames(report))


async def test_wearable_roams_between_two_boxes(boxes: Boxes) -> None:
    """Unacknowledged frames go to the second box again, while the first one delivers them too."""
    stack = boxes.stack
    repeats = stack.counter("repeats")
    gym = gym_of(21, 3, 16, name="roamer", faults=parse_faults("one_way:0@0-7,roaming@7"), outbox=EAGER)
    report = await trains(stack.members(gym, then=boxes.second))
    await stack.check(frames(report))
    await until(lambda: stack.counter("repeats") - repeats >= 3)


async def test_two_boxes_hear_one_strap(boxes: Boxes) -> None:
    """Two origins of one athlete: both are kept, one at a time is counted."""
    stack = boxes.stack
    gym = gym_of(23, 4, 60, name="strap", speed=20.0, faults=parse_faults("two_boxes_one_strap:0.2"))
    report = await trains(stack.members(gym, broker="central"))
    assert len({made.origin for made in report.truth}) == 8
    await stack.check(frames(report))
    store = ReadStore(stack.state)
    for truth in report.truth.athletes():
        (activity,) = store.activities(truth.subject)
        assert activity.samples <= 60
        if truth.distance_m is not None:
            assert activity.distance_um <= truth.distance_m * 1e6
    store.close()


async def test_second_gateway_with_the_same_credential(boxes: Boxes) -> None:
    """The broker hands the session to and fro; both boxes are slow, say so, and lose nothing."""
    stack = boxes.stack
    twin = stack.add_box("twin", "box")
    await stack.start("broker-near-twin")
    await stack.start("gateway-twin")
    try:
        gyms = stack.members(gym_of(24, 2, 12, name="mine")), stack.members(gym_of(25, 2, 12, name="twin"), twin)
        reports = await asyncio.gather(*(trains(gym) for gym in gyms))
        await stack.check(frames(*reports), 120)
    finally:
        await stack.end("gateway-twin")
        await stack.end("broker-near-twin")


async def test_box_without_a_clock_dates_its_devices_once_it_has_one(boxes: Boxes, tmp_path: Path) -> None:
    """The last test on this site: dates come from arrival, so the stores are compared frame by frame."""
    stack = boxes.stack
    ahead = tmp_path / "ahead_s"
    ahead.write_text(str(-time.time()))  # the box starts in 1970
    await stack.end("gateway-b")
    await stack.start("gateway-b", through=("-m", "tests.system.wrong_clock", str(ahead)))
    settings = gym_of(26, 2, 1000, name="clockless", start_us=None, speed=1.0, rate_hz=4.0, clock=ClockPlan(quality=Clock.UNKNOWN))
    async with training(stack.members(settings, boxes.second)) as gym:
        await until(lambda: stack.counted("clockless") >= 16)
        ahead.write_text("0")
        undated = stack.counted("clockless")
        await until(lambda: stack.counted("clockless") >= undated + 40)
        gym.end_samples()
        report = await trained(gym)
    await until(lambda: stack.counted("clockless") == report.frames_made)
    assert_where_they_were(stack, report.truth)


def assert_where_they_were(stack: Stack, truth: Truth) -> None:
    store = ReadStore(stack.state)
    try:
        subjects = {made.subject for made in truth}
        outcome = compare(truth, [row for row in store.frames() if row[3] in subjects])
        assert outcome.clean, outcome
        for subject in subjects:
            (track,) = store.tracks(subject).values()
            true_us = [utc_us for utc_us, _ in truth.samples_of(subject)]
            assert len(track) == len(true_us)
            assert max(abs(int(at) - true) for at, true in zip(track.t_us, true_us, strict=True)) < 60_000_000
    finally:
        store.close()
