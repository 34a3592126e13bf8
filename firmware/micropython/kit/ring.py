"""Records on a raw flash partition: durable when `append` returns, kept until freed, whatever is cut.

A sector: its header (magic, seq, first n, epoch, CRC), then records. A record: length u16, CRC u32, mark u8, payload; the payload is
programmed first, then length and CRC as the commit; freeing clears the mark. Sectors are used and erased in a circle, so wear differs by
one erase at most. Rules of NOR flash: programming only clears bits, erasing sets a whole sector, either may be torn anywhere. What `mount`
finds torn it closes: nothing is ever programmed behind bytes that are not blank, and a number that may have been used is not used again.
`device` is a block device with offsets (`esp32.Partition`): readblocks(block, buf, offset), writeblocks(block, buf, offset) that does not
erase, ioctl(4 sectors, 5 bytes a sector, 6 erase).
"""

import struct
from array import array
from binascii import crc32

_MAGIC = 0x5250
_HEADER = "<HHIQQ"  # magic, version, seq, first n, epoch; then CRC-32
_HEADER_BYTES = 28
_SLOTS = 4  # headers torn before a sector must be erased again
_RECORD_BYTES = 7
_MARK_AT = 6
_MAX_N = 0xFFFFFF00  # 4 billion records, 30 years at 4 a second: then it is full
_BLANK = b"\xff" * 64
_DONE = b"\x00"


class Cursor:
    """A place in the ring. After `read`: `epoch` and `n` of the record read."""

    def __init__(self):
        self.seq = 0
        self.index = 0
        self.at = 0
        self.epoch = 0
        self.n = 0

    def goto(self, other):
        """The same place as `other`."""
        self.seq, self.index, self.at = other.seq, other.index, other.at


class Ring:
    """`new_epoch()` gives 64 random bits.

    When full, new records are rejected, or with `drop_oldest` (it may be changed) a sector of old ones is dropped; both are counted.
    """

    def __init__(self, device, new_epoch, drop_oldest=False, max_record=1024):
        self._dev = device
        self._new_epoch = new_epoch
        self.drop_oldest = drop_oldest
        self.sectors = device.ioctl(4, 0)
        self.sector_bytes = device.ioctl(5, 0)
        self.max_record = min(max_record, self.sector_bytes - _SLOTS * _HEADER_BYTES - _RECORD_BYTES)
        if self.sectors < 2 or self.max_record < 1:
            raise ValueError("partition of %d sectors of %d bytes: at least 2 that hold a record" % (self.sectors, self.sector_bytes))
        self.owed = 0  # records not freed
        self.rejected = 0  # appends refused because it was full
        self.dropped = 0  # records given up for newer ones
        self.damaged = 0  # committed records that no longer read well
        self._head = bytearray(_HEADER_BYTES)
        self._rec = bytearray(_RECORD_BYTES)
        self._commit = memoryview(self._rec)[:_MARK_AT]
        self._chunk = bytearray(len(_BLANK))
        self._seq = array("I", bytes(4 * self.sectors))  # 0: no valid header
        self._first = array("I", bytes(4 * self.sectors))
        self._count = array("H", bytes(2 * self.sectors))
        self._left = array("H", bytes(2 * self.sectors))  # records not freed, by sector
        self._start = array("H", bytes(2 * self.sectors))  # where records begin
        self._epochs = [0] * self.sectors
        self._walk = Cursor()  # where the last `free` stood
        self._tail = 1  # no sector before this one holds anything that is owed
        self._mount()

    # -- writing

    @property
    def next_n(self):
        """The number that the next record gets."""
        return self._n

    @property
    def epoch(self):
        """The epoch that the next record belongs to."""
        return self._epoch

    def append(self, payload):
        """Store a record durably; its n, or -1 when the ring is full. OSError when the flash fails; then it is not stored."""
        size = len(payload)
        if not 0 < size <= self.max_record:
            raise ValueError("record of %d bytes: 1 to %d" % (size, self.max_record))
        if self._at + _RECORD_BYTES + size > self.sector_bytes and not self._next_sector():
            self.rejected += 1
            return -1
        k, at, n = self._k, self._at, self._n
        rec = self._rec
        struct.pack_into("<H", rec, 0, size)
        struct.pack_into("<I", rec, 2, self._crc(payload, n, size))
        self._at = self.sector_bytes  # closed, should one of the two writes fail
        self._n = n + 1
        self._dev.writeblocks(k, payload, at + _RECORD_BYTES)
        self._dev.writeblocks(k, self._commit, at)
        self._at = at + _RECORD_BYTES + size
        self._count[k] += 1
        self._left[k] += 1
        self.owed += 1
        return n

    def flush(self):
        """Nothing: a record is durable when `append` returns. Rings in files have something to do here."""

    def _crc(self, payload, n, size):
        return crc32(payload, n ^ size << 16)

    def _next_sector(self):
        """Open the sector after the head; False when it still holds records that must be kept."""
        k = (self._k + 1) % self.sectors
        if self._n >= _MAX_N:
            return False
        if self._left[k]:
            if not self.drop_oldest:
                return False
            self.dropped += self._left[k]
            self.owed -= self._left[k]
        slot = -1 if self._seq[k] else self._blank_slot(k)
        self._seq[k] = self._count[k] = self._left[k] = 0
        if slot < 0:
            self._dev.ioctl(6, k)
            slot = 0
        head = self._head
        struct.pack_into(_HEADER, head, 0, _MAGIC, 1, self._last + 1, self._n, self._epoch)
        struct.pack_into("<I", head, 24, crc32(memoryview(head)[:24]))
        self._dev.writeblocks(k, head, slot * _HEADER_BYTES)
        self._last += 1
        self._seq[k], self._first[k], self._epochs[k] = self._last, self._n, self._epoch
        self._start[k] = self._at = (slot + 1) * _HEADER_BYTES
        self._k = k
        return True

    # -- reading

    def oldest(self, cursor):
        """Put the cursor before the oldest record."""
        self._tail = max(1, self._tail, self._last - self.sectors + 1)
        while self._tail < self._last and not self._left[self._sector(self._tail)]:
            self._tail += 1
        cursor.seq, cursor.index, cursor.at = self._tail, 0, 0

    def newest(self, cursor):
        """Put the cursor behind the newest record."""
        cursor.seq, cursor.index, cursor.at = self._last, self._count[self._k] if self._last else 0, self._at

    def seek(self, cursor):
        """Move the cursor to the next record that is owed, itself included, and set its `epoch` and `n`; the record's length, 0 when there
        is none.
        """
        while cursor.seq <= self._last:
            k = self._sector(cursor.seq)
            gone = self._last - cursor.seq >= self.sectors or self._seq[k] != cursor.seq
            if gone or cursor.index >= self._count[k] or not self._left[k]:
                if cursor.seq == self._last and (cursor.index >= self._count[k] or self._at < self.sector_bytes):
                    return 0
                cursor.seq, cursor.index, cursor.at = cursor.seq + 1, 0, 0
                continue
            size, owed = self._record(k, cursor)
            if owed:
                cursor.n, cursor.epoch = self._first[k] + cursor.index, self._epochs[k]
                return size
            cursor.index += 1
            cursor.at += _RECORD_BYTES + size
        return 0

    def skip(self, cursor):
        """Move the cursor behind the record that `seek` found."""
        size, _ = self._record(self._sector(cursor.seq), cursor)
        cursor.index += 1
        cursor.at += _RECORD_BYTES + size

    def read(self, cursor, buf, at=0):
        """The next record that is owed, into `buf[at:]`; its length, 0 when there is none, -1 when it does not fit.

        Moves the cursor behind it.
        """
        while True:
            size = self.seek(cursor)
            if size == 0:
                return 0
            if at + size > len(buf):
                return -1
            k = self._sector(cursor.seq)
            view = memoryview(buf)[at : at + size]
            self._dev.readblocks(k, view, cursor.at + _RECORD_BYTES)
            sound = self._crc(view, cursor.n, size) == struct.unpack_from("<I", self._rec, 2)[0]
            if not sound:
                self.damaged += 1
                self._mark(k, cursor.at)
            cursor.index += 1
            cursor.at += _RECORD_BYTES + size
            if sound:
                return size

    def _sector(self, seq):
        """Where the sector with this seq lies, if it is there."""
        return (self._k + seq - self._last) % self.sectors

    def _record(self, k, cursor):
        """(payload bytes, owed) of the record at the cursor, which must be one."""
        if cursor.at == 0:
            cursor.at = self._start[k]
        self._dev.readblocks(k, self._rec, cursor.at)
        return self._rec[0] | self._rec[1] << 8, self._rec[_MARK_AT] == 0xFF

    # -- freeing

    def free(self, epoch, first, last):
        """Free the records `first..last` of `epoch`; how many of them were still owed."""
        low, high = max(1, self._last - self.sectors + 1), self._last
        while self._gapless and low < high:  # numbers only grow from sector to sector: the first one that may hold `first`
            middle = (low + high) // 2
            k = self._sector(middle)
            if self._seq[k] == middle and self._first[k] + self._count[k] > first:
                high = middle
            else:
                low = middle + 1
        freed = 0
        while low <= self._last:
            k = self._sector(low)
            if self._seq[k] == low:
                begin, count = self._first[k], self._count[k]
                if begin > last:
                    break
                if self._left[k] and self._epochs[k] == epoch and first < begin + count:
                    freed += self._free_in(k, low, max(first - begin, 0), min(last - begin, count - 1))
            low += 1
        return freed

    def _free_in(self, k, seq, low, high):
        walk = self._walk
        if walk.seq != seq or walk.index > low:
            walk.seq, walk.index, walk.at = seq, 0, 0
        freed = 0
        while walk.index <= high:
            size, owed = self._record(k, walk)
            if owed and walk.index >= low:
                self._mark(k, walk.at)
                freed += 1
            walk.index += 1
            walk.at += _RECORD_BYTES + size
        return freed

    def _mark(self, k, at):
        self._dev.writeblocks(k, _DONE, at + _MARK_AT)
        self._left[k] -= 1
        self.owed -= 1

    # -- mounting

    def _mount(self):
        self._k, self._last, self._n, self._at = self.sectors - 1, 0, 0, self.sector_bytes
        for k in range(self.sectors):
            self._read_header(k)
            if self._seq[k] > self._last:
                self._k, self._last = k, self._seq[k]
        for k in range(self.sectors):
            back = (self._k - k) % self.sectors
            if self._seq[k] and self._seq[k] == self._last - back:
                self._scan(k)
            else:
                self._seq[k] = 0
        seqs = [self._seq[self._sector(seq)] for seq in range(max(1, self._last - self.sectors + 1), self._last + 1)]
        while seqs and not seqs[0]:  # the oldest one may be torn
            seqs.pop(0)
        self._gapless = all(seqs)
        after = (self._k + 1) % self.sectors
        if self._last and (self._seq[after] or self._blank_slot(after) >= 0):
            self._epoch = self._epochs[self._k]
        else:  # empty, or the newest sector may be what cannot be read: its numbers must not be used again
            self._epoch = self._new_epoch()
            self._at = self.sector_bytes

    def _read_header(self, k):
        head = self._head
        self._seq[k] = 0
        for slot in range(_SLOTS):
            self._dev.readblocks(k, head, slot * _HEADER_BYTES)
            magic, version, seq, first, epoch = struct.unpack_from(_HEADER, head)
            if magic == _MAGIC and version == 1 and crc32(memoryview(head)[:24]) == struct.unpack_from("<I", head, 24)[0]:
                self._seq[k], self._first[k], self._start[k] = seq, first, (slot + 1) * _HEADER_BYTES
                self._epochs[k] = self._epochs[k - 1] if self._epochs[k - 1] == epoch else epoch
                return

    def _scan(self, k):
        """Count the records of a sector; for the head also find where to go on, or close it."""
        if k != self._k and self._scan_fast(k):
            return
        at, n, left = self._start[k], self._first[k], 0
        torn = False
        while at + _RECORD_BYTES < self.sector_bytes:
            size = self._sound(k, at, n)
            if size == 0:
                torn = not self._is_blank(k, at)
                break
            if size < 0:
                size = -size
                behind = at + _RECORD_BYTES + size
                if self._sound(k, behind, n + 1) <= 0:
                    torn = True
                    break
                self.damaged += 1
                self._dev.readblocks(k, self._rec, at)
                if self._rec[_MARK_AT] == 0xFF:
                    self._dev.writeblocks(k, _DONE, at + _MARK_AT)
            elif self._rec[_MARK_AT] == 0xFF:
                left += 1
            at += _RECORD_BYTES + size
            n += 1
        self._count[k], self._left[k] = n - self._first[k], left
        self.owed += left
        if k == self._k:
            self._at = self.sector_bytes if torn else at
            self._n = n + 1 if torn else n

    def _scan_fast(self, k):
        """Walk a sector by lengths and check the last record only: its CRC holds its number, so it proves the walk. False: look closer."""
        at, count, left, before = self._start[k], 0, 0, 0
        rec = self._rec
        while at + _RECORD_BYTES < self.sector_bytes:
            self._dev.readblocks(k, rec, at)
            size = rec[0] | rec[1] << 8
            if size == 0xFFFF:
                break
            if not 0 < size <= self.max_record or at + _RECORD_BYTES + size > self.sector_bytes:
                return False
            before = at
            at += _RECORD_BYTES + size
            count += 1
            left += rec[_MARK_AT] == 0xFF
        if not count or self._sound(k, before, self._first[k] + count - 1) <= 0:
            return False
        self._count[k], self._left[k] = count, left
        self.owed += left
        return True

    def _sound(self, k, at, n):
        """The payload bytes of a committed record there; 0 when there is none, negative when there seems to be one but its CRC differs."""
        if at + _RECORD_BYTES > self.sector_bytes:
            return 0
        rec = self._rec
        self._dev.readblocks(k, rec, at)
        size = rec[0] | rec[1] << 8
        if size == 0xFFFF or size == 0 or at + _RECORD_BYTES + size > self.sector_bytes or size > self.max_record:
            return 0
        crc = n ^ size << 16
        place, end = at + _RECORD_BYTES, at + _RECORD_BYTES + size
        while place < end:
            view = self._chunk if end - place >= len(_BLANK) else memoryview(self._chunk)[: end - place]
            self._dev.readblocks(k, view, place)
            crc = crc32(view, crc)
            place += len(view)
        return size if crc == struct.unpack_from("<I", rec, 2)[0] else -size

    def _is_blank(self, k, at):
        while at < self.sector_bytes:
            size = min(len(_BLANK), self.sector_bytes - at)
            view = self._chunk if size == len(_BLANK) else memoryview(self._chunk)[:size]
            self._dev.readblocks(k, view, at)
            if view != (_BLANK if size == len(_BLANK) else _BLANK[:size]):
                return False
            at += size
        return True

    def _blank_slot(self, k):
        """The first header slot with nothing but blank bytes from there on, or -1."""
        for slot in range(_SLOTS):
            if self._is_blank(k, slot * _HEADER_BYTES):
                return slot
        return -1
