"""XML read as a stream of elements: no tree, so memory stays flat whatever the file. Names are local: any namespace, any prefix.

Refuses document type declarations (with them entity bombs and external entities), nesting deeper than 64 and texts over 4 KiB where one
is asked for. A file that breaks off or is not well-formed gives what stands before the fault, and the fault.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

from device_profiles.errors import FileError

MAX_DEPTH: Final = 64
MAX_TEXT_CHARS: Final = 4_096
_CHUNK_BYTES: Final = 65_536
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class ElementReader(ABC):
    """Told of each element in document order. `path` holds the local names from the root to the element at hand."""

    #: local names of the elements whose text is wanted
    texts: frozenset[str] = frozenset()

    def __init__(self, source: str) -> None:
        self.source = source
        self.path: list[str] = []
        self._text: list[str] | None = None
        self._chars = 0

    @abstractmethod
    def opened(self, name: str, attributes: dict[str, str]) -> None:
        """An element starts."""

    @abstractmethod
    def closed(self, name: str, text: str) -> None:
        """An element ends; `path` still ends with it. `text` is stripped, and empty for names not in `texts`."""

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        self.path.append(name)
        if len(self.path) > MAX_DEPTH:
            raise FileError(self.source, f"XML elements nested more than {MAX_DEPTH} deep", "give a GPX or TCX export of a device or app")
        self._text = [] if name in self.texts else None
        self._chars = 0
        self.opened(name, attrs)

    def data(self, data: str) -> None:
        if self._text is None:
            return
        self._chars += len(data)
        if self._chars > MAX_TEXT_CHARS:
            raise FileError(
                self.source, f"the text of <{self.path[-1]}> is longer than {MAX_TEXT_CHARS} characters", "give an unaltered export"
            )
        self._text.append(data)

    def end(self, tag: str) -> None:
        text = "" if self._text is None else "".join(self._text).strip()
        self._text = None
        self.closed(tag.rpartition("}")[2], text)
        self.path.pop()


def feed_xml(stream: BinaryIO, target: ElementReader) -> str | None:
    """Read `stream` into `target`; what is wrong with the XML, or None. FileError for a declaration that is refused."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser, ParseError

    parser = DefusedXMLParser(target=target, forbid_dtd=True)
    try:
        while chunk := stream.read(_CHUNK_BYTES):
            parser.feed(chunk)
        parser.close()
    except DefusedXmlException as error:
        raise FileError(
            target.source,
            f"it declares a document type or entities ({type(error).__name__}), which could make a small file huge or read other files",
            "remove the <!DOCTYPE ...> from the file",
        ) from error
    except (ParseError, ValueError, LookupError) as error:  # bad XML, or an encoding Python does not know
        return f"not well-formed XML: {error}"
    return None


def number(text: str) -> float | None:
    """A decimal number, or None when the text is none. `nan` and `inf` come out as such: the collector counts them."""
    try:
        return float(text)
    except ValueError:
        return None


def utc_us(text: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 date and time; without a zone it is UTC, as GPX and TCX say. None when it is none."""
    if len(text) < len("YYYYMMDDTHHMM"):
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def text_of_utc_us(t_us: int) -> str:
    """The ISO 8601 form with microseconds and Z."""
    return (_EPOCH + timedelta(microseconds=t_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
