"""One process of a load: its share of the connections, their messages sent when the plan says so, whatever is answered.

`python -m simulators.load_run` is told what to do by a line of JSON on standard input. It says in lines of JSON when all are connected,
waits for the line with the time of the start, says each second how it goes, and at last what it came to. It ends when its parent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from broker.errors import BadInputError, ConfigError, LinkError, PacelineError
from broker.pinned_tls import ClientFiles
from simulators.file_limit import allow_connections
from simulators.load_debt import Answer
from simulators.load_link import KEEPALIVE_S, LoadLink, LoadNode
from simulators.load_plan import LoadPlan, NodePlan
from simulators.load_report import ACK, SENT, LoadCounts, LoadReport, PartTimes
from simulators.noise import key_of, uniform
from simulators.swarm import Passwords, password_of, wall_us
from simulators.with_parent import die_with_parent

HANDSHAKE_S: Final = 30.0
LAST_WAIT_S: Final = 30.0  # between tries to connect
TURNS_AT_ONCE: Final = 200
LEAVE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """A load over MQTT. `connects_per_s` is how fast all come at first; `storm_factor` times as fast they come after a storm, or when the
    broker was away. Frames due in the first `warm_s` count in no histogram. `memory_mb` is for what is not answered, of all nodes.
    A broker that knows nodes by `identities` is told an empty password. BadInputError when nothing would be timed, or no storm would come,
    before the load is over."""

    plan: LoadPlan
    host: str
    port: int
    passwords: Passwords
    cafile: str = ""  # empty: no TLS
    identities: str = ""  # folder with key and certificate of each node (`identity_file`); `cafile` has the roots of its platform then
    connects_per_s: float = 100.0
    storm_at_s: float | None = None
    storm_factor: float = 10.0
    warm_s: float = 0.0
    drain_s: float = 30.0
    memory_mb: int = 1024

    def __post_init__(self) -> None:
        for field, at_s in (("warm_s", self.warm_s), ("storm_at_s", self.storm_at_s)):
            if at_s is not None and at_s >= self.plan.seconds:
                raise BadInputError(
                    f"load: {field} is {at_s:g}, and the load is over after {self.plan.seconds:g} s", cure="give less, or more seconds"
                )

    @property
    def back_within_s(self) -> float:
        """So long it takes until everybody has tried to connect after all links were cut."""
        return max(self.plan.connections / (self.connects_per_s * self.storm_factor), 0.1)

    @property
    def from_us(self) -> int:
        """Frames due before are the warming up."""
        return self.plan.start_us + round(self.warm_s * 1e6)


class LoadProcess:
    """The nodes `index`, `index + of`, ... of a load."""

    def __init__(self, settings: LoadSettings, index: int, of: int) -> None:
        self._settings = settings
        self._of = of
        self._numbers = range(index, settings.plan.connections, of)
        self._tls = _tls_context(settings.cafile) if settings.cafile and not settings.identities else None
        self._nodes: list[LoadNode] = []
        self._queue: list[tuple[float, int]] = []  # when to connect (loop time), which
        self._trying: set[asyncio.Task[None]] = set()
        self._counts = LoadCounts()
        self._ack = self._sent = PartTimes(0, 0)
        self._linked = self._bytes_open = 0
        self._address = settings.host
        self._stormed_s: float | None = None
        self._back_s: float | None = None
        self._leaving = False
        self._last_error: LinkError | ConfigError | None = None

    @property
    def linked(self) -> int:
        """Nodes with a link now."""
        return self._linked

    async def connect(self) -> None:
        """Connect all, evenly over the time. LinkError when they are not in time, or the first is refused."""
        settings = self._settings
        allow_connections(len(self._numbers))
        for number in self._numbers:
            plan = NodePlan(settings.plan, number)
            self._nodes.append(LoadNode(plan, password_of(settings.passwords, plan.who.username)))
            if settings.identities and not identity_file(Path(settings.identities), plan.who.username).is_file():
                cure = "run the load once on the machine of the authority, which makes them"
                raise ConfigError(f"{settings.identities}: no certificate of {plan.who.username}", cure=cure)
        self._address = await self._resolved()
        began_s = asyncio.get_running_loop().time()
        for i, number in enumerate(self._numbers):
            heapq.heappush(self._queue, (began_s + number / settings.connects_per_s, i))
        limit_s = settings.plan.connections / settings.connects_per_s + 2 * HANDSHAKE_S
        while self.linked < len(self._nodes):
            self._connect_due()
            if self._counts.refused_connects and not self.linked and self._last_error is not None:
                raise self._last_error
            if asyncio.get_running_loop().time() - began_s > limit_s:
                last = self._last_error.message if self._last_error is not None else "no answer yet"
                raise LinkError(
                    f"{len(self._nodes) - self.linked} of {len(self._nodes)} nodes did not connect in {limit_s:.0f} s: {last}",
                    cure="check host and port, and that the broker is up, with these credentials, and may open as many files",
                )
            await asyncio.sleep(0.01)

    async def _resolved(self) -> str:
        """The address of the broker, looked up once: thousands of connects would wait for it."""
        settings = self._settings
        try:
            found = await asyncio.get_running_loop().getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise LinkError(f"host {settings.host}: {error}", cure="give the name or address of the broker") from error
        return str(found[0][4][0])

    async def run(self, start_us: int, tell: Callable[[dict[str, Any]], None]) -> LoadReport:
        """Send from `start_us` on until the plan ends and all is answered, or the time for that is up."""
        settings = self._settings = replace(self._settings, plan=replace(self._settings.plan, start_us=start_us))
        for node in self._nodes:
            node.plan = NodePlan(settings.plan, node.plan.node)
        self._ack, self._sent = (PartTimes(start_us, settings.from_us) for _ in range(2))
        self._counts.connects, cpu_s = 0, time.process_time()
        gc.collect()
        gc.freeze()  # the plans live as long as the process
        watch = asyncio.create_task(self._watch(tell))
        try:
            await self._drive(watch)
            deadline_us = settings.plan.end_us + round(settings.drain_s * 1e6)
            while any(node.debt.frames for node in self._nodes) and wall_us() < deadline_us:
                self._check(watch)
                self._connect_due()
                await asyncio.sleep(0.01)
            return self._report(time.process_time() - cpu_s)
        finally:
            watch.cancel()
            await self._leave()

    async def _drive(self, watch: asyncio.Task[None]) -> None:
        """Send each turn when it is due, and cut all links when that is."""
        settings = self._settings
        end_us = settings.plan.end_us
        turns = [(node.plan.turn_us, i) for i, node in enumerate(self._nodes)]
        heapq.heapify(turns)
        storm_us = end_us if settings.storm_at_s is None else settings.plan.start_us + round(settings.storm_at_s * 1e6)
        while (now_us := wall_us()) < end_us or turns[0][0] < end_us:
            self._check(watch)
            if self._stormed_s is None and now_us >= storm_us and settings.storm_at_s is not None:
                self._storm()
            self._connect_due()
            for _ in range(TURNS_AT_ONCE):
                at_us, i = turns[0]
                if at_us > now_us or at_us >= end_us:
                    break
                self._send(self._nodes[i])
                heapq.heapreplace(turns, (self._nodes[i].plan.turn_us, i))
            next_us = min(turns[0][0], end_us)
            await asyncio.sleep(min(max(next_us - wall_us(), 0) / 1e6, 0.02))

    def _send(self, node: LoadNode) -> None:
        """What is due of a node now."""
        most = self._settings.memory_mb * 1_000_000 // self._of
        for due in node.plan.take():
            if self._bytes_open + len(due.payload) > most and len(node.debt):
                self._counts.not_taken += due.frames
                continue
            self._counts.made += due.frames
            self._counts.messages += 1
            self._bytes_open += due.frames * node.plan.row_bytes
            now_us = wall_us()
            node.debt.owe(due, now_us, written=node.link is not None)
            if node.link is not None:
                self._counts.sent_bytes += node.link.send([due])
                self._sent.record(due.due_us, now_us, due.frames)

    def _answered(self, node: LoadNode, answers: Sequence[Answer]) -> None:
        now_us = wall_us()
        for answer in answers:
            if answer.stored:
                self._counts.stored += answer.frames
                self._ack.record(answer.due_us, now_us, answer.frames)
            else:
                self._counts.refused += answer.frames
            self._bytes_open -= answer.frames * node.plan.row_bytes

    # links

    def _connect_due(self) -> None:
        """Begin the connects whose time has come."""
        now_s = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now_s:
            _, i = heapq.heappop(self._queue)
            task = asyncio.create_task(self._connect(i))
            self._trying.add(task)
            task.add_done_callback(self._trying.discard)

    async def _connect(self, i: int) -> None:
        node, settings = self._nodes[i], self._settings
        link = LoadLink(node, lambda answers: self._answered(node, answers), lambda _: self._lost(i, link))
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                tls = self._shown(self._nodes[i].plan.who.username)
                name = settings.host if tls else None
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: link, self._address, settings.port, ssl=tls, server_hostname=name)
                await link.ready
            if link.closed:
                raise LinkError(f"{node.plan.who.username}: closed after the handshake")
        except (OSError, TimeoutError, LinkError, ConfigError) as error:
            self._last_error = error if isinstance(error, (LinkError, ConfigError)) else LinkError(
                f"broker {settings.host}:{settings.port}: {error or 'no answer in time'}", cure="start it, or change host and port"
            )  # fmt: skip
            self._counts.refused_connects += link.refused
            link.abort()
            node.failures += 1
            self._again(i, min(2.0**node.failures, LAST_WAIT_S))
            return
        node.failures = 0
        node.link = link
        self._linked += 1
        self._counts.connects += 1
        if self._stormed_s is not None and self._back_s is None and self.linked == len(self._nodes):
            self._back_s = asyncio.get_running_loop().time() - self._stormed_s
        self._counts.sent_bytes += link.send(node.debt.everything(wall_us()))

    def _shown(self, username: str) -> ssl.SSLContext | None:
        """TLS of one connection: with a certificate of its own when the broker knows nodes by that. ConfigError names a file."""
        settings = self._settings
        if not settings.identities:
            return self._tls
        return ClientFiles(node_file=identity_file(Path(settings.identities), username), roots_file=Path(settings.cafile)).context()

    def _lost(self, i: int, link: LoadLink) -> None:
        """A link ended without us: back with all others, each at a moment of its own."""
        if self._nodes[i].link is link and not self._leaving:
            self._nodes[i].link = None
            self._linked -= 1
            self._counts.cuts += 1
            self._again(i, self._settings.back_within_s)

    def _again(self, i: int, within_s: float) -> None:
        key = key_of(self._settings.plan.seed, "load again", self._nodes[i].plan.who.username)
        wait_s = uniform(key, self._counts.cuts + self._nodes[i].failures, 0, within_s)
        heapq.heappush(self._queue, (asyncio.get_running_loop().time() + wait_s, i))

    def _storm(self) -> None:
        """Cut every link at this moment."""
        self._stormed_s = asyncio.get_running_loop().time()
        for i, node in enumerate(self._nodes):
            if node.link is not None:
                link, node.link = node.link, None
                self._linked -= 1
                link.abort()
                self._counts.cuts += 1
                self._again(i, self._settings.back_within_s)

    async def _watch(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Each second: what goes unanswered again, signs of life, and how it goes."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            now_us, now_s = wall_us(), loop.time()
            for node in self._nodes:
                link = node.link
                if link is None:
                    continue
                if late := node.debt.again(now_us):
                    self._counts.sent_bytes += link.send(late)
                if now_s - link.heard_s > 1.5 * KEEPALIVE_S:
                    link.abort()
                elif now_s - min(link.wrote_s, link.heard_s) > KEEPALIVE_S / 2:
                    link.ping()
            open_frames = sum(node.debt.frames for node in self._nodes)
            tell({"made": self._counts.made, "stored": self._counts.stored, "open": open_frames, "linked": self.linked})

    @staticmethod
    def _check(watch: asyncio.Task[None]) -> None:
        if watch.done():
            watch.result()

    async def _leave(self) -> None:
        self._leaving = True
        for task in list(self._trying):
            task.cancel()
        for node in self._nodes:
            if node.link is not None:
                node.link.leave()
        await asyncio.sleep(min(LEAVE_S, 0.1 + len(self._nodes) / 5000))

    def _report(self, cpu_s: float) -> LoadReport:
        plan, counts = self._settings.plan, self._counts
        counts.lost = sum(node.debt.frames for node in self._nodes)
        counts.sent_again = sum(node.debt.sent_again for node in self._nodes)
        counts.answered_again = sum(node.debt.answered_again for node in self._nodes)
        return LoadReport(
            counts, {SENT: self._sent, ACK: self._ack}, plan.seconds, cpu_s, plan.athletes, plan.connections, plan.frame_s, self._of,
            self._settings.storm_at_s, self._back_s,
        )  # fmt: skip


def _tls_context(cafile: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"cafile {cafile}: {error}", cure="give the PEM file with the authority of the broker's certificate") from error


def identity_file(folder: Path, username: str) -> Path:
    """Where key and certificate of a node (`tenant/node`) lie, PEM."""
    return folder / f"{username.replace('/', '_')}.pem"


def settings_to_json(settings: LoadSettings) -> dict[str, Any]:
    """Inverse of `settings_from_json`."""
    return asdict(settings)


def settings_from_json(value: dict[str, Any]) -> LoadSettings:
    rest = {key: each for key, each in value.items() if key != "plan"}
    return LoadSettings(plan=LoadPlan(**value["plan"]), **rest)


def _tell(said: dict[str, Any]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


async def _child(reader: asyncio.StreamReader) -> None:
    first = await reader.readline()
    if not first:  # who started us is gone
        return
    told = json.loads(first)
    process = LoadProcess(settings_from_json(told["settings"]), told["index"], told["of"])
    await process.connect()
    _tell({"connected": process.linked})
    if line := await reader.readline():
        report = await process.run(int(line), _tell)
        _tell({"report": report.to_process()})


async def _main() -> int:
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        await _child(reader)
    except PacelineError as error:
        _tell({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    die_with_parent()
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(_main()))
