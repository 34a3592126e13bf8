"""The ring for boards without a spare partition: segments of records in files of a folder (littlefs, FAT). The interface of
`kit.ring.Ring`.

    ring = FileRing("/ring", new_epoch)

A file is written once, when `batch` records are together or at `flush`: a file system pays for each small write with whole blocks. So the
newest records, `batch` - 1 at most, live in memory only and are lost with the power: call `flush` before a sleep and when the cell is low.
Freed records are remembered by whole segments: after a start some are sent again, which does no harm. Each start begins a new epoch, for
its numbers may have been used before. A file that is not whole (its CRC is missing) is not there.
"""

import os
import struct
from binascii import crc32

from kit.ring import Cursor

__all__ = ("Cursor", "FileRing")

_HEAD = "<4sIIQB"  # magic, number of the segment, first n, epoch, records; then each: length u16, payload; at the end CRC-32 of all
_HEAD_BYTES = 21
_NAME = "%08x.seg"


class _Segment:
    def __init__(self, seq, first, epoch, sizes):
        self.seq, self.first, self.epoch, self.sizes = seq, first, epoch, sizes
        self.left = len(sizes)
        self.freed = bytearray((len(sizes) + 7) // 8)

    def owed(self, index):
        return not self.freed[index >> 3] >> (index & 7) & 1

    def free(self, index):
        self.freed[index >> 3] |= 1 << (index & 7)
        self.left -= 1


class FileRing:
    """At most `segments` files. When full, new records are rejected, or with `drop_oldest` a segment of old ones is dropped; both are
    counted.
    """

    def __init__(self, folder, new_epoch, drop_oldest=False, max_record=1024, segments=64, batch=16):
        if segments < 2 or not 1 <= batch <= 255:
            raise ValueError("segments %d, batch %d: at least 2 segments, batches of 1 to 255" % (segments, batch))
        self._folder = folder
        self.drop_oldest, self._most, self._batch = drop_oldest, segments, batch
        self.max_record = max_record
        self.owed = self.rejected = self.dropped = self.damaged = 0
        self.epoch = new_epoch()
        self.next_n = 0
        self._kept = []  # whole segments, oldest first
        self._open = []  # records in memory
        try:
            os.mkdir(folder)
        except OSError:
            pass
        for name in sorted(os.listdir(folder)):
            if name.endswith(".seg"):
                segment = self._read(name)
                if segment is not None:
                    self._kept.append(segment)
                    self.owed += segment.left
        self._seq = self._kept[-1].seq + 1 if self._kept else 1
        self._begin()

    def append(self, payload):
        """Take a record; its n, or -1 when the ring is full. It is durable once its segment is (`flush`)."""
        if not 0 < len(payload) <= self.max_record:
            raise ValueError("record of %d bytes: 1 to %d" % (len(payload), self.max_record))
        if not self._open and len(self._kept) >= self._most and not self._make_room():
            self.rejected += 1
            return -1
        self._open.append(bytes(payload))
        self._now.sizes.append(len(payload))
        if len(self._now.sizes) > 8 * len(self._now.freed):
            self._now.freed.append(0)
        self._now.left += 1
        self.owed += 1
        self.next_n += 1
        if len(self._open) >= self._batch:
            self.flush()
        return self.next_n - 1

    def flush(self):
        """Make what is in memory durable. OSError when the file system fails; the records stay in memory then."""
        if not self._open:
            return
        now = self._now
        if now.left:
            parts = [struct.pack(_HEAD, b"PLS1", now.seq, now.first, now.epoch, len(self._open))]
            for payload in self._open:
                parts += [struct.pack("<H", len(payload)), payload]
            crc = 0
            file = open(self._path(now.seq), "wb")
            try:
                for part in parts:
                    crc = crc32(part, crc)
                    file.write(part)
                file.write(struct.pack("<I", crc))
            finally:
                file.close()
            self._kept.append(now)
        self._open = []
        self._seq += 1
        self._begin()

    def oldest(self, cursor):
        """Put the cursor before the oldest record."""
        cursor.seq, cursor.index, cursor.at = 0, 0, 0

    def newest(self, cursor):
        """Put the cursor behind the newest record."""
        cursor.seq, cursor.index, cursor.at = self._seq, len(self._open), 0

    def seek(self, cursor):
        """As `Ring.seek`."""
        for segment in self._kept + [self._now]:
            if segment.seq < cursor.seq or not segment.left:
                continue
            if segment.seq > cursor.seq:
                cursor.seq, cursor.index, cursor.at = segment.seq, 0, 0
            while cursor.index < len(segment.sizes):
                if segment.owed(cursor.index):
                    cursor.n, cursor.epoch = segment.first + cursor.index, segment.epoch
                    return segment.sizes[cursor.index]
                cursor.index += 1
        return 0

    def skip(self, cursor):
        """As `Ring.skip`."""
        cursor.index += 1

    def read(self, cursor, buf, at=0):
        """As `Ring.read`."""
        while True:
            size = self.seek(cursor)
            if size == 0:
                return 0
            if at + size > len(buf):
                return -1
            view = memoryview(buf)[at : at + size]
            if cursor.seq == self._seq:
                view[:] = self._open[cursor.index]
            elif not self._load(cursor, view):
                segment = self._segment(cursor.seq)
                segment.free(cursor.index)
                self.owed -= 1
                self.damaged += 1
                cursor.index += 1
                continue
            cursor.index += 1
            return size

    def free(self, epoch, first, last):
        """As `Ring.free`. A segment without records that are owed is removed."""
        freed = 0
        for segment in self._kept + [self._now]:
            if segment.epoch != epoch or not segment.left:
                continue
            for index in range(max(first - segment.first, 0), min(last - segment.first + 1, len(segment.sizes))):
                if segment.owed(index):
                    segment.free(index)
                    freed += 1
        self.owed -= freed
        for segment in [one for one in self._kept if not one.left]:
            self._remove(segment)
        return freed

    def _begin(self):
        self._now = _Segment(self._seq, self.next_n, self.epoch, [])

    def _make_room(self):
        if not self.drop_oldest:
            return False
        oldest = self._kept[0]
        self.dropped += oldest.left
        self.owed -= oldest.left
        self._remove(oldest)
        return True

    def _remove(self, segment):
        self._kept.remove(segment)
        try:
            os.remove(self._path(segment.seq))
        except OSError:  # it is gone already
            pass

    def _segment(self, seq):
        return [one for one in self._kept if one.seq == seq][0]

    def _path(self, seq):
        return self._folder + "/" + _NAME % seq

    def _load(self, cursor, view):
        segment = self._segment(cursor.seq)
        at = _HEAD_BYTES
        for size in segment.sizes[: cursor.index]:
            at += 2 + size
        try:
            with open(self._path(cursor.seq), "rb") as file:
                file.seek(at + 2)
                return file.readinto(view) == len(view)
        except OSError:
            return False

    def _read(self, name):
        """A segment from its file, or None when it is not whole; that file is removed."""
        path = self._folder + "/" + name
        with open(path, "rb") as file:
            segment = self._parse(file)
        if segment is None:
            os.remove(path)
        return segment

    def _parse(self, file):
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or head[:4] != b"PLS1":
            return None
        _, seq, first, epoch, count = struct.unpack(_HEAD, head)
        crc, sizes = crc32(head), []
        for _ in range(count):
            word = file.read(2)
            size = word[0] | word[1] << 8 if len(word) == 2 else 0
            payload = file.read(size) if 0 < size <= self.max_record else b""
            if not payload:
                return None
            crc = crc32(payload, crc32(word, crc))
            sizes.append(size)
        whole = sizes and file.read(5) == struct.pack("<I", crc & 0xFFFFFFFF)
        return _Segment(seq, first, epoch, sizes) if whole else None
