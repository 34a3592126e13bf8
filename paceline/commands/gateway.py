"""`paceline gateway`: the box in the gym. Without a command of its own it runs."""

from __future__ import annotations

from typing import Final

import click

from paceline.lazy import LazyGroup

_COMMANDS: Final = {
    "run": "paceline.commands.gateway_run:run",
    "box": "paceline.commands.gateway_box:box",
}


@click.group(cls=LazyGroup, places=_COMMANDS, default="run")
def gateway() -> None:
    """The box in the gym: runs it (the default), and says what it hears.

    \b
    Example:
      PACELINE_CENTRAL__PORT=1883 paceline gateway --data /var/lib/paceline
    """
