"""From the ring to MQTT: which rows go next, in bundles of the wire, until an ack frees them. No I/O of its own, and no waiting.

    outbox = Outbox(ring, send)              # send(view) -> whether the link took the message (kit.mqtt.Client.send)
    outbox.append(frame)                     # durable when it returns
    outbox.step(now_ms)                      # after an append, an ack, a change of the link, or when the time it returned has come

Rows that came since the link is up go before older ones. At most `window` rows are unacknowledged, half as many after each link that broke
before an answer. A row without an answer is sent again after `retry_ms`; when nothing at all is heard, one bundle per back-off is sent,
beginning with the oldest row owed. Acks free rows: stored, or refused for good, which `on_refused(first, last, reason)` shows to whoever
looks at the device. An ack never frees rows numbered after the last one sent, or after the last one that an earlier start may have sent.
"""

from binascii import crc32

from kit.acks import read_ack
from kit.ring import Cursor
from kit.ticks import ticks_add, ticks_diff

HEADER_BYTES = 20
MAX_ROWS = 255
IDLE_MS = 60000


class Outbox:
    """`random(limit)` gives an integer below `limit`, for the jitter of probes.

    Counts: `taken` and `lost` rows (a full ring took them not), `stored`, `refused` with `reasons`, `sent_rows`, `resent_rows`, `probes`,
    `bad_acks`.
    """

    def __init__(
        self, ring, send, random, window=32, bundle_bytes=2048, bundle_rows=32, retry_ms=3000, max_retry_ms=30000, on_refused=None
    ):
        if bundle_bytes < HEADER_BYTES + 2 + ring.max_record or not 1 <= bundle_rows <= min(MAX_ROWS, window):
            given = (bundle_bytes, bundle_rows)
            raise ValueError("bundle_bytes %d, bundle_rows %d: a row and its header must fit, rows 1 to the window" % given)
        self.ring = ring
        self.linked = False
        self.taken = self.lost = self.stored = self.refused = self.sent_rows = self.resent_rows = self.probes = self.bad_acks = 0
        self.reasons = {}
        self._send, self._random, self._on_refused = send, random, on_refused
        self._window, self._bundle_rows, self._retry_ms, self._max_retry_ms = window, bundle_rows, retry_ms, max_retry_ms
        self._buf = memoryview(bytearray(bundle_bytes))
        self._limit = window  # less after links that broke before any answer came: what one of them takes is not known
        self._sent_end = ring.next_n  # no row of this epoch from here on was ever sent
        self._flight = {}  # n -> when it was sent; rows sent on this link and not answered
        self._live, self._old, self._trial = Cursor(), Cursor(), Cursor()
        self._answered = False  # whether anything was heard on this link
        self._silent_ms = None  # when the first message without any answer since was sent
        self._backoff_ms = retry_ms
        self._probe_ms = None

    # -- in

    def append(self, frame):
        """Keep a frame durably; False when the ring is full, which is counted."""
        if self.ring.append(frame) < 0:
            self.lost += 1
            return False
        self.taken += 1
        return True

    def link(self, up, now_ms):
        """The link came (and acks are subscribed) or went: what was under way counts as unsent."""
        self.linked = up
        if self._flight and self._silent_ms is not None and not self._answered:
            self._limit = max(1, self._limit // 2)
        self._answered = False
        self.resent_rows += len(self._flight)
        self._flight.clear()
        self.ring.newest(self._live)
        self.ring.oldest(self._old)
        self._hear()

    def ack(self, payload):
        """A message on `ack`; how many rows it freed. Acks of other epochs and of rows long gone free nothing."""
        said = read_ack(payload)
        if said is None:
            self.bad_acks += 1
            return 0
        epoch, stored, refused = said
        freed = 0
        for first, last in stored:
            count = self._settle(epoch, first, last)
            self.stored += count
            freed += count
        for first, last, reason in refused:
            count = self._settle(epoch, first, last)
            freed += count
            self.refused += count
            if count:
                if reason in self.reasons or len(self.reasons) < 32:
                    self.reasons[reason] = self.reasons.get(reason, 0) + count
                if self._on_refused is not None:
                    self._on_refused(first, last, reason)
        return freed

    def _settle(self, epoch, first, last):
        if epoch == self.ring.epoch and last >= self._sent_end:
            last = self._sent_end - 1
            if first > last:
                return 0
        freed = self.ring.free(epoch, first, last)
        if freed or epoch == self.ring.epoch:
            self._hear()
            self._answered = True
            self._limit = min(self._window, 2 * self._limit)
            for n in [n for n in self._flight if first <= n <= last]:
                del self._flight[n]
        return freed

    def _hear(self):
        self._silent_ms = self._probe_ms = None
        self._backoff_ms = self._retry_ms

    # -- out

    def step(self, now_ms):
        """Send what is due, as far as the link takes it; in how many milliseconds to call again, if nothing else happens before."""
        if not self.linked or not self.ring.owed:
            return IDLE_MS
        if self._silent_ms is not None and ticks_diff(now_ms, self._silent_ms) >= self._retry_ms:
            return self._probe(now_ms)
        self._give_up_waiting(now_ms)
        while len(self._flight) < self._limit:
            if not self._bundle(self._live, now_ms) and not self._bundle(self._old, now_ms):
                break
        return self._wait_ms(now_ms)

    def _wait_ms(self, now_ms):
        if not self._flight:  # the link takes nothing, or a row was passed by: begin again from the oldest
            self.ring.oldest(self._old)
            return min(self._retry_ms, 1000)
        oldest = min([-ticks_diff(now_ms, at) for at in self._flight.values()])
        return max(1, oldest + self._retry_ms)

    def _give_up_waiting(self, now_ms):
        """Rows without an answer for `retry_ms` are found again from the oldest on."""
        late = [n for n, at in self._flight.items() if ticks_diff(now_ms, at) >= self._retry_ms]
        if late:
            for n in late:
                del self._flight[n]
            self.resent_rows += len(late)
            self.ring.oldest(self._old)

    def _probe(self, now_ms):
        if self._probe_ms is not None and ticks_diff(self._probe_ms, now_ms) > 0:
            return ticks_diff(self._probe_ms, now_ms)
        self.ring.oldest(self._old)
        again = len(self._flight)
        self._flight.clear()
        if self._bundle(self._old, now_ms):
            self.probes += 1
            self.resent_rows += again
            wait_ms = self._backoff_ms * (90 + self._random(21)) // 100
            self._probe_ms = ticks_add(now_ms, wait_ms)
            self._backoff_ms = min(2 * self._backoff_ms, self._max_retry_ms)
            return wait_ms
        return 1000

    def _bundle(self, cursor, now_ms):
        """Send one bundle of consecutive rows from the cursor on; how many, 0 when there are none or the link takes none."""
        ring, buf, trial = self.ring, self._buf, self._trial
        trial.goto(cursor)
        limit = min(self._bundle_rows, self._limit - len(self._flight))
        old = cursor is self._old
        rows, at, first, epoch = 0, HEADER_BYTES, 0, 0
        while rows < limit:
            size = ring.seek(trial)
            if not size or (old and self._is_live(trial)):
                break
            if trial.n in self._flight:
                if rows:
                    break
                ring.skip(trial)
                cursor.goto(trial)
                continue
            if rows and (trial.n != first + rows or trial.epoch != epoch):
                break
            n = trial.n
            size = ring.read(trial, buf, at + 2)
            if size <= 0:
                break
            if rows and trial.n != n:  # that row was damaged, and this is another one: it is looked for again
                ring.oldest(self._old)
                break
            if not rows:
                first, epoch = trial.n, trial.epoch
            buf[at] = size & 255
            buf[at + 1] = size >> 8
            at += 2 + size
            rows += 1
        if not rows or not self._send(self._finished(rows, first, epoch, at)):
            return 0
        for n in range(first, first + rows):
            self._flight[n] = now_ms
        cursor.goto(trial)
        if epoch == ring.epoch and first + rows > self._sent_end:
            self._sent_end = first + rows
        self.sent_rows += rows
        if self._silent_ms is None:
            self._silent_ms = now_ms
        return rows

    def _is_live(self, cursor):
        live = self._live
        return cursor.seq > live.seq or (cursor.seq == live.seq and cursor.index >= live.index)

    def _finished(self, rows, first, epoch, end):
        """The header of the wire in front of the rows."""
        buf = self._buf
        buf[0] = 0xB1
        buf[1] = rows
        buf[2:8] = first.to_bytes(6, "little")
        buf[8:16] = epoch.to_bytes(8, "little")
        buf[16:20] = crc32(buf[:16]).to_bytes(4, "little")
        return buf[:end]
