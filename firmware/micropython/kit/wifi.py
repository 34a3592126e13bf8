"""Wi-Fi kept up: connects, waits longer after each failure, and never blocks. `network` is the port's module."""

import asyncio

from kit.ticks import ticks_diff, ticks_ms

CONNECT_MS = 15_000
STEP_S = 0.1
FIRST_WAIT_S = 1
LAST_WAIT_S = 30
_WRONG_PASSWORD, _NO_AP = 202, 201  # reason codes of the ESP32; -3 and -2 elsewhere


class Wifi:
    """The station interface. `breaks` counts links that went."""

    def __init__(self, network):
        self.network = network
        self.station = network.WLAN(network.STA_IF)
        self.breaks = 0
        self._lent = False

    async def connect(self, ssid, password):
        """ "" once there is a link and an address, else why not, as a sentence."""
        station = self.station
        station.active(True)
        try:
            station.disconnect()
        except OSError:  # there was no link
            pass
        try:
            if password:
                station.connect(ssid, password)
            else:
                station.connect(ssid)
        except OSError as error:
            return "Wi-Fi %s: %s" % (ssid, error)
        began = ticks_ms()
        while ticks_diff(ticks_ms(), began) < CONNECT_MS:
            if station.isconnected():
                return ""
            status = station.status()
            if status in (_WRONG_PASSWORD, -3):
                return "Wi-Fi %s does not take this password" % ssid
            if status in (_NO_AP, -2):
                return "Wi-Fi %s is not heard here" % ssid
            await asyncio.sleep(STEP_S)
        return "Wi-Fi %s does not answer" % ssid

    async def keep(self, ssid, password, on_trouble=None):
        """Keep the link up until cancelled; `on_trouble(why)` hears why there is none."""
        wait_s = FIRST_WAIT_S
        while True:
            if self._lent:
                await asyncio.sleep(STEP_S)
                continue
            why = await self.connect(ssid, password)
            if why:
                if on_trouble is not None:
                    on_trouble(why)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_WAIT_S)
                continue
            wait_s = FIRST_WAIT_S
            while self.station.isconnected() and not self._lent:
                await asyncio.sleep(STEP_S * 5)
            if not self._lent:
                self.breaks += 1

    async def lend(self, use):
        """What `use(connect)` comes to, with the station to itself; `keep` takes it back afterwards."""
        self._lent = True
        try:
            return await use(self.connect)
        finally:
            self._lent = False

    def rssi_dbm(self):
        """How strong the access point is heard; None if the port does not tell."""
        try:
            return self.station.status("rssi")
        except (ValueError, OSError, TypeError):
            return None

    def open_set_up(self, name, code):
        """An access point of our own, for the set-up page."""
        point = self.network.WLAN(self.network.AP_IF)
        point.active(True)
        point.config(ssid=name, key=code, security=3)  # WPA2
        return point
