"""What a box that is not set up says of itself: where its page is, the code, and both as a QR code that a phone reads off a screen.

Goes to standard output (the log of the service) and to `setup.issue` in the runtime folder, which the login screen of the box shows.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import segno

log = logging.getLogger(__name__)

ISSUE: Final = "setup.issue"
_QUIET: Final = 2  # light modules around a code
_BLOCKS: Final = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}  # (upper, lower) dark; a screen is dark


def notice(address: str, port: int, code: str) -> str:
    """The whole text. `address`: where this machine is met from its LAN."""
    page = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
    url = f"{page}?code={code}"
    first = "Paceline: this box is not set up yet. Read this with a phone in the same network:"
    return f"{first}\n\n{qr_text(url)}\n\nor open {page} and give the code {code}\n"


def qr_text(text: str) -> str:
    """A QR code in half blocks, for a dark screen: two rows of modules a line."""
    rows = [[bool(dark) for dark in row] for row in segno.make(text, error="m", micro=False, boost_error=False).matrix]
    width = len(rows) + 2 * _QUIET
    framed = [
        *([[False] * width] * _QUIET),
        *([*[False] * _QUIET, *row, *[False] * _QUIET] for row in rows),
        *([[False] * width] * (_QUIET + width % 2)),
    ]
    return "\n".join(_line(upper, lower) for upper, lower in zip(framed[::2], framed[1::2], strict=True))


def _line(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    return "".join(_BLOCKS[pair] for pair in zip(upper, lower, strict=True))


def lan_address() -> str:
    """The address other machines of the LAN meet this one at, as its routes say; nothing is sent. Loopback when it has no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): only the route is looked up
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


class Shown:
    """The notice for as long as it holds: `show` and `hide`. `runtime_dir` None: standard output only."""

    def __init__(self, runtime_dir: Path | None) -> None:
        self._issue = None if runtime_dir is None else runtime_dir / ISSUE

    def show(self, text: str) -> None:
        self._write(text)
        sys.stdout.write(f"\n{text}\n")
        sys.stdout.flush()

    def hide(self) -> None:
        """It is set up: the code is worth nothing any more."""
        if self._issue is not None:
            self._issue.unlink(missing_ok=True)

    def _write(self, text: str) -> None:
        if self._issue is None:
            return
        try:
            self._issue.write_text(text.replace("\\", "\\\\"), "utf-8")
            self._issue.chmod(0o644)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._issue, error.strerror)


def runtime_dir(environ: Mapping[str, str]) -> Path | None:
    """The folder the service manager made for this run."""
    given = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(given) if given else None
