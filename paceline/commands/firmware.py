"""`paceline firmware`: devices of one's own, from the example to the signed update."""

from __future__ import annotations

from typing import Final

import click

from paceline.lazy import LazyGroup

_COMMANDS: Final = {
    "new": "paceline.commands.firmware_make:new",
    "build": "paceline.commands.firmware_make:build",
    "flash": "paceline.commands.firmware_make:flash",
    "provision": "paceline.commands.firmware_run:provision",
    "run": "paceline.commands.firmware_run:run",
    "key": "paceline.commands.firmware_sign:key",
    "sign": "paceline.commands.firmware_sign:sign",
    "offer": "paceline.commands.firmware_sign:offer",
}


@click.group(cls=LazyGroup, places=_COMMANDS)
def firmware() -> None:
    """Devices of your own on MicroPython: start from an example, build, flash, set up, update. See docs/firmware.md.

    \b
    Example:
      paceline firmware new strap_bridge
      paceline firmware run strap_bridge --sim --data data
    """
