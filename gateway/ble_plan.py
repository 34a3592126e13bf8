"""The plan: which sensor to connect next, over which adapter, and when to try again. Pure; times are the box's monotonic microseconds.

Rules, in this order. One connect at a time per adapter (BlueZ refuses overlapping ones and may stay stuck for minutes). An adapter has
`slots` links. A device is tried only while it is heard: within `SIGHT_US`, because BlueZ forgets it then. Of those that may be tried, the
one heard anew since its last link goes first, then the one with the fewest failures, then the one waiting longest. It goes to the adapter
that hears it best; while that one is taken, another may have it only if it hears nearly as well. Two boxes in one hall need not talk: the
one that hears a newcomer worse waits a little longer, and a strap that is connected advertises no more.
A failure doubles the back-off; a link that lasted starts from nothing again. An adapter on which nothing worked for a minute while many
tries failed is due for a reset, at most once per `RESET_EVERY_US`.
Bounded: at most `capacity` devices, the one heard longest ago forgotten first unless it is held.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from gateway.ble_states import HELD, Event, State, after

SIGHT_US: Final = 25_000_000  # of the 30 s BlueZ keeps a device that it does not hear
FORGET_US: Final = 60_000_000
MARGIN_US: Final = 150_000  # a loss itself looks like an advertisement to BlueZ's clients
LISTED_WAIT_US: Final = 3_000_000  # after a loss: a device BlueZ knows but did not hear anew is tried only then, and only briefly
LISTED_AGAIN_US: Final = 15_000_000  # the same after a failure
SHY_FROM_DBM: Final = -60
SHY_US_PER_DB: Final = 10_000  # whoever hears a newcomer badly leaves it to a box that hears it better, for this long
SHY_LIMIT_US: Final = 400_000
FIRST_BACKOFF_US: Final = 500_000
LAST_BACKOFF_US: Final = 30_000_000
REST_US: Final = 60_000_000
LASTING_US: Final = 5_000_000  # a link shorter than that counts as a failure
NEARLY_DB: Final = 10
SMOOTHING: Final = 0.3
RESET_FAILURES: Final = 6
RESET_QUIET_US: Final = 60_000_000
RESET_EVERY_US: Final = 600_000_000
BUSY_IN_A_ROW: Final = 3


@dataclass(slots=True)
class Heard:
    """How one adapter hears one device."""

    rssi_dbm: float
    last_us: int  # BlueZ vouches for it until then
    advert_us: int  # an advertisement came


@dataclass(slots=True)
class Candidate:
    """One device, by address."""

    address: str
    state: State
    since_us: int
    heard: dict[str, Heard] = field(default_factory=dict[str, Heard])
    adapter: str = ""
    failures: int = 0
    not_before_us: int = 0
    up_us: int = 0
    quit_us: int = 0  # the last link or try ended
    was_live: bool = False  # and that was a link
    reason: str = ""

    @property
    def last_us(self) -> int:
        return max((heard.last_us for heard in self.heard.values()), default=0)


@dataclass(slots=True)
class Radio:
    """One adapter. `good_us`: something worked."""

    name: str
    slots: int
    good_us: int
    connecting: str = ""
    failures: int = 0
    busy_in_a_row: int = 0
    reset_us: int | None = None
    links: set[str] = field(default_factory=set[str])

    @property
    def free(self) -> bool:
        return not self.connecting and len(self.links) < self.slots


@dataclass(frozen=True, slots=True)
class Attempt:
    """Connect `address` over `adapter` now. `brief`: it was not heard anew since its loss; `quiet`: stop scanning meanwhile."""

    address: str
    adapter: str
    brief: bool = False
    quiet: bool = False


class Plan:
    """The devices and adapters of one box. `random()` gives 0..1 and spreads the back-off."""

    def __init__(self, *, slots: int, random: Callable[[], float], capacity: int = 1024) -> None:
        self._slots = slots
        self._random = random
        self._capacity = capacity
        self._devices: OrderedDict[str, Candidate] = OrderedDict()
        self._radios: dict[str, Radio] = {}

    # adapters

    def adapter_up(self, name: str, now_us: int) -> None:
        """The adapter can be used."""
        self._radios.setdefault(name, Radio(name, self._slots, now_us))

    def adapter_down(self, name: str) -> None:
        """The adapter is off or away. Its links are reported lost one by one, by those who hold them."""
        self._radios.pop(name, None)
        for device in self._devices.values():
            device.heard.pop(name, None)

    def adapters(self) -> tuple[str, ...]:
        """The adapters in use."""
        return tuple(sorted(self._radios))

    def resets(self, now_us: int) -> list[str]:
        """Adapters due for a reset now; each is told once."""
        due: list[str] = []
        for radio in self._radios.values():
            rested = radio.reset_us is None or now_us - radio.reset_us >= RESET_EVERY_US
            if radio.failures >= RESET_FAILURES and now_us - radio.good_us >= RESET_QUIET_US and rested:
                radio.reset_us, radio.failures = now_us, 0
                due.append(radio.name)
        return due

    def good(self, adapter: str, now_us: int) -> None:
        """Data came over the adapter: it works."""
        radio = self._radios.get(adapter)
        if radio is not None:
            radio.good_us, radio.failures = now_us, 0

    def scan_failed(self, adapter: str) -> None:
        """The adapter does not scan."""
        radio = self._radios.get(adapter)
        if radio is not None:
            radio.failures += 1

    # devices

    def seen(self, address: str, adapter: str, rssi_dbm: int, now_us: int, *, wanted: bool, reason: str = "") -> None:
        """An advertisement."""
        device = self._devices.get(address)
        if device is None:
            device = self._devices[address] = Candidate(address, State.WAITING if wanted else State.REFUSED, now_us)
            self._bound()
        heard = device.heard.get(adapter)
        if heard is None:
            device.heard[adapter] = Heard(float(rssi_dbm), now_us, now_us)
        else:
            heard.rssi_dbm += SMOOTHING * (rssi_dbm - heard.rssi_dbm)
            heard.last_us = heard.advert_us = now_us
        self._devices.move_to_end(address)
        before = device.state
        if wanted or before not in HELD:
            device.state = after(before, Event.WANTED if wanted else Event.UNWANTED)
        if not wanted:
            device.reason = reason
        elif before is State.REFUSED:
            device.reason, device.since_us = "", now_us

    def listed(self, adapter: str, addresses: Iterable[str], now_us: int) -> None:
        """BlueZ still knows these devices of the adapter: it heard them within its own 30 s."""
        for address in addresses:
            device = self._devices.get(address)
            heard = device.heard.get(adapter) if device is not None else None
            if heard is not None:
                heard.last_us = now_us

    def next(self, now_us: int) -> list[Attempt]:
        """The connects to begin now, at most one per adapter; they count as begun."""
        attempts: list[Attempt] = []
        ready = [d for d in self._devices.values() if d.state is State.WAITING and d.not_before_us <= now_us]
        for device in sorted(ready, key=lambda d: (not any(_anew(d, h) for h in d.heard.values()), d.failures, d.since_us)):
            adapter = self._adapter_for(device, now_us)
            if adapter is None:
                continue
            radio = self._radios[adapter]
            brief = not _anew(device, device.heard[adapter])
            device.state, device.adapter = after(device.state, Event.ATTEMPT), adapter
            radio.connecting = device.address
            radio.links.add(device.address)
            attempts.append(Attempt(device.address, adapter, brief, radio.busy_in_a_row >= BUSY_IN_A_ROW))
        return attempts

    def up(self, address: str, now_us: int) -> None:
        """The connect under way succeeded."""
        device = self._devices[address]
        device.state = after(device.state, Event.UP)
        device.up_us, device.reason = now_us, ""
        radio = self._radios.get(device.adapter)
        if radio is not None:
            radio.connecting, radio.failures, radio.busy_in_a_row, radio.good_us = "", 0, 0, now_us

    def failed(self, address: str, reason: str, now_us: int, *, busy: bool = False, rest: bool = False, blame: bool = True) -> None:
        """The connect under way failed. `blame`: it may be the adapter's fault; `rest`: only its owner can mend it, so it has time."""
        device = self._devices[address]
        device.state = after(device.state, Event.FAILED)
        radio = self._let_go(device)
        device.quit_us, device.was_live = now_us, False
        if radio is not None:
            radio.failures += int(blame)
            radio.busy_in_a_row = radio.busy_in_a_row + 1 if busy else 0
        self._back_off(device, reason, now_us, rest=rest)

    def lost(self, address: str, reason: str, now_us: int, *, told: bool = False, rest: bool = False) -> None:
        """A link is gone. One that lasted is tried again at once, when the device is heard; a short one that `told` something soon."""
        device = self._devices[address]
        device.state = after(device.state, Event.LOST)
        self._let_go(device)
        device.quit_us, device.was_live = now_us, True
        if now_us - device.up_us >= LASTING_US and not rest:
            device.failures, device.reason, device.since_us, device.not_before_us = 0, reason, now_us, 0
        else:
            device.failures = 0 if told else device.failures
            self._back_off(device, reason, now_us, rest=rest)

    def relent(self, address: str) -> None:
        """The owner did what the device asked for: no need to wait any more."""
        device = self._devices.get(address)
        if device is not None:
            device.not_before_us, device.failures = 0, 0

    def sweep(self, now_us: int) -> list[str]:
        """Forget who is not heard any more; their addresses."""
        gone: list[str] = []
        for address, device in list(self._devices.items()):
            if device.state in HELD or now_us - max(device.last_us, device.quit_us) < FORGET_US:
                continue
            device.state = after(device.state, Event.UNSEEN)
            del self._devices[address]
            gone.append(address)
        return gone

    def forget_sights(self) -> None:
        """The daemon began anew: what it told before says nothing of now."""
        for device in self._devices.values():
            device.heard.clear()
            device.not_before_us, device.failures = 0, 0

    # words

    def device(self, address: str) -> Candidate | None:
        """What is known of a device."""
        return self._devices.get(address)

    def devices(self) -> tuple[Candidate, ...]:
        """All devices, the one heard last at the end."""
        return tuple(self._devices.values())

    def reason(self, device: Candidate, now_us: int) -> str:
        """Why a device is not live; empty when there is nothing to say."""
        if device.state is not State.WAITING:
            return device.reason
        if device.not_before_us > now_us:
            return f"{device.reason}; again in {(device.not_before_us - now_us) / 1e6:.0f} s"
        near = [self._radios[name] for name in device.heard if name in self._radios]
        if near and all(len(radio.links) >= radio.slots for radio in near):
            return f"no free slot: all {sum(radio.slots for radio in near)} of the adapters that hear it are in use"
        return device.reason or "its turn comes"

    def _adapter_for(self, device: Candidate, now_us: int) -> str | None:
        """Where to connect now, None when nowhere yet."""
        hearing: list[tuple[float, str]] = []
        for name, heard in device.heard.items():
            radio = self._radios.get(name)
            if radio is None or now_us - heard.last_us > SIGHT_US or len(radio.links) >= radio.slots:
                continue
            rest_us = LISTED_WAIT_US if device.was_live else LISTED_AGAIN_US
            if not _anew(device, heard) and now_us - device.quit_us < rest_us:
                continue
            hearing.append((heard.rssi_dbm, name))
        if not hearing:
            return None
        best_dbm = max(hearing)[0]
        shy_us = min(max(SHY_FROM_DBM - best_dbm, 0) * SHY_US_PER_DB, SHY_LIMIT_US)
        if now_us - device.since_us < shy_us:
            return None
        free = [(rssi, name) for rssi, name in hearing if self._radios[name].free and rssi >= best_dbm - NEARLY_DB]
        return max(free)[1] if free else None

    def soonest_us(self, now_us: int) -> int | None:
        """When a device that is waiting now may be due without anything else happening; None when none is."""
        times = [
            device.not_before_us for device in self._devices.values() if device.state is State.WAITING and device.not_before_us > now_us
        ]
        return min(times, default=None)

    def _let_go(self, device: Candidate) -> Radio | None:
        radio = self._radios.get(device.adapter)
        if radio is not None:
            radio.links.discard(device.address)
            if radio.connecting == device.address:
                radio.connecting = ""
        return radio

    def _back_off(self, device: Candidate, reason: str, now_us: int, *, rest: bool) -> None:
        device.failures += 1
        wait_us = REST_US if rest else min(FIRST_BACKOFF_US << min(device.failures - 1, 10), LAST_BACKOFF_US)
        device.not_before_us = now_us + round(wait_us * (0.75 + 0.5 * self._random()))
        device.reason = reason

    def _bound(self) -> None:
        if len(self._devices) <= self._capacity:
            return
        for address, device in self._devices.items():
            if device.state not in HELD:
                del self._devices[address]
                return


def _anew(device: Candidate, heard: Heard) -> bool:
    """Whether an advertisement came since the last link or try ended."""
    return not device.quit_us or heard.advert_us > device.quit_us + MARGIN_US
