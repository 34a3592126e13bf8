"""`paceline simulate`: virtual members near a box (the default), and loads."""

from __future__ import annotations

from typing import Final

import click

from paceline.lazy import LazyGroup

_COMMANDS: Final = {
    "gym": "paceline.commands.simulate_gym:gym",
    "fleet": "paceline.commands.simulate_fleet:fleet",
}


@click.group(cls=LazyGroup, places=_COMMANDS, default="gym")
def simulate() -> None:
    """A virtual gym near the box of a running `paceline run` (the default), and loads for a whole platform.

    \b
    Example:
      paceline simulate --data data --members 50 --seconds 60
      paceline simulate fleet --data data --athletes 1000 --seconds 60
    """
