"""Groups of commands that load when they are called. A group may have one command that is meant when none is named.

Commands whose module is not installed are neither listed nor found: the box of a gym has only its own.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`places` maps a command to `module:name`; `default` is the command that options without a command are for."""

    def __init__(self, *args: Any, places: Mapping[str, str], default: str = "", **more: Any) -> None:
        super().__init__(*args, **more)
        self._places = places
        self._default = default

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [name for name in self._places if self._module(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if not (module := self._module(cmd_name)):
            return None
        return getattr(importlib.import_module(module), self._places[cmd_name].partition(":")[2])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; options without the name of a command are meant for the default one."""
        if self._default and (not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)):
            args = [self._default, *args]
        return super().parse_args(ctx, args)

    def _module(self, name: str) -> str:
        """The module of a command, empty when there is none. Its package is loaded by this, the module is not."""
        module = self._places.get(name, ":").partition(":")[0]
        return module if module and importlib.util.find_spec(module) is not None else ""
