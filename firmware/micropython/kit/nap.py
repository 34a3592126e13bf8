"""Deep sleep of a whole device: all that was measured is closed and in the ring first, and what must outlive the sleep is kept in the chip.

    kept = recalled(machine)                                  # b"" unless this start ends a sleep
    if await sleep(device, nap_ms, pin, remember, moves): ... # does not come back when it sleeps; False: it may not now

The chip wakes when `pin` changes or the time is over, and starts anew. Its RTC keeps the time, so frames after it are dated without a link.
"""

from kit.reset import DEEP_SLEEP, reset_cause
from kit.ticks import sleep_ms

_FLUSH_MS, _STEP_MS = 10_000, 100


def recalled(machine):
    """What `remember` gave before the sleep that this start ends; b"" after any other start, whatever the chip still holds."""
    return bytes(machine.RTC().memory()) if reset_cause(machine) == DEEP_SLEEP else b""


def woken_by_pin(machine):
    """Whether the pin ended the sleep, not the time."""
    return machine.wake_reason() == machine.EXT0_WAKE


async def sleep(device, ms, pin, remember, moves):
    """Send what is owed if there is a link (10 s at most), then sleep. `remember(level)` gives bytes, of counters as they are then and of the
    level that the pin has: the other one wakes. False when it must not: an image is on trial, or `moves()` meanwhile.
    """
    if device.updater is not None and device.updater.on_trial:
        return False
    device.close()
    node = device.node
    for _ in range(_FLUSH_MS // _STEP_MS):
        if not (node.ring.owed and node.client.up):
            break
        await sleep_ms(_STEP_MS)
    device.close()  # what came meanwhile, its health
    machine, esp32 = device.port.machine, device.port.esp32
    level = pin.value()
    esp32.wake_on_ext0(pin, esp32.WAKEUP_ALL_LOW if level else esp32.WAKEUP_ANY_HIGH)
    machine.RTC().memory(remember(level))
    if moves():
        return False
    machine.deepsleep(ms)
