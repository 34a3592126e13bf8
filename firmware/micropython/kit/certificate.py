"""A certificate request (PKCS #10, RFC 2986) and the key beside it (RFC 5915), as DER and PEM. Pure.

The name in it is who the device is on the wire, `tenant/node`: a broker that goes by certificates takes it for the user name. The authority
of the platform signs the request (`authority.py`), or whoever runs another one (`provision.py`).
"""

import binascii

from kit import p256

_EC_KEY = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
_CURVE = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"
_ECDSA_SHA256 = b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
_COMMON_NAME = b"\x06\x03\x55\x04\x03"
_SEQUENCE, _SET, _INTEGER, _BITS, _OCTETS, _UTF8 = 0x30, 0x31, 0x02, 0x03, 0x04, 0x0C


def request(secret, user):
    """The request for `user` (`tenant/node`), DER."""
    name = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME + _der(_UTF8, user.encode()))))
    key = _der(_SEQUENCE, _der(_SEQUENCE, _EC_KEY + _CURVE) + _der(_BITS, b"\x00" + p256.public_of(secret)))
    info = _der(_SEQUENCE, _integer(0) + name + key + _der(0xA0, b""))
    r, s = p256.sign(secret, info)
    signature = _der(_SEQUENCE, _integer(r) + _integer(s))
    return _der(_SEQUENCE, info + _der(_SEQUENCE, _ECDSA_SHA256) + _der(_BITS, b"\x00" + signature))


def private_key(secret):
    """The key as TLS takes it, DER."""
    curve, public = _der(0xA0, _CURVE), _der(0xA1, _der(_BITS, b"\x00" + p256.public_of(secret)))
    return _der(_SEQUENCE, _integer(1) + _der(_OCTETS, secret.to_bytes(32, "big")) + curve + public)


def pem(kind, der):
    """DER in base 64, 64 characters a line: `kind` is CERTIFICATE REQUEST or EC PRIVATE KEY."""
    text = binascii.b2a_base64(der).decode().strip()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "-----BEGIN %s-----\n%s\n-----END %s-----\n" % (kind, "\n".join(lines), kind)


def der_of(text, kind="CERTIFICATE"):
    """The DER in a PEM text. ValueError if it is none of that kind."""
    begin, end = "-----BEGIN %s-----" % kind, "-----END %s-----" % kind
    text = text.strip()
    if not (text.startswith(begin) and text.endswith(end)) or text.count("-----BEGIN") != 1:
        raise ValueError("paste all of it, from %s to %s" % (begin, end))
    try:
        der = binascii.a2b_base64("".join(text[len(begin) : -len(end)].split()))
    except ValueError:
        der = b""
    if len(der) < 8 or der[0] != _SEQUENCE:
        raise ValueError("what stands between %s and its end is damaged" % begin)
    return der


def _der(tag, content):
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    if size < 256:
        return bytes((tag, 0x81, size)) + content
    return bytes((tag, 0x82, size >> 8, size & 255)) + content


def _integer(value):
    raw = value.to_bytes(33, "big").lstrip(b"\x00")
    return _der(_INTEGER, (b"\x00" if not raw or raw[0] > 127 else b"") + raw)
