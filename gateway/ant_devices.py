"""The ANT+ devices of a room: pages become samples, and who is near is reported. No I/O; times are the box's monotonic microseconds.

A device exists once it was heard twice: a damaged frame that passes its checksum by chance must not make a ghost. Where several sticks
hear one device, one of them owns it until it has not heard it for two seconds: every page counts once, whoever else hears it. What repeats
within the stream of one device is the profile's to tell (`once_per`, event counts). Bounded: the device heard longest ago is forgotten.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Protocol

from device_profiles.catalogue import Catalogue
from device_profiles.profile import Profile
from device_profiles.reader import Reader
from device_profiles.samples import Sample
from gateway.ant_control import AntControl
from gateway.ant_messages import ChannelId
from gateway.ant_stick import Page
from gateway.controllable import Controllable
from gateway.sightings import Sighting, Sightings, State

EQUIPMENT: Final = 17
OWNED_US: Final = 2_000_000
LOST_US: Final = 8_000_000
CONFIRM_US: Final = 10_000_000  # between the first two pages of a device
REPORT_US: Final = 1_000_000
CAPACITY: Final = 512
_TOLD: Final = frozenset({16, 71})  # FE-C pages equipment control wants to hear of
_ABOUT: Final = (
    ("maker", ("manufacturer_id", "manufacturer")),
    ("model", ("model_number", "model")),
    ("serial", ("serial_number",)),
    ("software", ("software_revision", "software")),
)


class Samples(Protocol):
    """Where samples go: `Sensing`."""

    def take(self, device: str, samples: Sequence[Sample], arrival_us: int) -> None: ...
    def lost(self, device: str) -> None: ...


@dataclass(slots=True)
class Known:
    """One device. `owner` is the stick whose pages count."""

    who: ChannelId
    profile: Profile | None
    reader: Reader | None
    owner: str
    last_us: int
    rssi_dbm: int | None = None
    battery_pct: int | None = None
    state: State = "near"
    reason: str = ""
    about: tuple[str, ...] = ("", "", "", "")
    reported_us: int = -REPORT_US
    link: AntControl | None = None


class AntDevices:
    """Takes the pages of all sticks. `control(stick, who)` makes the way to command a machine through a stick."""

    def __init__(
        self,
        catalogue: Catalogue,
        sensing: Samples,
        sightings: Sightings,
        controllable: Controllable,
        control: Callable[[str, ChannelId], AntControl],
        *,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._catalogue = catalogue
        self._sensing = sensing
        self._sightings = sightings
        self._controllable = controllable
        self._control = control
        self._allow, self._deny = tuple(allow), tuple(deny)
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._once: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def known(self, device: str) -> Known | None:
        """What is known of a device."""
        return self._known.get(device)

    def take(self, page: Page, stick: str, now_us: int) -> None:
        """A page that `stick` heard at `now_us`. Never raises for what is in it."""
        device = page.who.device
        known = self._known.get(device) or self._meet(page, stick, now_us)
        if known is None:
            return
        if known.owner != stick:
            if known.owner and now_us - known.last_us < OWNED_US:
                self.counts["heard_by_two"] += 1
                return
            known.owner = stick
            self._drop_link(device, known)
        known.last_us = now_us
        known.who = page.who
        if page.rssi_dbm is not None:
            known.rssi_dbm = page.rssi_dbm if known.rssi_dbm is None else round(0.8 * known.rssi_dbm + 0.2 * page.rssi_dbm)
        self.counts["pages"] += 1
        if known.state == "lost":
            known.state, known.reason = "near", ""
        if known.reader is not None and len(page.payload) == 8:
            self._read(device, known, known.reader, page.payload, now_us)
        if now_us - known.reported_us >= REPORT_US:
            self._report(device, known, now_us)

    def sweep(self, now_us: int) -> None:
        """Who has not been heard for long is lost; call it about once a second."""
        for device, known in self._known.items():
            if known.state not in {"lost", "refused"} and now_us - known.last_us >= LOST_US:
                self._lose(device, known, f"not heard for {LOST_US // 1_000_000} s")

    def stick_gone(self, stick: str) -> None:
        """The stick is away: nobody can be commanded through it, and another stick may have its devices at once."""
        for device, known in self._known.items():
            if known.owner == stick:
                known.owner = ""
                self._drop_link(device, known)

    def _meet(self, page: Page, stick: str, now_us: int) -> Known | None:
        device, who = page.who.device, page.who
        before = self._once.pop(device, None)
        if before is None or now_us - before > CONFIRM_US:
            self._once[device] = now_us
            if len(self._once) > CAPACITY:
                self._once.popitem(last=False)
            return None
        profile = self._catalogue.ant(who.type)
        known = Known(who, profile, None, stick, now_us)
        if not self._wanted(device):
            known.state, known.reason = "refused", "left out by gateway.ant.allow or gateway.ant.deny"
        elif profile is None:
            known.reason = f"no profile for ANT+ device type {who.type}"
        else:
            known.reader = Reader(profile)
        self._known[device] = known
        if len(self._known) > CAPACITY:
            oldest = min(self._known, key=lambda one: self._known[one].last_us)
            self._lose(oldest, self._known[oldest], "forgotten: too many devices")
            del self._known[oldest]
        return known

    def _read(self, device: str, known: Known, reader: Reader, payload: bytes, now_us: int) -> None:
        samples = reader.feed(payload, now_us)
        if samples:
            self._sensing.take(device, samples, now_us)
            if known.state != "live":
                known.state, known.reported_us = "live", now_us - REPORT_US
        if known.who.type == EQUIPMENT:
            if known.link is None:
                known.link = self._control(known.owner, known.who)
                self._controllable.add(device, known.link)
            known.link.take(payload)
            if payload[0] in _TOLD:
                self._controllable.told(device, payload[0], payload)
        battery = reader.fields.get("battery_pct")
        if isinstance(battery, int | float):
            known.battery_pct = round(battery)
        told = tuple(next((str(reader.fields[name]) for name in names if name in reader.fields), "") for _, names in _ABOUT)
        if any(told):
            known.about = tuple(new or old for new, old in zip(told, known.about, strict=True))

    def _lose(self, device: str, known: Known, reason: str) -> None:
        if known.reader is not None:
            self._sensing.lost(device)
        self._drop_link(device, known)
        if known.state != "refused":
            known.state, known.reason = "lost", reason
        self._report(device, known, known.last_us)

    def _drop_link(self, device: str, known: Known) -> None:
        link, known.link = known.link, None
        if link is not None:
            self._controllable.remove(device, link)

    def _report(self, device: str, known: Known, now_us: int) -> None:
        known.reported_us = now_us
        self._sightings.report(
            Sighting(
                device,
                "ant",
                name=f"{known.profile.name if known.profile else f'type {known.who.type}'} {known.who.number}",
                profiles=(known.profile.name,) if known.profile else (),
                rssi_dbm=known.rssi_dbm,
                battery_pct=known.battery_pct,
                state=known.state,
                reason=known.reason,
                last_us=known.last_us,
                about=", ".join(f"{word} {value}" for (word, _), value in zip(_ABOUT, known.about, strict=True) if value),
            )
        )

    def _wanted(self, device: str) -> bool:
        if any(fnmatchcase(device, pattern) for pattern in self._deny):
            return False
        return not self._allow or any(fnmatchcase(device, pattern) for pattern in self._allow)
