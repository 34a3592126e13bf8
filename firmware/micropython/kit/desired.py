"""What the platform wants of this device: the document on `cfg`, taken whole or not at all. Pure.

    desired = Desired("gym", "watch-7")
    error = desired.take(document)       # "" when it runs now or is merely old; else why not, for the state
    desired.subject(utc_us), desired.frame_ms

`uplink` and the size of the memory are for boxes: a document that asks for them is refused here with that reason.
"""

_KEYS = ("version", "bindings", "frame_ms", "spool_cap_bytes", "full_policy", "uplink")
_BINDING = ("device", "athlete", "from_us", "to_us")
_FIRST = "abcdefghijklmnopqrstuvwxyz0123456789"
MAX_BINDINGS = 32


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
            return "%s: unknown key" % key
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
    """The document in force."""

    def __init__(self, tenant, device, document=None):
        self.tenant, self.device = tenant, device
        self.version = 0
        self.frame_ms = 250
        self.full_policy = None
        self.error = ""
        self._bindings = []
        if document is not None:
            self.take(document)

    def take(self, document):
        """Run a parsed document if it is newer and right; why it is not taken, "" when it is or is old."""
        self.error = why_not(document)
        if not self.error and document["version"] > self.version:
            self.version = document["version"]
            self.frame_ms = document.get("frame_ms", 250)
            self.full_policy = document.get("full_policy")
            self._bindings = [one for one in document.get("bindings", []) if one["device"] == self.device]
        return self.error

    def subject(self, utc_us):
        """`tenant/athlete` for whom the device counts at `utc_us` (None: undated), or "". The latest `from_us` wins."""
        best = None
        for one in self._bindings:
            begin, end = one.get("from_us"), one.get("to_us")
            if utc_us is None:
                inside = end is None
            else:
                inside = (begin is None or begin <= utc_us) and (end is None or utc_us < end)
            if inside and (best is None or (begin or 0) >= (best.get("from_us") or 0)):
                best = one
        return "" if best is None else "%s/%s" % (self.tenant, best["athlete"])
