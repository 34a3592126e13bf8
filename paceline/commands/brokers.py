"""`paceline broker`: a broker as a process, and the configuration of a mosquitto that holds the same rules."""

from __future__ import annotations

from pathlib import Path

import click

from paceline.options import read_settings, settings_options


@click.group()
def broker() -> None:
    """Run a broker, or configure mosquitto.

    \b
    Example:
      paceline broker serve central --data data
    """


@broker.command()
@click.argument("name", type=click.Choice(["central", "near"]))
@settings_options
def serve(name: str, config_file: Path | None, data: Path | None) -> None:
    """Run the broker NAME (central: nodes and platform; near: devices of the box): the embedded one on loopback, or a mosquitto.

    \b
    Example:
      PACELINE_CENTRAL__PORT=1883 paceline broker serve central --data data
    """
    from broker.embedded import serve as serve_embedded
    from paceline.parts import embedded_settings
    from paceline.site import open_site
    from paceline.supervise import die_with_parent
    from paceline.watched import run_watched

    die_with_parent()
    role = f"broker-{name}"
    site = open_site(read_settings(config_file, data, role=role).settings)
    if name == "central" and site.settings.central.kind == "mosquitto":
        from paceline.site_identity import run_mosquitto

        run_watched(role, site.settings, lambda _watch: run_mosquitto(site))
        return
    settings = embedded_settings(site, "central" if name == "central" else "near")
    run_watched(role, site.settings, lambda _watch: serve_embedded(settings))


@broker.group()
def config() -> None:
    """Write the configuration of an external broker.

    \b
    Example:
      paceline broker config mosquitto --directory /etc/mosquitto/paceline
    """


@config.command()
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for mosquitto.conf, acl, passwords."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; beyond loopback TLS is required.")
@click.option("--port", type=click.IntRange(1, 65535), default=1883, show_default=True, help="Port to listen on.")
@click.option("--certfile", type=click.Path(path_type=Path, dir_okay=False), help="TLS certificate chain.")
@click.option("--keyfile", type=click.Path(path_type=Path, dir_okay=False), help="TLS private key.")
@click.option("--user", "users", multiple=True, metavar="TENANT/NODE", help="Add a user and print its new secret (repeat it).")
def mosquitto(*, directory: Path, host: str, port: int, certfile: Path | None, keyfile: Path | None, users: tuple[str, ...]) -> None:
    """Write a mosquitto configuration with the same rules as the embedded broker: users, topics, limits.

    \b
    Example:
      paceline broker config mosquitto --directory /etc/mosquitto/paceline --user gym/box --user platform/ingest
      mosquitto -c /etc/mosquitto/paceline/mosquitto.conf
    """
    from broker.credentials import add_user
    from broker.errors import ConfigError
    from broker.mosquitto import MosquittoSettings, TlsSettings, password_path, write_config

    if (certfile is None) != (keyfile is None):
        raise ConfigError("--certfile and --keyfile belong together", cure="give both or neither")
    tls = TlsSettings(certfile=certfile, keyfile=keyfile) if certfile and keyfile else None
    settings = MosquittoSettings(directory=directory.absolute(), host=host, port=port, tls=tls)
    click.echo(f"wrote {write_config(settings)}")
    for user in users:
        click.echo(f"{user} {add_user(password_path(settings), user)}")
