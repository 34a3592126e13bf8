"""The source of Bluetooth LE sensors: follows the daemon and the adapters, scans, and does what the plan says. Wiring and tasks only.

Decisions are made in `ble_plan`, `ble_judging`, `ble_silence` and `ble_faults`, all pure; `ble_link` is one connection. One loop looks at
everything at least once a second, and at once when something happened. When the daemon is gone or another one is there, every link and
scan ends: nothing that was known of the old one counts. Cancelled, it ends links, then scans, then the watch, each within its own limits.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from bleak.backends.device import BLEDevice

from broker.errors import LinkError
from broker.liveness import Part, unwatched
from device_profiles.catalogue import Catalogue
from device_profiles.samples import Identity, Sample
from gateway.ble_address import device_of_address, device_of_serial, lasts
from gateway.ble_errands import Errands
from gateway.ble_faults import Fault, LinkEndedError, Meaning
from gateway.ble_judging import Advert, Judge
from gateway.ble_link import Ended, Limits, Memory, SensorLink
from gateway.ble_plan import Attempt, Candidate, Plan
from gateway.ble_scan import AdapterScan
from gateway.ble_sights import sighting_of
from gateway.bluez_watch import BluezWatch
from gateway.clock import Instant
from gateway.controllable import Controllable, ControlLink
from gateway.intake import read_clock
from gateway.sensing import Sensing
from gateway.settings import BleSettings
from gateway.sightings import Sightings

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
LEAST_S: Final = 0.02  # between two looks, however much is heard
POWER_EVERY_US: Final = 2_000_000
STRAYS_EVERY_US: Final = 30_000_000
END_S: Final = 20.0
BRIEF: Final = Limits(link_s=2.5)
REMEMBERED: Final = 512
_DAEMON: Final = Fault(Meaning.DAEMON, "the Bluetooth daemon is away")
_OFF: Final = Fault(Meaning.ADAPTER, "the adapter is off")


@dataclass(slots=True)
class BleCounters:
    """What the source did since the process started."""

    connects: int = 0
    failures: int = 0
    losses: int = 0
    renewals: int = 0
    packets: int = 0
    late: int = 0  # notifications of a client that was dropped already
    daemons: int = 0
    resets: int = 0

    def as_dict(self) -> dict[str, int]:
        return {f"ble_{name}": value for name, value in asdict(self).items()}


class BleSource:
    """`run` until cancelled. `random()` gives 0..1."""

    def __init__(
        self,
        settings: BleSettings,
        catalogue: Catalogue,
        sensing: Sensing,
        sightings: Sightings,
        controllable: Controllable,
        *,
        random: Callable[[], float],
        clock: Callable[[], Instant] = read_clock,
        limits: Limits | None = None,
        alive: Part | None = None,
    ) -> None:
        self.counters = BleCounters()
        self._settings = settings
        self._catalogue = catalogue
        self._sensing = sensing
        self._sightings = sightings
        self._controllable = controllable
        self._clock = clock
        self._limits = limits or Limits()
        self._alive = alive or unwatched()
        self._wake = asyncio.Event()
        self._watch = BluezWatch(self._wake.set)
        self._random = random
        self._plan = self._new_plan()
        self._judge = Judge(catalogue.all(), allow=settings.allow, deny=settings.deny)
        self._daemon: tuple[int, bool] = (0, False)
        self._scans: dict[str, tuple[AdapterScan, asyncio.Task[None]]] = {}
        self._links: dict[str, tuple[SensorLink, asyncio.Task[None]]] = {}
        self._departures: dict[str, int] = {}  # of each adapter, as of the begin of its scan
        self._ending: dict[str, asyncio.Task[None]] = {}  # scans: the next one on the adapter waits for its end
        self._errands = Errands(self._watch, frozenset(self._judge.services), self._links.keys())
        self._adverts: dict[str, Advert] = {}
        self._heard: dict[tuple[str, str], BLEDevice] = {}  # (address, adapter)
        self._memories: OrderedDict[str, Memory] = OrderedDict()
        self._names: dict[str, str] = {}  # id of a live device -> its address
        self._hushed: dict[str, AdapterScan] = {}
        self._ticked_us = 0
        self._powered_us: dict[str, int] = {}
        self._strays_us: int | None = None

    @property
    def live(self) -> tuple[SensorLink, ...]:
        """The links that stand."""
        return tuple(link for link, _ in self._links.values() if link.alive)

    @property
    def watch(self) -> BluezWatch:
        """The Bluetooth daemon as it is now."""
        return self._watch

    async def run(self) -> None:
        """Hear sensors until cancelled. Run again after a failure, it begins anew: what it held was ended then."""
        self._plan, self._daemon = self._new_plan(), (0, False)
        self._scans.clear()
        self._heard.clear()
        watching = asyncio.create_task(self._watch.run())
        try:
            while not watching.done():
                self._alive.beat()
                self._look(self._clock().mono_us)
                await asyncio.sleep(LEAST_S)
                await self._sleep()
            watching.result()
        finally:
            self._alive.rest()
            try:
                await _ended(task for _, task in self._links.values())
            finally:
                try:
                    await _ended([*(task for _, task in self._scans.values()), *self._ending.values(), *self._errands.tasks])
                finally:
                    await _ended([watching])

    def _new_plan(self) -> Plan:
        return Plan(slots=self._settings.slots, random=self._random)

    def counted(self) -> dict[str, int]:
        """For the state of the node."""
        held = {"ble_live": len(self.live), "ble_adapters": len(self._plan.adapters()), "ble_strays": self._errands.strays}
        return self.counters.as_dict() | held

    async def _sleep(self) -> None:
        now_us = self._clock().mono_us
        soonest_us = self._plan.soonest_us(now_us)
        wait_s = TICK_S if soonest_us is None else min(max((soonest_us - now_us) / 1e6, 0.01), TICK_S)
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def _look(self, now_us: int) -> None:
        """One look at everything."""
        self._follow_daemon()
        self._follow_adapters(now_us)
        for attempt in self._plan.next(now_us):
            self._begin(attempt, now_us)
        for adapter in self._plan.resets(now_us):
            self.counters.resets += 1
            log.warning("%s: nothing works on it: it is turned off and on", adapter)
            self._errands.reset(adapter)
        if now_us - self._ticked_us >= TICK_S * 1e6:
            self._ticked_us = now_us
            self._tick(now_us)

    # the daemon and its adapters

    def _follow_daemon(self) -> None:
        daemon = (self._watch.generation, self._watch.up)
        if daemon == self._daemon:
            return
        self._daemon = daemon
        if self._watch.up:
            self.counters.daemons += 1
        for link, _ in self._links.values():
            link.drop(_DAEMON)
        for adapter in list(self._scans):
            self._drop_adapter(adapter)
        self._heard.clear()
        self._plan.forget_sights()
        self._strays_us = None

    def _follow_adapters(self, now_us: int) -> None:
        ours = {name: seen for name, seen in self._watch.adapters.items() if self._is_ours(name, seen.address)}
        for name in list(self._scans):
            if name not in ours or not ours[name].powered or self._departures[name] != self._watch.departures[name]:
                self._drop_adapter(name)  # one that came back between two looks scans no more, and nothing says so
        for name, seen in ours.items():
            if seen.powered and name not in self._scans and name not in self._ending:
                services = () if self._judge.picky else self._judge.services
                scan = AdapterScan(name, self._settings.scan, services, self._on_advert, self._plan.scan_failed)
                self._scans[name] = (scan, asyncio.create_task(scan.run()))
                self._departures[name] = self._watch.departures[name]
                self._plan.adapter_up(name, now_us)
            elif not seen.powered and self._settings.power and now_us - self._powered_us.get(name, 0) >= POWER_EVERY_US:
                self._powered_us[name] = now_us
                log.warning("%s is off: it is turned on", name)
                self._errands.power(name)
        if ours and (self._strays_us is None or now_us - self._strays_us >= STRAYS_EVERY_US):
            first, self._strays_us = self._strays_us is None, now_us
            self._errands.end_strays(frozenset(ours), at_once=first)

    def _is_ours(self, name: str, address: str) -> bool:
        wanted = {one.lower() for one in self._settings.adapters}
        return not wanted or name.lower() in wanted or address.lower() in wanted

    def _drop_adapter(self, name: str) -> None:
        _, task = self._scans.pop(name)
        task.cancel()
        self._ending[name] = task
        task.add_done_callback(lambda _: self._scan_ended(name))
        self._plan.adapter_down(name)
        for link, _ in self._links.values():
            if link.adapter == name:
                link.drop(_OFF)

    def _scan_ended(self, name: str) -> None:
        self._ending.pop(name, None)
        self._wake.set()

    # devices

    def _on_advert(self, advert: Advert, device: BLEDevice) -> None:
        judgement = self._judge.judge(advert)
        before = self._adverts.get(advert.address)
        if before is not None and advert.bonded and not before.bonded:
            self._plan.relent(advert.address)
        self._adverts[advert.address] = advert
        self._heard[advert.address, advert.adapter] = device
        now_us = self._clock().mono_us
        self._plan.seen(advert.address, advert.adapter, advert.rssi_dbm, now_us, wanted=judgement.wanted, reason=judgement.reason)
        if judgement.wanted and advert.address not in self._links:
            self._wake.set()

    def _begin(self, attempt: Attempt, now_us: int) -> None:
        device = self._heard.get((attempt.address, attempt.adapter))
        if device is None:
            self._plan.failed(attempt.address, "not heard any more", now_us, blame=False)
            return
        memory = self._memory(attempt.address)
        limits = replace(BRIEF, resolve_s=self._limits.resolve_s) if attempt.brief else self._limits
        link = SensorLink(device, attempt.adapter, memory, self, self._catalogue, clock=self._clock, limits=limits)
        self._links[attempt.address] = (link, asyncio.create_task(self._live(link, attempt)))

    async def _live(self, link: SensorLink, attempt: Attempt) -> None:
        """A link from its begin to its end, and what the plan is told of it."""
        try:
            if attempt.quiet and attempt.adapter in self._scans:
                scan = self._hushed[attempt.address] = self._scans[attempt.adapter][0]
                await scan.hush()
            ended = await link.run()
        finally:
            self._unhush(link)
            del self._links[attempt.address]
            self._forget(link)
        self._note(link, ended)
        self._wake.set()

    def _note(self, link: SensorLink, ended: Ended) -> None:
        fault, now_us = ended.fault, self._clock().mono_us
        self.counters.late += link.late
        rest = fault.meaning in {Meaning.PAIRING, Meaning.REFUSED}
        log.info("%s over %s: %s", link.device or link.address, link.adapter, fault.text)
        if ended.up:
            self.counters.losses += 1
            self.counters.renewals += int(link.memory.renewed)
            self._plan.lost(link.address, fault.text, now_us, told=link.packets > 0, rest=rest)
        else:
            self.counters.failures += 1
            blame = fault.meaning in {Meaning.SLOW, Meaning.FAILED, Meaning.BUSY}
            busy = fault.meaning in {Meaning.BUSY, Meaning.SLOW}
            self._plan.failed(link.address, fault.text, now_us, busy=busy, rest=rest, blame=blame)

    def _forget(self, link: SensorLink) -> None:
        if not link.device:
            return
        self._sensing.lost(link.device)
        self._controllable.remove(link.device, link.control)
        if self._names.get(link.device) == link.address:
            del self._names[link.device]

    def _unhush(self, link: SensorLink) -> None:
        scan = self._hushed.pop(link.address, None)
        if scan is not None:
            scan.unhush()

    def _memory(self, key: str) -> Memory:
        memory = self._memories.setdefault(key, Memory())
        self._memories.move_to_end(key)
        if len(self._memories) > REMEMBERED:
            self._memories.popitem(last=False)
        return memory

    # what a link tells (`LinkOwner`)

    async def has_link(self, path: str) -> bool:
        """See `LinkOwner`."""
        try:
            return await self._watch.is_connected(path)
        except LinkError:
            return False

    def name_of(self, link: SensorLink, identity: Identity) -> str:
        """See `LinkOwner`. A serial number that two devices have at once names only the first."""
        advert, name, known = self._adverts[link.address], device_of_address(link.address), link.memory
        if not lasts(advert.address, advert.address_type, bonded=advert.bonded):
            numbered = device_of_serial(identity)
            if numbered is not None and self._names.get(numbered, link.address) == link.address:
                name = numbered
                self._sightings.forget(device_of_address(link.address))
                kept = self._memory(name)
                kept.identity = identity
                link.memory = kept
        known.device = name
        if self._judge.denies(name):
            raise LinkEndedError(Fault(Meaning.REFUSED, "denied by gateway.ble.deny"))
        self._names[name] = link.address
        return name

    def is_up(self, link: SensorLink) -> None:
        """See `LinkOwner`."""
        self.counters.connects += 1
        self._plan.up(link.address, self._clock().mono_us)
        self._unhush(link)
        self._wake.set()

    def took(self, link: SensorLink, samples: list[Sample], arrival_us: int) -> None:
        """See `LinkOwner`."""
        self.counters.packets += 1
        self._plan.good(link.adapter, arrival_us)
        if samples:
            self._sensing.take(link.device, samples, arrival_us)

    def controls(self, link: SensorLink, control: ControlLink) -> None:
        """See `LinkOwner`."""
        self._controllable.add(link.device, control)

    def told(self, link: SensorLink, what: int, payload: bytes) -> None:
        """See `LinkOwner`."""
        self._controllable.told(link.device, what, payload)

    # once a second

    def _tick(self, now_us: int) -> None:
        for name, (scan, _) in self._scans.items():
            self._plan.listed(name, scan.listed(), now_us)
        self._plan.sweep(now_us)
        for address in [one for one in self._adverts if self._plan.device(one) is None]:
            del self._adverts[address]
        for sight in [one for one in self._heard if self._plan.device(one[0]) is None]:
            del self._heard[sight]
        for device in self._plan.devices():
            self._report(device, now_us)

    def _report(self, device: Candidate, now_us: int) -> None:
        advert = self._adverts.get(device.address)
        held = self._links.get(device.address)
        if advert is not None:
            link = held[0] if held is not None else None
            memory = link.memory if link is not None else self._memories.get(device.address)
            judgement = self._judge.judge(advert)
            sighting = sighting_of(device, advert, judgement, link, memory, self._plan.reason(device, now_us))
            if sighting is not None and self._names.get(sighting.device, device.address) == device.address:
                self._sightings.report(sighting)  # else it is live under an address it took since: that one tells of it


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel all, then wait for all, at most `END_S`."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=END_S)
    for task in ending:
        if task.done() and not task.cancelled() and task.exception() is not None:
            log.error("Bluetooth: a part failed while it ended", exc_info=task.exception())
