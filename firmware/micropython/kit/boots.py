"""Starts that failed: after `LIMIT` of them in a row a device runs only what brings it a cure (safe mode), and says why.

    boots = Boots(Kept("/boots"))
    safe = boots.begin(reset_cause(machine))
    boots.fault(log.last_exception)      # kept over the reset that follows
    boots.good()                         # after GOOD_MS and the first acknowledged rows, or after GOOD_ALONE_MS without any

A start is failed until it was good. Waking from deep sleep is no start. One write of flash for each start, one when it was good.
"""

from kit.reset import DEEP_SLEEP

LIMIT = 5
GOOD_MS = 60000
GOOD_ALONE_MS = 600000  # so long without a reset: whoever acknowledges nothing is out of reach, and measuring must go on
FAULT_CHARS = 800
FAULTS = 4


class Boots:
    """`failed` starts in a row before this one, `cause` of this one, `last_fault` of the one before it, `safe` whether this is safe mode.
    """

    def __init__(self, kept, limit=LIMIT):
        self._kept = kept
        self._limit = limit
        said = kept.load()
        self.failed = self._written = said["failed"] if isinstance(said.get("failed"), int) else 0
        self.last_fault = str(said.get("fault", ""))
        self.cause = 0
        self.safe = False
        self._said = ""
        self._faults = 0

    def begin(self, cause):
        """Count this start before anything can fail; whether it is in safe mode.

        Of the starts after `limit` one in four is tried in full again.
        """
        self.cause = cause
        over = self.failed - self._limit
        self.safe = over >= 0 and over % 4 != 3
        if cause != DEEP_SLEEP:
            self._save(self.failed + 1, self.last_fault)
        return self.safe

    def fault(self, text):
        """What went wrong, for the next start. Nothing is raised: this is said while things fail. Flash is written for the first `FAULTS` of
        a start only: what fails again and again wears nothing out. No start counts as failed for it.
        """
        text = text[:FAULT_CHARS]
        if text == self._said or self._faults >= FAULTS:
            return
        self._said = text
        self._faults += 1
        try:
            self._save(self._written, text)
        except (OSError, ValueError):
            self.last_fault = text

    def good(self):
        """This start works. In safe mode that says nothing of the rest, and changes nothing."""
        if self._written and not self.safe:
            self.failed = 0
            self._save(0, "")

    def _save(self, failed, fault):
        self._kept.save({"failed": failed, "fault": fault})
        self._written = failed
