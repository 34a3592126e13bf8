"""A heart-rate strap made of a device: the Heart Rate Service (1.0) as a peripheral, so that watches and apps hear what this wristband
measures.

server = HeartRateServer(bluetooth.BLE(), bluetooth.UUID, "band-7")
server.start()
server.tell(142, (812, 798))          # beats a minute, RR intervals in ms
"""

from ble.advert import advert

CONNECT, DISCONNECT = 1, 2
_READ, _NOTIFY = 0x0002, 0x0010
_SERVICE, _MEASUREMENT, _LOCATION = 0x180D, 0x2A37, 0x2A38
_APPEARANCE = 832  # generic heart rate sensor
_ADVERT_US = 500_000
WRIST = 2
MAX_INTERVALS = 8  # two bytes each, in a packet of 20


class HeartRateServer:
    """`uuid(number)` makes a UUID. Up to `max_links` hear it; it goes on advertising until then."""

    def __init__(self, ble, uuid, name, location=WRIST, max_links=3):
        self.ble = ble
        self.links = []
        self.told = 0
        self._uuid = uuid
        self._advert = advert((_SERVICE,), name, _APPEARANCE)
        self._location = location
        self._max_links = max_links
        self._handle = 0

    def start(self):
        """Switch the radio on, offer the service, advertise."""
        self.ble.active(True)
        self.ble.irq(self._irq)
        uuid = self._uuid
        service = (uuid(_SERVICE), ((uuid(_MEASUREMENT), _NOTIFY), (uuid(_LOCATION), _READ)))
        ((self._handle, location),) = self.ble.gatts_register_services((service,))
        self.ble.gatts_write(location, bytes((self._location,)))
        self._advertise()

    def tell(self, hr_bpm, intervals_ms=(), contact=True):
        """One measurement to everybody. None: not known, and nobody is told anything wrong. How many were told."""
        if hr_bpm is None or not self.links:
            return 0
        packet = measurement(hr_bpm, intervals_ms, contact)
        told = 0
        for link in list(self.links):
            try:
                self.ble.gatts_notify(link, self._handle, packet)
                told += 1
            except OSError:  # gone, or its buffers are full: the next one comes in a second
                pass
        self.told += told
        return told

    def _irq(self, event, data):
        if event == CONNECT and data[0] not in self.links:
            self.links.append(data[0])
        elif event == DISCONNECT and data[0] in self.links:
            self.links.remove(data[0])
        if event in (CONNECT, DISCONNECT):
            self._advertise()

    def _advertise(self):
        if len(self.links) < self._max_links:
            self.ble.gap_advertise(_ADVERT_US, self._advert)
        else:
            self.ble.gap_advertise(None)


def measurement(hr_bpm, intervals_ms=(), contact=True):
    """The packet of characteristic 2A37: 8 or 16 bits of rate, contact, RR intervals in 1/1024 s, the newest that fit."""
    intervals_ms = intervals_ms[-MAX_INTERVALS:]
    wide = hr_bpm > 255
    flags = (1 if wide else 0) | 4 | (2 if contact else 0) | (16 if intervals_ms else 0)
    packet = bytes((flags,)) + hr_bpm.to_bytes(2 if wide else 1, "little")
    for interval in intervals_ms:
        packet += min(65535, (interval * 1024 + 500) // 1000).to_bytes(2, "little")
    return packet
