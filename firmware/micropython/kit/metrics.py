"""How a device is: counters by name, and records of the layout `health.1`.

    put_health(writer, tick_ms, uptime_s, battery_pct, rssi_dbm, dropped, cause)
"""

import gc

from kit.layouts import health_1


def put_health(writer, tick_ms, uptime_s, battery_pct, rssi_dbm, dropped, cause):
    """One record into a FrameWriter of `health_1`; None is not known. False when the frame is full."""
    if not writer.start(tick_ms):
        return False
    writer.put(health_1.UPTIME_S, uptime_s)
    writer.put(health_1.BATTERY_PCT, battery_pct)
    writer.put(health_1.RSSI_DBM, rssi_dbm)
    writer.put(health_1.DROPPED, dropped)
    writer.put(health_1.RESET_CAUSE, cause)
    return True


class Metrics:
    """Counters, and the least free heap that was ever seen after a collection."""

    def __init__(self):
        self.counts = {}
        self.least_free = None

    def add(self, name, count=1):
        """Count; names beyond 48 are not taken, so that no peer can fill the heap."""
        if name in self.counts or len(self.counts) < 48:
            self.counts[name] = self.counts.get(name, 0) + count

    def heap(self):
        """Collect, and the free bytes then; None on CPython."""
        gc.collect()
        if not hasattr(gc, "mem_free"):
            return None
        free = gc.mem_free()
        if self.least_free is None or free < self.least_free:
            self.least_free = free
        return free
