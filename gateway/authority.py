"""Whether a command may be carried out at all: now, on this machine, for this athlete. Pure.

Never without a live session of an athlete bound to the machine: the binding of `cfg` must hold at this moment, and the machine's own data
must be coming. Only a stop does not need the data, because a machine that went silent is one to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.commands import MAX_AHEAD_US, Command, CommandReason
from gateway.clock import EARLIEST_UTC_US

SILENT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when a command comes. `silent_s`: since the machine's last data; None: none since this process began."""

    enabled: bool
    now_utc_us: int
    athlete: str | None
    connected: bool
    silent_s: float | None


def refusal(command: Command, now: Situation) -> tuple[CommandReason, str] | None:
    """Why not, in a word and for people; None: it may."""
    if not now.enabled:
        return CommandReason.DISABLED, "this gym does not let its equipment be commanded (gateway.equipment.enabled)"
    if now.now_utc_us < EARLIEST_UTC_US:
        return CommandReason.CLOCK_UNSET, "the box does not know the time, so it cannot tell whether a command is late"
    if command.expires_us <= now.now_utc_us:
        return CommandReason.EXPIRED, f"{(now.now_utc_us - command.expires_us) / 1e6:.1f} s too late by the clock of the box"
    if command.expires_us > now.now_utc_us + MAX_AHEAD_US:
        return CommandReason.BAD_COMMAND, f"expires_us is more than {MAX_AHEAD_US // 60_000_000} minutes ahead by the clock of the box"
    if now.athlete is None:
        return CommandReason.NOT_BOUND, f"nobody is bound to {command.device}"
    if now.athlete != command.athlete:
        return CommandReason.NOT_BOUND, f"{command.device} is bound to somebody else"
    if not now.connected:
        return CommandReason.NOT_CONTROLLABLE, f"this box has no connection to {command.device} that takes commands"
    if command.order.action != "stop" and (now.silent_s is None or now.silent_s > SILENT_S):
        since = "no data since the box started" if now.silent_s is None else f"no data for {now.silent_s:.0f} s"
        return CommandReason.NOT_LIVE, f"{command.device} sends nothing: {since}"
    return None
