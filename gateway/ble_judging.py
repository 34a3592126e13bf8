"""Judging an advertisement: whether this box wants the device, what it would tell, and the reason when it is not wanted. Pure.

`deny` wins over `allow`. An empty `allow` wants every device that advertises a service some profile reads; an entry in `allow` also
wants a device that advertises none (some machines keep theirs to themselves), and nobody else then.
A pattern is an id, an address or a name, with `*` and `?`; upper and lower case are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Protocol

from gateway.ble_address import device_of_address


class Readable(Protocol):
    """What judging needs of a profile (`device_profiles.catalogue.Profile`)."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def service(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def layout(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Advert:
    """One advertisement as BlueZ tells it. `uuids` are full lower-case 128-bit texts; `bonded`: the address is the identity address."""

    address: str
    address_type: str
    adapter: str
    rssi_dbm: int
    name: str = ""
    uuids: tuple[str, ...] = ()
    bonded: bool = False
    service_data: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` says why a device is not wanted; empty when it is."""

    wanted: bool
    profiles: tuple[str, ...]
    reason: str = ""


_NO_SENSOR: Final = ("", "health.1")  # a battery makes no sensor: phones and earphones have one


class Judge:
    """The rules of one box."""

    def __init__(self, profiles: Iterable[Readable], *, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow = tuple(pattern.lower() for pattern in allow)
        self._deny = tuple(pattern.lower() for pattern in deny)
        self._by_service: dict[str, list[str]] = {}
        for profile in profiles:
            if profile.source == "ble" and profile.service and profile.layout not in _NO_SENSOR and profile.mode != "write":
                self._by_service.setdefault(profile.service, []).append(profile.name)

    @property
    def services(self) -> tuple[str, ...]:
        """The services some profile reads samples from."""
        return tuple(sorted(self._by_service))

    def judge(self, advert: Advert) -> Judgement:
        """Whether to connect."""
        profiles = tuple(name for uuid in advert.uuids for name in self._by_service.get(uuid, ()))
        denied = self._match(self._deny, advert)
        if denied:
            return Judgement(False, profiles, f"denied by {denied!r} of gateway.ble.deny")
        if self._allow:
            if self._match(self._allow, advert):
                return Judgement(True, profiles)
            return Judgement(False, profiles, "not in gateway.ble.allow")
        if not profiles:
            return Judgement(False, (), "advertises no service that a profile reads")
        return Judgement(True, profiles)

    @property
    def picky(self) -> bool:
        """Whether `allow` names devices: they may advertise none of the services."""
        return bool(self._allow)

    def denies(self, device: str) -> bool:
        """Whether `deny` names this id: one that a device got only when it was connected."""
        return any(fnmatchcase(device, pattern) for pattern in self._deny)

    @staticmethod
    def _match(patterns: tuple[str, ...], advert: Advert) -> str:
        names = (device_of_address(advert.address), advert.address.lower(), advert.name.lower())
        return next((pattern for pattern in patterns if any(name and fnmatchcase(name, pattern) for name in names)), "")
