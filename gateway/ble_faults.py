"""What an error of the Bluetooth stack means for a link: a table, because BlueZ says the same thing in many ways. Pure.

Foreign exceptions end here: `fault_of` maps each of them to a `Fault`, and nothing of bleak or D-Bus is raised beyond the source.
ATT 0x0e on an operation is a link that was lost while it ran (seen with real BlueZ in four of five such drops), never a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Meaning(StrEnum):
    """What to do about it."""

    LOST = "lost"  # the link is gone: drop the client, connect again when it is seen
    BUSY = "busy"  # BlueZ is at something else: back off, one at a time
    GONE = "gone"  # BlueZ does not know the device any more: wait until it is seen again
    DAEMON = "daemon"  # the Bluetooth daemon or D-Bus is away: all links are
    PAIRING = "pairing"  # the device asks to be paired first
    ADAPTER = "adapter"  # the adapter is off or away
    REFUSED = "refused"  # this one operation is not possible; the link lives
    SLOW = "slow"  # no answer in time
    FAILED = "failed"  # anything else


@dataclass(frozen=True, slots=True)
class Fault:
    """The meaning, and what an operator reads."""

    meaning: Meaning
    text: str


class LinkEndedError(Exception):
    """A link was ended on purpose; never leaves the source."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.text)
        self.fault = fault


# (part of the text, lower case; meaning): the first that is found counts
_TEXTS: Final = (
    ("not paired", Meaning.PAIRING),
    ("authenticationfailed", Meaning.PAIRING),
    ("authenticationrejected", Meaning.PAIRING),
    ("notconnected", Meaning.LOST),
    ("not connected", Meaning.LOST),
    ("device disconnected", Meaning.LOST),
    ("serviceunknown", Meaning.DAEMON),
    ("namehasnoowner", Meaning.DAEMON),
    ("noreply", Meaning.DAEMON),
    ("error.disconnected", Meaning.DAEMON),
    ("not connected to bus", Meaning.DAEMON),
    ("inprogress", Meaning.BUSY),
    ("in progress", Meaning.BUSY),
    ("abort-by-local", Meaning.BUSY),
    ("error.busy", Meaning.BUSY),
    ("unknownobject", Meaning.GONE),
    ("doesnotexist", Meaning.GONE),
    ("not found", Meaning.GONE),
    ("notready", Meaning.ADAPTER),
    ("not ready", Meaning.ADAPTER),
    ("powered off", Meaning.ADAPTER),
    ("notsupported", Meaning.REFUSED),
    ("notpermitted", Meaning.REFUSED),
    ("notauthorized", Meaning.REFUSED),
)
_ATT: Final = {0x05: Meaning.PAIRING, 0x0C: Meaning.PAIRING, 0x0F: Meaning.PAIRING, 0x0E: Meaning.LOST}  # any other: REFUSED
_WORDS: Final = {
    Meaning.LOST: "link lost",
    Meaning.BUSY: "the adapter was busy",
    Meaning.GONE: "not heard any more",
    Meaning.DAEMON: "the Bluetooth daemon is away",
    Meaning.PAIRING: "asks to be paired: `paceline gateway pair` with its id",
    Meaning.ADAPTER: "the adapter is off",
    Meaning.SLOW: "no answer in time",
}
MAX_TEXT: Final = 160


def fault_of(error: BaseException) -> Fault:
    """The meaning of an exception that bleak or dbus-fast raised."""
    if isinstance(error, LinkEndedError):
        return error.fault
    if isinstance(error, TimeoutError):
        return Fault(Meaning.SLOW, _WORDS[Meaning.SLOW])
    if isinstance(error, EOFError | BrokenPipeError | ConnectionError):
        return Fault(Meaning.DAEMON, _WORDS[Meaning.DAEMON])
    code = error.args[0] if error.args else None
    if isinstance(code, int) and len(error.args) == 2 and "GATT" in str(error.args[1]):  # bleak's protocol error: (code, words)
        meaning = _ATT.get(code, Meaning.REFUSED)
        return Fault(meaning, _WORDS.get(meaning, f"refused with ATT error 0x{code:02x}"))
    said = " ".join(str(error).split()) or type(error).__name__
    low = said.lower()
    for part, meaning in _TEXTS:
        if part in low:
            return Fault(meaning, _WORDS.get(meaning, said[:MAX_TEXT]))
    return Fault(Meaning.FAILED, said[:MAX_TEXT])
