"""`paceline gateway install`: this machine becomes a box."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--deb", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Install this package (default: one is built).")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Folder where fetched libraries are kept.")
def install(*, dry_run: bool, deb: Path | None, cache: Path | None) -> None:
    """Make this Debian machine the box of a gym: build its package and install it, as root. Spool and settings of an earlier one stay.

    \b
    Example:
      sudo paceline gateway install
    """
    from broker.errors import ConfigError
    from paceline.box_package import build, machine_arch, own_version
    from paceline.commands.gateway_package import default_cache

    if not Path("/etc/debian_version").exists():
        raise ConfigError("this is no Debian: there is no apt to install with", cure="use Debian 12, Ubuntu 24.04 or Raspberry Pi OS 12")
    arch, python = machine_arch(), _python_of_the_system()
    with tempfile.TemporaryDirectory() as folder:
        target = deb.absolute() if deb else Path(folder) / f"paceline-gateway_{own_version()}_{arch}.deb"
        command = ["apt-get", "install", "--yes", "--allow-downgrades", str(target)]
        if dry_run:
            if deb is None:
                click.echo(f"build {target.name} for Python {python}")
            click.echo(" ".join(command))
            click.echo(
                "which makes the user paceline, enables and starts paceline-gateway.service, and keeps what lies in /var/lib/paceline"
            )
            return
        if os.geteuid() != 0:
            raise ConfigError("only root can install a package", cure="sudo paceline gateway install, or --dry-run to see what it does")
        if deb is None:
            Path(folder).chmod(0o755)  # apt reads it as its own user
            target.write_bytes(build(arch, cache or default_cache(), python=python).content)
        done = subprocess.run(command, check=False)  # noqa: S603 - apt, and a package of our own or of the caller's
        sys.exit(1 if done.returncode else 0)


def _python_of_the_system() -> str:
    """The minor version of /usr/bin/python3: that of the package, whatever runs this command."""
    from broker.errors import ConfigError

    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(["/usr/bin/python3", "-Ic", code], capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"/usr/bin/python3: {error}", cure="apt-get install python3") from error
    return done.stdout.strip()
