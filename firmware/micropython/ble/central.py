"""The central: hears wanted sensors, connects to as many as it may, keeps them. The shell around `walk.py`, for MicroPython's `bluetooth`.

    central = Central(bluetooth.BLE(), SERVICES, on_packet, number=uuid_number)
    asyncio.create_task(central.run())

`on_packet(address, profile, payload, at_ms)` is called outside the interrupt, in the order of arrival. One connect at a time, scanning in
between; a procedure that does not end, and a link that goes silent, are broken off; an address that failed waits, longer each time.
`states` says what is near and why it is not connected. Bounded: `MAX_NEAR` addresses, `MAX_EVENTS` waiting packets (older ones are dropped
and counted).
"""

import asyncio

from ble.advert import name_of, services_of
from ble.walk import INDICATE, NOTIFY, Walk
from kit.ticks import ticks_diff, ticks_ms

SCAN_RESULT, SCAN_DONE = 5, 6
CONNECT, DISCONNECT = 7, 8
_RESULTS = (9, 11, 13)
_DONES = (10, 12, 14, 17)
MAX_NEAR = 24
MAX_EVENTS = 64
STEP_MS = 20
CONNECT_MS = 10_000
PROCEDURE_MS = 8_000
SILENT_MS = 30_000
FIRST_WAIT_MS = 1_000
LAST_WAIT_MS = 60_000
_NO_LINK = 65535


class Near:
    """One address: what was heard of it, and since when it may be tried again."""

    def __init__(self, kind, address, name, services):
        self.kind = kind
        self.address = address
        self.name = name
        self.services = services
        self.rssi_dbm = 0
        self.heard_ms = 0
        self.wait_ms = 0
        self.failed_ms = 0
        self.reason = ""


class Link:
    """One connection: its walk, when its procedure began, when it last said something."""

    def __init__(self, near, walk, now_ms):
        self.near = near
        self.walk = walk
        self.began_ms = now_ms
        self.heard_ms = now_ms


class Central:
    """`wanted` maps services to characteristics (`sensor_rules.SERVICES`); `allow` holds addresses as hex, empty for all; `number(uuid)`
    gives the 16 bits of a UUID.
    """

    def __init__(self, ble, wanted, on_packet, number, max_links=3, allow=(), on_lost=None):
        self.ble = ble
        self.wanted = wanted
        self.links = {}
        self.near = {}
        self.dropped = self.connects = self.breaks = 0
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._number = number
        self._max_links = max_links
        self._allow = allow
        self._packets = []
        self._events = []
        self._scanning = False
        self._connecting = None
        self._connecting_ms = 0

    async def run(self):
        """Until cancelled; then all links are closed."""
        self.ble.active(True)
        self.ble.irq(self._irq)
        try:
            while True:
                self.step(ticks_ms())
                await asyncio.sleep(STEP_MS / 1000)
        finally:
            self.ble.irq(None)
            self.ble.active(False)

    @property
    def states(self):
        """(address, name, state, reason) of what is near."""
        live = {link.near.address: "live" if link.walk.live else "connecting" for link in self.links.values()}
        return [(key, near.name, live.get(key, "near"), near.reason) for key, near in self.near.items()]

    def step(self, now_ms):
        """Everything that is due."""
        events, self._events = self._events, []
        for event, data in events:
            self._take(event, data, now_ms)
        packets, self._packets = self._packets, []
        for handle, source, payload, at_ms in packets:
            link = self.links.get(handle)
            if link is not None:
                link.heard_ms = now_ms
                profile = link.walk.sources.get(source)
                if profile is not None:
                    self._on_packet(link.near.address, profile, payload, at_ms)
        for handle, link in list(self.links.items()):
            if not link.walk.live and ticks_diff(now_ms, link.began_ms) > PROCEDURE_MS:
                self._break(handle, link, now_ms, "discovery does not end")
            elif link.walk.live and ticks_diff(now_ms, link.heard_ms) > SILENT_MS:
                self._break(handle, link, now_ms, "silent")
        if self._connecting is not None and ticks_diff(now_ms, self._connecting_ms) > CONNECT_MS:
            near, self._connecting = self._connecting, None
            self._call("gap_connect", None)
            self._failed(near, now_ms, "does not take the connection")
        self._seek(now_ms)

    def _irq(self, event, data):
        """In the interrupt: copy and go. What its views show is gone afterwards."""
        if event in (NOTIFY, INDICATE):
            if len(self._packets) >= MAX_EVENTS:
                self._packets.pop(0)
                self.dropped += 1
            self._packets.append((data[0], data[1], bytes(data[2]), ticks_ms()))
        elif event == SCAN_RESULT:
            kind, address, adv_type, rssi, payload = data
            near = self.near.get(bytes(address).hex())
            if near is not None:
                near.rssi_dbm, near.heard_ms = rssi, ticks_ms()
                if not near.name:
                    near.name = name_of(payload)
            elif len(self._events) < MAX_EVENTS:
                services = [uuid for uuid in services_of(payload) if uuid in self.wanted]
                if services:
                    self._events.append((event, (kind, bytes(address), name_of(payload), services, rssi)))
        elif event in _RESULTS:  # the UUID, last of the data, is the same object each time
            self._events.append((event, tuple(data[:-1]) + (self._number(data[-1]),)))
        elif event in _DONES or event in (SCAN_DONE, CONNECT, DISCONNECT):
            self._events.append((event, tuple([bytes(one) if isinstance(one, memoryview) else one for one in data])))

    def _take(self, event, data, now_ms):
        if event == SCAN_RESULT:
            self._heard(data, now_ms)
        elif event == SCAN_DONE:
            self._scanning = False
        elif event == CONNECT:
            self._connected(data[0], bytes(data[2]).hex(), now_ms)
        elif event == DISCONNECT:
            self._disconnected(data[0], now_ms)
        else:
            link = self.links.get(data[0])
            if link is not None and link.walk.take(event, data[1:]):
                self._go_on(data[0], link, now_ms)

    def _heard(self, data, now_ms):
        kind, address, name, services, rssi = data
        key = address.hex()
        if key in self.near or (self._allow and key not in self._allow):
            return
        if len(self.near) >= MAX_NEAR:
            bound = [link.near.address for link in self.links.values()]
            gone = [(ticks_diff(now_ms, near.heard_ms), other) for other, near in self.near.items() if other not in bound]
            if not gone:
                return
            del self.near[max(gone)[1]]
        near = self.near[key] = Near(kind, key, name, services)
        near.rssi_dbm, near.heard_ms = rssi, now_ms

    def _connected(self, handle, key, now_ms):
        near = self._connecting
        self._connecting = None
        if near is None or near.address != key:  # it took the connection after we gave it up
            self._call("gap_disconnect", handle)
            return
        self.connects += 1
        link = self.links[handle] = Link(near, Walk({uuid: self.wanted[uuid] for uuid in near.services}), now_ms)
        self._go_on(handle, link, now_ms)

    def _disconnected(self, handle, now_ms):
        link = self.links.pop(handle, None)
        if link is not None:
            self.breaks += 1
            near = link.near
            if link.walk.live:
                near.wait_ms, near.failed_ms, near.reason = 0, now_ms, "link lost"
            else:
                self._failed(near, now_ms, link.walk.failed or "link lost during discovery")
            if self._on_lost is not None:
                self._on_lost(near.address)
        elif self._connecting is not None and handle == _NO_LINK:
            near, self._connecting = self._connecting, None
            self._failed(near, now_ms, "does not take the connection")

    def _go_on(self, handle, link, now_ms):
        link.began_ms = link.heard_ms = now_ms
        call = link.walk.next()
        if call is None:
            if link.walk.failed:
                self._break(handle, link, now_ms, link.walk.failed)
            else:
                link.near.wait_ms, link.near.reason = 0, ""
            return
        if not self._call(
            "gattc_write" if call[0] == "write" else "gattc_discover_" + call[0], handle, *call[1:], *((1,) if call[0] == "write" else ())
        ):
            self._break(handle, link, now_ms, "the radio takes no more calls")

    def _break(self, handle, link, now_ms, why):
        link.walk.failed = why
        link.walk.live = False
        if not self._call("gap_disconnect", handle):
            self._disconnected(handle, now_ms)
        else:
            link.began_ms = now_ms

    def _failed(self, near, now_ms, why):
        near.reason = why
        near.wait_ms = min(LAST_WAIT_MS, max(FIRST_WAIT_MS, 2 * near.wait_ms))
        near.failed_ms = now_ms

    def _seek(self, now_ms):
        """Connect to the strongest that may be tried; else listen, while there is room for one more."""
        if self._connecting is not None:
            return
        if len(self.links) >= self._max_links:
            if self._scanning and self._call("gap_scan", None):
                self._scanning = False
            return
        bound = [link.near.address for link in self.links.values()]
        ready = [
            (near.rssi_dbm, key)
            for key, near in self.near.items()
            if key not in bound
            and ticks_diff(now_ms, near.heard_ms) < CONNECT_MS
            and (not near.wait_ms or ticks_diff(now_ms, near.failed_ms) >= near.wait_ms)
        ]
        if ready:
            if self._scanning:  # connecting while scanning is refused by some controllers
                self._call("gap_scan", None)
                self._scanning = False
            near = self.near[max(ready)[1]]
            if self._call("gap_connect", near.kind, bytes.fromhex(near.address)):
                self._connecting, self._connecting_ms = near, now_ms
            else:
                self._failed(near, now_ms, "the radio takes no more calls")
        elif not self._scanning:
            self._scanning = self._call("gap_scan", 0, 100_000, 50_000, True)

    def _call(self, name, *arguments):
        """A call of the radio: False if it refused (busy, out of memory, no such link)."""
        try:
            getattr(self.ble, name)(*arguments)
        except OSError:
            return False
        return True


def uuid_number(uuid):
    """The 16 bits of a `bluetooth.UUID`, None for a longer one. (A UUID is a buffer of its bytes, little-endian.)"""
    raw = bytes(uuid)
    return raw[0] | raw[1] << 8 if len(raw) == 2 else None
