"""Bytes of receivers into lines, frames and numbers, as bytecode. `scan_viper.py` is the same text compiled to machine code: a test holds that only
the heads differ. Nothing here raises, and each call looks at a byte 101 times at most. `state` is two numbers: bytes held, and 1 when a whole is held.
"""


def gather(line, state, source, start, end, room):
    """Copy a sentence from its $ on, up to the end of the line; the place after what was used."""
    length = state[0]
    whole = 0
    while start < end and not whole:
        byte = source[start]
        start += 1
        if byte == 36:
            line[0] = 36
            length = 1
        elif length:
            if byte == 10 or byte == 13:
                whole = 1
            elif byte < 32 or byte > 126 or length == room:
                length = 0
            else:
                line[length] = byte
                length += 1
    state[0] = length
    state[1] = whole
    return start


def digit(byte):
    """The value of a hexadecimal digit; 99 for none."""
    if 48 <= byte <= 57:
        return byte - 48
    if 65 <= byte <= 70:
        return byte - 55
    if 97 <= byte <= 102:
        return byte - 87
    return 99


def split(line, length, starts, room):
    """Check `$...*hh` and say where its fields start (one more than there are); how many there are, 0 when the checksum is wrong."""
    if length < 9 or line[length - 3] != 42:
        return 0
    end = length - 3
    check = 0
    count = 1
    starts[0] = 1
    i = 1
    while i < end:
        byte = line[i]
        i += 1
        check ^= byte
        if byte == 44 and count < room:
            starts[count] = i
            count += 1
    starts[count] = end + 1
    high = int(digit(line[end + 1]))
    low = int(digit(line[end + 2]))
    return count if high * 16 + low == check else 0


def number(line, start, end, decimals):
    """Digits with at most one point, as an integer of so many decimals; -1 for anything else. Whole parts go to a million."""
    value = 0
    seen = 0
    after = 0 - 1
    while start < end:
        byte = line[start]
        start += 1
        if byte == 46:
            if after >= 0:
                return 0 - 1
            after = 0
        elif byte < 48 or byte > 57:
            return 0 - 1
        elif after < 0:
            value = value * 10 + byte - 48
            seen = 1
            if value > 1000000:
                return 0 - 1
        elif after < decimals:
            value = value * 10 + byte - 48
            after += 1
            seen = 1
    if not seen:
        return 0 - 1
    if after < 0:
        after = 0
    while after < decimals:
        value *= 10
        after += 1
    return value


def place(target, at, degrees, part, negative):
    """Store degrees and their part in 1e-7 as four bytes, little-endian."""
    value = degrees * 10000000 + part
    if negative:
        value = 0 - value
    target[at] = value & 255
    target[at + 1] = (value >> 8) & 255
    target[at + 2] = (value >> 16) & 255
    target[at + 3] = (value >> 24) & 255
    return 1


def take(frame, state, source, start, end, room):
    """Collect a UBX frame whose checksum is right, of `room` bytes at most; the place after what was used. What is none is searched for the next."""
    have = state[0]
    state[1] = 0
    while 1:
        length = 8
        bad = 0
        if have > 5:
            length = 8 + frame[4] + (frame[5] << 8)
        if have > 0 and frame[0] != 181:
            bad = 1
        elif have > 1 and frame[1] != 98:
            bad = 1
        elif length > room:
            bad = 1
        elif have == length:
            a = 0
            b = 0
            i = 2
            while i < length - 2:
                a = (a + frame[i]) & 255
                b = (b + a) & 255
                i += 1
            if frame[i] == a and frame[i + 1] == b:
                state[0] = have
                state[1] = 1
                return start
            bad = 1
        if bad:
            i = 1
            while i < have and frame[i] != 181:
                i += 1
            have -= i
            length = 0
            while length < have:
                frame[length] = frame[length + i]
                length += 1
        elif start < end:
            frame[have] = source[start]
            have += 1
            start += 1
        else:
            state[0] = have
            return start
    return start
