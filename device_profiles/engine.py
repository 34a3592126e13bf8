# pyright: basic
"""The table engine: bytes of a packet and the table of its profile -> fields. The same file runs on CPython and MicroPython; it imports
nothing.

A table is a header and rows (`compiler.py` writes them as tuples, `packs.py` as bytes; `Pack` here reads those). Which fields a packet
has is decided by its flags, or by its page: for each value seen, the rows come down once to a plan of fields at fixed places, and packets
follow the plan. Invariants: no packet raises; what a sentinel, a state or a short packet makes unknown is absent, never 0; all arithmetic
is exact integers and one division, so that both interpreters give the same bits. Types stand in `engine.pyi`, because MicroPython has no
`typing`.
"""

SHORT = 1  # the packet ended inside a field that its flags or page promise; whole fields before it are kept
UNKNOWN_PAGE = 2  # no rows for this page; fields that every page has are kept
EXTRA = 4  # bytes after the last field

U8, S8, U16, S16, U24, S24, U32, S32, U48, U64 = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
U16BE, S16BE, U24BE, U32BE, S32BE = 11, 12, 13, 14, 15
SFLOAT, FLOAT, DATETIME, UTF8, BYTES, FLAGS, SKIP, FLOAT32 = 16, 17, 18, 19, 20, 21, 22, 23
_BITS = 24  # in plans only: a part of an integer
SIZES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 6, 8, 2, 2, 3, 4, 4, 2, 4, 7, 0, 0, 0, 0, 4)
_SIGNED = (S8, S16, S24, S32, S16BE, S32BE)

NEXT, SAME = 255, 254  # `at` of a row: after the field before; on the bytes of the field before
NO_KEY, PAGE_KEY = 0, 5  # `key` of a header: 1 to 4 are the bytes of flags at the start
PACK_VERSION = 1
PLANS_KEPT = 32  # of each profile: a sender of random flags must not fill the memory. A small device sets it to 2 or 3

_TENS = [1.0]
while len(_TENS) < 23:  # powers of ten that a double holds exactly
    _TENS.append(_TENS[-1] * 10.0)


class Decoder:
    """Decodes packets of one profile. `rows(page)` gives the rows of a page, `rows(-1)` those of every packet, None for no such page.

    A row is (name, type, at, repeat, mask, want, mul, pre, div, nas, bit, bits, gate): the field is there if `flags & mask == want`, its
    value is `(raw * mul + pre) / div` (`div` 0: raw), absent if raw is in `nas`; `bits` > 0 takes that many bits from `bit` on (< 0:
    signed), and is the length of utf8 and bytes; `gate` is None or (field, values, only): withheld if that field is one of the values, or
    with `only` if it is none of them.
    """

    def __init__(self, key, page_at, page_mask, rows):
        self.key = key
        self.page_at = page_at
        self.page_mask = page_mask
        self.rows = rows
        self.head = page_at + 1 if key == PAGE_KEY else key
        self.plans = {}

    def page(self, payload):
        """The page, or the flags, that decide which fields this packet has; -1 if it is too short to say."""
        if len(payload) < self.head:
            return -1
        if self.key == PAGE_KEY:
            return payload[self.page_at] & self.page_mask
        return _integer(payload, 0, (0, U8, U16, U24, U32)[self.key]) if self.key else 0

    def decode(self, payload):
        """The fields by name, and what was wrong with the packet: 0, or SHORT, UNKNOWN_PAGE and EXTRA together."""
        n = len(payload)
        if n < self.head:
            return {}, SHORT
        key = self.key
        if key == 1:
            key = payload[0]
        elif key == 2:
            key = payload[0] | payload[1] << 8
        elif key:
            key = self.page(payload)
        plan = self.plans.get(key)
        if plan is None:
            plan = self.plan(key)
        known, steps, need, rest, gates, trouble = plan
        out = known.copy()
        if n != need:
            if n < need:
                steps = [step for step in steps if step[8] <= n]
                trouble |= SHORT
            elif rest is None:
                trouble |= EXTRA
        for name, code, at, nas, mul, pre, div, extra, _ in steps:
            if code == 1:
                raw = payload[at]
            elif code == 3:
                raw = payload[at] | payload[at + 1] << 8
            elif code == 4:
                raw = payload[at] | payload[at + 1] << 8
                if raw > 32767:
                    raw -= 65536
            else:
                raw = _value(payload, at, code, extra)
                if raw is None:
                    continue
            if nas is not None and raw in nas:
                continue
            if div:
                raw = raw * mul + pre
                if div != 1:
                    raw /= div
            out[name] = raw
        if rest is not None and n >= rest[0]:
            trouble |= _rest(payload, n, rest, out)
        for name, field, values, only in gates:
            value = out.get(field)
            if (only or trouble & SHORT) if value is None else (value in values) != only:
                out.pop(name, None)
        return out, trouble

    def plan(self, key):
        """The steps of one value of flags or page. Kept for the next packet."""
        trouble = 0
        rows = list(self.rows(-1) or ())
        own = self.rows(key) if self.key == PAGE_KEY else ()
        if own is None:
            own, trouble = (), UNKNOWN_PAGE
        made = _steps(rows, list(own), key, self.head)
        if len(self.plans) >= PLANS_KEPT:
            self.plans.clear()
        plan = self.plans[key] = made + (trouble,)
        return plan


def _steps(rows, own, key, head):
    """Rows and the flags -> what is known from the flags, steps, bytes needed, the repeated rest, gates that only the packet decides.

    Rows of a page follow those of every packet, or begin after the page byte if those stand at fixed places.
    """
    known = {}
    steps = []
    gates = []
    group = []
    cursor = last = need = head
    rest_at = -1
    left = len(rows)
    fixed = [row for row in rows if row[2] < SAME]
    for name, code, at, repeat, mask, want, mul, pre, div, nas, bit, bits, gate in rows + own:
        if not left and fixed:
            cursor = head
        left -= 1
        if key & mask != want:
            continue
        if code == FLAGS:
            raw = key >> bit & (1 << bits) - 1
            if nas is None or raw not in nas:
                known[name] = _scaled(raw, mul, pre, div)
            continue
        if code == SKIP:
            cursor += bits
            need = max(need, cursor)
            continue
        open_end = code in (UTF8, BYTES) and not bits
        size = bits if code in (UTF8, BYTES) else SIZES[code]
        if at != SAME:
            last = cursor if at == NEXT else at
        cursor = last + size
        extra = (0, 0, bits)
        if bits and code < SFLOAT:
            extra = (code, bit, bits)
            code = _BITS
        if repeat:
            if rest_at < 0:
                rest_at = last
            group.append((name, code, last - rest_at, nas, mul, pre, div, extra, cursor - rest_at))
            if gate is not None and not (gate[0] in known and (known[gate[0]] in gate[1]) == gate[2]):
                gates.append((name,) + gate)
            continue
        if gate is not None:
            field, values, only = gate
            if field in known:
                if (known[field] in values) != only:
                    need = max(need, cursor)
                    continue
            else:
                gates.append((name, field, values, only))
        if open_end:
            rest_at = last
            group = [(name, code, 0, nas, mul, pre, div, extra, 0)]
        else:
            steps.append((name, code, last, nas, mul, pre, div, extra, cursor))
            need = max(need, cursor)
    rest = None
    if rest_at >= 0:
        rest = (rest_at, max(step[8] for step in group), group)
        need = max(need, rest_at)
    return known, steps, need, rest, gates


def _scaled(raw, mul, pre, div):
    if not div:
        return raw
    raw = raw * mul + pre
    return raw if div == 1 else raw / div


def _rest(payload, n, rest, out):
    """The repeated fields up to the end, each as a list, or the text or bytes up to the end."""
    start, stride, group = rest
    if not stride:
        name, code = group[0][0], group[0][1]
        out[name] = _text(payload[start:n]) if code == UTF8 else bytes(payload[start:n])
        return 0
    if stride == 2 and group[0][1] == U16 and group[0][3] is None and group[0][6]:
        name, _, _, _, mul, pre, div, _, _ = group[0]
        out[name] = [((payload[i] | payload[i + 1] << 8) * mul + pre) / div for i in range(start, n - 1, 2)]
        return SHORT if (n - start) & 1 else 0
    for name, code, at, nas, mul, pre, div, extra, _ in group:
        values = []
        for i in range(start, n - stride + 1, stride):
            raw = _value(payload, i + at, code, extra)
            values.append(None if raw is None or (nas is not None and raw in nas) else _scaled(raw, mul, pre, div))
        out[name] = values
    return SHORT if (n - start) % stride else 0


def _value(payload, at, code, extra):
    """The raw value of one field whose bytes are all there; None if it says that there is no value."""
    if code == _BITS:
        code, bit, bits = extra
        raw = _integer(payload, at, code)
        if bits < 0:
            return _signed(raw >> bit & (1 << -bits) - 1, -bits)
        return raw >> bit & (1 << bits) - 1
    if code < SFLOAT:
        raw = _integer(payload, at, code)
        return _signed(raw, 8 * SIZES[code]) if code in _SIGNED else raw
    if code == SFLOAT:
        raw = payload[at] | payload[at + 1] << 8
        return _decimal(raw & 0xFFF, 0x800, raw >> 12, 8)
    if code == FLOAT:
        return _decimal(payload[at] | payload[at + 1] << 8 | payload[at + 2] << 16, 0x800000, payload[at + 3], 0x80)
    if code == DATETIME:
        return _datetime(payload, at)
    if code == FLOAT32:
        return _binary(_integer(payload, at, U32))
    part = payload[at : at + extra[2]]
    return _text(part) if code == UTF8 else bytes(part)


def _signed(raw, bits):
    return raw - (1 << bits) if raw >> bits - 1 else raw


def _integer(payload, at, code):
    raw = 0
    size = SIZES[code]
    if U16BE <= code <= S32BE:
        for i in range(at, at + size):
            raw = raw << 8 | payload[i]
    else:
        for i in range(size):
            raw |= payload[at + i] << 8 * i
    return raw


def _decimal(mantissa, sign, exponent, exponent_sign):
    """IEEE 11073 SFLOAT and FLOAT: two's complement mantissa and exponent of ten; None for its five special mantissas at exponent 0.

    Exponents beyond 22 either way are no measurement, and a double could not hold them exactly: None.
    """
    if not exponent and sign - 2 <= mantissa <= sign + 2:
        return None
    if mantissa >= sign:
        mantissa -= 2 * sign
    if exponent >= exponent_sign:
        exponent -= 2 * exponent_sign
    if exponent > 22 or exponent < -22:
        return None
    if exponent < 0:
        return mantissa / _TENS[-exponent]
    return mantissa * _TENS[exponent]


def _binary(raw):
    """IEEE 754 single precision, exact; None for what is no number or infinite."""
    exponent = raw >> 23 & 0xFF
    if exponent == 0xFF:
        return None
    mantissa = raw & 0x7FFFFF | (0x800000 if exponent else 0)
    value = mantissa * 2.0 ** (max(exponent, 1) - 150)
    return -value if raw >> 31 else value


def _datetime(payload, at):
    """Year, month, day, hours, minutes, seconds as ISO 8601 text of the device's local clock; None if it is no whole date."""
    year = payload[at] | payload[at + 1] << 8
    month, day, hour, minute, second = payload[at + 2 : at + 7]
    if not (1582 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return None
    return "%04d-%02d-%02dT%02d:%02d:%02d" % (year, month, day, hour, minute, second)


def _text(part):
    """UTF-8 up to the first zero byte; "?" for each byte that is none, and for control characters."""
    out = []
    i = 0
    while i < len(part) and part[i]:
        c = part[i]
        more = 0 if c < 0x80 else 1 if 0xC2 <= c < 0xE0 else 2 if 0xE0 <= c < 0xF0 else 3 if 0xF0 <= c < 0xF5 else -1
        point = c if not more else c & (0x3F >> more) if more > 0 else -1
        for k in range(i + 1, i + 1 + more):
            if k >= len(part) or part[k] & 0xC0 != 0x80:
                point = -1
                break
            point = point << 6 | part[k] & 0x3F
        lowest = (32, 0x80, 0x800, 0x10000)[more] if more >= 0 else 0
        if point < lowest or point == 127 or point > 0x10FFFF or 0xD800 <= point < 0xE000:
            out.append("?")
            i += 1
        else:
            out.append(chr(point))
            i += 1 + more
    return "".join(out)


class Pack:
    """Tables of profiles as bytes (`packs.py` has the layout), for a device. Rows come out of it when a plan needs them."""

    def __init__(self, blob):
        if blob[0] != PACK_VERSION:
            raise ValueError("this pack has version %d, the engine reads %d: make it again" % (blob[0], PACK_VERSION))
        self.blob = blob
        self.conditions = 8
        self.scales = self.conditions + 8 * blob[3]
        self.bits = self.scales + 12 * blob[4]
        self.names = self.bits + 2 * blob[5]
        self.sentinels = self._after(self.names, blob[2], 1, 0)
        self.gates = self._after(self.sentinels, blob[6], 8, 0)
        self.profiles = self._after(self.gates, blob[7], 4, 2)

    def names_of_profiles(self):  # in order
        return [self._ascii(at + 2) for at in self._places()]

    def decoder(self, name):
        """The decoder of one profile; KeyError if it is not in this pack."""
        for at in self._places():
            if self._ascii(at + 2) == name:
                return self._decoder(at + 3 + self.blob[at + 2])
        raise KeyError(name)

    def _decoder(self, at):
        return Decoder(self.blob[at], self.blob[at + 1], self.blob[at + 2], lambda page: self.rows(at + 3, page))

    def rows(self, at, page):
        """The rows of a page of the profile whose blocks stand at that place."""
        blocks = self.blob[at]
        at += 1
        for _ in range(blocks):
            number = _integer(self.blob, at, U16)
            count = self.blob[at + 2]
            at += 3
            if number == page & 0xFFFF:
                return [self._row(at + 8 * i) for i in range(count)]
            at += 8 * count
        return None

    def _row(self, at):
        """The row at a place in the blob."""
        code, place, condition, scale, sentinels, bits, gate, name = self.blob[at : at + 8]
        mask = want = bit = count = div = pre = 0
        mul = 1
        if condition:
            mask = _integer(self.blob, self.conditions + 8 * condition - 8, U32)
            want = _integer(self.blob, self.conditions + 8 * condition - 4, U32)
        if scale:
            start = self.scales + 12 * scale - 12
            mul = _value(self.blob, start, S32, None)
            pre = _value(self.blob, start + 4, S32, None)
            div = _integer(self.blob, start + 8, U32)
        if bits:
            bit = self.blob[self.bits + 2 * bits - 2]
            count = _value(self.blob, self.bits + 2 * bits - 1, S8, None)
        nas = self._values(self._after(self.sentinels, sentinels - 1, 8, 0), 8) if sentinels else None
        withheld = None
        if gate:
            start = self._after(self.gates, gate - 1, 4, 2)
            withheld = (self._name(self.blob[start]), self._values(start + 2, 4), bool(self.blob[start + 1]))
        return self._name(name), code & 0x7F, place, code > 0x7F, mask, want, mul, pre, div, nas, bit, count, withheld

    def _places(self):
        at = self.profiles
        for _ in range(self.blob[1]):
            yield at
            at += 2 + _integer(self.blob, at, U16)

    def _after(self, at, count, size, head):
        """Past `count` entries: `head` bytes, a length, so many values of `size`."""
        for _ in range(count):
            at += head + 1 + size * self.blob[at + head]
        return at

    def _ascii(self, at):
        return _text(self.blob[at + 1 : at + 1 + self.blob[at]])

    def _name(self, index):
        return self._ascii(self._after(self.names, index, 1, 0))

    def _values(self, at, size):
        code = U32 if size == 4 else U64
        return tuple([_signed(_integer(self.blob, at + 1 + i * size, code), 8 * size) for i in range(self.blob[at])])
