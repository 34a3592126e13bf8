"""What the operator is told of one Bluetooth device: its place in the plan, in the words of `gateway.sightings`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.ble_address import device_of_address
from gateway.ble_judging import Advert, Judgement
from gateway.ble_link import Memory, SensorLink
from gateway.ble_plan import Candidate
from gateway.ble_states import State
from gateway.sightings import Sighting
from gateway.sightings import State as Shown

_SHOWN: Final[Mapping[State, Shown]] = {
    State.WAITING: "waiting",
    State.CONNECTING: "connecting",
    State.LIVE: "live",
    State.REFUSED: "refused",
    State.GONE: "lost",
}


def sighting_of(
    device: Candidate, advert: Advert, judgement: Judgement, link: SensorLink | None, memory: Memory | None, reason: str
) -> Sighting | None:
    """The report of one device; None for a stranger that has nothing a profile reads."""
    if device.state is State.REFUSED and not judgement.profiles:
        return None
    shown = _SHOWN[device.state]
    if device.state is State.WAITING and device.was_live:
        shown = "lost"
    known_as = link.device if link is not None and link.device else memory.device if memory is not None else ""
    identity = memory.identity if memory is not None else None
    about = " ".join(part for part in (identity.manufacturer, identity.model, identity.firmware) if part) if identity is not None else ""
    best = max((heard.rssi_dbm for heard in device.heard.values()), default=None)
    return Sighting(
        device=known_as or device_of_address(device.address),
        kind="ble",
        name=advert.name,
        profiles=link.profiles if link is not None and link.profiles else judgement.profiles,
        rssi_dbm=None if best is None else round(best),
        battery_pct=memory.battery_pct if memory is not None else None,
        state=shown,
        reason=reason,
        last_us=max(device.last_us, link.last_us if link is not None else 0),
        about=about,
    )
