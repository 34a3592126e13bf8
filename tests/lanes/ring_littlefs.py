"""The ring in files on littlefs on NOR flash, MicroPython only: ring_littlefs.py STEP. Power is cut at every STEP-th flash operation; prints `cuts=.. operations=..`.

What was flushed and not freed before the cut must be there after it, whole and in order; what was under way may be.
"""

import gc
import sys

import vfs
from fakes.flash import Nor, PowerCut
from kit.ring_files import Cursor, FileRing

RECORDS, BATCH = 60, 8


def payload(tag):
    return b"%04d" % tag + bytes(40 + tag % 60)


def contents(ring):
    cursor, buf, found = Cursor(), bytearray(200), []
    ring.oldest(cursor)
    while True:
        size = ring.read(cursor, buf)
        if not size:
            return found
        tag = int(bytes(buf[:4]))
        assert bytes(buf[:size]) == payload(tag)
        found.append(tag)


def scenario(nor, told):
    """Append, flush by batches, free from the front; `told` hears what is durable and what is being freed."""
    vfs.mount(vfs.VfsLfs2(nor), "/flash")
    ring = FileRing("/flash/ring", lambda: 7, False, 200, 16, BATCH)
    for tag in range(RECORDS):
        ring.append(payload(tag))
        told["durable"] = tag + 1 - (tag + 1) % BATCH
        if tag % 20 == 19:
            told["freeing"] = tag - 12
            ring.free(7, 0, tag - 13)
            told["freed"] = tag - 12


def unmount():
    try:
        vfs.umount("/flash")
    except OSError:
        pass
    gc.collect()


def cut_at(operation, image):
    nor = Nor(32, 4096, None, operation)
    nor.image[:] = image
    nor.cut_at = operation
    told = {"durable": 0, "freeing": 0, "freed": 0}
    try:
        scenario(nor, told)
        nor.cut_at = 0
    except (PowerCut, OSError):
        pass
    unmount()
    nor.power_up()
    vfs.mount(vfs.VfsLfs2(nor), "/flash")
    ring = FileRing("/flash/ring", lambda: 8, False, 200, 16, BATCH)
    found = contents(ring)
    low = told["freeing"]
    wanted = list(range(low, told["durable"]))
    assert [tag for tag in found if low <= tag < told["durable"]] == wanted, (operation, told, found)
    assert found == sorted(set(found)) and (not found or found[-1] < RECORDS)
    ring.append(payload(999))
    ring.flush()
    assert contents(FileRing("/flash/ring", lambda: 9, False, 200, 16, BATCH))[-1] == 999
    unmount()


blank = Nor(32, 4096)
vfs.VfsLfs2.mkfs(blank)
made = bytes(blank.image)
whole = Nor(32, 4096)
whole.image[:] = made
scenario(whole, {})
unmount()
cuts = 0
for operation in range(1, whole.operations + 1, int(sys.argv[1])):
    cut_at(operation, made)
    cuts += 1
print(
    "cuts=%d operations=%d amplification_permille=%d"
    % (cuts, whole.operations, whole.programmed_bytes * 1000 // sum([len(payload(tag)) for tag in range(RECORDS)]))
)
