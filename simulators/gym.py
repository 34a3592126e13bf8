"""A virtual gym: members with physics on the course, the treadmill and the bike, each a device near by that speaks the wire at 1 Hz.

Live: `Gym.start`, let it run, `Gym.stop`. Finite (`samples` set): every member makes exactly that many samples and keeps going until all is
acknowledged; with a fixed `start_us` the frames are the same bytes in every run of a seed, whatever the wall clock and the link do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from broker.errors import BadInputError
from broker.ids import check_id, route_of, subject_of
from broker.nodeconfig import Binding
from simulators.athlete import Athlete, Sport, at_start, draw_athlete, observe, step
from simulators.course import Course, synthetic_loop
from simulators.device import NodeSettings, SimDevice, SimNode
from simulators.faults import FaultPlan
from simulators.noise import key_of, uniform
from simulators.numbering import ClockPlan, FrameMaker, MakerSettings, Source, Values
from simulators.outbox import OutboxSettings
from simulators.swarm import Endpoint, Passwords, Swarm, SwarmNode, wall_us
from simulators.truth import Truth

_SPORTS: Final = (Sport.RIDE, Sport.RUN, Sport.TREADMILL, Sport.BIKE)
STRAP_BOXES: Final = ("sim-box-a", "sim-box-b")  # nodes that hear the straps of `two_boxes_one_strap`


@dataclass(frozen=True, slots=True)
class GymSettings:
    """A gym. With `samples` each member stops after so many; without, it goes on until `stop` or `seconds`.

    `start_us` None: now, or `lead_s` later (time for everyone to connect first). `speed`: simulated seconds per second. `stamped`:
    devices write their subject themselves; else frames are sent unbound and the box must bind them (`bindings`). `box`: all devices
    behind this one node and connection instead of one connection each. `second_broker`: where members roam to. `tls`: for both.
    `spread_m`: members start somewhere on so many metres. `strangers`: so many straps besides that belong to nobody.
    """

    host: str
    port: int
    tenant: str
    members: int
    passwords: Passwords
    seed: int = 1
    seconds: float = 30.0
    samples: int | None = None
    rate_hz: float = 1.0
    samples_per_frame: int = 0  # 0: what fits 250 ms, at least one
    start_us: int | None = None
    lead_s: float = 0.0
    clock: ClockPlan = field(default_factory=ClockPlan)
    speed: float = 1.0
    stamped: bool = True
    box: str = ""
    faults: FaultPlan = field(default_factory=FaultPlan)
    outbox: OutboxSettings = field(default_factory=OutboxSettings)
    noisy_gps: bool = True
    second_broker: tuple[str, int] | None = None
    tls: ssl.SSLContext | None = None
    name: str = "member"
    spread_m: float = 200.0
    strangers: int = 0


@dataclass(frozen=True, slots=True)
class TruthReport:
    """What the gym did. Counts are frames; `drained` says that every frame owed was acknowledged."""

    members: int
    seconds: float
    frames_made: int
    frames_stored: int
    frames_refused: int
    frames_rejected: int
    frames_died: int
    samples: int
    connects: int
    vanished_messages: int
    drained: bool
    truth: Truth

    def to_json(self) -> str:
        """Without the truth itself (`truth.to_json()` writes that)."""
        keys = ("members", "seconds", "frames_made", "frames_stored", "frames_refused", "frames_rejected", "frames_died", "samples")
        figures = {key: getattr(self, key) for key in (*keys, "connects", "vanished_messages", "drained")}
        return json.dumps(figures | {"athletes": [asdict(a) for a in self.truth.athletes()]})


def member_names(settings: GymSettings) -> list[str]:
    """The members, which are their device ids and their athlete ids too."""
    return [f"{settings.name}{i:04d}" for i in range(settings.members)]


def stranger_names(settings: GymSettings) -> list[str]:
    """The device ids of the straps that belong to nobody: their frames carry no subject and nothing binds them."""
    return [f"strap-{i + 1}" for i in range(settings.strangers)]


def member_athletes(settings: GymSettings) -> list[Athlete]:
    """The bodies of the members, in the order of their names."""
    return [
        draw_athlete(name, _SPORTS[index % len(_SPORTS)], settings.seed, noisy_gps=settings.noisy_gps)
        for index, name in enumerate(member_names(settings))
    ]


def gym_usernames(settings: GymSettings) -> list[str]:
    """The credentials the gym needs."""
    nodes: list[str] = []
    for name in (*member_names(settings), *stranger_names(settings)):
        strap = settings.faults.for_member(settings.seed, name).has("two_boxes_one_strap")
        nodes += STRAP_BOXES if strap else (settings.box or name,)
    return [f"{settings.tenant}/{node}" for node in dict.fromkeys(nodes)]


def gym_bindings(settings: GymSettings) -> list[Binding]:
    """Device to athlete, for the `cfg` of the box the members are near to."""
    return [Binding(device=name, athlete=name) for name in member_names(settings)]


def athlete_source(athlete: Athlete, course: Course, period_s: float, samples: int | None, offset_m: float = 0.0) -> Source:
    """The samples of one athlete, `samples` of them or without end."""
    state = at_start(athlete, offset_m)
    left = itertools.count() if samples is None else iter(range(samples))

    def take() -> Values | None:
        nonlocal state
        if next(left, None) is None:
            return None
        state = step(athlete, state, period_s, course)
        return observe(athlete, state, course)

    return take


class Gym:
    """The running gym. Build it inside a running event loop."""

    def __init__(self, settings: GymSettings, course: Course | None = None) -> None:
        if settings.members < 1 or settings.rate_hz <= 0 or settings.speed <= 0:
            raise BadInputError(
                f"gym of {settings.members} members at {settings.rate_hz} Hz, speed {settings.speed}", cure="give positive numbers"
            )
        check_id(settings.tenant, "tenant")
        self.settings = settings
        self.truth = Truth()
        self.start_us = wall_us() + round(settings.lead_s * 1e6) if settings.start_us is None else settings.start_us
        self._course = course or synthetic_loop()
        self._nodes = build_nodes(settings, self._course, self.start_us, self.truth)
        self._swarm: Swarm | None = None
        self._began_us = 0
        self._seconds = 0.0

    async def start(self, timeout_s: float = 60.0) -> None:
        """Connect everyone. LinkError when the broker does not let them in."""
        endpoints = (Endpoint(self.settings.host, self.settings.port, self.settings.tls),)
        if self.settings.second_broker:
            endpoints += (Endpoint(*self.settings.second_broker, self.settings.tls),)
        peers = [SwarmNode(node, endpoints, plan) for node, plan in self._nodes]
        self._began_us = wall_us()
        live = self.settings.start_us is None and self.settings.speed == 1
        clock = wall_us if live else _clock(self.start_us, self._began_us, self.settings.speed)
        self._swarm = Swarm(peers, self.settings.passwords, seed=self.settings.seed, start_us=self.start_us, clock=clock)
        await self._swarm.start(timeout_s)

    def end_samples(self) -> None:
        """Members stop measuring; their devices go on sending what they owe."""
        for node, _ in self._nodes:
            node.finish()

    async def wait_drained(self, timeout_s: float) -> bool:
        """Wait until every member has made its samples and all of them are acknowledged; False when the time is up. Needs `samples`."""
        assert self._swarm is not None, "start the gym first"
        return await self._swarm.wait_done(timeout_s)

    async def stop(self) -> TruthReport:
        """Disconnect everyone and report."""
        connects = vanished = 0
        if self._swarm:
            await self._swarm.stop()
            connects, vanished = self._swarm.connects, self._swarm.vanished
            self._seconds = (wall_us() - self._began_us) / 1e6
        return self.report(connects, vanished)

    def report(self, connects: int = 0, vanished: int = 0) -> TruthReport:
        """What was done so far."""
        counts = [node.counts for node, _ in self._nodes]
        return TruthReport(
            members=self.settings.members,
            seconds=self._seconds,
            frames_made=sum(c.made for c in counts),
            frames_stored=sum(c.stored for c in counts),
            frames_refused=sum(c.refused for c in counts),
            frames_rejected=sum(c.rejected for c in counts),
            frames_died=sum(c.died for c in counts),
            samples=self.truth.samples,
            connects=connects,
            vanished_messages=vanished,
            drained=not any(len(node.outbox) for node, _ in self._nodes),
            truth=self.truth,
        )


async def run_gym(settings: GymSettings, course: Course | None = None) -> TruthReport:
    """The whole life of a gym. With `samples`: until all is acknowledged, at most `seconds` (wall) longer than that takes; else
    `seconds`, and then up to 10 s for the last acks."""
    gym = Gym(settings, course)
    await gym.start()
    try:
        if settings.samples is None:
            await asyncio.sleep(settings.seconds)
            gym.end_samples()
            await gym.wait_drained(10.0)
        else:
            await gym.wait_drained(settings.seconds + settings.samples / settings.rate_hz / settings.speed)
    finally:
        report = await gym.stop()
    return report


def build_nodes(settings: GymSettings, course: Course, start_us: int, truth: Truth) -> list[tuple[SimNode, FaultPlan]]:
    """All nodes of the gym with the faults of their links. Pure: no sockets."""
    outbox = replace(
        settings.outbox,
        retry_us=round(settings.outbox.retry_us * max(1.0, settings.speed)),  # acks come in wall time
        max_retry_us=round(settings.outbox.max_retry_us * max(1.0, settings.speed)),
    )
    boxes: dict[str, list[FrameMaker]] = {}
    nodes: list[tuple[SimNode, FaultPlan]] = []
    members, strangers = member_names(settings), stranger_names(settings)
    sports = [athlete.sport for athlete in member_athletes(settings)] + [Sport.TREADMILL] * len(strangers)
    for name, sport in zip((*members, *strangers), sports, strict=True):
        plan = settings.faults.for_member(settings.seed, name)
        missing = plan.planned("two_boxes_one_strap")
        homes = STRAP_BOXES if missing is not None else (settings.box or name,)
        for home in homes:
            maker = _maker_settings(settings, name, home, start_us, missing, stranger=name in strangers)
            source = _source(settings, course, name, sport)
            if home == name:
                node = SimDevice(maker, source, truth, outbox=outbox, faults=plan)
                nodes.append((node, plan))
            else:
                boxes.setdefault(home, []).append(FrameMaker(maker, source, plan))
    for home, makers in boxes.items():
        plan = settings.faults.for_member(settings.seed, home)
        nodes.append((SimNode(NodeSettings(settings.tenant, home, settings.seed, start_us, outbox), makers, truth, plan), plan))
    return nodes


def _maker_settings(
    settings: GymSettings, name: str, home: str, start_us: int, missing: float | None, *, stranger: bool
) -> MakerSettings:  # fmt: skip
    period_us = round(1e6 / settings.rate_hz)
    phase_us = round(uniform(key_of(settings.seed, "phase", name), 0, 0, min(period_us, 1_000_000)))
    self_numbered = missing is None
    subject = route_of(settings.tenant, home, name, "", self_numbered=self_numbered) if stranger else subject_of(settings.tenant, name)
    return MakerSettings(
        tenant=settings.tenant,
        node=home,
        device=name,
        seed=settings.seed,
        start_us=start_us,
        phase_us=phase_us,
        subject=subject if settings.stamped and not stranger else "",
        counts_for=subject,
        self_numbered=self_numbered,
        period_us=period_us,
        samples_per_frame=settings.samples_per_frame or max(1, 250_000 // period_us),
        clock=settings.clock,
        deaf_share=missing or 0.0,
    )


def _source(settings: GymSettings, course: Course, name: str, sport: Sport) -> Source:
    athlete = draw_athlete(name, sport, settings.seed, noisy_gps=settings.noisy_gps)
    offset_m = uniform(athlete.key, 99, 0.0, settings.spread_m)  # nobody starts on the same metre
    return athlete_source(athlete, course, 1.0 / settings.rate_hz, settings.samples, offset_m)


def _clock(start_us: int, began_us: int, speed: float) -> Callable[[], int]:
    return lambda: start_us + round((wall_us() - began_us) * speed)
