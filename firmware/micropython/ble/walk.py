"""The way from a fresh connection to notifications: services, their characteristics, the descriptors that switch them on. Pure: events in,
the next call out.

Events and their data are those of MicroPython's `bluetooth`, with 16-bit numbers for UUIDs (None: a longer one). One procedure is under way
at a time, as a link allows no more.
"""

SERVICE_RESULT, SERVICE_DONE = 9, 10
CHARACTERISTIC_RESULT, CHARACTERISTIC_DONE = 11, 12
DESCRIPTOR_RESULT, DESCRIPTOR_DONE = 13, 14
WRITE_DONE = 17
NOTIFY, INDICATE = 18, 19
_PROPERTY_NOTIFY, _PROPERTY_INDICATE = 0x10, 0x20
_SWITCH = 0x2902  # client characteristic configuration
_MAX_RESULTS = 32  # of each kind: a peer that names thousands fills no memory


class Walk:
    """`wanted` maps services to their characteristics `((uuid, profile), ...)`.

    `sources` maps value handles to profiles, of what was switched on. `failed` says why the walk ended without any.
    """

    def __init__(self, wanted):
        self.wanted = wanted
        self.sources = {}
        self.failed = ""
        self.live = False
        self._services = []  # (service, first handle, last)
        self._found = []  # (profile, value handle, last handle, properties)
        self._service = 0
        self._switch = None
        self._expects = None

    def next(self):
        """The next call as a tuple of name and arguments; None once it is over, one way or the other."""
        if self.failed or self.live:
            return None
        if self._expects is None:
            self._expects = SERVICE_DONE
            return ("services",)
        if self._services:
            service, first, last = self._services.pop(0)
            self._service = service
            self._expects = CHARACTERISTIC_DONE
            return ("characteristics", first, last)
        if self._switch is not None:
            handle, properties = self._switch
            self._switch = None
            self._expects = WRITE_DONE
            return ("write", handle, b"\x01\x00" if properties & _PROPERTY_NOTIFY else b"\x02\x00")
        if self._found:
            profile, value, last, properties = self._found[0]
            if last <= value:
                self._found.pop(0)
                return self.next()
            self._expects = DESCRIPTOR_DONE
            return ("descriptors", value + 1, last)
        self.live = bool(self.sources)
        if not self.live:
            self.failed = "no characteristic of it is known here"
        return None

    def take(self, event, data):
        """An event of this link (data without the connection's handle). True if the procedure under way is over: ask `next`."""
        if event == SERVICE_RESULT:
            first, last, service = data
            if service in self.wanted and len(self._services) < _MAX_RESULTS:
                self._services.append((service, first, last))
        elif event == CHARACTERISTIC_RESULT:
            end, value, properties, uuid = data
            profile = self._profile(self._service, uuid)
            if profile and properties & (_PROPERTY_NOTIFY | _PROPERTY_INDICATE) and len(self._found) < _MAX_RESULTS:
                self._found.append((profile, value, end, properties))
        elif event == DESCRIPTOR_RESULT:
            if data[1] == _SWITCH and self._found and self._switch is None:
                self._switch = (data[0], self._found[0][3])
        elif event == self._expects:
            return self._done(event, data[-1])
        return False

    def _done(self, event, status):
        if event == WRITE_DONE:
            profile, value, _, _ = self._found.pop(0)
            if not status:
                self.sources[value] = profile
        elif event == DESCRIPTOR_DONE and self._switch is None:
            self._found.pop(0)  # it has none: it cannot be switched on
        elif status:
            self.failed = "discovery ended with status %d" % status
        return True

    def _profile(self, service, uuid):
        for known, profile in self.wanted.get(service, ()):
            if known == uuid:
                return profile
        return None
