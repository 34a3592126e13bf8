"""Cuts a ring at every flash operation, on MicroPython and CPython: ring_cuts.py SECTORS SECTOR_BYTES RECORDS TEARS STEP DROP

Each record says its number and holds bytes drawn from it. At every STEP-th program or erase of the run, TEARS torn images are made of the flash as it was; each is
mounted, judged, written to with another cut under way, and judged again. Prints `operations=.. cuts=.. owed=.. amplification_permille=.. spread=..`, or raises.
"""

import sys
from binascii import crc32

from fakes.flash import Nor, PowerCut
from kit.ring import Cursor, Ring


def payload(tag, low, high):
    size = low + tag * 7919 % (high - low + 1)
    raw = bytearray(size)
    x = tag * 2654435761 & 0x7FFFFFFF
    for i in range(4, size):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
        raw[i] = x >> 16 & 255
    raw[:4] = tag.to_bytes(4, "little")
    return raw


class World:
    """A ring, and what must be in it: `owed` are the records appended and not freed, in order, as (epoch, n, tag)."""

    def __init__(self, nor, low, high, drop):
        self.nor = nor
        self.low, self.high, self.drop = low, high, drop
        self.owed = []
        self.tags = 0
        self.epochs = 0
        self.doomed = 0  # owed records in the sector that is erased next
        self.ring = None
        self.seen = {}  # (epoch, n) -> tag, of every record ever committed
        self.pending = None  # what the operation under way would change: ("append", tag) or ("free", record)

    def new_epoch(self):
        self.epochs += 1
        return (1 << 63) + self.epochs + len(self.seen) * 1000

    def mount(self):
        self.ring = Ring(self.nor, self.new_epoch, self.drop, self.high)

    def append(self):
        tag = self.tags
        self.tags += 1
        raw = payload(tag, self.low, self.high)
        self.pending = ("append", tag)
        n = self.ring.append(raw)
        self.pending = None
        if n >= 0:
            self.note((self.ring.epoch, n, tag))
            if self.drop:
                self.owed = self.owed[len(self.owed) - self.ring.owed :]
        return n

    def note(self, record):
        assert record[:2] not in self.seen, "%r: number used twice" % (record,)
        self.seen[record[:2]] = record[2]
        self.owed.append(record)

    def free(self, at):
        record = self.owed[at]
        self.pending = ("free", record)
        assert self.ring.free(record[0], record[1], record[1]) == 1
        self.pending = None
        self.owed.remove(record)

    def contents(self):
        cursor = Cursor()
        self.ring.oldest(cursor)
        buf = bytearray(self.high)
        found = []
        while True:
            size = self.ring.read(cursor, buf)
            assert size >= 0
            if size == 0:
                return found
            tag = int.from_bytes(bytes(buf[:4]), "little")
            assert bytes(buf[:size]) == bytes(payload(tag, self.low, self.high)), "record %d is damaged" % tag
            found.append((cursor.epoch, cursor.n, tag))

    def judge(self):
        """Everything owed is there, in order, and nothing else but what the cut operation was about to do."""
        found = self.contents()
        pending, self.pending = self.pending, None
        if pending and pending[0] == "append" and found and found[-1][2] == pending[1]:
            self.note(found[-1])
        if pending and pending[0] == "free" and pending[1] not in found:
            self.owed.remove(pending[1])
        if self.drop:  # of the sector that was about to be erased any may be gone
            kept = self.owed[self.doomed :]
            assert found[len(found) - len(kept) :] == kept, "lost of the newer ones"
            assert all([record in self.owed for record in found]), "phantom"
            self.owed = found
        assert found == self.owed, "lost %r, phantom %r" % (
            [r for r in self.owed if r not in found][:3],
            [r for r in found if r not in self.owed][:3],
        )
        assert self.ring.owed == len(found) and (self.drop or self.ring.damaged == 0)


def play(world, step):
    """One step of the run: appends, with frees in and out of order behind them."""
    if world.append() < 0:
        for _ in range(min(len(world.owed), 1 + step % 5)):
            world.free(0)
    elif step % 3 == 0 and not world.drop and len(world.owed) > 4:
        world.free(step % 3)
        world.free(0)
    elif step % 29 == 0 and not world.drop:
        while world.owed:
            world.free(0)


def copy(world, image, tears):
    """The world as it was, on an image torn by the next operation."""
    nor = Nor(world.nor.sectors, world.nor.sector_bytes, None, tears + 1)
    nor.image[:] = image
    nor.erases = list(world.nor.erases)
    twin = World(nor, world.low, world.high, world.drop)
    twin.owed, twin.tags, twin.epochs, twin.seen = list(world.owed), world.tags, world.epochs, dict(world.seen)
    return twin


def even(erases, torn):
    """Whether wear differs by one at most. A torn erase counts or not: it may have done nearly all, so that the sector was used, or nearly nothing."""
    for block, count in enumerate(torn):
        if count:
            torn[block] = 0
            counted = list(erases)
            counted[block] += count
            return even(erases, list(torn)) or even(counted, list(torn))
    return max(erases) - min(erases) <= 1


class Watched:
    """The flash of the running world: before each operation it tears copies of itself and judges them."""

    def __init__(self, nor, tears, every):
        self.nor, self.tears, self.every = nor, tears, every
        self.world = None
        self.cuts = 0

    def readblocks(self, block, buf, offset=0):
        self.nor.readblocks(block, buf, offset)

    def writeblocks(self, block, buf, offset=0):
        self.tear(lambda nor: nor.writeblocks(block, buf, offset))
        self.nor.writeblocks(block, buf, offset)

    def ioctl(self, op, arg):
        if op == 6:
            self.tear(lambda nor: nor.ioctl(op, arg))
        return self.nor.ioctl(op, arg)

    def tear(self, operation):
        if self.nor.operations % self.every:
            return
        for tear in range(self.tears):
            twin = copy(self.world, self.nor.image, tear + self.nor.operations * 31)
            twin.pending = self.world.pending
            twin.doomed = len(twin.owed) - self.world.ring.owed  # given up in memory, perhaps not yet on the flash
            twin.nor.cut_at = 1
            try:
                operation(twin.nor)
                raise AssertionError("no cut")
            except PowerCut:
                pass
            twin.nor.power_up()
            twin.mount()
            twin.judge()
            twin.nor.cut_at = 1 + self.nor.operations % 4  # and again while it recovers
            try:
                for _ in range(3):
                    twin.doomed = len(twin.owed) - twin.ring.owed
                    twin.append()
                if twin.owed and not twin.drop:
                    twin.free(0)
            except PowerCut:
                twin.doomed = len(twin.owed) - twin.ring.owed
            twin.nor.power_up()
            twin.mount()
            twin.judge()
            for _ in range(2):
                twin.append()
            twin.mount()
            twin.judge()
            assert even(list(twin.nor.erases), list(twin.nor.torn_erases)), "wear %r, torn %r" % (twin.nor.erases, twin.nor.torn_erases)
            self.cuts += 1


def main(sectors, sector_bytes, records, tears, every, drop):
    nor = Nor(sectors, sector_bytes)
    low, high = 12, min(220, sector_bytes // 3)
    world = World(nor, low, high, bool(drop))
    watched = Watched(nor, tears, every)
    watched.world = world
    world.nor = nor
    world.ring = Ring(watched, world.new_epoch, bool(drop), high)
    step = 0
    while len(world.seen) < records:
        step += 1
        play(world, step)
    world.judge()
    payload_bytes = sum([len(payload(tag, low, high)) for tag in world.seen.values()])
    spread = max(nor.erases) - min(nor.erases)
    laps = min(nor.erases)
    print(
        "operations=%d cuts=%d owed=%d amplification_permille=%d spread=%d laps=%d image_crc=%d"
        % (
            nor.operations,
            watched.cuts,
            len(world.owed),
            nor.programmed_bytes * 1000 // payload_bytes,
            spread,
            laps,
            crc32(nor.image) & 0xFFFFFFFF,
        )
    )


main(*[int(word) for word in sys.argv[1:]])
