"""What a device says of itself: a few lines in memory, the last exception in full, and codes for a LED. Bounded, and never fails.

    log = Log(print)
    log.info("link up"), log.warning("row 7 refused: future_time")
    log.fault("gnss", error)         # `last_exception` has the trace
"""

import io
import sys

LINES = 32
LINE_CHARS = 120
TRACE_CHARS = 800
BLINKS = {  # what a refusal looks like on a device without a screen
    "wrong_tenant": 2, "future_time": 3, "bad_id": 4, "bad_frame": 5, "bad_records": 5, "bad_bundle": 5, "oversized": 5, "reserved_flag": 5,
    "not_self_numbered": 6, "corrupt_row": 7, "link": 1, "full": 8, "failing": 10,
}  # fmt: skip
OTHER_BLINKS = 9


def blinks(reason):
    """How often the LED blinks for a reason of the wire, for `link` (no link), `full` (the ring takes nothing) and `failing` (a sensor)."""
    return BLINKS.get(reason, OTHER_BLINKS)


class Log:
    """`lines` are the newest, oldest first. `sink(line)` sees each; `uptime_s()` goes in front."""

    def __init__(self, sink=None, uptime_s=None):
        self.lines = []
        self.warnings = 0
        self.last_exception = ""
        self._sink, self._uptime_s = sink, uptime_s

    def info(self, text):
        self._add("I", text)

    def warning(self, text):
        self.warnings += 1
        self._add("W", text)

    def fault(self, who, error):
        """An exception that ended something called `who`."""
        self.last_exception = ("%s: %s" % (who, _trace(error)))[:TRACE_CHARS]
        self.warning("%s: %s: %s" % (who, type(error).__name__, error))

    def _add(self, level, text):
        seconds = self._uptime_s() if self._uptime_s is not None else 0
        line = ("%d %s %s" % (seconds, level, text))[:LINE_CHARS]
        if len(self.lines) >= LINES:
            self.lines.pop(0)
        self.lines.append(line)
        if self._sink is not None:
            try:
                self._sink(line)
            except Exception:
                self._sink = None  # a console that is gone stays gone


def _trace(error):
    if hasattr(sys, "print_exception"):
        out = io.StringIO()
        sys.print_exception(error, out)
        return out.getvalue()
    import traceback

    return "".join(traceback.format_exception(error))
