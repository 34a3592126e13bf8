"""openant on a virtual stick, as a process of its own: prints a line of JSON for each page it took, with what it made of it.

`python -m tests.system.openant_child PLAN SECONDS CORRUPT_EVERY PAGES`. It ends by force when the time is over or each sensor gave so
many pages, as openant's threads wait for ever.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time

import usb.backend.libusb1

from simulators.ant_room import room
from simulators.ant_stick import StickFaults, VirtualStick
from simulators.ant_usb import VirtualUsb

KEY = bytes(range(8))
CLASSES = {
    120: ("heart_rate", "HeartRate"),
    17: ("fitness_equipment", "FitnessEquipment"),
    11: ("power_meter", "PowerMeter"),
    123: ("bike_speed_cadence", "BikeSpeed"),
    122: ("bike_speed_cadence", "BikeCadence"),
    121: ("bike_speed_cadence", "BikeSpeedCadence"),
    25: ("environment", "Environment"),
}


def plain(value: object) -> object:
    """Numbers of openant's data classes, by name."""
    if isinstance(value, int | float | list):
        return value
    return {name: plain(getattr(value, name)) for name in getattr(value, "__dataclass_fields__", {})}


def main(plan: str, seconds: float, corrupt_every: int, pages: int) -> None:
    sensors = room(plan)
    backend = VirtualUsb([VirtualStick(sensors, KEY, faults=StickFaults(corrupt_every=corrupt_every))])
    usb.backend.libusb1.get_backend = lambda find_library=None: backend
    from openant.easy.node import Node

    counts = dict.fromkeys((sensor.type for sensor in sensors), 0)
    until_s = time.monotonic() + seconds
    node = Node()
    node.set_network_key(0, list(KEY))
    for sensor in sensors:
        module, name = CLASSES[sensor.type]
        device = getattr(importlib.import_module(f"openant.devices.{module}"), name)(node, device_id=sensor.number)

        def told(data, device=device, sensor=sensor) -> None:
            counts[sensor.type] += 1
            values = {key: plain(value) for key, value in device.data.items() if key not in ("common", "batteries")}
            print(json.dumps({"type": sensor.type, "page": bytes(data[:8]).hex(), "values": values}), flush=True)

        device.on_update = told
        device.on_device_data = lambda *_: None  # its own one ends the thread with an assertion at page 0
    threading.Thread(target=node.start, daemon=True).start()
    began = False
    while time.monotonic() < until_s and min(counts.values()) < pages:
        alive = node.ant._worker_thread.is_alive()
        if began and not alive:
            break
        began = began or alive
        time.sleep(0.1)
    print(json.dumps({"reader_alive": node.ant._worker_thread.is_alive()}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
