"""A key of the curve P-256 made on the device, and ECDSA signatures with it (FIPS 186-5; nonces by RFC 6979): what a certificate request
needs.

TLS itself is done by the port's own library; this signs once, at the set-up. Not in constant time: whoever can time a device to the
microsecond at its set-up stands beside it.
"""

import hashlib

P = (1 << 256) - (1 << 224) + (1 << 192) + (1 << 96) - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def new_secret(random):
    """A secret from 48 random bytes of `random(count)`: taken modulo the order less one, so that no number is favoured (FIPS 186-5, A.2.1).
    """
    return int.from_bytes(random(48), "big") % (N - 1) + 1


def public_of(secret):
    """The public point, 65 bytes: 4, x, y."""
    x, y = _times(secret)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def sign(secret, message):
    """(r, s) of SHA-256 of the message."""
    digest = hashlib.sha256(message).digest()
    e = int.from_bytes(digest, "big") % N
    for k in _nonces(secret, e):
        r = _times(k)[0] % N
        s = pow(k, N - 2, N) * (e + r * secret) % N
        if r and s:
            return r, s


def _hmac(key, data):
    key = key + bytes(64 - len(key))
    inner = hashlib.sha256(bytes([b ^ 0x36 for b in key]) + data).digest()
    return hashlib.sha256(bytes([b ^ 0x5C for b in key]) + inner).digest()


def _nonces(secret, e):
    """RFC 6979, 3.2: the same message and key give the same nonce, and nobody can guess it."""
    seed = secret.to_bytes(32, "big") + e.to_bytes(32, "big")
    v, k = b"\x01" * 32, bytes(32)
    for mark in (b"\x00", b"\x01"):
        k = _hmac(k, v + mark + seed)
        v = _hmac(k, v)
    while True:
        v = _hmac(k, v)
        found = int.from_bytes(v, "big")
        if 1 <= found < N:
            yield found
        k = _hmac(k, v + b"\x00")
        v = _hmac(k, v)


def _times(k):
    """k times the base point, in plain coordinates."""
    x, y, z = 0, 1, 0
    for at in range(255, -1, -1):
        x, y, z = _twice(x, y, z)
        if k >> at & 1:
            x, y, z = _plus(x, y, z)
    inverse = pow(z, P - 2, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P


def _twice(x, y, z):
    """Jacobian coordinates, a = -3."""
    if not z:
        return x, y, z
    delta = z * z % P
    gamma = y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x2 = (alpha * alpha - 8 * beta) % P
    return x2, (alpha * (4 * beta - x2) - 8 * gamma * gamma) % P, ((y + z) * (y + z) - gamma - delta) % P


def _plus(x, y, z):
    """The sum with the base point."""
    gx, gy = _G
    if not z:
        return gx, gy, 1
    square = z * z % P
    h = (gx * square - x) % P
    r = (gy * square * z - y) % P
    if not h:
        return (0, 1, 0) if r else _twice(x, y, z)
    h2 = h * h % P
    h3 = h * h2 % P
    v = x * h2 % P
    x3 = (r * r - h3 - 2 * v) % P
    return x3, (r * (v - x3) - y * h3) % P, z * h % P
