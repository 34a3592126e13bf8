"""The `paceline` command. Subcommands load when they are called, so a gateway imports no numpy and no web server.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. An expected failure is one message with its cure on standard error.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from broker.errors import ConfigError, PacelineError, StoreError
from paceline.lazy import LazyGroup

_COMMANDS: Final = {
    "run": "paceline.commands.run:run",
    "demo": "paceline.commands.demo:demo",
    "gateway": "paceline.commands.gateway:gateway",
    "broker": "paceline.commands.brokers:broker",
    "ingest": "paceline.commands.roles:ingest",
    "process": "paceline.commands.roles:process",
    "api": "paceline.commands.roles:api",
    "token": "paceline.commands.token:token",
    "openapi": "paceline.commands.openapi:openapi",
    "simulate": "paceline.commands.simulate:simulate",
    "replay": "paceline.commands.replay:replay",
    "segments": "paceline.commands.segments:segments",
    "athletes": "paceline.commands.athletes:athletes",
    "profiles": "paceline.commands.profiles:profiles",
    "upload": "paceline.commands.upload:upload",
    "equipment": "paceline.commands.equipment:equipment",
    "tap": "paceline.commands.tap:tap",
    "node": "paceline.commands.node:node",
    "firmware": "paceline.commands.firmware:firmware",
    "events": "paceline.commands.events:events",
    "topics": "paceline.commands.topics:topics",
    "influx": "paceline.commands.influx:influx",
    "dlq": "paceline.commands.dlq:dlq",
    "config": "paceline.commands.config:config",
    "doctor": "paceline.commands.doctor:doctor",
    "health": "paceline.commands.health:health",
    "prepare": "paceline.commands.prepare:prepare",
    "backup": "paceline.commands.backup:backup",
    "restore": "paceline.commands.backup:restore",
    "bench": "paceline.commands.bench:bench",
}


@click.command(cls=LazyGroup, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paceline")
def cli() -> None:
    """Paceline: from sensors to live rankings, nothing lost, nothing counted twice.

    \b
    Start here:
      paceline demo            a virtual gym and a ride, ranked live
      paceline run             the real thing on this machine
    """


def main() -> None:
    """Run the command line and exit."""
    try:
        code = cli.main(standalone_mode=False, prog_name="paceline")
    except click.ClickException as error:
        error.show()
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        raise SystemExit(130) from None
    except PacelineError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2 if isinstance(error, ConfigError) else 1) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(1) from None
    except OSError as error:
        if error.filename is None:  # of no file that was named: a fault of ours
            raise
        click.echo(f"error: {_unusable(error)}", err=True)
        raise SystemExit(1) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def _unusable(error: OSError) -> StoreError:
    """A file or folder that cannot be used, where a command knows no better."""
    return StoreError(f"{error.filename}: {error.strerror}", cure="name one in a folder that is there, which this user may use")
