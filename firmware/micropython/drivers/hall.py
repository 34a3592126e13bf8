"""Turns of a crank or wheel from a hall switch or reed contact on a pin.

    crank = Hall(Pin(25, Pin.IN, Pin.PULL_UP), ticks_us)
    crank.rpm.drpm(ticks_us())                # tenths of turns a minute

Both pull the line low: a falling edge is a pulse. What a contact bounces is told apart in `dsp.rpm`.
"""

from dsp.rpm import Rpm


class Hall:
    """`rpm` holds the counters; they are written in the interrupt."""

    def __init__(self, pin, ticks_us, debounce_us=15_000, stop_us=3_000_000, magnets=1):
        self.rpm = Rpm(debounce_us, stop_us, magnets)
        self._ticks_us = ticks_us
        self._pin = pin
        pin.irq(self._on_edge, pin.IRQ_FALLING)

    def _on_edge(self, pin):
        self.rpm.pulse(self._ticks_us())

    def stop(self):
        self._pin.irq(None)
