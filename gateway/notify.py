"""What a process tells its service manager: datagrams to the socket in NOTIFY_SOCKET (protocol: sd_notify(3)); without one, nothing.

`WATCHDOG=1` leaves only while every part makes progress (`liveness`), four times within WATCHDOG_USEC. A manager that cannot be reached
never disturbs the gateway: it is logged once. As this runs in the event loop, a loop that hangs tells nothing either.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Final

from broker.liveness import Liveness

log = logging.getLogger(__name__)

STATUS_S: Final = 10.0  # how often the status is told where no watchdog asks for more
_BEATS: Final = 4
_SOCKET_TIMEOUT_S: Final = 1.0


class Notifier:
    """`tell("READY=1")` sends lines; `watchdog_s` is the time within which the manager wants a sign of life, None when it does not."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s if address else None
        self._failed = False

    def tell(self, *lines: str) -> None:
        """One datagram of `NAME=value` lines."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(_SOCKET_TIMEOUT_S)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                log.warning("service manager: %s: %s", self._address.replace("\0", "@"), error.strerror or error)
            self._failed = True


def notifier_of(environ: Mapping[str, str], pid: int) -> Notifier:
    """The manager that the environment names. A watchdog meant for another process (WATCHDOG_PID) is not ours."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return Notifier()
    wanted = environ.get("WATCHDOG_USEC", "")
    ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    return Notifier(address, int(wanted) / 1e6 if ours and wanted.isdecimal() and int(wanted) else None)


async def keep_told(notifier: Notifier, liveness: Liveness, status: Callable[[], str]) -> None:
    """Until cancelled: ready at once, then status, and the watchdog while all parts make progress."""
    interval_s = STATUS_S if notifier.watchdog_s is None else min(STATUS_S, notifier.watchdog_s / _BEATS)
    complained: tuple[str, ...] = ()
    notifier.tell("READY=1", f"STATUS={_line(status())}")
    while True:
        stalled = liveness.stalled()
        if stalled != complained:
            _complain(stalled, notifier)
        complained = stalled
        if stalled:
            notifier.tell(f"STATUS=no progress: {', '.join(stalled)}")
        else:
            notifier.tell("WATCHDOG=1", f"STATUS={_line(status())}")
        await asyncio.sleep(interval_s)


def _complain(stalled: tuple[str, ...], notifier: Notifier) -> None:
    if not stalled:
        log.warning("every part makes progress again")
        return
    then = "logged only: no watchdog is set" if notifier.watchdog_s is None else "the watchdog is not fed until that ends"
    log.error("no progress: %s (%s)", ", ".join(stalled), then)


def _line(text: str) -> str:
    return " ".join(text.split())
