"""What the sticks of a setting are, for `paceline doctor`: each is opened, asked and given back; one that is held is in use."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from broker.errors import ConfigError
from gateway.ant_stick import Phase, Stick, StickSettings
from gateway.ant_transport import Transport, open_stick
from gateway.settings import AntSettings

SURVEY_S: Final = 15.0
_BUSY: Final = frozenset({errno.EBUSY, errno.EAGAIN})


@dataclass(frozen=True, slots=True)
class StickFound:
    """One stick: `ok` and what it is, or why not and the cure."""

    setting: str
    ok: bool
    found: str
    cure: str = ""


async def survey(settings: AntSettings, *, opener: Callable[[str], Awaitable[Transport]] = open_stick) -> list[StickFound]:
    """Every stick of the settings, one after the other. Takes some seconds each; never raises for a stick."""
    found: list[StickFound] = []
    held: list[Transport] = []  # kept until all are looked at: `usb` twice means two sticks
    try:
        for setting in settings.sticks:
            try:
                transport = await opener(setting)
                held.append(transport)
                found.append(await _ask(setting, transport, settings))
            except ConfigError as error:
                found.append(StickFound(setting, ok=False, found=error.message, cure=error.cure))
            except OSError as error:
                busy = error.errno in _BUSY
                said = error.strerror or str(error)
                found.append(
                    StickFound(setting, busy, f"{said} (a running gateway, if it is ours)" if busy else said, "see docs/gateway.md")
                )
    finally:
        for transport in held:
            await transport.close()
    return found


async def _ask(setting: str, transport: Transport, settings: AntSettings) -> StickFound:
    loop = asyncio.get_running_loop()
    stick = Stick(StickSettings(bytes.fromhex(settings.key.get_secret_value()), (), may_scan=settings.scan == "auto"), loop.time())
    until_s = loop.time() + SURVEY_S
    while stick.phase not in (Phase.LISTENING, Phase.FAILED) and loop.time() < until_s:
        out = stick.outgoing()
        if out:
            await transport.write(out)
        try:
            async with asyncio.timeout_at(min(stick.deadline_s(), until_s)):
                stick.feed(await transport.read(), loop.time())
        except TimeoutError:
            stick.wake(loop.time())
    if stick.phase is not Phase.LISTENING:
        return StickFound(setting, ok=False, found=stick.reason or "does not answer", cure="pull it out and plug it in again")
    able = stick.capabilities
    how = "hears a whole room" if stick.scanning else f"hears {able.channels if able else 0} devices, it cannot scan"
    return StickFound(setting, ok=True, found=f"{transport.name}: {stick.version or 'a stick'}, number {stick.serial}, {how}")
