"""What can be controlled now: the seam between the sources that hold a connection to a machine and `gateway.equipment`, which commands it.

A source (`ble`, `ant`) adds a `ControlLink` once it may write to a machine, says what the machine tells by itself, and removes the link
when it is gone. Only equipment writes. Everything runs in the event loop of the gateway; nothing here blocks.

`what` is a number of the standard: on FTMS the 16-bit UUID of a characteristic (0x2AD4 supported speed range, 0x2ADA status ...), on FE-C
the number of a page (54 capabilities, 71 command status).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from device_profiles.samples import Identity

Dialect = Literal["ftms", "fec"]


class ControlLink(Protocol):
    """One machine that can be written to. A link has one control point; a new connection is a new link."""

    @property
    def dialect(self) -> Dialect:
        """FTMS control point (0x2AD9), or FE-C pages (over ANT+, or over BLE, where the link does the wrapping)."""
        ...

    @property
    def identity(self) -> Identity:
        """What the machine says of itself, as far as it is known: some take other numbers than the standard's (`quirks.yaml`)."""
        ...

    async def write(self, payload: bytes, *, timeout_s: float) -> bytes | None:
        """Send one command; the machine's answer, or None when none came within `timeout_s`.

        FTMS: `payload` goes to the control point with response; the answer is the next indication `80 OP RESULT ...` of the same OP.
        FE-C: `payload` is a page of 8 bytes, sent acknowledged; the answer is page 71, asked for with page 70.
        OSError when the link is gone or the stack refused. May be cancelled at any time, because a stop waits for nothing; the next write
        comes at once then, and an answer to the cancelled one must not be taken for its own.
        """
        ...

    async def read(self, what: int, *, timeout_s: float) -> bytes | None:
        """A characteristic, or a page asked for with page 70; None when the machine has none or does not answer. OSError as above."""
        ...


class ControlListener(Protocol):
    """Who commands. Quick calls."""

    def appeared(self, device: str, link: ControlLink) -> None: ...
    def told(self, device: str, what: int, payload: bytes) -> None: ...
    def gone(self, device: str) -> None: ...


class Controllable:
    """Device id -> link, and one listener that is told of every change (links that are there already are announced to it)."""

    def __init__(self) -> None:
        self._links: dict[str, ControlLink] = {}
        self._listener: ControlListener | None = None

    def add(self, device: str, link: ControlLink) -> None:
        """The machine may be written to from now on. A link it replaces is gone first."""
        self.remove(device)
        self._links[device] = link
        if self._listener is not None:
            self._listener.appeared(device, link)

    def remove(self, device: str, link: ControlLink | None = None) -> None:
        """The link is gone; with `link` only if that is still the one (a late farewell of an old connection changes nothing)."""
        held = self._links.get(device)
        if held is None or (link is not None and held is not link):
            return
        del self._links[device]
        if self._listener is not None:
            self._listener.gone(device)

    def told(self, device: str, what: int, payload: bytes) -> None:
        """What the machine says unasked: the FTMS status (0x2ADA), FE-C pages 16 and 71. Without a link it is dropped."""
        if self._listener is not None and device in self._links:
            self._listener.told(device, what, payload)

    def get(self, device: str) -> ControlLink | None:
        """The link now."""
        return self._links.get(device)

    @property
    def devices(self) -> tuple[str, ...]:
        """Who can be controlled now."""
        return tuple(sorted(self._links))

    def listen(self, listener: ControlListener) -> Callable[[], None]:
        """Make `listener` the one; the function returned ends that."""
        self._listener = listener
        for device, link in list(self._links.items()):
            listener.appeared(device, link)

        def end() -> None:
            if self._listener is listener:
                self._listener = None

        return end
