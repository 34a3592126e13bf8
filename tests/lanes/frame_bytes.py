"""Makes frames with the kit's writer, on MicroPython and CPython; a line of hex for each line of standard input.

A line: module of the layout, flags, device, boot, seq, t0_us, offset or -, clock, subject or -, then a record per word: raw values joined by commas.
`frame_bytes.py heap` proves instead that samples allocate nothing, and prints what a frame allocates.
"""

import sys
from binascii import hexlify

from kit.frame import FrameWriter


def layout_of(name):
    return getattr(__import__("kit.layouts." + name).layouts, name)


def codes_of(layout):
    """Field codes in the order of the record (all constants but four are fields)."""
    names = [name for name in dir(layout) if name.upper() == name and name[0] != "_"]
    return sorted([getattr(layout, name) for name in names if name not in ("ID", "NAME", "SIZE", "ABSENT")])


def frame_of(words):
    layout = layout_of(words[0])
    writer = FrameWriter(layout, words[2], int(words[3]), "" if words[8] == "-" else words[8], words[1] == "1")
    codes = codes_of(layout)
    writer.open(int(words[5]))
    for word in words[9:]:
        values = [int(value) for value in word.split(",")]
        assert writer.start(values[0]), "full"
        for code, value in zip(codes[1:], values[1:]):
            if code & 7 == 7:
                writer.put_wide(code, value)
            elif value & 1 or code & 7 == 0:
                writer.put(code, value)
            else:
                writer.put_raw(code, value.to_bytes(8, "little") if value >= 0 else (value + (1 << 64)).to_bytes(8, "little"), 0)
    assert writer.misfits == 0
    return writer.close(int(words[4]), None if words[6] == "-" else int(words[6]), int(words[7]))


def heap():
    import gc

    import micropython
    from kit.layouts import machine_1, motion_1

    for layout in (motion_1, machine_1):
        writer = FrameWriter(layout, "watch-7", (1 << 63) + 5, "gym/ann")
        codes = codes_of(layout)[1:]
        writer.open(5_000_000)
        micropython.heap_lock()
        samples = 0
        while writer.start(samples * 40):
            for code in codes:
                writer.put(code, 1000 - samples)
            samples += 1
        micropython.heap_unlock()
        assert samples == writer.capacity
        gc.collect()
        before = gc.mem_alloc()
        writer.close(7, 1_700_000_000_000_000, 2)
        print(layout.NAME, samples, gc.mem_alloc() - before)


def main(lines):
    for line in lines:
        print(hexlify(frame_of(line.split())).decode())


if __name__ == "__main__":
    if sys.argv[1:] == ["heap"]:
        heap()
    else:
        main(sys.stdin)
