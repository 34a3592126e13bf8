"""A satellite receiver on a UART: what came is fed to its parser, and nobody waits.

    gnss = Gnss(UART(1, 9600, rx=16, tx=17, rxbuf=512), Ubx())
    gnss.send(ubx.start(1000))
    if gnss.poll(): ...                       # every 100 ms: a fix of 100 bytes takes that long at 9,600 baud

`silent_ms` is for how long not one byte came: a receiver that is not wired, or at another baud rate, is told apart from one without sky.
"""

_PIECE = 64


class Gnss:
    """`fix` is that of the parser (`Nmea` or `Ubx`)."""

    def __init__(self, uart, parser, ticks_ms, ticks_diff):
        self.fix = parser.fix
        self._uart = uart
        self._parser = parser
        self._buf = bytearray(_PIECE)
        self._ticks_ms = ticks_ms
        self._ticks_diff = ticks_diff
        self._heard_ms = ticks_ms()
        self.silent_ms = 0

    def send(self, data):
        self._uart.write(data)

    def poll(self):
        """Read what waits, at most 16 pieces; how many fixes it completed."""
        fixes = 0
        now_ms = self._ticks_ms()
        for _ in range(16):
            if not self._uart.any():
                break
            count = self._uart.readinto(self._buf)
            if not count:
                break
            self._heard_ms = now_ms
            fixes += self._parser.feed(self._buf, count)
        self.silent_ms = self._ticks_diff(now_ms, self._heard_ms)
        return fixes

    def check(self):
        """OSError when nothing was heard for 5 s."""
        if self.silent_ms > 5000:
            raise OSError(19, "receiver says nothing: cross TX and RX, and try 9600, 38400 and 115200 baud")
