"""A whole example that runs on the emulated board: its flash, a network and a broker are made here, sensors by `fakes/scenarios.py`. Printed is what it holds of the
heap beyond its modules: steadily, and at most.

Time that nothing happens in is passed over. Flash lies outside the heap, as on a chip. The far end acknowledges every bundle, sends a configuration, cuts the link,
offers an update that is signed (and not to be had), and types on the console. At each operation of flash and link the heap is collected and looked at: between them
a device holds nothing that is large. Import this before `asyncio`; then `main(EXAMPLE, seconds)`.
"""

import gc
import sys
import time

import uctypes

FLASH_AT, FILES_AT = 0x2140_0000, 0x2180_0000
SECTOR = 4096
_EAGAIN = 11
_WRAP = 1 << 30
_CFG = '{"version": 3, "bindings": [%s], "frame_ms": 250, "full_policy": "drop_oldest"}'


class Clock:
    """The board's clock, and what was passed over of it."""

    def __init__(self):
        self.skipped_ms = 0
        self._ms, self._us = time.ticks_ms, time.ticks_us

    def ticks_ms(self):
        return (self._ms() + self.skipped_ms) % _WRAP

    def ticks_us(self):
        return (self._us() + self.skipped_ms * 1000) % _WRAP

    def skip(self, ms):
        self.skipped_ms += ms


clock = Clock()
time.ticks_ms, time.ticks_us, time.sleep_ms = clock.ticks_ms, clock.ticks_us, clock.skip


def collected():
    gc.collect()
    return gc.mem_alloc()


class Heap:
    """The most that was ever held."""

    def __init__(self):
        self.most = 0
        self.watching = False

    def look(self):
        if self.watching:
            self.most = max(self.most, collected())


heap = Heap()


class Poll:
    """`select.poll` of sockets that are made here; waiting passes time over."""

    def __init__(self):
        self._asked = []

    def register(self, sock, events=5):
        self.unregister(sock)
        self._asked.append([sock, events])

    modify = register

    def unregister(self, sock):
        self._asked = [one for one in self._asked if one[0] is not sock]

    def poll(self, ms=-1):
        return [(sock, events & sock.ready()) for sock, events in self._asked if events & sock.ready()]

    def ipoll(self, ms=-1):
        found = self.poll()
        if not found and ms > 0:
            clock.skip(ms)
        return found


class Select:
    POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16
    poll = Poll


class Socket:
    """One end of a link; the other is `peer(port)`."""

    opened = set()  # noqa: RUF012 - one board
    peer = None  # port -> what has `take(data, answer)` and hears of the end by `close()`

    def __init__(self, *kind):
        self.waiting = bytearray()
        self.over = False

    def setblocking(self, on):
        pass

    def setsockopt(self, *option):
        pass

    def connect(self, address):
        self._peer = Socket.peer(address[1])
        Socket.opened.add(self)

    def ready(self):
        return 4 | bool(self.waiting or self.over)

    def readinto(self, view):
        heap.look()
        count = min(len(view), len(self.waiting))
        if not count:
            if self.over:
                return 0
            return None
        view[:count] = self.waiting[:count]
        self.waiting = self.waiting[count:]
        return count

    def write(self, view):
        heap.look()
        if self.over:
            raise OSError(104)
        self._peer.take(bytes(view), self.waiting.extend)
        self.over = self.over or self._peer.over
        return len(view)

    def close(self):
        Socket.opened.discard(self)


class Sockets:
    SOCK_STREAM, SOCK_DGRAM, AF_INET = 1, 2, 2
    socket = Socket

    @staticmethod
    def getaddrinfo(host, port, family=0, kind=1):
        return [(2, kind, 0, "", (host, port))]


class System:
    """Random bytes, the same each time."""

    state = 1

    @staticmethod
    def urandom(count):
        made = bytearray(count)
        for i in range(count):
            System.state = (System.state * 1103515245 + 12345) & 0x3FFFFFFF
            made[i] = System.state >> 16 & 255
        return bytes(made)


class Broker:
    """The far end: MQTT, and an ack for each bundle."""

    cfg = b""
    stored = 0

    def __init__(self):
        self.over = False
        self._held = bytearray()

    def take(self, data, answer):
        self._held.extend(data)
        while len(self._held) >= 2:
            at, length, shift = 1, 0, 0
            while True:
                length |= (self._held[at] & 127) << shift
                shift += 7
                at += 1
                if not self._held[at - 1] & 128:
                    break
            if len(self._held) < at + length:
                return
            kind, body = self._held[0], bytes(self._held[at : at + length])
            self._held = self._held[at + length :]
            self._packet(kind, body, answer)

    def _packet(self, kind, body, answer):
        if kind >> 4 == 1:
            answer(b"\x20\x02\x00\x00")
        elif kind >> 4 == 8:
            answer(b"\x90" + bytes((2 + body.count(b"pl/1/"),)) + body[:2] + bytes(body.count(b"pl/1/")))
            if Broker.cfg:
                answer(publish(b"pl/1/gym/watch-7/cfg", Broker.cfg))
        elif kind >> 4 == 3 and kind & 6:
            size = body[0] << 8 | body[1]
            topic, pid, payload = body[2 : 2 + size], body[2 + size : 4 + size], body[4 + size :]
            answer(b"\x40\x02" + pid)
            if topic.endswith(b"/up"):
                rows, first = payload[1], int.from_bytes(payload[2:8], "little")
                Broker.stored += rows
                ack = (
                    b"\x94\x01\xcf"
                    + bytes([payload[15 - i] for i in range(8)])
                    + b"\x91\x92"
                    + number(first)
                    + number(first + rows - 1)
                    + b"\x90"
                )
                answer(publish(topic[:-2] + b"ack", ack))
        elif kind >> 4 == 12:
            answer(b"\xd0\x00")


def number(value):
    return b"\xce" + value.to_bytes(4, "big")


def publish(topic, payload):
    length = 2 + len(topic) + len(payload)
    head = bytes((length & 127 | 128, length >> 7)) if length > 127 else bytes((length,))
    return b"\x30" + head + len(topic).to_bytes(2, "big") + topic + payload


class Shop:
    """Updates over HTTP: the manifest is there, the image is not."""

    manifest = b""
    asked = 0

    def __init__(self):
        self.over = False

    def take(self, data, answer):
        Shop.asked += 1
        if b".manifest" in data:
            answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(Shop.manifest) + Shop.manifest)
        else:
            answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


class Flash:
    """A partition in the board's memory, beside the heap."""

    def __init__(self, at, sectors):
        self._memory = memoryview(uctypes.bytearray_at(at, sectors * SECTOR))
        self._sectors = sectors
        for sector in range(sectors):
            self.ioctl(6, sector)

    def readblocks(self, block, buf, offset=0):
        at = block * SECTOR + offset
        buf[:] = self._memory[at : at + len(buf)]

    def writeblocks(self, block, buf, offset=0):
        heap.look()
        at = block * SECTOR + offset
        self._memory[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        if op == 4:
            return self._sectors
        if op == 5:
            return SECTOR
        if op == 6:
            self._memory[arg * SECTOR : (arg + 1) * SECTOR] = _BLANK
        return 0


_BLANK = b"\xff" * SECTOR


class Names:
    """A place for names that stand for nothing."""


def fill_names():
    """Take what is left of the table of names, so that it does not grow among what is measured: here the names around a device are in it too."""
    for i in range(2600):
        before = gc.mem_alloc()
        setattr(Names, "n%d" % i, 0)
        delattr(Names, "n%d" % i)
        if gc.mem_alloc() - before > 4000:
            return


class Esp32:
    """Partitions by name."""

    class Partition:
        TYPE_DATA = 1
        made = {}  # noqa: RUF012

        @staticmethod
        def find(kind=1, label=None):
            return [Esp32.Partition.made[label]]


class Files:
    """A file system of small files, which lie beside the heap too."""

    def __init__(self):
        self.held = {}  # path -> (memory, bytes of it)

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        heap.look()
        if "w" in mode:
            memory = self.held[path][0] if path in self.held else uctypes.bytearray_at(FILES_AT + len(self.held) * 8192, 8192)
            self.held[path] = (memory, 0)
        elif path not in self.held:
            raise OSError(2)
        return File(self.held, path)


class File:
    """Read or written as a whole."""

    def __init__(self, held, path):
        self._held, self._path = held, path

    def __enter__(self):
        return self

    def __exit__(self, *why):
        pass

    def read(self, count):
        memory, size = self._held[self._path]
        return bytes(memory[: min(count, size)])

    def write(self, data):
        memory, size = self._held[self._path]
        memory[size : size + len(data)] = data
        self._held[self._path] = (memory, size + len(data))

    def close(self):
        pass


def prepare(example):
    """Everything that is no part of the device; (port, scenario)."""
    sys.modules["select"], sys.modules["socket"], sys.modules["os"] = Select, Sockets, System
    import asyncio

    for name in ("core", "event", "lock", "funcs", "stream"):
        __import__("asyncio." + name)
    import vfs

    at = FLASH_AT
    for name, sectors in (("boot", 3), ("app_a", 16), ("app_b", 16), ("ring", 32)):
        Esp32.Partition.made[name] = Flash(at, sectors)
        at += sectors * SECTOR
    vfs.mount(Files(), "/flash")
    from fakes import bluetooth, machine
    from fakes.network import Air, Network
    from fakes.scenarios import SCENARIOS

    class Bluetooth:
        UUID = bluetooth.UUID
        number_of = staticmethod(bluetooth.number_of)
        room = bluetooth.Room()

        @staticmethod
        def BLE():
            return bluetooth.BLE(Bluetooth.room)

    network = Network(Air({"Hall": "long enough"}))
    peers = {1883: Broker, 8870: Shop}
    Socket.peer = lambda port: peers[port]()
    return asyncio, machine, network, Bluetooth, SCENARIOS[example]


def main(example, seconds, manifest=b"", bindings=8):
    asyncio, machine, network, bluetooth, scenario = prepare(example)
    import board
    from kit.config import Kept

    document = {"wifi_ssid": "Hall", "wifi_password": "long enough", "host": "10.0.0.1", "port": 1883, "tls": False, "tenant": "gym"}
    document.update({"node": "watch-7", "password": "p" * 24, "athlete": "ann", "update_url": "http://10.0.0.1:8870"})
    Kept("/flash/config").save(document)
    Shop.manifest = manifest
    happen = scenario(machine, bluetooth.room, board)
    one = '{"device": "watch-7.c0000000%04x", "athlete": "athlete-%d", "from_us": 1700000000000000, "to_us": null}'
    Broker.cfg = (_CFG % ", ".join([one % (i, i) for i in range(bindings)])).encode()
    lines = []

    async def line():
        while not lines:
            await asyncio.sleep(1)
        return lines.pop(0)

    import application
    from kit.device import Port

    fill_names()
    port = Port(machine, network, Esp32, bluetooth, "/flash", line, (), feed=lambda: None)
    imported = collected()
    heap.most, heap.watching = imported, True
    device = application.make(port)
    device.add("world", happen)
    found = {}

    async def story():
        third = seconds // 3
        await asyncio.sleep(third)
        found["steady"] = collected()
        for sock in list(Socket.opened):
            sock.over = True
        await asyncio.sleep(third)
        lines.append('{"do": "show"}\n')  # answered on the console, by modules that are loaded for it
        await asyncio.sleep(third)
        device.app.stop()

    async def run():
        telling = asyncio.create_task(story())
        await device.main()
        await telling

    asyncio.run(run())
    links, outbox = device.node.client.counters["links"], device.node.outbox
    done = (links, Broker.stored, outbox.stored, device._desired.version, device.updater.last, lines, device.log.lines)
    assert links == 2, done
    assert Broker.stored >= outbox.stored >= seconds // 4, done
    assert device._desired.version == 3, done
    assert device.updater.last == "no_clock", done  # said after the signature was found right
    assert not lines, done
    print(found["steady"] - imported, heap.most - imported)
