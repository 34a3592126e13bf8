"""Options that several commands share, and how a command reads its settings."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from pydantic import SecretStr

from broker.ids import is_id
from broker.logs import hide, set_up_log
from paceline.config import Loaded, Settings, current_environment, leaves, load

if TYPE_CHECKING:
    from paceline.site import Site

F = TypeVar("F", bound=Callable[..., object])


def settings_options(function: F) -> F:
    """`--config` and `--data`."""
    function = click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Data folder (default ./data).")(function)
    return click.option("--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="TOML file with settings.")(
        function
    )


def json_option(function: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def read_settings(config_file: Path | None, data: Path | None, options: dict[str, Any] | None = None, *, role: str = "") -> Loaded:
    """The settings of this call; also sets up the log, whose lines say `role`."""
    loaded = load(config_file, current_environment(), {"data": data, **(options or {})})
    hide(value.get_secret_value() for _, value in leaves(loaded.settings) if isinstance(value, SecretStr))
    set_up_log(loaded.settings.log_level, loaded.settings.log.format, role)
    return loaded


def tenant_here(settings: Settings, tenant: str | None) -> tuple[Site, str]:
    """The site of the data folder, and the tenant that `--tenant` means: that of the site when it is not given."""
    from paceline.site import site_here

    if tenant is not None and not is_id(tenant):
        raise click.UsageError(f"--tenant {tenant!r} is not an id: use 1-32 of a-z 0-9 . _ - starting with a letter or digit")
    site = site_here(settings)
    return site, tenant or site.settings.tenant


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2, default=str))


def program_name() -> str:
    """How the reader calls this program: by its name where the shell finds that, else by the path it was started with."""
    started = Path(sys.argv[0])
    if started.name != "paceline" or shutil.which("paceline") == str(started.absolute()):
        return "paceline"
    return str(started)
