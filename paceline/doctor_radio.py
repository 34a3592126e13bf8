"""What `paceline doctor` says of radios: whether Bluetooth and ANT+ sticks can be used, and how many the sensors need."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from broker.errors import PacelineError, StoreError
from gateway.settings import AntSettings, BleSettings
from paceline.doctor import Finding
from paceline.radio_need import need_of

_CURE = "plug in more adapters (each is used by itself), use ANT+ where the sensors have it, or raise gateway.ble.slots if yours hold more"


async def bluetooth(ble: BleSettings) -> tuple[list[Finding], int]:
    """The daemon and its adapters; and how many of them can be used."""
    try:
        importlib.metadata.version("bleak")
    except importlib.metadata.PackageNotFoundError:
        return [Finding("bluetooth", False, "bleak is not installed", 'pip install "paceline[gateway]"')], 0
    from gateway.ble_survey import surveying

    try:
        async with surveying(ble) as survey:
            seen = survey.watch.adapters
            on = [name for name, adapter in sorted(seen.items()) if adapter.powered and _ours(ble, name, adapter.address)]
            return [Finding("bluetooth", True, f"the daemon answers; on: {', '.join(on)}")], len(on)
    except PacelineError as error:
        return [Finding("bluetooth", False, error.message, error.cure)], 0


async def ant_sticks(ant: AntSettings) -> list[Finding]:
    """What each ANT+ stick of the settings is, or why it cannot be used."""
    from gateway.ant_survey import survey

    return [Finding(f"ant {stick.setting}"[:18], stick.ok, stick.found, stick.cure) for stick in await survey(ant)]


def enough(box_dir: Path, slots: int, adapters: int | None, sensors: int | None) -> list[Finding]:
    """What the sensors need. `adapters` None: Bluetooth is off, so it is only said, and only when somebody asked."""
    from gateway.sightings import read_devices

    if sensors is None:
        if adapters is None:
            return []
        try:
            document = read_devices(box_dir)
        except StoreError:
            document = None
        near: list[dict[str, Any]] = document["devices"] if document is not None else []
        sensors = sum(device["kind"] == "ble" and device["state"] != "refused" for device in near)
    need = need_of(sensors, slots)
    if adapters is None:
        return [Finding("radios", True, need.words)]
    return [Finding("radios", adapters >= need.adapters, f"{need.words}; here: {adapters}", _CURE)]


def _ours(ble: BleSettings, name: str, address: str) -> bool:
    wanted = {one.lower() for one in ble.adapters}
    return not wanted or name in wanted or address.lower() in wanted
