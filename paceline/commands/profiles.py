"""`paceline profiles`: what is known of sensors, and what a packet of one says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.errors import BadInputError
from paceline.options import json_option, print_json

if TYPE_CHECKING:
    from device_profiles.profile import Profile


@click.group()
def profiles() -> None:
    """Sensor profiles: list and show them, check files of your own, decode a packet.

    See docs/profiles.md for the language.

    \b
    Example:
      paceline profiles list
      paceline profiles decode 2A37 10500004cc02
    """


@profiles.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all profiles: name, UUID or ANT+ type, how it is heard, and the layout its samples have.

    \b
    Example:
      paceline profiles list
      paceline profiles list --json
    """
    found = _catalogue()
    if as_json:
        print_json([_summary(profile) for profile in found])
        return
    for profile in found:
        click.echo(f"{profile.name:<36} {_short(profile.key):<38} {profile.mode:<9} {profile.layout or '-':<10} {profile.about}")


@profiles.command()
@json_option
@click.argument("name")
def show(*, as_json: bool, name: str) -> None:
    """Show one profile: NAME, a UUID or ant:TYPE. Its fields with units, derived values, samples, commands and quirks.

    \b
    Example:
      paceline profiles show treadmill_data
      paceline profiles show ant:17 --json
    """
    profile = _find(name)
    whole = _whole(profile)
    if as_json:
        print_json(whole)
        return
    click.echo(f"{profile.name}: {profile.about}\n  {_short(profile.key)} {profile.mode}, every {profile.period_ms} ms, {profile.file}")
    for title in ("fields", "derived", "samples", "commands", "quirks"):
        lines: list[dict[str, Any]] = whole[title]
        if lines:
            click.echo(f"{title}:")
        for line in lines:
            click.echo("  " + "  ".join(f"{value}" if key == "name" else f"{key}={_said(value)}" for key, value in line.items() if value))


@profiles.command()
@json_option
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_context
def check(ctx: click.Context, *, as_json: bool, files: tuple[Path, ...]) -> None:
    """Check FILES, or all profiles of Paceline: the language, golden frames, layouts of samples. Exit code 1 if something is wrong.

    \b
    Example:
      paceline profiles check
      paceline profiles check my_sensor.yaml
    """
    from device_profiles.errors import BadProfileError
    from device_profiles.golden import failures
    from paceline.profile_layouts import misfits

    wrong: list[str] = []
    checked: tuple[Profile, ...] = ()
    try:
        checked = _loaded(files)
    except BadProfileError as error:
        wrong.append(str(error))
    for profile in checked:
        wrong += [*failures(profile), *misfits(profile)]
    if as_json:
        print_json({"profiles": [profile.name for profile in checked], "wrong": wrong})
    else:
        for text in wrong:
            click.echo(text, err=True)
        click.echo(f"{len(checked)} profiles checked, {len(wrong)} faults")
    ctx.exit(1 if wrong else 0)


@profiles.command()
@json_option
@click.option("--name", default="", help="Advertised name of the device, for its quirks.")
@click.option("--manufacturer", default="", help="Its manufacturer, for its quirks.")
@click.option("--firmware", default="", help="Its firmware, for its quirks.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A profile file of your own to look in first."
)
@click.argument("source")
@click.argument("packets", metavar="HEX...", nargs=-1, required=True)
def decode(*, as_json: bool, name: str, manufacturer: str, firmware: str, file: Path | None, source: str, packets: tuple[str, ...]) -> None:
    """Decode packets of SOURCE: a UUID, ant:TYPE or the name of a profile. Several HEX come a period apart; the result is the last one's.

    \b
    Example:
      paceline profiles decode 2A37 10500004cc02
      paceline profiles decode ant:17 1019fd259d270035 --json
    """
    from device_profiles.errors import BadProfileError
    from device_profiles.golden import plain
    from device_profiles.reader import Reader
    from device_profiles.samples import Identity

    try:
        own = _loaded((file,)) if file else ()
    except BadProfileError as error:
        raise BadInputError(str(error)) from error
    profile = _find(source, own)
    reader = Reader(profile, Identity(name=name, manufacturer=manufacturer, firmware=firmware))
    samples: list[dict[str, Any]] = []
    for i, packet in enumerate(packets):
        took = reader.feed(_bytes(packet), (1 + i) * (profile.period_ms or 1000) * 1000)
        samples = [{"layout": one.layout, "age_ms": one.age_us / 1000, "values": dict(one.values)} for one in took]
    infos = reader.profile.fields
    said, _ = reader.profile.decoder.decode(_bytes(packets[-1]))  # also what the reader does not believe or publish yet
    fields = {key: plain(value) for key, value in (said if reader.is_waiting else {**said, **reader.fields}).items()}
    words = {
        key: infos[key].enum[value] for key, value in fields.items() if key in infos and isinstance(value, int) and value in infos[key].enum
    }
    if as_json:
        print_json({"profile": profile.name, "key": profile.key, "fields": fields, "words": words, "samples": samples, "bad": reader.bad})
        return
    click.echo(f"{profile.name}: {profile.about}")
    for key, value in fields.items():
        click.echo(f"  {key:<28} {_said(value)}" + (f"  ({words[key]})" if key in words else f"  {infos[key].unit}".rstrip()))
    for sample in samples:
        age = f", {sample['age_ms']:g} ms before" if sample["age_ms"] else ""
        click.echo(f"  -> {sample['layout']}{age}: " + ", ".join(f"{key} {_said(value)}" for key, value in sample["values"].items()))
    if not samples:
        click.echo("  -> the record goes on in the next packet" if reader.is_waiting else "  -> no sample")
    for word, times in reader.bad.items():
        click.echo(f"  {word}: {times}")


@profiles.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write (default: standard output).")
@click.argument("names", nargs=-1, required=True)
def pack(*, out: Path | None, names: tuple[str, ...]) -> None:
    """Write the tables of the profiles NAMES as a module for a MicroPython device, beside device_profiles/engine.py.

    \b
    Example:
      paceline profiles pack heart_rate_measurement csc_measurement --out profile_pack.py
    """
    from device_profiles.errors import ProfileError
    from device_profiles.packs import micropython_source

    try:
        source = micropython_source([_find(name) for name in names])
    except ProfileError as error:
        raise BadInputError(str(error)) from error
    if out is None:
        click.echo(source, nl=False)
    else:
        out.write_text(source, "utf-8")
        click.echo(f"{out}: {len(names)} profiles, {len(source)} characters", err=True)


def _catalogue() -> tuple[Profile, ...]:
    from device_profiles.catalogue import catalogue

    return catalogue().all()


def _loaded(files: Iterable[Path]) -> tuple[Profile, ...]:
    """The profiles of the files, which may use those of Paceline and replace a file of the same name; all of Paceline's without files."""
    from device_profiles.catalogue import FOLDER, QUIRKS, load

    given = {path.name: path for path in files}
    if not given:
        return _catalogue()
    rest = [path for path in sorted(FOLDER.glob("*.yaml")) if path.name not in given]
    return tuple(profile for profile in load([*rest, *given.values()], QUIRKS).all() if profile.file in given)


def _find(name: str, first: tuple[Profile, ...] = ()) -> Profile:
    from device_profiles.profile import BASE_UUID

    text = name.lower()
    key = BASE_UUID.format(text) if len(text) == 4 else text
    for profile in (*first, *_catalogue()):
        if key == profile.key or text == profile.name:
            return profile
    raise BadInputError(f"no profile is named {name!r}, and none has that UUID or type", cure="`paceline profiles list` names them all")


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise click.UsageError(f"{text!r} is no packet: write its bytes as hexadecimal digits, two a byte") from None


def _short(key: str) -> str:
    return key[4:8].upper() if key.startswith("0000") and key.endswith("-0000-1000-8000-00805f9b34fb") else key


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_said(one)}" for key, one in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return " ".join(map(_said, value))  # pyright: ignore[reportUnknownArgumentType]
    return str(value)


def _summary(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "source": profile.source,
        "key": profile.key,
        "service": profile.service,
        "mode": profile.mode,
        "layout": profile.layout,
        "period_ms": profile.period_ms,
        "about": profile.about,
    }


def _whole(profile: Profile) -> dict[str, Any]:
    derived = {derive.name for derive in profile.derives}
    infos = [
        {"name": info.name, "unit": info.unit, "plausible": list(info.plausible or ()), "values": dict(info.enum), "about": info.about}
        for info in profile.fields.values()
    ]
    return {
        **_summary(profile),
        "fields": [info for info in infos if info["name"] not in derived],
        "derived": [{**info, "kind": derive.kind} for derive in profile.derives for info in infos if info["name"] == derive.name],
        "samples": [
            {
                "name": rule.layout,
                "fields": [*rule.constants, *(to for to, _ in rule.sources), *([rule.each.to] if rule.each else [])],
                "once_per": rule.once_per,
            }
            for rule in profile.samples
        ],
        "commands": [
            {"name": command.name, **{arg.name: f"{arg.min:g}..{arg.max:g} {arg.unit}".rstrip() for arg in command.args}}
            for command in profile.commands.values()
        ],
        "quirks": [{"name": about, "match": dict(match.patterns)} for match, about, _ in profile.variants],
        "golden": len(profile.golden),
        "file": profile.file,
    }
