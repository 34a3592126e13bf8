"""Packets of straps, meters and machines as frames of this node: a session for each sensor, its id made of this node's and the sensor's
address.

    bridge = Bridge(clock, "bridge-1", device.session, device.forget, Pack(PACK), RULES, LAYOUTS)
    central = Central(bluetooth.BLE(), SERVICES, bridge.take, uuid_number, on_lost=bridge.lost)

The bridge numbers what sensors say, so two bridges that hear one strap are two origins. An id is `NODE.XXXXXXXXXXXX`.
"""

import json

from ble.reading import Reading
from kit.ticks import ticks_diff, ticks_ms

MAX_SENSORS = 8
_MAX_ID = 32


class Bridge:
    """`layouts` maps names as in the rules (`beats_1`) to modules of `kit.layouts`; `session_of(id)` and `forget(session)` as in
    `kit.device`.
    """

    def __init__(self, clock, node, session_of, forget, pack, rules, layouts, settings=None):
        self.samples = 0
        self._clock = clock
        self._node = node[: _MAX_ID - 13]
        self._session_of = session_of
        self._forget = forget
        self._pack = pack
        self._rules = rules
        self._read = {}  # profile -> its rule, of those that were heard
        self._layouts = layouts
        self._settings = settings
        self._sensors = {}  # address -> (session, {profile: reading})
        self._heard = {}

    def take(self, address, profile, payload, at_ms):
        """A packet that came at `at_ms` of `kit.ticks`."""
        session, readings = self._sensor(address)
        reading = readings.get(profile)
        if reading is None:
            if profile not in self._read:
                self._read[profile] = json.loads(self._rules[profile])
            reading = readings[profile] = Reading(self._pack.decoder(profile), self._read[profile], self._settings)
        at_us = self._clock.monotonic_us() - max(0, ticks_diff(ticks_ms(), at_ms)) * 1000

        def put(layout, age_ms, values):
            record = session.start(self._layouts[layout], max(0, at_us - age_ms * 1000))
            for code, raw in values:
                record.put(code, raw)
            self.samples += 1

        reading.feed(payload, at_us // 1000, put)
        self._heard[address] = at_us

    def lost(self, address):
        """The link went: what was said so far is closed. The numbering stays for when it comes back."""
        if address in self._sensors:
            self._sensors[address][0].close()

    def id_of(self, address):
        """The id of a sensor on the wire."""
        return self._node + "." + address

    def _sensor(self, address):
        found = self._sensors.get(address)
        if found is None:
            if len(self._sensors) >= MAX_SENSORS:  # the one heard longest ago ends its numbering
                oldest = min([(at, one) for one, at in self._heard.items()])[1]
                self._forget(self._sensors.pop(oldest)[0])
                del self._heard[oldest]
            found = self._sensors[address] = (self._session_of(self.id_of(address)), {})
            self._heard[address] = 0
        return found
