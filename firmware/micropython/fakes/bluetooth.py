"""`bluetooth` of the simulated board, at the level of its events: a room of peripherals, and a radio that hears them.

    room = Room()
    room.add(Peripheral("c00000000001", "strap", {0x180D: ((0x2A37, packets),)}))
    ble = BLE(room)                      # stands for bluetooth.BLE(); UUID for bluetooth.UUID
    room.step(now_ms)                    # what is due by then happens: adverts, ends of procedures, notifications

Rules of the real one: calls answer with events later, one procedure a link, OSError for a call that cannot be made now; event data are
views that are overwritten after the handler has returned.
"""

SCAN_RESULT, SCAN_DONE = 5, 6
PERIPHERAL_CONNECT, PERIPHERAL_DISCONNECT = 7, 8
CENTRAL_CONNECT, CENTRAL_DISCONNECT = 1, 2
SERVICE_RESULT, SERVICE_DONE = 9, 10
CHARACTERISTIC_RESULT, CHARACTERISTIC_DONE = 11, 12
DESCRIPTOR_RESULT, DESCRIPTOR_DONE = 13, 14
WRITE_DONE, NOTIFY = 17, 18
_ENOTCONN, _EALREADY, _EINVAL = 107, 114, 22


class UUID:
    """A 16-bit UUID; a buffer of its two bytes."""

    def __init__(self, value):
        self.value = value

    def __bytes__(self):
        return self.value.to_bytes(2, "little")

    def __len__(self):
        return 2

    def __getitem__(self, at):
        return bytes(self)[at]

    def __eq__(self, other):
        return isinstance(other, UUID) and other.value == self.value

    def __hash__(self):
        return self.value


def number_of(uuid):
    """The 16 bits of a fake UUID."""
    return uuid.value


class Peripheral:
    """A sensor in the room. `services` maps a service to ((characteristic, packets), ...); `packets(index)` gives the index-th, None for
    the last one.

    Faults: `takes_connects` False (no answer to a connect), `refuses` True (an answer that is none), `mute_service` (its discovery never
    ends), `drop_after` notifications (then the link goes), `silent` (it stops talking).
    """

    def __init__(self, address, name, services, period_ms=1000, rssi_dbm=-60, advert=None):
        self.address = bytes.fromhex(address)
        self.name = name
        self.services = services
        self.period_ms = period_ms
        self.rssi_dbm = rssi_dbm
        self.advert = advert
        self.takes_connects = True
        self.refuses = self.mute_service = self.silent = False
        self.drop_after = 0
        self.sent = 0
        self.handle = None
        self.switched = {}  # value handle -> (characteristic's packets, index)
        self.next_ms = 0

    def handles(self):
        """[(service, first, last, [(uuid, value handle, last handle, packets)])] as a server numbers them."""
        at = 1
        table = []
        for service, characteristics in self.services.items():
            first, rows = at, []
            at += 1
            for uuid, packets in characteristics:
                rows.append((uuid, at + 1, at + 2, packets))
                at += 3
            table.append((service, first, at - 1, rows))
        return table


class Room:
    """What is in the air."""

    def __init__(self):
        self.peripherals = []
        self.radios = []
        self.now_ms = 0

    def add(self, peripheral):
        self.peripherals.append(peripheral)
        return peripheral

    def step(self, now_ms):
        self.now_ms = now_ms
        for radio in self.radios:
            radio.step(now_ms)


class BLE:
    """One radio."""

    def __init__(self, room, max_links=4):
        self.room = room
        self.max_links = max_links
        self.links = {}
        self.advertised = None
        self.written = {}
        self.notified = []
        self._active = False
        self._handler = None
        self._scanning = False
        self._due = []  # events to come
        self._busy = {}
        self._connecting = None
        self._next_handle = 64
        self._next_advert_ms = 0
        self._uuid = UUID(0)
        room.radios.append(self)

    def active(self, on=None):
        if on is not None:
            self._active = on
            if not on:
                for peripheral in self.links.values():
                    peripheral.handle, peripheral.switched = None, {}
                self.links, self._due, self._scanning, self._connecting = {}, [], False, None
        return self._active

    def irq(self, handler):
        self._handler = handler

    def config(self, *_, **__):
        return None

    # -- central

    def gap_scan(self, duration_ms, interval_us=1280000, window_us=11250, active=False):
        self._on()
        if duration_ms is None:
            if self._scanning:
                self._due.append((SCAN_DONE, ()))
            self._scanning = False
        elif self._connecting is not None:
            raise OSError(_EALREADY, "connecting")
        else:
            self._scanning = True

    def gap_connect(self, kind, address=None, scan_ms=2000):
        self._on()
        if kind is None:
            self._connecting = None
            return
        if self._connecting is not None or len(self.links) >= self.max_links:
            raise OSError(_EALREADY, "one connect at a time")
        self._connecting = (kind, bytes(address))

    def gap_disconnect(self, handle):
        self._on()
        if handle not in self.links:
            return False
        self.lose(handle)
        return True

    def gattc_discover_services(self, handle, uuid=None):
        peripheral = self._begin(handle)
        for service, first, last, _ in peripheral.handles():
            self._due.append((SERVICE_RESULT, (handle, first, last, UUID(service))))
        if not peripheral.mute_service:
            self._due.append((SERVICE_DONE, (handle, 0)))

    def gattc_discover_characteristics(self, handle, first, last, uuid=None):
        peripheral = self._begin(handle)
        for service in peripheral.handles():
            for characteristic, value, end, _ in service[3]:
                if first <= value <= last:
                    self._due.append((CHARACTERISTIC_RESULT, (handle, end, value, 0x10, UUID(characteristic))))
        self._due.append((CHARACTERISTIC_DONE, (handle, 0)))

    def gattc_discover_descriptors(self, handle, first, last):
        peripheral = self._begin(handle)
        for service in peripheral.handles():
            for _, value, end, _ in service[3]:
                if first <= end <= last:
                    self._due.append((DESCRIPTOR_RESULT, (handle, end, UUID(0x2902))))
        self._due.append((DESCRIPTOR_DONE, (handle, 0)))

    def gattc_write(self, handle, at, data, mode=0):
        peripheral = self._begin(handle)
        for service in peripheral.handles():
            for _, value, end, packets in service[3]:
                if end == at and bytes(data) == b"\x01\x00":
                    peripheral.switched[value] = [packets, 0]
        self._due.append((WRITE_DONE, (handle, at, 0)))

    # -- peripheral

    def gap_advertise(self, interval_us, adv_data=None, resp_data=None, connectable=True):
        self._on()
        self.advertised = bytes(adv_data) if interval_us is not None else None

    def gatts_register_services(self, services):
        at = 10
        out = []
        for _, characteristics in services:
            handles = []
            for _ in characteristics:
                at += 3
                handles.append(at)
            out.append(tuple(handles))
        return tuple(out)

    def gatts_write(self, handle, data, send_update=False):
        self.written[handle] = bytes(data)

    def gatts_notify(self, link, handle, data=None):
        if link not in self.links:
            raise OSError(_ENOTCONN, "no link")
        self.notified.append((link, handle, bytes(data)))

    def come(self, handle):
        """A central connects to us."""
        self.links[handle] = Peripheral("ffffffffffff", "phone", {})
        self._tell(CENTRAL_CONNECT, (handle, 0, memoryview(b"\xff" * 6)))

    def go(self, handle):
        """And goes again."""
        del self.links[handle]
        self._tell(CENTRAL_DISCONNECT, (handle, 0, memoryview(b"\xff" * 6)))

    # -- time

    def lose(self, handle):
        """The link breaks."""
        peripheral = self.links.pop(handle)
        peripheral.handle, peripheral.switched = None, {}
        self._busy.pop(handle, None)
        self._due = [one for one in self._due if not one[1] or one[1][0] != handle]
        self._due.append((PERIPHERAL_DISCONNECT, (handle, 0, peripheral.address)))

    def step(self, now_ms):
        if not self._active:
            return
        due, self._due = self._due, []
        for event, data in due:
            if event in (SERVICE_DONE, CHARACTERISTIC_DONE, DESCRIPTOR_DONE, WRITE_DONE):
                self._busy.pop(data[0], None)
            self._tell(event, data)
        if self._connecting is not None:
            self._answer_connect()
        if self._scanning and now_ms >= self._next_advert_ms:
            self._next_advert_ms = now_ms + 100
            for peripheral in self.room.peripherals:
                if peripheral.handle is None and self._scanning:
                    self._tell(SCAN_RESULT, (0, peripheral.address, 0, peripheral.rssi_dbm, _advert_of(peripheral)))
        for handle, peripheral in list(self.links.items()):
            if peripheral.switched and now_ms >= peripheral.next_ms and not peripheral.silent:
                peripheral.next_ms = max(peripheral.next_ms + peripheral.period_ms, now_ms - peripheral.period_ms)
                self._notify(handle, peripheral)

    def _answer_connect(self):
        kind, address = self._connecting
        for peripheral in self.room.peripherals:
            if peripheral.address == address and peripheral.handle is None:
                if peripheral.refuses:
                    self._connecting = None
                    self._due.append((PERIPHERAL_DISCONNECT, (65535, kind, address)))
                elif peripheral.takes_connects:
                    self._connecting = None
                    self._next_handle += 1
                    self.links[self._next_handle] = peripheral
                    peripheral.handle = self._next_handle
                    self._due.append((PERIPHERAL_CONNECT, (self._next_handle, kind, address)))

    def _notify(self, handle, peripheral):
        for value, source in list(peripheral.switched.items()):
            packet = source[0](source[1])
            if packet is None:
                peripheral.silent = True
                return
            source[1] += 1
            peripheral.sent += 1
            self._tell(NOTIFY, (handle, value, packet))
            if peripheral.drop_after and peripheral.sent % peripheral.drop_after == 0:
                self.lose(handle)
                return

    def _tell(self, event, data):
        """Call the handler with views that are good only meanwhile."""
        if self._handler is None:
            return
        buffers = []
        given = []
        for one in data:
            if isinstance(one, UUID):  # the real one fills the same object again and again
                self._uuid.value = one.value
                one = self._uuid
            if isinstance(one, (bytes, bytearray)):
                buffer = bytearray(one)
                buffers.append(buffer)
                one = memoryview(buffer)
            given.append(one)
        self._handler(event, tuple(given))
        for buffer in buffers:
            for i in range(len(buffer)):
                buffer[i] = 0xAA

    def _begin(self, handle):
        self._on()
        if handle not in self.links:
            raise OSError(_ENOTCONN, "no link")
        if handle in self._busy:
            raise OSError(_EALREADY, "a procedure is under way")
        self._busy[handle] = True
        return self.links[handle]

    def _on(self):
        if not self._active:
            raise OSError(_EINVAL, "radio is off")


def _advert_of(peripheral):
    if peripheral.advert is not None:
        return peripheral.advert
    raw = b"".join([service.to_bytes(2, "little") for service in peripheral.services])
    name = peripheral.name.encode()
    return b"\x02\x01\x06" + bytes((1 + len(raw), 3)) + raw + bytes((1 + len(name), 9)) + name
