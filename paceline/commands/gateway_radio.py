"""`paceline gateway scan`, `devices` and `pair`: what sensors are near, what the gateway makes of them, pairing one that asks for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import BadInputError, ConfigError
from paceline.options import json_option, print_json, read_settings, settings_options

if TYPE_CHECKING:
    from gateway.ble_judging import Judge
    from gateway.settings import BleSettings
    from paceline.config import Settings
    from paceline.radio_view import Row


@click.command()
@settings_options
@json_option
@click.option("--seconds", type=click.FloatRange(1, 600), default=8.0, show_default=True, help="How long to listen.")
@click.option("--all", "everything", is_flag=True, help="Also devices that no profile reads.")
def scan(config_file: Path | None, data: Path | None, as_json: bool, seconds: float, everything: bool) -> None:
    """Listen for Bluetooth sensors: what is near, what it would tell, how well it is heard, and why it would be refused.

    Works beside a running gateway; what that one is connected to is listed too, as it does not advertise any more.

    \b
    Example:
      paceline gateway scan
      paceline gateway scan --seconds 20 --all --json
    """
    from paceline.radio_view import merged, rows_of_survey, table_of

    settings = read_settings(config_file, data).settings
    known = _known(settings)
    found = asyncio.run(_survey(settings.gateway.ble, seconds))
    rows = merged(rows_of_survey(found, _judge(settings), _athletes(settings), everything=everything), known)
    if as_json:
        print_json({"seconds": seconds, "devices": rows})
    elif rows:
        click.echo("\n".join(table_of(rows)))
    else:
        click.echo(f"no sensor heard in {seconds:g} s: wear or wake it; --all lists other devices too")


@click.command()
@settings_options
@json_option
@click.pass_context
def devices(ctx: click.Context, config_file: Path | None, data: Path | None, as_json: bool) -> None:
    """The sensors as the running gateway knows them: state, profile, signal, battery, who wears it, and why one is not live.

    Exit code 1 when no gateway has written its list within the last minute and a half.

    \b
    Example:
      paceline gateway devices --data /var/lib/paceline
    """
    from gateway.sightings import read_devices
    from paceline.radio_view import STALE_S, age_s, in_order, table_of

    settings = read_settings(config_file, data).settings
    document = read_devices(_box_dir(settings))
    if document is None:
        raise ConfigError(
            f"{_box_dir(settings)}: no gateway with a radio ever ran here",
            cure="turn one on (gateway.ble.enabled = true) and start `paceline gateway`, or give its folder with --data",
        )
    rows = in_order(document["devices"])
    age = age_s(document, time.time_ns() // 1000)
    if as_json:
        print_json({"age_s": round(age, 1), "devices": rows})
    else:
        click.echo("\n".join(table_of(rows)) if rows else "no sensor is near")
        if age > STALE_S:
            click.echo(f"this list is {age:.0f} s old: the gateway does not run", err=True)
    ctx.exit(1 if age > STALE_S else 0)


@click.command()
@settings_options
@json_option
@click.option("--passkey", type=click.IntRange(0, 999_999), help="The six digits of the device, if it has some (asked for when left out).")
@click.option("--seconds", type=click.FloatRange(1, 600), default=30.0, show_default=True, help="How long to wait until it is heard.")
@click.argument("device")
def pair(config_file: Path | None, data: Path | None, as_json: bool, passkey: int | None, seconds: float, device: str) -> None:
    """Pair DEVICE (its id, address or name), for one that asks for it, or so that it keeps its id when its address changes.

    The running gateway connects to it by itself afterwards.

    \b
    Example:
      paceline gateway pair ble-c00000000001
      paceline gateway pair "Strap 7" --passkey 123456
    """
    from gateway.ble_address import device_of_address

    settings = read_settings(config_file, data).settings
    address = asyncio.run(_pair(settings.gateway.ble, device, passkey, seconds))
    if as_json:
        print_json({"device": device_of_address(address), "address": address})
    else:
        click.echo(f"{device_of_address(address)} is paired")


async def _survey(ble: BleSettings, seconds: float) -> list[Any]:
    from gateway.ble_survey import surveying

    async with surveying(ble) as survey:
        await asyncio.sleep(seconds)
        return list(survey.found.values())


async def _pair(ble: BleSettings, wanted: str, passkey: int | None, seconds: float) -> str:
    from gateway.ble_address import device_of_address
    from gateway.ble_pairing import pair as pair_device
    from gateway.ble_survey import surveying

    def is_it(address: str, name: str) -> bool:
        return wanted.lower() in {device_of_address(address), address.lower(), name.lower()}

    async def ask() -> int | None:
        if passkey is not None:
            return passkey
        text = await asyncio.to_thread(click.prompt, "the six digits of the device", type=click.IntRange(0, 999_999), err=True)
        return int(text)

    async with surveying(ble) as survey:
        linked = [one for one in await survey.watch.devices() if one.connected and is_it(one.address, one.name)]
        if linked:
            return await pair_device(linked[0].path, ask)
        found = await survey.until(lambda one: is_it(one.advert.address, one.advert.name), seconds)
        if found is None:
            raise BadInputError(
                f"{wanted!r} is not heard", cure="`paceline gateway scan` lists what is; wake the device, and end its link to a phone"
            )
        return await pair_device(found.path, ask)


def _box_dir(settings: Settings) -> Path:
    """Where the gateway keeps its files: below the data folder of a site, or the data folder itself of an installed box."""
    from gateway.sightings import FILE
    from paceline.site import Site

    return settings.data if (settings.data / FILE).exists() else Site(settings).gateway_dir


def _known(settings: Settings) -> list[Row]:
    """What a gateway that runs now is connected to."""
    from gateway.sightings import read_devices
    from paceline.radio_view import STALE_S, age_s

    document = read_devices(_box_dir(settings))
    if document is None or age_s(document, time.time_ns() // 1000) > STALE_S:
        return []
    return list(document["devices"])


def _judge(settings: Settings) -> Judge:
    from device_profiles.catalogue import catalogue
    from gateway.ble_judging import Judge

    ble = settings.gateway.ble
    return Judge(catalogue().all(), allow=ble.allow, deny=ble.deny)


def _athletes(settings: Settings) -> Mapping[str, str]:
    """Who wears which device now, as the box was told last."""
    from broker.nodeconfig import parse_node_config

    try:
        config = parse_node_config((_box_dir(settings) / "cfg.json").read_bytes(), "cfg.json")
    except (OSError, ConfigError):
        return {}
    now_us = time.time_ns() // 1000
    found = {binding.device: config.athlete_at(binding.device, now_us) for binding in config.bindings}
    return {device: athlete for device, athlete in found.items() if athlete is not None}
