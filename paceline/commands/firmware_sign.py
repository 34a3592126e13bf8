"""`paceline firmware key`, `sign` and `offer`: updates that devices believe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paceline.options import json_option, print_json

if TYPE_CHECKING:
    from paceline.device.manifest import Kind


@click.command()
@json_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def key(*, as_json: bool, file: Path) -> None:
    """Make a key for updates in FILE (0600) and print its public half: build it into devices with `firmware build --key`.

    Whoever has FILE can put anything onto your devices. Keep a copy where no computer reaches it.

    \b
    Example:
      paceline firmware key updates.pem
    """
    from paceline.device.manifest import make_key

    public = make_key(file).hex()
    if as_json:
        print_json({"file": str(file), "public_key": public})
    else:
        click.echo(f"{file}\npublic key {public}")


@click.command()
@json_option
@click.argument("image", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Private key of `firmware key`.")
@click.option("--version", type=click.IntRange(1, 0xFFFF_FFFF), required=True, help="Counts up: a device takes newer ones only.")
@click.option("--minimum", type=click.IntRange(0, 0xFFFF_FFFF), default=0, show_default=True, help="Oldest version that may take it.")
@click.option("--hardware", default="", help="Board and example, as esp32-strap_bridge (default: the file's name).")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Refused by devices after so many days.")
@click.option(
    "--kind",
    type=click.Choice(["application", "firmware"]),
    default="application",
    show_default=True,
    help="application: a .romfs for a slot; firmware: a whole MicroPython (.bin) for the other firmware partition of an ESP32.",
)
def sign(*, as_json: bool, image: Path, key_file: Path, version: int, minimum: int, hardware: str, days: int, kind: Kind) -> None:
    """Sign IMAGE and write its manifest beside it (same name, .manifest).

    \b
    Example:
      paceline firmware sign build/esp32-strap_bridge.romfs --key updates.pem --version 7
    """
    from broker.errors import StoreError
    from broker.replace_file import replace_file
    from paceline.device.manifest import Release, read_key
    from paceline.device.manifest import sign as signed

    release = Release(kind, version, minimum, int(time.time()) + days * 86_400, hardware or image.stem)
    raw = signed(release, image.read_bytes(), read_key(key_file))
    out = image.with_suffix(".manifest")
    try:
        replace_file(out, raw, mode=0o644)
    except OSError as error:
        raise StoreError(f"{out}: {error.strerror}", cure="sign a copy in a folder you may write") from error
    if as_json:
        print_json(
            {"manifest": str(out), "hardware": release.hardware, "version": version, "minimum": minimum, "expires_s": release.expires_s}
        )
    else:
        until = time.strftime("%Y-%m-%d", time.gmtime(release.expires_s))
        click.echo(f"{out}: version {version} of {release.hardware}, for devices from version {minimum} on, until {until}")


@click.command()
@click.argument("manifests", metavar="MANIFEST...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104
@click.option("--port", type=click.IntRange(0, 65535), default=8870, show_default=True, help="Port (0: any free one).")
def offer(*, manifests: tuple[Path, ...], host: str, port: int) -> None:
    """Offer signed images to devices over HTTP until Ctrl-C. They ask now and then, take what is newer, and resume what was cut.

    Nothing has to be kept secret or safe on the way: a device checks signature and hash. Any web server with ranges can do the same.

    \b
    Example:
      paceline firmware offer build/esp32-strap_bridge.manifest
    """
    import logging

    from paceline.device.offer import load_offer, server_of

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    offers = [load_offer(path) for path in manifests]
    server = server_of(offers, host, port)
    for one in offers:
        click.echo(f"{one.release.hardware} version {one.release.version}: {len(one.image)} bytes")
    click.echo(f"offered on http://{host}:{server.server_address[1]}/ (Ctrl-C ends it)")
    try:
        server.serve_forever()
    finally:
        server.server_close()
