"""What an image says of itself, signed: 156 bytes, Ed25519. Pure.

    0 magic "PLU1"   4 kind u8 (1 application, 2 whole firmware), three zeros   8 version u32   12 minimum u32   16 size u32
    20 expires u64 (UTC seconds since 1970)   28 hardware id, 32 bytes, zeros behind it   60 SHA-256 of the image   92 signature

Little-endian. The signature is that of `CONTEXT` and the first 92 bytes, so that it means nothing elsewhere. `minimum` is the oldest
version that may take this one. No bytes raise: what is wrong has one of the words below, in this order.
"""

import struct

from kit import ed25519

SIZE = 156
SIGNED = 92
MAGIC = b"PLU1"
CONTEXT = b"paceline firmware 1\n"
APPLICATION, FIRMWARE = 1, 2
_FORM = "<4sBBHIIIQ32s32s"

BAD_MANIFEST = "bad_manifest"  # not 156 bytes of this form
BAD_SIGNATURE = "bad_signature"  # of none of the keys this device knows
OTHER_HARDWARE = "other_hardware"
NO_CLOCK = "no_clock"  # the device does not know the time, so not whether this still holds
EXPIRED = "expired"
OLDER = "older"  # not newer than what runs here, or ran here once
BELOW_MINIMUM = "below_minimum"  # what runs here is too old to take it
FAILED_HERE = "failed_here"  # this version was tried here and did not come up
TOO_LARGE = "too_large"
REASONS = (BAD_MANIFEST, BAD_SIGNATURE, OTHER_HARDWARE, NO_CLOCK, EXPIRED, OLDER, BELOW_MINIMUM, FAILED_HERE, TOO_LARGE)


class Manifest:
    """The fields. `raw` is all of it, as it came."""

    def __init__(self, raw):
        _, self.kind, _, _, self.version, self.minimum, self.size, self.expires_s, hardware, self.sha256 = struct.unpack(
            _FORM, raw[:SIGNED]
        )
        self.hardware = hardware.rstrip(b"\0")
        self.raw = raw


def unsigned(kind, version, minimum, size, expires_s, hardware, sha256):
    """The bytes that are to be signed, without `CONTEXT`."""
    return struct.pack(_FORM, MAGIC, kind, 0, 0, version, minimum, size, expires_s, hardware, sha256)


def read(raw):
    """The manifest in these bytes, None if they are none. Says nothing of its signature."""
    if len(raw) != SIZE or raw[:4] != MAGIC or raw[4] not in (APPLICATION, FIRMWARE) or raw[5:8] != b"\0\0\0":
        return None
    manifest = Manifest(bytes(raw))
    name = manifest.hardware
    if not name or 0 in name or not manifest.size or not manifest.version or manifest.minimum > manifest.version:
        return None
    return manifest


def judge(raw, keys, hardware, running, failed, room, now_s):
    """(manifest, "") if this device may take it, else (None, why not).

    `keys` are public keys of 32 bytes, `hardware` bytes, `running` the highest version that ever proved itself here, `failed` the one
    that did not, `room` bytes of a slot by kind, `now_s` UTC seconds or None.
    """
    manifest = read(raw)
    if manifest is None:
        return None, BAD_MANIFEST
    signed = CONTEXT + manifest.raw[:SIGNED]
    if not any([ed25519.verify(key, signed, manifest.raw[SIGNED:]) for key in keys]):
        return None, BAD_SIGNATURE
    if manifest.hardware != hardware:
        return None, OTHER_HARDWARE
    if now_s is None:
        return None, NO_CLOCK
    if now_s >= manifest.expires_s:
        return None, EXPIRED
    if manifest.version <= running:
        return None, OLDER
    if running < manifest.minimum:
        return None, BELOW_MINIMUM
    if manifest.version == failed:
        return None, FAILED_HERE
    if manifest.size > room.get(manifest.kind, 0):
        return None, TOO_LARGE
    return manifest, ""
