"""`paceline gateway`: the box in the gym. Without a command of its own it runs."""

from __future__ import annotations

from typing import Final

import click

from paceline.lazy import LazyGroup

_COMMANDS: Final = {
    "run": "paceline.commands.gateway_run:run",
    "scan": "paceline.commands.gateway_radio:scan",
    "devices": "paceline.commands.gateway_radio:devices",
    "pair": "paceline.commands.gateway_radio:pair",
    "box": "paceline.commands.gateway_box:box",
    "package": "paceline.commands.gateway_package:package",
    "install": "paceline.commands.gateway_install:install",
}
_MAKE_BOXES: Final = frozenset({"package", "install"})  # not on a box itself
BOX_COMMANDS: Final = tuple(place.partition(":")[0] for name, place in _COMMANDS.items() if name not in _MAKE_BOXES)


@click.group(cls=LazyGroup, places=_COMMANDS, default="run")
def gateway() -> None:
    """The box in the gym: runs it (the default), and says what it hears.

    \b
    Example:
      PACELINE_CENTRAL__PORT=1883 paceline gateway --data /var/lib/paceline
    """
