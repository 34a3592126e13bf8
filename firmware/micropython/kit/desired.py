"""What the platform wants of this device: the document on `cfg`, taken whole or not at all, and kept over starts.

    desired = Desired("gym")
    error = desired.take(document)       # "" when it runs now or is merely old; else why not, for the state
    desired.subject("watch-7", utc_us), desired.frame_ms

    memory = Memory(Kept("/desired"), "gym/watch-7")
    desired.take(memory.document)        # what ran before, so that bindings are right without a link
    memory.keep(document, now_ms)        # after each one taken; `memory.settle(now_ms)` now and then

`uplink` and the size of the memory are for boxes: a document that asks for them is refused here with that reason.
"""

from kit.ticks import ticks_diff

_KEYS = ("version", "bindings", "frame_ms", "spool_cap_bytes", "full_policy", "uplink")
_BINDING = ("device", "athlete", "from_us", "to_us")
_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_BINDINGS = 32
REST_MS = 60_000


def is_id(text):
    """1-32 of a-z 0-9 . _ - starting with a letter or digit."""
    if not isinstance(text, str) or not 1 <= len(text) <= 32 or text[0] not in _FIRST:
        return False
    return all([char in _FIRST or char in "._-" for char in text])


def _whole(value, low, high):
    return type(value) is int and low <= value <= high


def _binding_error(one):
    if not isinstance(one, dict) or [key for key in one if key not in _BINDING]:
        return "an object of device, athlete, from_us and to_us"
    if not is_id(one.get("device")) or not is_id(one.get("athlete")):
        return "device and athlete must be ids"
    begin, end = one.get("from_us"), one.get("to_us")
    if not (begin is None or type(begin) is int) or not (end is None or type(end) is int):
        return "from_us and to_us are integers or null"
    if begin is not None and end is not None and begin >= end:
        return "from_us must be before to_us"
    return ""


def why_not(document):
    """What is wrong with a document, as `field: reason`; "" when it can run."""
    for key in document:
        if key not in _KEYS:
            return "%s: unknown key" % key[:32]  # it goes into the state, whose buffer is small
    if not _whole(document.get("version"), 0, 1 << 62):
        return "version: a whole number, 0 or more"
    if not _whole(document.get("frame_ms", 250), 50, 10000):
        return "frame_ms: 50 to 10,000"
    for key in ("uplink", "spool_cap_bytes"):
        if document.get(key) is not None:
            return "%s: this device cannot change it" % key
    if document.get("full_policy") not in (None, "reject_new", "drop_oldest"):
        return "full_policy: reject_new or drop_oldest"
    bindings = document.get("bindings", [])
    if not isinstance(bindings, list) or len(bindings) > MAX_BINDINGS:
        return "bindings: a list of at most %d" % MAX_BINDINGS
    for i, one in enumerate(bindings):
        error = _binding_error(one)
        if error:
            return "bindings.%d: %s" % (i, error)
    return ""


class Desired:
    """The document in force. `version` 0: none was taken yet."""

    def __init__(self, tenant, document=None):
        self.tenant = tenant
        self.version = 0
        self.frame_ms = 250
        self.full_policy = None
        self._bindings = ()
        if document:
            self.take(document)

    def take(self, document):
        """Run a parsed document if it is newer and right; why it is not taken, "" when it is or is old."""
        error = why_not(document)
        if not error and document["version"] > self.version:
            self.version = document["version"]
            self.frame_ms = document.get("frame_ms", 250)
            self.full_policy = document.get("full_policy")
            self._bindings = [
                (one["device"], one["athlete"], one.get("from_us"), one.get("to_us")) for one in document.get("bindings", ())
            ]
        return error

    def subject(self, device, utc_us):
        """`tenant/athlete` for whom a device counts at `utc_us` (None: undated), or "". The latest `from_us` wins."""
        best = None
        for one in self._bindings:
            if one[0] == device:
                begin, end = one[2], one[3]
                if utc_us is None:
                    inside = end is None
                else:
                    inside = (begin is None or begin <= utc_us) and (end is None or utc_us < end)
                if inside and (best is None or (begin or 0) >= (best[2] or 0)):
                    best = one
        return "" if best is None else "%s/%s" % (self.tenant, best[1])


class Memory:
    """The document in `kept` (`kit.config.Kept`) of one identity. Flash is written when it changed, and once in `REST_MS` at most: a platform
    that changes its mind each second wears nothing out.
    """

    def __init__(self, kept, who):
        said = kept.load()
        self.document = said.get("cfg") if said.get("who") == who and isinstance(said.get("cfg"), dict) else None
        self._kept, self._who = kept, who
        self._due = None
        self._written_ms = None

    def keep(self, document, now_ms):
        """A document that was taken. OSError or ValueError when it cannot be written; it counts nevertheless, until the next start."""
        self._due = document
        self.settle(now_ms)

    def settle(self, now_ms):
        """Write what waits, once its time has come."""
        if self._due is not None and (self._written_ms is None or ticks_diff(now_ms, self._written_ms) >= REST_MS):
            document, self._due = self._due, None
            self._written_ms = now_ms
            self._kept.save({"who": self._who, "cfg": document})
