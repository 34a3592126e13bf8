"""Any recording file to a `Recording`. What a file is, its bytes say: the name's ending is never asked.

Every other outcome is a `FileError` that names what was found and the cure. A damaged file gives what is whole before the damage, and
says so in `Recording.damage`; `strict=True` refuses it. Parsers are imported when a file of their kind comes (FIT needs fitparse).
"""

from __future__ import annotations

import stat
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from device_profiles.errors import FileError
from device_profiles.files.recording import Recording
from device_profiles.files.xml_stream import ElementReader, feed_xml

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
_XML_ENCODING_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")  # UTF-16
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP", b"7z\xbc\xaf": "7-Zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_CURE: Final = "give a FIT, GPX or TCX file of a recorded activity"


def read_recording(path: str | Path, *, max_bytes: int = MAX_FILE_BYTES, strict: bool = False) -> Recording:
    """The recording in the file at `path`. FileError when it cannot be read or is none, or is larger than `max_bytes`."""
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileError(path.name, "not a regular file", _CURE)
        if status.st_size > max_bytes:
            raise _too_large(path.name, status.st_size, max_bytes)
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        raise FileError(path.name, f"cannot be read: {detail}", "check the path and the permissions of the file") from error
    return decode_recording(content, path.name, max_bytes=max_bytes, strict=strict)


def decode_recording(content: bytes, source: str, *, max_bytes: int = MAX_FILE_BYTES, strict: bool = False) -> Recording:
    """The recording in the bytes of a file called `source`. FileError as `read_recording`."""
    if len(content) > max_bytes:
        raise _too_large(source, len(content), max_bytes)
    if not content:
        raise FileError(source, "the file is empty", "copy it from the device again")
    if content[8:12] == b".FIT":
        return _read_fit(content, source, strict=strict)
    start = _xml_start(content)
    if start is None:
        _refuse(content, source)
    return _read_xml(content, start, source, strict=strict)


def _too_large(source: str, size: int, max_bytes: int) -> FileError:
    return FileError(source, f"{size} bytes are more than the limit of {max_bytes}", "split the recording, or raise max_bytes")


def _read_fit(content: bytes, source: str, *, strict: bool) -> Recording:
    try:
        from device_profiles.files.fit_reading import read_fit
    except ModuleNotFoundError as error:
        raise FileError(source, f"FIT files need {error.name}", "pip install 'paceline[gateway]'") from error
    return read_fit(content, source, strict=strict)


def _xml_start(content: bytes) -> int | None:
    """Where the XML starts: some exporters put white space before the declaration, which XML forbids."""
    if content.startswith(_XML_ENCODING_MARKS):
        return 0
    start = len(_UTF8_MARK) if content.startswith(_UTF8_MARK) else 0
    start += len(content[start : start + 4096]) - len(content[start : start + 4096].lstrip())
    return start if content[start : start + 1] == b"<" else None


def _refuse(content: bytes, source: str) -> NoReturn:
    for magic, kind in _PACKED.items():
        if content.startswith(magic):
            raise FileError(source, f"{kind}-packed, not a recording itself", "unpack it first")
    if not content.strip(b"\0"):
        raise FileError(source, f"{len(content)} bytes of zero: the device did not finish it", "copy it from the device again")
    raise FileError(source, f"neither FIT, GPX nor TCX: it starts with {content[:12]!r}", _CURE)


class _RootFinder(ElementReader):
    """Stops at the first element."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.root: str | None = None

    def opened(self, name: str, attributes: dict[str, str]) -> None:
        del attributes
        self.root = self.root or name

    def closed(self, name: str, text: str) -> None:
        del name, text


class _Until(BytesIO):
    """Bytes that end as soon as the root was found."""

    def __init__(self, content: bytes, finder: _RootFinder) -> None:
        super().__init__(content)
        self._finder = finder

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        return b"" if self._finder.root else super().read(512)


def _read_xml(content: bytes, start: int, source: str, *, strict: bool) -> Recording:
    try:
        finder = _RootFinder(source)
        fault = feed_xml(_Until(content[start : start + 65_536], finder), finder)
        stream: BinaryIO = BytesIO(content)
        stream.seek(start)
        if finder.root == "gpx":
            from device_profiles.files.gpx import read_gpx

            return read_gpx(stream, source, strict=strict)
        if finder.root == "TrainingCenterDatabase":
            from device_profiles.files.tcx import read_tcx

            return read_tcx(stream, source, strict=strict)
    except ModuleNotFoundError as error:
        raise FileError(source, f"GPX and TCX files need {error.name}", "pip install 'paceline[gateway]'") from error
    if finder.root is None:
        raise FileError(source, fault or "no XML element", _CURE)
    raise FileError(source, f"XML whose root is <{finder.root[:64]}>, not <gpx> or <TrainingCenterDatabase>", _CURE)
