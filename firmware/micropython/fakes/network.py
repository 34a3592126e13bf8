"""`network` of the simulated board: a station that finds the networks of an `Air`, and loses them when it is told to.

    air = Air({"Hall": "long enough"})
    network = Network(air)               # stands for the module
    air.cut("Hall")                      # its links go; `air.back("Hall")`

Sockets are those of this machine: what is cut here is the link that the device sees, not its connections. For those see `fakes/link.py`.
"""

_IDLE, _CONNECTING, _GOT_IP, _NO_AP, _WRONG_PASSWORD = 1000, 1001, 1010, 201, 202


class Air:
    """The networks that can be heard: name to password."""

    def __init__(self, networks):
        self.networks = networks
        self.away = set()
        self.steps_to_connect = 3  # times `status` or `isconnected` is asked before the link is there

    def cut(self, ssid):
        self.away.add(ssid)

    def back(self, ssid):
        self.away.discard(ssid)


class Network:
    """The module `network`."""

    STA_IF, AP_IF = 0, 1

    def __init__(self, air):
        self.air = air
        self._interfaces = {0: _Station(air), 1: _Point()}

    def WLAN(self, which=0):
        return self._interfaces[which]


class _Point:
    def __init__(self):
        self.settings = {}
        self._active = False

    def active(self, on=None):
        if on is not None:
            self._active = on
        return self._active

    def config(self, **settings):
        self.settings.update(settings)


class _Station:
    def __init__(self, air):
        self.air = air
        self._active = False
        self._wanted = None
        self._steps = 0

    def active(self, on=None):
        if on is not None:
            self._active = on
            if not on:
                self._wanted = None
        return self._active

    def connect(self, ssid, key=None):
        if not self._active:
            raise OSError(12289, "Wifi Not Started")
        self._wanted, self._steps = (ssid, key), 0

    @property
    def ssid(self):
        return self._wanted[0] if self._wanted else ""

    def disconnect(self):
        self._wanted = None

    def isconnected(self):
        return self._status() == _GOT_IP

    def status(self, what=None):
        if what == "rssi":
            return -55
        return self._status()

    def ifconfig(self):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")

    def _status(self):
        if self._wanted is None:
            return _IDLE
        ssid, key = self._wanted
        if ssid not in self.air.networks or ssid in self.air.away:
            return _NO_AP
        if (self.air.networks[ssid] or None) != (key or None):
            return _WRONG_PASSWORD
        self._steps += 1
        return _GOT_IP if self._steps > self.air.steps_to_connect else _CONNECTING
