"""The uplink: spooled rows go up as bundles, acks come back and free them. The I/O shell around `gateway/window.py`.

A committed row is published at once (the spool wakes us; nothing polls). Only an ack or a refusal of the next hop ends the re-sending of a
row, never a PUBACK. Stays up whatever comes: a bad message on `ack`, `cfg` or `cmd` is counted and logged once a session; a broker that is
away, refuses us or hands the session to a second box with our credential is reported with its cure and tried again.
Bounded: `max_unconfirmed` messages unconfirmed by the broker, the window's rows unacknowledged, 512 messages in, every wait with a timeout.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

import aiomqtt

from broker.acks import decode_ack
from broker.bundles import HEADER_BYTES, MAX_BUNDLE_BYTES, MAX_ROWS, encode_bundle
from broker.cancellation import heard, in_own_task
from broker.errors import LinkError, PacelineError, Rejected
from broker.faultpoints import hit
from broker.liveness import Part, unwatched
from broker.nodeconfig import NodeState
from broker.topics import topic
from gateway.answers import Answers
from gateway.link import Link, LinkSettings, explain, is_refusal, open_link, tls_context
from gateway.ranges import Range
from gateway.reconnect import Ending, Reconnect, ReconnectSettings
from gateway.window import Send, Wait, Window, WindowSettings, known_reason

_log = logging.getLogger(__name__)
_LIVE_BYTES: Final = MAX_BUNDLE_BYTES - HEADER_BYTES - 2 * MAX_ROWS
_BACKLOG_BYTES: Final = 32 * 1024  # what a live row may have to wait for on a slow link, times `_BACKLOG_UNCONFIRMED`
_BACKLOG_UNCONFIRMED: Final = 2
_LONGEST_WAIT_S: Final = 60.0
_UNREADABLE_S: Final = 0.1  # pause when the spool owes a row it cannot read just now
_FAREWELL_TIMEOUT_S: Final = 1.0
_GRANTED: Final = frozenset({0, 1, 2})


class SpoolPort(Protocol):
    """What the uplink needs of the spool. All calls are from the event loop and do not wait."""

    @property
    def epoch(self) -> int: ...
    @property
    def end(self) -> int: ...
    def ranges(self) -> tuple[Range, ...]: ...
    def read(self, first_n: int, max_rows: int, max_bytes: int) -> list[tuple[int, bytes]]: ...
    def free(self, ranges: Iterable[Range]) -> None: ...
    def refuse(self, ranges: Iterable[Range], reason: str) -> None: ...
    def add_listener(self, callback: Callable[[], None]) -> None: ...
    def remove_listener(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """As whom and where to send (`tenant/node` is user name and client id), and the limits. Times in seconds."""

    tenant: str
    node: str
    link: LinkSettings
    window: WindowSettings = field(default_factory=WindowSettings)
    reconnect: ReconnectSettings = field(default_factory=ReconnectSettings)
    state_interval_s: float = 2.0


class Uplink:
    """`await run()` until cancelled; then the node is reported offline and the connection closed in order.

    `on_cfg(raw)` gets each document on `cfg`, `on_cmd(raw)` each command: both are plain quick calls. `answers` wait for
    `rsp`. `state()` is what the node says of itself; `online`, `epoch` and the uplink's counters are filled in here. `random()` is uniform
    [0, 1). ConfigError when a TLS file cannot be used.
    """

    def __init__(
        self,
        spool: SpoolPort,
        settings: UplinkSettings,
        *,
        on_cfg: Callable[[bytes], None],
        on_cmd: Callable[[bytes], None],
        answers: Answers,
        state: Callable[[], NodeState],
        random: Callable[[], float],
        alive: Part | None = None,
    ) -> None:
        self._spool = spool
        self._alive = alive or unwatched()
        self._set = settings
        self._on_cfg = on_cfg
        self._on_cmd = on_cmd
        self._answers = answers
        self._state = state
        self._tls = tls_context(settings.link)
        self._reconnect = Reconnect(settings.reconnect, random)
        self.window = Window(settings.window, random, spool.ranges(), spool.end)
        self.counters: Counter[str] = Counter()
        self.last_error: LinkError | None = None
        self._topics = {leaf: topic(settings.tenant, settings.node, leaf) for leaf in ("up", "ack", "cfg", "cmd", "rsp", "state")}
        self._wake = asyncio.Event()
        self._healthy = asyncio.Event()
        self._connected = False
        self._told: set[str] = set()
        self._unconfirmed = 0
        self._unconfirmed_backlog = 0
        self._complained: set[str] = set()

    @property
    def connected(self) -> bool:
        """A session with the broker is up and our acks reach us."""
        return self._connected

    @property
    def healthy(self) -> bool:
        """Connected, and the broker granted us `cfg`: this box can be configured again from afar."""
        return self._healthy.is_set()

    async def wait_healthy(self, timeout_s: float) -> bool:
        """Whether the uplink is healthy now or becomes so within `timeout_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._healthy.wait()
        return self._healthy.is_set()

    def all_counters(self) -> dict[str, int]:
        """Everything counted since the process started, as it stands in the reported state."""
        refused = {f"refused_{reason}": rows for reason, rows in self.window.refused_by_reason.items()}
        return {**self.counters, **self.window.counters, **refused, "taken_over": self._reconnect.taken_over}

    async def run(self) -> None:
        """Keep a session with the broker until cancelled."""
        loop = asyncio.get_running_loop()
        self._spool.add_listener(self._wake.set)
        try:
            while True:
                self._alive.beat()
                ending, failure = await in_own_task(self._attempt())
                delay_s = self._reconnect.ended(ending, loop.time())
                self._tell(failure, ending)
                await asyncio.sleep(delay_s)
        finally:
            self._alive.rest()
            self._spool.remove_listener(self._wake.set)

    async def _attempt(self) -> tuple[Ending, BaseException]:
        """One connection from first to last; how and why it ended."""
        link: Link | None = None
        failure: BaseException | None = None
        try:
            async with open_link(self._set.link, self._tls, self._will(), self.counters) as link:
                await self._session(link)
        except* (aiomqtt.MqttError, OSError, PacelineError) as group:
            failure = _first(group)
        assert failure is not None, "a session ends by a failure or a cancellation"
        if isinstance(failure, LinkError) or is_refusal(failure):
            return Ending.REFUSED, failure
        if link is None:
            return Ending.UNREACHABLE, failure
        return (Ending.CLOSED if link.closed_in_order(failure) else Ending.BROKEN), failure

    async def _session(self, link: Link) -> None:
        client = link.client
        loop = asyncio.get_running_loop()
        try:
            cfg_granted = await self._subscribe(client)
            self._begin(loop.time(), cfg_granted)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._report(client))
                tasks.create_task(self._receive(client))
                tasks.create_task(self._answer(client))
                tasks.create_task(self._send(client, tasks))
        except asyncio.CancelledError:
            await self._farewell(client)
            raise
        finally:
            self._connected = False
            self._healthy.clear()
            self.window.disconnected()

    async def _subscribe(self, client: aiomqtt.Client) -> bool:
        """Ask for our three topics. LinkError when `ack` is not ours to read; whether `cfg` is."""
        codes = await client.subscribe([(self._topics[leaf], 1) for leaf in ("ack", "cfg", "cmd")])
        granted = [getattr(code, "value", code) in _GRANTED for code in codes]
        name = f"{self._set.tenant}/{self._set.node}"
        if not granted[0]:
            cure = f"give {name!r} the permissions of a node on that broker (paceline broker config)"
            raise LinkError(f"uplink: {self._topics['ack']}: the broker refuses the subscription", cure=cure)
        if not all(granted):
            self._complain("subscription", f"the broker refuses cfg or cmd to {name}: no remote configuration")
        return granted[1]

    def _begin(self, now: float, cfg_granted: bool) -> None:
        self._complained.clear()
        self._unconfirmed = self._unconfirmed_backlog = 0
        self.counters["connects"] += 1
        self._reconnect.established(now)
        self.window.appended(self._spool.end)
        self.window.connected(now)
        self._connected = True
        if cfg_granted:
            self._healthy.set()
        if not self._reconnect.contested:
            self.last_error = None
            self._told.clear()
        _log.info("uplink to %s:%d is up, epoch %016x", self._set.link.host, self._set.link.port, self._spool.epoch)

    async def _send(self, client: aiomqtt.Client, tasks: asyncio.TaskGroup) -> None:
        now = asyncio.get_running_loop().time
        while True:
            self._alive.beat()
            self._wake.clear()
            self.window.appended(self._spool.end)
            plan: Send | Wait = Wait(inf)
            if self._unconfirmed < self._set.link.max_unconfirmed:
                plan = self.window.next(now(), backlog=self._unconfirmed_backlog < _BACKLOG_UNCONFIRMED)
            if isinstance(plan, Wait):
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(plan.until - now(), _LONGEST_WAIT_S)):
                        await self._wake.wait()
                continue
            frames = self._read(plan)
            if not frames:
                self.window.retain(self._spool.ranges())  # dropped or quarantined since: no longer ours to send
                if self.window.next(now()) == plan:
                    await asyncio.sleep(_UNREADABLE_S)
                continue
            bundle = encode_bundle(self._spool.epoch, plan.first_n, frames)
            self.window.sent(plan, len(frames), now())
            self._unconfirmed += 1
            self._unconfirmed_backlog += not plan.live
            tasks.create_task(self._publish(client, bundle, backlog=not plan.live))

    def _read(self, plan: Send) -> list[bytes]:
        """The frames of consecutive rows from `plan.first_n`; empty when the spool no longer gives that row."""
        rows = self._spool.read(plan.first_n, plan.max_rows, _LIVE_BYTES if plan.live else _BACKLOG_BYTES)
        frames: list[bytes] = []
        for n, frame in rows:
            if n != plan.first_n + len(frames):
                break
            frames.append(frame)
        return frames

    async def _publish(self, client: aiomqtt.Client, bundle: bytes, *, backlog: bool) -> None:
        hit("uplink.before_publish")
        await heard(client.publish(self._topics["up"], bundle, qos=1))  # MqttError after `answer_timeout_s`: that link is dead
        hit("uplink.after_publish")
        self.counters["sent_bytes"] += len(bundle)
        self._unconfirmed -= 1
        self._unconfirmed_backlog -= backlog
        self._wake.set()

    async def _receive(self, client: aiomqtt.Client) -> None:
        """Take what comes until the connection ends (keepalive sees to that)."""
        async for message in client.messages:
            raw, name = message.payload, message.topic.value
            try:
                if name == self._topics["ack"]:
                    self._take_ack(raw)
                elif name == self._topics["cfg"]:
                    self._on_cfg(raw)
                elif name == self._topics["cmd"]:
                    self._on_cmd(raw)
            except aiomqtt.MqttError:
                raise
            except Exception:
                self._count_bad(name, "its handler failed")
                _log.debug("handler of %s", name, exc_info=True)

    def _take_ack(self, raw: bytes) -> None:
        ack = decode_ack(raw)
        if isinstance(ack, Rejected):
            self._count_bad(self._topics["ack"], ack.detail)
            return
        if ack.epoch != self._spool.epoch:
            self.counters["foreign_acks"] += 1
            return
        hit("uplink.after_ack")
        now = asyncio.get_running_loop().time()
        if stored := self.window.acked(ack.stored, now):
            self._spool.free(stored)
        for refusal in ack.refused:
            if gone := self.window.refused(refusal.first, refusal.last, refusal.reason, now):
                self._spool.refuse(gone, known_reason(refusal.reason))
                self._complain(f"refused {refusal.reason[:64]}", f"rows {refusal.first}-{refusal.last} refused: {refusal.reason[:64]!r}")
        self._wake.set()

    async def _answer(self, client: aiomqtt.Client) -> None:
        """Publish what waits for `rsp`; an answer that no broker confirmed goes again in the next session."""
        while True:
            raw = await self._answers.first()
            await heard(client.publish(self._topics["rsp"], raw, qos=1))
            self._answers.sent(raw)

    async def _report(self, client: aiomqtt.Client) -> None:
        """Publish the state at once, then whenever it changed."""
        told = b""
        while True:
            document = self._document(online=True)
            if document != told:
                await heard(client.publish(self._topics["state"], document, qos=1, retain=True))
                told = document
            await asyncio.sleep(self._set.state_interval_s)

    async def _farewell(self, client: aiomqtt.Client) -> None:
        with suppress(aiomqtt.MqttError, TimeoutError):
            async with asyncio.timeout(_FAREWELL_TIMEOUT_S):
                await client.publish(self._topics["state"], self._document(online=False), qos=1, retain=True)
                await client.__aexit__(None, None, None)

    def _document(self, *, online: bool) -> bytes:
        counters = self.all_counters()
        state = self._state()
        fields = {"online": online, "epoch": f"{self._spool.epoch:016x}", "counters": {**state.counters, **counters}}
        return state.model_copy(update=fields).model_dump_json().encode()

    def _will(self) -> aiomqtt.Will:
        return aiomqtt.Will(self._topics["state"], self._document(online=False), qos=1, retain=True)

    def _count_bad(self, name: str, detail: str) -> None:
        self.counters["bad_messages"] += 1
        self._complain(name, f"bad message on {name}: {detail}")

    def _complain(self, key: str, text: str) -> None:
        """Log once a session and key; keys are bounded."""
        if key not in self._complained and len(self._complained) < 32:
            self._complained.add(key)
            _log.warning("uplink: %s", text)

    def _tell(self, failure: BaseException, ending: Ending) -> None:
        """Remember the failure and log it, each once an outage."""
        self.counters["link_failures"] += 1
        error = failure if isinstance(failure, LinkError) else explain(failure, self._set.link)
        if self._reconnect.contested and ending is Ending.CLOSED:
            name = f"{self._set.tenant}/{self._set.node}"
            error = LinkError(
                f"another client uses the credential {name!r}: the broker handed our session over more than 3 times a minute",
                cure=f"give every box a credential of its own; nothing is lost meanwhile, but {name!r} is slow",
            )
        if error.message not in self._told and len(self._told) < 16:  # once each until a session is up again
            self._told.add(error.message)
            _log.error("%s", error)
        self.last_error = error


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first single failure of a group."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
