"""What every device is: who it is, its Wi-Fi, clock, ring, node, updates, set-up and LED. An example adds its sensors.

    device = Device(board, Port(machine, network, esp32), KEYS, version=7)
    session = device.session()
    device.add("sensor", measure)          # async functions, run under the supervisor
    device.run()

Not set up, it opens its set-up Wi-Fi and listens to its console, and nothing else runs. Set up, it measures from the first second on, link
or not: frames go into the ring. What the platform refuses is in the log, on the console, and blinks on the LED by reason.
"""

import asyncio
import os
import sys
from binascii import crc32

from kit.app import Supervisor
from kit.boots import GOOD_ALONE_MS, GOOD_MS, Boots
from kit.clock import SET, Clock, port_utc_us
from kit.config import Kept
from kit.desired import Desired, Memory
from kit.log import Log, blinks
from kit.node import Node, settings_of
from kit.reset import reset_cause
from kit.ring import Ring
from kit.session import Session
from kit.slots import Slots
from kit.sntp import run as keep_time
from kit.stream import tls_context
from kit.ticks import sleep_ms, ticks_ms
from kit.wifi import Wifi

SLOT_NAMES = ("app_a", "app_b")
TIME_HOSTS = ("pool.ntp.org",)
BUNDLE_BYTES, OUT_BYTES = 1280, 1600  # a frame of 1,024 fits the one, a bundle with its topic the other, of which there are two
_POLL_MS = 100
_HEALTH_MS = 60_000


class Port:
    """The modules of the port, or what stands for them. `folder` is where files are kept; `line()` is awaited for lines of the console, ""
    at its end.

    `feed()` feeds the watchdog that runs already, if there is one.
    """

    def __init__(self, machine, network, esp32, bluetooth=None, folder="", line=None, time_hosts=TIME_HOSTS, page_port=80, feed=None):
        self.machine = machine
        self.network = network
        self.esp32 = esp32
        self.bluetooth = bluetooth
        self.folder = folder
        self.line = line
        self.time_hosts = time_hosts
        self.page_port = page_port
        self.feed = feed

    def partition(self, name):
        """The raw partition of that name. OSError when the board was not flashed with its table."""
        found = self.esp32.Partition.find(self.esp32.Partition.TYPE_DATA, label=name)
        if not found:
            raise OSError(2, "no partition %s: flash the table of the board (paceline firmware flash)" % name)
        return found[0]


def random_64():
    """64 random bits."""
    return int.from_bytes(os.urandom(8), "little")


class Device:
    """`board` is the generated module; `keys` are public keys for updates; `version` is that of what runs when no slot was confirmed."""

    def __init__(self, board, port, keys=(), version=0, sink=print):
        self.board = board
        self.port = port
        self.clock = Clock(random_64())
        utc_us = port_utc_us()
        if utc_us is not None:
            self.clock.set_utc(utc_us, SET)
        self.log = Log(sink, lambda: self.clock.monotonic_us() // 1_000_000)
        self.kept = Kept(port.folder + "/config")
        self.document = self.kept.load()
        self.boots = Boots(Kept(port.folder + "/boots"))
        self.boots.begin(reset_cause(port.machine))
        self.wifi = Wifi(port.network)
        self.app = Supervisor(
            self.log, feed=port.feed, safe=self.boots.safe, on_fault=lambda name, error: self.boots.fault(self.log.last_exception)
        )
        self.refused = ""
        self.battery_pct = None
        self._desired = Desired(self.document.get("tenant", ""))
        self._sessions = {}
        self._keys = keys
        self._version = version
        self._led = port.machine.Pin(board.PINS["led"], port.machine.Pin.OUT)
        self.node = self.updater = None
        if self.is_set_up:
            self._open()

    @property
    def is_set_up(self):
        return bool(self.document.get("node"))

    @property
    def name(self):
        """Its id on the wire, its node's."""
        return self.document.get("node", "")

    def session(self, device=""):
        """The numbering of a device of this node (itself by default), bound as the platform says."""
        device = device or self.name
        session = self._sessions.get(device)
        if session is None:
            session = Session(self.node.append, self.clock, device, random_64(), self.subject_of(device), self._desired.frame_ms)
            self._sessions[device] = session
        return session

    def forget(self, session):
        """End its numbering: what it holds is closed."""
        session.close()
        self._sessions.pop(session.device, None)

    def subject_of(self, device):
        """Whom a device counts for now: what the platform bound, else the athlete of the set-up, else nobody."""
        athlete = self.document.get("athlete")
        return self._desired.subject(device, self.clock.utc_us()) or ("%s/%s" % (self.document["tenant"], athlete) if athlete else "")

    def close(self):
        """Close all open frames, before the power goes on purpose."""
        for session in list(self._sessions.values()):
            session.close()

    def add(self, name, start, beat_ms=None):
        """A task of the example; see `kit.app`."""
        self.app.add(name, start, beat_ms)

    def run(self):
        """For ever; ends with a reset of the board."""
        asyncio.run(self.main())

    async def main(self):
        """The tasks of this start, until it resets itself."""
        if not self.is_set_up:
            await self._set_up()
            return
        app = self.app
        document = self.document
        app.add("wifi", lambda: self.wifi.keep(document["wifi_ssid"], document.get("wifi_password", ""), self._trouble), safe=True)
        app.add("node", self.node.run, safe=True)
        app.add("time", lambda: keep_time(self.clock, os.urandom, self.port.time_hosts), safe=True)
        if self.updater is not None:
            app.add("updates", self.updater.run, safe=True)
        if document.get("enrol_host"):
            from kit.authority import keep

            app.add("identity", lambda: keep(self), safe=True)
        app.add("sessions", self._poll)
        app.add("health", self._tell_health)
        app.add("led", self._blink, safe=True)
        if self.port.line is not None:
            app.add("console", self._console, safe=True)
        await app.run()

    # -- the parts

    def _open(self):
        document = self.document
        context = None
        if document.get("tls"):
            own = ()
            if document.get("certificate_pem"):
                from kit.trial import own_certificate

                own = own_certificate(document)
            context = tls_context(document["ca_pem"].encode(), *own)
        settings = settings_of(
            document["host"],
            document["port"],
            document["tenant"],
            document["node"],
            document.get("password", ""),
            context=context,
            out_bytes=OUT_BYTES,
        )
        ring = Ring(self.port.partition("ring"), random_64, drop_oldest=False)
        self.node = Node(ring, settings, self._on_refused, self._on_stored, self._on_config, bundle_bytes=BUNDLE_BYTES)
        told = document.get("password") or document.get("enrolled", "")
        who = "%s %08x" % (settings.client_id, crc32(told.encode()) & 0xFFFFFFFF)  # set up anew, nothing of before counts
        self._memory = Memory(Kept(self.port.folder + "/desired"), who)
        if self._memory.document is not None and not self._desired.take(self._memory.document):
            self._run_desired()
        self._memory.document = None
        if document.get("update_url") and self._keys:
            from kit.updater import Updater

            partition = self.port.partition
            targets = {1: lambda number: partition(SLOT_NAMES[number])}
            slots = {1: Slots(partition("boot"))}
            reset = self.port.machine.reset
            self.updater = Updater(
                document["update_url"], slots, targets, self._keys, self.board.HARDWARE, self.clock.utc_us, self._version, reset, self.log
            )

    def _on_stored(self, rows):
        if self.updater is not None:
            self.updater.acknowledged()
        if self.clock.monotonic_us() >= GOOD_MS * 1000:
            self.boots.good()

    def _on_refused(self, first, last, reason):
        self.refused = reason
        self.log.warning("rows %d-%d refused: %s" % (first, last, reason))

    def _on_config(self, document):
        before = self._desired.version
        error = self._desired.take(document)
        self.node.state["cfg_error"] = error
        if error:
            self.log.warning("cfg: %s" % error)
        elif self._desired.version != before:
            self._run_desired()
            try:
                self._memory.keep(document, ticks_ms())
            except (OSError, ValueError) as trouble:
                self.log.warning("cfg: runs until the next start, and is not kept: %s" % trouble)
        self.node.tell()

    def _run_desired(self):
        desired = self._desired
        self.node.state["cfg_version"] = desired.version
        self.node.ring.drop_oldest = desired.full_policy == "drop_oldest"
        for session in self._sessions.values():
            session.frame_ms = desired.frame_ms

    def _trouble(self, why):
        self.log.warning(why)

    async def _poll(self):
        """Close frames that are old, and rebind what is somebody else's now."""
        bound_ms = None
        while True:
            now_us = self.clock.monotonic_us()
            for session in list(self._sessions.values()):
                session.poll(now_us)
            if bound_ms is None or ticks_ms() - bound_ms > 1000 or ticks_ms() < bound_ms:
                bound_ms = ticks_ms()
                self._settle(bound_ms)
                failing = self.app.failing
                if failing != self.node.state.get("failing", {}):
                    self.node.state["failing"] = failing
                    self.node.tell()
                for session in list(self._sessions.values()):
                    session.bind(self.subject_of(session.device))
            await sleep_ms(_POLL_MS)

    def _settle(self, now_ms):
        try:
            self._memory.settle(now_ms)
        except (OSError, ValueError) as trouble:
            self.log.warning("cfg: %s" % trouble)

    async def _tell_health(self):
        """A record of `health.1` a minute, in a session of its own."""
        from kit.layouts import health_1

        session = self.session()
        while True:
            record = session.start(health_1, self.clock.monotonic_us())
            record.put(health_1.UPTIME_S, self.clock.monotonic_us() // 1_000_000)
            record.put(health_1.BATTERY_PCT, self.battery_pct)
            record.put(health_1.RSSI_DBM, self.wifi.rssi_dbm())
            record.put(health_1.DROPPED, self.node.outbox.lost + self.node.ring.dropped)
            record.put(health_1.RESET_CAUSE, self.boots.cause)
            if self.clock.monotonic_us() >= GOOD_ALONE_MS * 1000:
                self.boots.good()
            await sleep_ms(_HEALTH_MS)

    async def _blink(self):
        """A long light: all is well. Else as many blinks as the trouble has: no link, a full ring, why the platform refused last, a sensor."""
        while True:
            trouble = "link" if not self.node.client.up else "full" if self.node.outbox.lost else self.refused or ("failing" if self.app.failing else "")
            count, on_ms = (blinks(trouble), 150) if trouble else (1, 600)
            for _ in range(count):
                self._led.value(1)
                await sleep_ms(on_ms)
                self._led.value(0)
                await sleep_ms(250)
            await sleep_ms(2000)

    # -- the set-up

    def show(self):
        """What the console and the set-up page say of this device."""
        said = {
            "name": self.set_up_name(),
            "hardware": self.board.HARDWARE,
            "version": self._version,
            "refused": self.refused,
            "failing": self.app.failing,
            "log": self.log.lines[-8:],
        }
        if self.node is not None:
            said.update(
                {
                    "link": self.node.client.up,
                    "owed": self.node.ring.owed,
                    "stored": self.node.outbox.stored,
                    "failed_starts": self.boots.failed,
                }
            )
        return said

    def set_up_name(self):
        """The name of its set-up Wi-Fi."""
        unique = self.port.machine.unique_id() if hasattr(self.port.machine, "unique_id") else b"\0\0"
        return "paceline-" + bytes(unique)[-2:].hex()

    def setup(self):
        """The desk of the set-up. Imported when it is needed: it is 8 KB."""
        from kit.provision import Setup

        return Setup(self.document, self.kept.save, self.show, os.urandom, self._trial)

    async def _trial(self, document):
        from kit.trial import try_document

        return await self.wifi.lend(lambda connect: try_document(document, connect))

    async def _set_up(self):
        from kit.provision import setup_code

        code = setup_code(os.urandom)
        name = self.set_up_name()
        self.log.info(
            'not set up: join the Wi-Fi %s with the password %s and open http://192.168.4.1/, or type {"do": "show"} here' % (name, code)
        )
        desk = self.setup()
        point = self.wifi.open_set_up(name, code)
        server = await asyncio.start_server(desk.serve, "0.0.0.0", self.port.page_port)
        listening = asyncio.create_task(self._talk(desk)) if self.port.line is not None else None
        try:
            while not desk.done.is_set():
                if self.port.feed is not None:
                    self.port.feed()
                await sleep_ms(500)
            await sleep_ms(1000)  # the page is still being sent
        finally:
            server.close()
            point.active(False)
            if listening is not None:
                listening.cancel()
        self.port.machine.reset()

    async def _console(self):
        """The console of a device that is set up: what is told anew counts after a restart."""
        line = await self.port.line()
        while not line:  # there is no console
            await sleep_ms(60_000)
        desk = self.setup()
        listening = asyncio.create_task(self._talk(desk, line))
        try:
            await desk.done.wait()
            await sleep_ms(500)
            self.port.machine.reset()
        finally:
            listening.cancel()

    async def _talk(self, desk, line=None):
        while True:
            line = line or await self.port.line()
            if not line:
                return
            answer = await desk.line(line)
            if answer is not None:
                print(answer)
            line = None


async def console_line():
    """The next line of MicroPython's serial console; "" once it has ended."""
    return (await asyncio.StreamReader(sys.stdin).readline()).decode()
