"""Ed25519 signatures checked (RFC 8032, section 5.1), with SHA-512 (FIPS 180-4), in plain MicroPython: nothing of C is needed.

Strict: S below the group order, both points in their one canonical form, a public key that is not of small order. Nothing secret is
touched here, so that time may tell what it likes. The whole check is about 3,500 products of 255 bits; nothing is kept between two calls.
"""

P = (1 << 255) - 19  # the field
L = (1 << 252) + 27742317777372353535851937790883648493  # order of the base point
D = 37095705934669439343138083508754565189542113879843219016388785533085940283555  # -121665 / 121666: -x^2 + y^2 = 1 + D x^2 y^2
_D2 = 2 * D % P
_ROOT = 19681161376707505956807079304988542015446066515923890162744021073123829784752  # of -1: 2 ** ((P - 1) / 4)
_BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960  # 4 / 5
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202  # the even root that goes with it
_MASK = (1 << 64) - 1
_WIDTH = 5  # of the signed windows: eight odd multiples of each point


def verify(public_key, message, signature):
    """Whether `signature` (64 bytes) is that of `message` by the owner of `public_key` (32 bytes). Never raises for bytes of any length."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    s = int.from_bytes(signature[32:], "little")
    a = _point(int.from_bytes(public_key, "little"))
    if s >= L or a is None or _is_small(a):
        return False
    k = int.from_bytes(sha512(bytes(signature[:32]) + bytes(public_key) + bytes(message)), "little") % L
    x, y, z, t = a
    r = _both(s, (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P), k, (P - x, y, z, P - t))  # [s]B - [k]A
    inverse = _squared(_power(r[2]), 3) * r[2] * r[2] * r[2] % P  # to the P - 2
    encoded = r[1] * inverse % P | (r[0] * inverse % P & 1) << 255
    return encoded.to_bytes(32, "little") == bytes(signature[:32])


def sha512(data):
    """The digest, 64 bytes."""
    rounds = [_root(prime << 192, 3) & _MASK for prime in _primes(80)]
    state = [_root(prime << 128, 2) & _MASK for prime in _primes(8)]
    data = bytes(data) + b"\x80" + bytes(-(len(data) + 17) % 128) + (8 * len(data)).to_bytes(16, "big")
    for at in range(0, len(data), 128):
        _block(state, rounds, [int.from_bytes(data[i : i + 8], "big") for i in range(at, at + 128, 8)])
    return b"".join([word.to_bytes(8, "big") for word in state])


def _block(state, rounds, w):
    """One block into the state: FIPS 180-4, section 6.4.2. A word beside its copy turns right by one shift."""
    a, b, c, d, e, f, g, h = state
    for i in range(80):
        if i > 15:
            x = w[(i - 15) & 15]
            y = w[(i - 2) & 15]
            xx = x << 64 | x
            yy = y << 64 | y
            w[i & 15] = (w[i & 15] + (xx >> 1 ^ xx >> 8 ^ x >> 7 & _MASK) + w[(i - 7) & 15] + (yy >> 19 ^ yy >> 61 ^ y >> 6)) & _MASK
        ee = e << 64 | e
        aa = a << 64 | a
        t = (h + ((ee >> 14 ^ ee >> 18 ^ ee >> 41) & _MASK) + (g ^ e & (f ^ g)) + rounds[i] + w[i & 15]) & _MASK
        h, g, f, e = g, f, e, (d + t) & _MASK
        d, c, b, a = c, b, a, (t + ((aa >> 28 ^ aa >> 34 ^ aa >> 39) & _MASK) + (a & b | c & (a | b))) & _MASK
    for i, word in enumerate((a, b, c, d, e, f, g, h)):
        state[i] = (state[i] + word) & _MASK


def _primes(count):
    """The first primes, whose roots are the constants of SHA-512."""
    found = []
    n = 2
    while len(found) < count:
        if all([n % prime for prime in found]):
            found.append(n)
        n += 1
    return found


def _root(n, k):
    """The whole part of the k-th root of n, from above by Newton's steps."""
    x = 1 << (67 if k == 2 else 68)  # 19**0.5 and 409**(1/3) are below 8
    while True:
        y = ((k - 1) * x + n // (x if k == 2 else x * x)) // k
        if y >= x:
            return x
        x = y


def _point(encoded):
    """The point (x, y, 1, xy) of 32 bytes as a number; None if they are no point, or not in the canonical form."""
    sign = encoded >> 255
    y = encoded & ((1 << 255) - 1)
    if y >= P:
        return None
    u = (y * y - 1) % P
    v = (D * y * y + 1) % P
    v3 = v * v * v % P
    x = u * v3 * _power(u * v3 * v3 * v % P) % P  # the root of u / v, if it has one, but for a root of -1
    if v * x * x % P != u:
        x = x * _ROOT % P
        if v * x * x % P != u:
            return None
    if not x and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def _power(x):
    """x to the 2**252 - 3, by 252 squares and 11 products: `pow` takes twice as many."""
    x2 = x * x % P
    x9 = _squared(x2, 2) * x % P
    x11 = x9 * x2 % P
    a = x11 * x11 * x9 % P  # 2**5 - 1
    b = _squared(a, 5) * a % P
    c = _squared(b, 10) * b % P
    d = _squared(c, 20) * c % P
    e = _squared(d, 10) * b % P  # 2**50 - 1
    f = _squared(e, 50) * e % P
    g = _squared(f, 100) * f % P
    return _squared(_squared(g, 50) * e % P, 2) * x % P


def _squared(x, times):
    for _ in range(times):
        x = x * x % P
    return x


def _is_small(point):
    """Whether eight times the point is nothing: such a key signs everything."""
    for _ in range(3):
        point = _twice(point, False)
    return not point[0] % P


def _twice(point, wants_t):
    """RFC 8032, 5.1.4. `t` is left out where no sum follows."""
    x, y, z, _ = point
    a = x * x % P
    b = y * y % P
    h = a + b
    xy = x + y
    e = h - xy * xy % P
    g = a - b
    f = 2 * (z * z % P) + g
    return e * f % P, g * h % P, f * g % P, e * h % P if wants_t else 0


def _plus(point, other):
    """The sum with a point made ready by `_ready`."""
    x, y, z, t = point
    minus, plus, z2, t2 = other
    a = (y - x) * minus % P
    b = (y + x) * plus % P
    c = t * t2 % P
    d = z * z2 % P
    e = b - a
    f = d - c
    g = d + c
    h = b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _ready(point):
    x, y, z, t = point
    return (y - x) % P, (y + x) % P, 2 * z % P, t * _D2 % P


def _odd(point):
    """1, 3, 5 ... 15 times the point, ready to be added."""
    twice = _ready(_twice(point, True))
    table = [_ready(point)]
    for _ in range((1 << (_WIDTH - 2)) - 1):
        point = _plus(point, twice)
        table.append(_ready(point))
    return table


def _windows(k):
    """The odd signed digits of k, below 16 either way, by their place in bits; at least four zeros follow each."""
    digits = bytearray(256)  # 0, or 16 and the digit
    at = 0
    while k:
        if k & 1:
            digit = int(k & 31)
            if digit > 15:
                digit -= 32
            k -= digit
            digits[at] = 16 + digit
        k >>= 1
        at += 1
    return digits


def _both(s, point, k, other):
    """s times a point and k times another, added: one row of doublings for both."""
    tables = (_odd(point), _odd(other))
    digits = (_windows(s), _windows(k))
    sum_ = (0, 1, 1, 0)
    for at in range(255, -1, -1):
        sum_ = _twice(sum_, digits[0][at] or digits[1][at])
        for row, table in zip(digits, tables):
            digit = row[at]
            if digit > 16:
                sum_ = _plus(sum_, table[(digit - 16) >> 1])
            elif digit:
                minus, plus, z2, t2 = table[(16 - digit) >> 1]
                sum_ = _plus(sum_, (plus, minus, z2, P - t2))
    return sum_
