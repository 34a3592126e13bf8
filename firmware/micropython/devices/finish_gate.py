"""A light barrier at the line: each passage with the strap that was heard strongest just then, to the millisecond."""

import board
from ble.advert import services_of
from kit.device import Device
from kit.layouts import presence_1
from kit.ticks import sleep_ms, ticks_diff, ticks_ms
from update_keys import KEYS

_GATE = 2
_SCAN_RESULT = 5
_HEART_RATE = 0x180D
MAX_NEAR = 32
FRESH_MS = 3000


class Ears:
    """Who is near: the strongest strap heard in the last three seconds."""

    def __init__(self, ble):
        self.ble = ble
        self.heard = {}  # address -> (rssi, when)

    def start(self):
        self.ble.active(True)
        self.ble.irq(self._irq)
        self.ble.gap_scan(0, 30_000, 30_000, False)

    def strongest(self, now_ms):
        """(address as a number, rssi) or None."""
        fresh = [(rssi, address) for address, (rssi, at_ms) in self.heard.items() if ticks_diff(now_ms, at_ms) < FRESH_MS]
        if not fresh:
            return None
        rssi, address = max(fresh)
        return int.from_bytes(address, "big"), rssi

    def _irq(self, event, data):
        if event == _SCAN_RESULT and _HEART_RATE in services_of(data[4]):
            self.hear(bytes(data[1]), data[3], ticks_ms())

    def hear(self, address, rssi, now_ms):
        """One advert. When `MAX_NEAR` straps are near, the weakest gives way to a stronger one."""
        heard = self.heard
        if address not in heard and len(heard) >= MAX_NEAR:
            heard = self.heard = {one: said for one, said in heard.items() if ticks_diff(now_ms, said[1]) < FRESH_MS}
            if len(heard) >= MAX_NEAR:
                weakest_dbm, weakest = min([(said[0], one) for one, said in heard.items()])
                if rssi <= weakest_dbm:
                    return
                del heard[weakest]
        heard[address] = (rssi, now_ms)


class Barrier:
    """A beam that is broken pulls its line low. `passages` holds when, in microseconds of the clock; at most 32 wait."""

    def __init__(self, pin, monotonic_us, dead_ms):
        self.passages = []
        self.missed = 0
        self._monotonic_us = monotonic_us
        self._dead_us = dead_ms * 1000
        self._last_us = None
        pin.irq(self._on_edge, pin.IRQ_FALLING)

    def _on_edge(self, pin):
        now_us = self._monotonic_us()
        if self._last_us is not None and now_us - self._last_us < self._dead_us:
            return  # the other arm of the same runner
        self._last_us = now_us
        if len(self.passages) >= 32:
            self.missed += 1
        else:
            self.passages.append(now_us)


def make(port):
    device = Device(board, port, KEYS, board.VERSION)
    if device.is_set_up:
        pin = port.machine.Pin(board.PINS["in_a"], port.machine.Pin.IN, port.machine.Pin.PULL_UP)
        barrier = Barrier(pin, device.clock.monotonic_us, board.SETTINGS["dead_ms"])
        device.add("measure", lambda: measure(device, barrier, Ears(port.bluetooth.BLE())), beat_ms=10_000)
    return device


async def measure(device, barrier, ears):
    """A record for each passage."""
    ears.start()
    session = device.session()
    while True:
        while barrier.passages:
            at_us = barrier.passages.pop(0)
            record = session.start(presence_1, at_us)
            record.put(presence_1.EVENT, _GATE)
            record.put(presence_1.PLACE, board.SETTINGS["place"])
            near = ears.strongest(ticks_ms())
            if near is not None:
                record.put_wide(presence_1.CREDENTIAL, near[0])
                record.put(presence_1.RSSI_DBM, near[1])
        device.app.beat("measure")
        await sleep_ms(20)
