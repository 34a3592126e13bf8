"""The demo: a whole site in a temporary folder, a virtual gym near the box, and a ride replayed through the box's file source.

Every sample goes the whole way: simulated device -> near broker -> gateway -> central broker -> ingest -> stages -> page. At the end all
that is owed is waited for (bounded), the parts are stopped, and the stores are compared with what the devices made (`paceline.verify`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from broker.errors import BadInputError, PacelineError
from broker.topics import topic
from gateway.file_source import samples_of_frames
from gateway.replay_book import read_pages
from gateway.settings import FileReplay
from paceline.config import Settings
from paceline.live_client import fetch_board, fetch_live
from paceline.options import program_name
from paceline.parts import roles
from paceline.reference_book import open_book
from paceline.sensor_gym import SensorGym, SensorPlan
from paceline.site import Site, add_nodes, open_site, publish_site
from paceline.supervise import Role, Supervisor, require_free
from paceline.verify import as_bound, judge, pending, read_reference, read_stored, ride_owed, unread

if TYPE_CHECKING:
    from device_profiles.files.recording import Recording
    from processors.log import SqliteLog
    from simulators.gym import Gym
    from simulators.sensor_truth import SensorVerdict

log = logging.getLogger(__name__)

TENANT: Final = "demo"
GUEST: Final = "you"  # the node of the publish line
RIDER: Final = "rider"
RIDE_DEVICE: Final = "ride"
_ENDLESS_RIDE_S: Final = 3600
_RIDE_LEAD_S: Final = 3.0  # the synthetic ride ends that much before the demo does
_CONNECT_S: Final = 0.006  # one device at the embedded broker, with its password check
_STILL_S: Final = 1.5
_ONLINE_S: Final = 30.0
_BOARD_LINES: Final = 40
BOX: Final = "box"
_STRANGERS: Final = 1  # straps that nobody owns: grey tiles until somebody names them
_SETTLE_S: Final = 90.0  # after the last sample, at most this long until everything is stored and worked in, by a platform that just starts

Show = Callable[[float, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says. `seconds` None: until stopped. `ride` None: one made by the simulators."""

    seconds: float | None = None
    athletes: int = 24
    ride: Path | None = None
    speed: float = 1.0
    port: int = 8800
    seed: int = 1
    sensors: SensorPlan | None = None


@dataclass(frozen=True, slots=True)
class Sensed:
    """What became of the virtual sensors: the verdict, and the frames their box owes."""

    verdict: SensorVerdict
    frames: Mapping[tuple[str, int], range]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The figures of the summary, in its key order, and what went wrong by name."""

    figures: dict[str, Any]
    examples: tuple[str, ...]
    restarts: dict[str, int]

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing counted twice, nothing refused."""
        sensors = self.figures.get("sensors", {})
        wrong = self.figures["dead_letters"] or sensors.get("wrong") or sensors.get("out_of_order")
        return not (self.figures["lost"] or self.figures["duplicated"] or wrong)


class Demo:
    """One demo in folder `data`. `await open()`, `await play(...)`, `await close()`; the last two always."""

    def __init__(self, options: DemoOptions, data: Path) -> None:
        from paceline.demo_world import SPREAD_M, demo_references
        from simulators.athlete import Sport, draw_athlete
        from simulators.course import synthetic_loop
        from simulators.gym import Gym, GymSettings, gym_usernames, member_athletes

        if options.port:
            require_free("127.0.0.1", options.port, "--port")
        self._options = options
        self._ride = options.ride or data / "ride.fit"
        recording = self._make_ride()
        replay = FileReplay(path=self._ride.absolute(), athlete=RIDER, device=RIDE_DEVICE, speed=options.speed, shift="now")
        self._ride_samples = samples_of_frames(replay, recording)
        gateway: dict[str, Any] = {"files": [replay.model_dump()]}
        self._sensors: SensorGym | None = None
        if options.sensors is not None:
            self._sensors = SensorGym(TENANT, BOX, data / "sensors", options.sensors, seed=options.seed)
            gateway |= {"node": BOX, **self._sensors.gateway_settings()}
        settings = Settings.model_validate({"data": data, "tenant": TENANT, "gateway": gateway, "api": {"port": options.port}})
        self.site: Site = open_site(settings)
        near = self.site.settings.near
        gym = GymSettings(
            near.host, near.port, TENANT, options.athletes, "", seed=options.seed, spread_m=SPREAD_M, strangers=_STRANGERS
        )  # fmt: skip
        secrets = add_nodes(self.site, "near", [*gym_usernames(gym), f"{TENANT}/{GUEST}"])
        self.guest_secret = secrets[f"{TENANT}/{GUEST}"]
        lead_s = 0.5 + options.athletes * _CONNECT_S  # first everyone connects, then the class begins
        self._gym_settings = replace(gym, passwords=secrets, lead_s=lead_s)
        self._references = demo_references(TENANT, synthetic_loop(), member_athletes(gym), draw_athlete(RIDER, Sport.RIDE, options.seed))
        if self._sensors is not None:
            self._references += self._sensors.references()
        self._new_gym: Callable[[], Gym] = lambda: Gym(self._gym_settings)
        self._gym: Gym | None = None
        self._supervisor: Supervisor | None = None
        self._began_s = 0.0

    @property
    def url(self) -> str:
        """The live page."""
        api = self.site.settings.api
        return f"http://{api.host}:{api.port}/"

    @property
    def screen_url(self) -> str:
        """The live page as everybody may see it: for a TV."""
        return f"{self.url}?as=screen"

    async def open(self) -> None:
        """Start the parts and let the gym in. PacelineError when one does not come up."""
        with open_book(self.site, TENANT) as book:
            book.put_all(self._references)
        publish_site(self.site)
        if self._sensors is not None:
            await self._sensors.open()
        self._supervisor = Supervisor(self._roles(self.site), self.site.logs)
        await self._supervisor.start()
        await self._until_online()
        self._gym = self._new_gym()
        await self._gym.start()
        self._began_s = time.monotonic()

    def _roles(self, site: Site) -> list[Role]:
        """The processes; of them the gateway hears the virtual sensors and no real radio."""
        if self._sensors is None:
            return roles(site)
        seen = self._sensors.environment
        return [replace(role, env={**role.env, **seen}) if role.name == "gateway" else role for role in roles(site)]

    async def play(self, show: Show, stop: asyncio.Event) -> None:
        """Show a snapshot a second until the time is up or `stop` is set."""
        assert self._supervisor is not None
        seconds = self._options.seconds
        while not stop.is_set():
            elapsed = time.monotonic() - self._began_s
            if seconds is not None and elapsed >= seconds:
                return
            if self._supervisor.failed.done():
                raise self._supervisor.failed.result()
            snapshot = await fetch_live(self.site)
            if snapshot is not None:
                show(elapsed, {**snapshot, "board": await self._board(snapshot)})
            left = 1.0 if seconds is None else min(1.0, max(seconds - elapsed, 0.0))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await stop.wait()

    async def _board(self, snapshot: Mapping[str, Any]) -> dict[str, Any] | None:
        """The segment board where something changed last."""
        moves = snapshot.get("moves", ())
        return await fetch_board(self.site, moves[0]["segment"], _BOARD_LINES) if moves else None

    async def finish(self) -> DemoResult:
        """Let everything arrive, stop the parts and compare."""
        assert self._gym is not None
        assert self._supervisor is not None
        elapsed = time.monotonic() - self._began_s
        if self._sensors is not None:
            await self._sensors.hush()
        self._gym.end_samples()
        await self._gym.wait_drained(_SETTLE_S)
        await self._end_ride()
        last = await self._settled()
        if self._sensors is not None and await self._sensors.until_stored(self.site.state_db, _SETTLE_S):
            last = await self._settled()  # some came late
        restarts = self._supervisor.restarts()
        report = await self._gym.stop()
        await self._supervisor.stop()
        stored = read_stored(self.site.state_db)
        unfinished = {page.boot: page.frames for page in read_pages(self.site.gateway_dir) if page.device == RIDE_DEVICE}
        ride = ride_owed(f"{TENANT}/{RIDE_DEVICE}", self._ride_samples, unfinished, stored.frames)
        made = as_bound(report.truth, read_reference(self.site.state_db))
        sensed = self._judge_sensors()
        others = {**ride.frames, **(sensed.frames if sensed else {})}
        verdict = judge(made, stored, others, {f"{TENANT}/{RIDER}": ride.samples})
        latency = last["latency_ms"]
        figures: dict[str, Any] = {
            "seconds": round(elapsed, 1),
            "frames_sent": verdict.sent,
            "frames_stored": verdict.stored,
            "lost": verdict.lost,
            "duplicated": verdict.duplicated,
            "refused": report.frames_refused + sum(d["refused"] for d in last["devices"]),
            "samples": stored.counters.get("samples", 0),
            "activities": stored.activities,
            "efforts": stored.efforts,
            "board_changes": stored.counters.get("board_changes", 0),
            "events": stored.events,
            "dead_letters": last["dead_letters"],
            "latency_ms": {key: latency[key] for key in ("p50", "p95", "p99")},
        }
        if sensed is None:
            return DemoResult(figures, verdict.examples, restarts)
        figures |= {"lost": verdict.lost + sensed.verdict.lost, "duplicated": verdict.duplicated + sensed.verdict.duplicated}
        figures["sensors"] = {key: value for key, value in asdict(sensed.verdict).items() if key != "examples"}
        return DemoResult(figures, (*verdict.examples, *sensed.verdict.examples), restarts)

    def _judge_sensors(self) -> Sensed | None:
        """What the virtual sensors said against what is stored; None without sensors."""
        if self._sensors is None:
            return None
        tracks = self._sensors.read(self.site.state_db)
        return Sensed(self._sensors.judge(tracks), tracks.numbers())

    async def close(self) -> None:
        """End whatever still runs; safe at any time."""
        if self._gym is not None:
            await self._gym.stop()
        if self._supervisor is not None:
            await self._supervisor.stop()
        if self._sensors is not None:
            await self._sensors.close()

    def _make_ride(self) -> Recording:
        from device_profiles.errors import FileError
        from device_profiles.files import read_recording

        options = self._options
        if options.ride is None:
            from paceline.ride import write_ride

            span_s = _ENDLESS_RIDE_S if options.seconds is None else max(int((options.seconds - _RIDE_LEAD_S) * options.speed), 2)
            write_ride(self._ride, span_s, options.seed)
        try:
            recording = read_recording(self._ride)
        except FileError as error:
            raise BadInputError(f"{error.path}: {error.detail}", cure=error.cure) from error
        if not recording.points and not recording.beats:
            raise BadInputError(f"{self._ride}: no point with a time in it", cure="give a recorded activity with --ride")
        return recording

    async def _until_online(self) -> None:
        end_s = time.monotonic() + _ONLINE_S
        while time.monotonic() < end_s:
            snapshot = await fetch_live(self.site)
            if snapshot is not None and any(node["online"] for node in snapshot["nodes"]):
                return
            await asyncio.sleep(0.1)
        raise PacelineError("the gateway did not come online", cure=f"see {self.site.logs / 'gateway.log'}")

    async def _end_ride(self) -> None:
        """Start the box again without the ride when that is not over, or may have begun anew; the box then sends what it has."""
        assert self._supervisor is not None
        if not self._supervisor.restarts()["gateway"] and not read_pages(self.site.gateway_dir):
            return
        settings = self.site.settings
        quiet = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"files": ()})})
        await self._supervisor.replace(next(role for role in self._roles(Site(quiet)) if role.name == "gateway"))

    async def _settled(self) -> dict[str, Any]:
        """The snapshot once nothing waits in the box, in the log or to be worked in, and the stores stood still; the last one when the time
        is up."""
        from processors.log import SqliteLog

        with SqliteLog.open(self.site.log_db) as log_file:
            last = await self._still(log_file)
        if last is None:
            raise PacelineError("the platform does not answer", cure=f"see {self.site.logs / 'platform.log'}")
        return last

    async def _still(self, log_file: SqliteLog) -> dict[str, Any] | None:
        state = self.site.state_db
        end_s = time.monotonic() + _SETTLE_S
        last: dict[str, Any] | None = None
        still_s = time.monotonic()
        while time.monotonic() < end_s:
            await asyncio.sleep(0.25)
            now = await fetch_live(self.site)
            if now is None:
                continue
            waiting = sum(node["spool_rows"] for node in now["nodes"]) + pending(state) + unread(log_file.end(), state)
            if last is None or waiting or now["frames_stored"] != last["frames_stored"]:
                still_s = time.monotonic()
            last = now
            if time.monotonic() - still_s >= _STILL_S:
                break
        return last


async def run_demo(demo: Demo, announce: Callable[[Demo], None], show: Show) -> DemoResult:
    """The whole demo; Ctrl-C or SIGTERM end it early but cleanly, with its summary."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await demo.open()
        announce(demo)
        await demo.play(show, stop)
        return await demo.finish()
    finally:
        await demo.close()


def publish_line(demo: Demo) -> tuple[str, str]:
    """Two lines that make one more athlete appear: with this program alone, and with mosquitto's tools."""
    near = demo.site.settings.near
    user, secret = f"{TENANT}/{GUEST}", demo.guest_secret
    own = f"{program_name()} node send --host {near.host} --port {near.port} --user {user} --password {secret} --seconds 30"
    body = json.dumps(
        {"device": GUEST, "boot": 1, "seq": "SEQ", "subject": f"{TENANT}/{GUEST}", "samples": [{"hr_bpm": 140, "speed_mps": 3.2}]},
        separators=(",", ":"),
    ).replace('"SEQ"', "'$(date +%s)'")
    other = (
        f"mosquitto_pub -h {near.host} -p {near.port} -u {user} -P {secret} -i {user} -q 1 -t {topic(TENANT, GUEST, 'up/json')} -m '{body}'"
    )
    return own, other
