"""What the Bluetooth source and a survey keep of strangers: bounded, however many addresses go by."""

from __future__ import annotations

from bleak.backends.device import BLEDevice

from broker.nodeconfig import NodeConfig
from device_profiles.catalogue import catalogue
from gateway.ble_judging import Advert
from gateway.ble_source import BleSource
from gateway.ble_survey import CAPACITY, Survey
from gateway.bluez_watch import BluezWatch
from gateway.clock import Instant
from gateway.controllable import Controllable
from gateway.intake import Intake
from gateway.sensing import Sensing
from gateway.settings import BleSettings
from gateway.sightings import Sightings
from gateway.spool import Spool, SpoolSettings

HR = "0000180d-0000-1000-8000-00805f9b34fb"
NOW = Instant(10**9, 0)


def stranger(number: int) -> tuple[Advert, BLEDevice]:
    address = f"40:00:00:00:{number >> 8:02X}:{number & 0xFF:02X}"
    return Advert(address, "random", "hci0", -60, uuids=(HR,)), BLEDevice(address, "", {"path": f"/org/bluez/hci0/dev_{number}"})


async def test_source_keeps_nothing_of_addresses_its_plan_has_forgotten(tmp_path):
    spool = await Spool.open(tmp_path / "spool.db", SpoolSettings())
    try:
        config = NodeConfig(version=1)
        sensing = Sensing(Intake(spool, "gym", lambda: config), frame_ms=lambda: 1000, random_boot=lambda: 1)
        parts = (BleSettings(), catalogue(), sensing, Sightings(clock=lambda: NOW), Controllable())
        source = BleSource(*parts, random=lambda: 0.5, clock=lambda: NOW)
        for number in range(3000):
            source._on_advert(*stranger(number))
        source._tick(NOW.mono_us)
        known = {device.address for device in source._plan.devices()}
        assert len(known) == 1024
        assert set(source._adverts) == {address for address, _ in source._heard} == known
    finally:
        await spool.close()


def test_survey_forgets_whom_it_heard_longest_ago():
    survey = Survey(BluezWatch(lambda: None))
    for number in range(2 * CAPACITY):
        survey.hear(*stranger(number))
        survey.hear(*stranger(0))
    assert len(survey.found) == CAPACITY
    assert {stranger(0)[0].address, stranger(2 * CAPACITY - 1)[0].address} <= set(survey.found)
