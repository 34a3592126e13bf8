"""Near listener: this box as the platform side of its own broker, for the devices near by (the first of two hops).

Every message waiting is read, its rows go to the spool in one durable append, and only then the ack leaves (QoS 0: a lost ack costs one
re-send). A full spool answers nothing, so that the device keeps its rows. Refusals are durable in `refused.db` before they are answered.
Bounded: the inbox of the link holds 512 messages; what it drops stays unanswered, and the devices send it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

import aiomqtt

from broker.cancellation import in_own_task
from broker.errors import Rejected, StoreError
from broker.faultpoints import hit
from broker.layouts import layout_named
from broker.liveness import Part, unwatched
from broker.topics import ROOT, UP_FILTERS, parse_topic, topic
from gateway.clock import Instant, OriginClocks
from gateway.fleet import Fleet
from gateway.intake import Intake, read_clock
from gateway.link import LinkSettings, is_refusal, open_link
from gateway.near_reading import Heard, NearReading, answers
from gateway.refused import RefusedRow, RefusedStore
from gateway.settings import NearBroker

log = logging.getLogger(__name__)

BATCH_MESSAGES: Final = 64
BATCH_ROWS: Final = 1000  # of one append
FIRST_BACKOFF_S: Final = 0.2
LAST_BACKOFF_S: Final = 10.0
_REMEMBERED: Final = 256
_STATE_FILTER: Final = f"{ROOT}/+/+/state"


@dataclass(slots=True)
class NearCounters:
    """What the listener did since the process started."""

    messages: int = 0
    frames: int = 0
    repeats: int = 0  # frames the spool had taken before: acknowledged, not stored again
    refused: int = 0
    unanswerable: int = 0  # refused without a row number: no ack is possible, the sender must notice by itself
    left: int = 0  # rows left with their device because the spool was full or could not be written
    connects: int = 0

    def as_dict(self) -> dict[str, int]:
        return {f"near_{name}": value for name, value in asdict(self).items()}


class NearListener:
    """Runs until cancelled; reconnects with back-off. `random()` gives 0..1 for the jitter."""

    def __init__(
        self,
        broker: NearBroker,
        tenant: str,
        own_node: str,
        intake: Intake,
        refused: RefusedStore,
        fleet: Fleet,
        *,
        random: Callable[[], float],
        clock: Callable[[], Instant] = read_clock,
        alive: Part | None = None,
    ) -> None:
        self._alive = alive or unwatched()
        self._broker = broker
        self._tenant = tenant
        self._own_node = own_node
        self._intake = intake
        self._refused = refused
        self._fleet = fleet
        self._random = random
        self._clock = clock
        self._reading = NearReading(tenant, intake, OriginClocks(), layout_named("health.1").id)
        self.counters = NearCounters()
        self.dropped: Counter[str] = Counter()
        self.connected = False
        self.last_error = ""
        self._told: set[tuple[str, str]] = set()
        self._unanswered: OrderedDict[int, None] = OrderedDict()
        self._link = LinkSettings(broker.host, broker.port, broker.username, broker.password.get_secret_value())

    async def run(self) -> None:
        """Listen; every loss of the broker is followed by another try. StoreError of `refused.db` ends it."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            connects = self.counters.connects
            try:
                await in_own_task(self._session())
            except (aiomqtt.MqttError, OSError, TimeoutError) as error:
                self._complain(error)
            finally:
                self.connected = False
                self._alive.rest()
            backoff_s = FIRST_BACKOFF_S if self.counters.connects > connects else min(2 * backoff_s, LAST_BACKOFF_S)
            await asyncio.sleep(backoff_s * (0.5 + self._random()))

    def _complain(self, error: BaseException) -> None:
        """Log why there is no connection, when it is another reason than before."""
        where = f"near broker {self._broker.host}:{self._broker.port} as {self._broker.username}"
        cure = "check name and password of this credential" if is_refusal(error) else "check that it runs and listens there"
        text = f"{where}: {error.__cause__ or error or type(error).__name__}; trying on\n  cure: {cure}"
        if text != self.last_error:
            log.warning("%s", text)
        self.last_error = text

    async def _session(self) -> None:
        async with open_link(self._link, None, None, self.dropped) as link:
            client = link.client
            await client.subscribe([(pattern, 1) for pattern in (*UP_FILTERS, _STATE_FILTER)])
            self.counters.connects += 1
            self.connected = True
            self.last_error = ""
            log.info("listening at the near broker %s:%d", self._broker.host, self._broker.port)
            messages = client.messages
            async for message in messages:
                self._alive.work()
                waiting = [message]
                while len(messages) and len(waiting) < BATCH_MESSAGES:
                    waiting.append(await anext(messages))
                for name, payload in await self._take(waiting):
                    await client.publish(name, payload, qos=0)
                    hit("near.after_ack")
                self._alive.rest()

    async def _take(self, waiting: list[aiomqtt.Message]) -> list[tuple[str, bytes]]:
        """Read, spool and refuse the messages; the acks to send now that all of it is durable."""
        now = self._clock()
        batch = [heard for message in waiting if (heard := self._read(message, now)) is not None]
        await self._note_refusals(batch, now)
        acks = await asyncio.gather(*(self._spool(part, now) for part in _parts(batch)))
        return [ack for some in acks for ack in some]

    async def _spool(self, part: list[Heard], now: Instant) -> list[tuple[str, bytes]]:
        rows = [row for heard in part for _, row in heard.taken]
        if rows:
            hit("near.before_spool")
            try:
                await self._intake.append(rows)
            except StoreError as error:
                self.counters.left += len(rows)
                log.warning("%d rows stay with their devices: %s", len(rows), error.message)
                return list(answers(part, stored=False))
            hit("near.after_spool")
            self._note_taken(part, now)
        return list(answers(part, stored=True))

    def _read(self, message: aiomqtt.Message, now: Instant) -> Heard | None:
        name, payload = message.topic.value, message.payload
        address = parse_topic(name)
        if address is None or (address.tenant, address.node) == (self._tenant, self._own_node):
            return None
        if address.leaf == "state":
            if address.tenant == self._tenant:
                self._fleet.told(address.node, payload, now.mono_us)
            return None
        self.counters.messages += 1
        return self._reading.read(name, payload, now)

    async def _note_refusals(self, batch: list[Heard], now: Instant) -> None:
        """Count every refusal and make it durable; one that cannot be answered and is sent again and again is written once."""
        rows: list[RefusedRow] = []
        for heard in batch:
            rows += [row for row in _refused_rows(heard, now) if heard.epoch is not None or self._is_new(row.rejected)]
        if rows:
            await self._refused.add(rows)
        for heard in batch:
            self.counters.repeats += len(heard.repeats)
            if heard.refused:
                count = sum(last - first + 1 for first, last, _ in heard.refused)
                self.counters.refused += count
                self.counters.unanswerable += count if heard.epoch is None else 0
                self._fleet.counted(heard.address.node, now.mono_us, refused=count)
                self._tell(heard.address.node, heard.refused[0][2], count)

    def _is_new(self, rejected: Rejected) -> bool:
        key = hash(rejected.raw)
        if key in self._unanswered:
            return False
        self._unanswered[key] = None
        if len(self._unanswered) > _REMEMBERED:
            self._unanswered.popitem(last=False)
        return True

    def _tell(self, node: str, rejected: Rejected, count: int) -> None:
        """Log the first refusal of a node and reason; all are counted."""
        key = (node, rejected.reason)
        if key not in self._told and len(self._told) < _REMEMBERED:
            self._told.add(key)
            log.warning("node %s: %d rows refused: %s: %s", node, count, rejected.reason, rejected.detail)

    def _note_taken(self, batch: list[Heard], now: Instant) -> None:
        for heard in batch:
            self.counters.frames += len(heard.taken)
            self._fleet.counted(heard.address.node, now.mono_us, frames=len(heard.taken))
            for frame in heard.health:
                self._fleet.health(heard.address.node, frame, now.mono_us)


def _refused_rows(heard: Heard, now: Instant) -> Iterator[RefusedRow]:
    where = heard.address
    name = topic(where.tenant, where.node, where.leaf)
    for first, last, rejected in heard.refused:
        yield RefusedRow(now.utc_us, name, rejected, last - first + 1)


def _parts(batch: list[Heard]) -> Iterator[list[Heard]]:
    """The batch cut so that the rows of each part fit one append."""
    part: list[Heard] = []
    rows = 0
    for heard in batch:
        if part and rows + len(heard.taken) > BATCH_ROWS:
            yield part
            part, rows = [], 0
        part.append(heard)
        rows += len(heard.taken)
    if part:
        yield part
