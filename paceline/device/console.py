"""The serial console of a device: a line of JSON to it, the answer from among what else it prints. By the serial library of mpremote."""

from __future__ import annotations

import json
import time
from typing import Any, Final, Protocol, cast

from broker.errors import ConfigError, LinkError

PATIENCE_S: Final = 45.0  # a set-up tries Wi-Fi and broker before it answers
BAUD: Final = 115_200


class Line(Protocol):
    """A serial line."""

    def write(self, data: bytes, /) -> object: ...

    def readline(self) -> bytes: ...


def open_line(port: str) -> Line:
    """The line of a board, read with short timeouts. ConfigError when the library is missing, LinkError when the port is."""
    try:
        import serial  # pyright: ignore[reportMissingTypeStubs, reportMissingModuleSource]
    except ImportError as error:
        raise ConfigError("talking to a board needs `pyserial`", cure='pip install "paceline[firmware]"') from error
    try:
        return serial.Serial(port, BAUD, timeout=0.5)  # pyright: ignore[reportUnknownMemberType, reportReturnType]
    except (OSError, ValueError) as error:
        raise LinkError(f"{port}: {error}", cure="is the board plugged in, and is its port given with --port?") from error


def ask(line: Line, question: dict[str, Any], patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """The answer to one question; other lines (its log, the echo) are passed over. LinkError when none comes."""
    text = json.dumps(question)
    line.write(text.encode() + b"\r\n")
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        said = line.readline().strip()
        try:
            answer = json.loads(said)
        except ValueError:
            continue
        if isinstance(answer, dict) and "ok" in answer:  # in no order: dictionaries of a device have none
            return cast("dict[str, Any]", answer)
    raise LinkError("the device does not answer", cure="press its reset button; does it run the kit? See `paceline firmware flash`")
