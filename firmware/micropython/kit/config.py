"""A document that survives power cuts: two copies, written in turn, each with its number and CRC. The whole one with the higher number
counts.

    kept = Kept("/config")               # files /config.a and /config.b
    document = kept.load()               # {} when there is none
    kept.save(document)

A save that is cut leaves the copy before it. What is not JSON, too long or damaged is as if it were not there.
"""

import json
import struct
from binascii import crc32

_FORM = "<4sIII"  # magic, number, length, CRC of number, length and text
_HEAD_BYTES = 16
MAX_BYTES = 8192


class Kept:
    """A document, kept in the files `path`.a and `path`.b."""

    def __init__(self, path):
        self.number = 0
        self._paths = (path + ".a", path + ".b")

    def load(self):
        """The document as it was saved last, or {}."""
        found = {}
        self.number = 0
        for path in self._paths:
            number, document = _read(path)
            if number > self.number:
                self.number, found = number, document
        return found

    def save(self, document):
        """Keep it. ValueError when it is too long; OSError when the file system fails, and then the copy before it counts."""
        text = json.dumps(document).encode()
        if len(text) > MAX_BYTES:
            raise ValueError("a document of %d bytes: at most %d" % (len(text), MAX_BYTES))
        if not self.number:
            self.load()
        number = self.number + 1
        head = struct.pack("<II", number, len(text))
        file = open(self._paths[number & 1], "wb")
        try:
            file.write(b"PLK1" + head + struct.pack("<I", crc32(text, crc32(head))) + text)
        finally:
            file.close()
        self.number = number


def _read(path):
    """(number, document) of a copy; (0, {}) when it is not whole."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_HEAD_BYTES + MAX_BYTES + 1)
    except OSError:
        return 0, {}
    if len(raw) < _HEAD_BYTES:
        return 0, {}
    magic, number, length, crc = struct.unpack_from(_FORM, raw)
    text = raw[_HEAD_BYTES:]
    if magic != b"PLK1" or length != len(text) or crc != crc32(text, crc32(raw[4:12])) & 0xFFFFFFFF:
        return 0, {}
    try:
        document = json.loads(text)
    except ValueError:
        return 0, {}
    return (number, document) if isinstance(document, dict) else (0, {})
