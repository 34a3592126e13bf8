"""What a box hears before it is set up: Bluetooth sensors near by, listed on its page. Nothing is connected to and nothing is kept of them.

Without a daemon or an adapter the list stays empty; it is looked for again. The gateway writes the same file (`sightings`) once it runs.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker.errors import LinkError
from gateway.intake import read_clock
from gateway.settings import BleSettings
from gateway.sightings import FILE, Sighting, Sightings

if TYPE_CHECKING:
    from gateway.ble_judging import Advert, Judge
    from gateway.ble_survey import Survey

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
AGAIN_S: Final = 30.0


async def list_what_is_near(data_dir: Path, ble: BleSettings) -> None:
    """Keep the list until cancelled; returns at once when Bluetooth is off in the settings."""
    if not ble.enabled:
        return
    from device_profiles.catalogue import catalogue
    from gateway.ble_judging import Judge
    from gateway.ble_survey import surveying

    judge = Judge(catalogue().all(), allow=ble.allow, deny=ble.deny)
    sightings = Sightings(data_dir / FILE)
    told = ""
    while True:
        try:
            async with surveying(ble) as survey:
                await _listen(survey, judge, sightings)
        except LinkError as error:
            if error.message != told:
                log.warning("%s", error)
            told = error.message
        await asyncio.sleep(AGAIN_S)


async def _listen(survey: Survey, judge: Judge, sightings: Sightings) -> None:
    from gateway.ble_address import device_of_address

    heard: dict[str, Advert] = {}
    while True:
        for address, found in survey.found.items():
            if heard.get(address) is found.advert:
                continue
            judgement = judge.judge(found.advert)
            if not (judgement.wanted or judgement.profiles):
                continue
            sightings.report(
                Sighting(
                    device=device_of_address(address),
                    kind="ble",
                    name=found.advert.name,
                    profiles=judgement.profiles,
                    rssi_dbm=max(found.rssi_dbm.values()),
                    state="near" if judgement.wanted else "refused",
                    reason=judgement.reason,
                    last_us=read_clock().mono_us,
                )
            )
        heard = {address: found.advert for address, found in survey.found.items()}
        sightings.write_when_due()
        await asyncio.sleep(LOOK_S)
