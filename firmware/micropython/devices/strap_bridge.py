"""Straps, meters and machines over Bluetooth, sent on over Wi-Fi: what a phone does for one athlete, a board under the handlebar does for a
team.
"""

import board
import engine
from ble.bridge import Bridge
from ble.budget import check, free_heap, free_radio
from ble.central import Central, uuid_number
from kit.device import Device
from kit.layouts import beats_1, machine_1, motion_1
from profile_pack import PACK
from sensor_rules import RULES, SERVICES
from update_keys import KEYS

LAYOUTS = {"beats_1": beats_1, "machine_1": machine_1, "motion_1": motion_1}
WANTS_HEAP_BYTES = 40_000
engine.PLANS_KEPT = 3  # of each profile: a strap has one or two kinds of packets


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        radio_bytes, block_bytes = free_radio(port.esp32)
        tls = bool(device.document.get("tls"))
        for wrong in check(board.MEMORY, WANTS_HEAP_BYTES, tls, True, free_heap(), radio_bytes, block_bytes):
            device.log.warning(wrong)
        settings = {"wheel_m": board.SETTINGS["wheel_mm"] / 1000}
        bridge = Bridge(device.clock, device.name, device.session, device.forget, engine.Pack(PACK), RULES, LAYOUTS, settings)
        number = getattr(port.bluetooth, "number_of", uuid_number)
        links, allow = board.SETTINGS["max_links"], tuple(board.SETTINGS["allow"])
        central = Central(port.bluetooth.BLE(), SERVICES, bridge.take, number, links, allow, bridge.lost)
        device.add("central", central.run)
    return device
