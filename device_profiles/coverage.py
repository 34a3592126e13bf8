"""Which sensors Paceline reads beside other open systems: a table made from the profiles and from `peers.yaml`.

`python -m device_profiles.coverage` prints the generated parts of docs/sensors.md; with the path of that document it writes them into it.
Refused: a row about a peer or a profile that does not exist, so that the table cannot claim what is not there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel, ConfigDict, Field

from device_profiles.catalogue import QUIRKS, Catalogue, catalogue
from device_profiles.golden import NEEDED
from device_profiles.marks import read_marked
from device_profiles.profile import Profile
from device_profiles.refusals import check
from device_profiles.schema import QuirksDoc

NAMES: Final = ("profiles", "quirks", "coverage", "missing")
_READS: Final = frozenset({"y", "c"})
_OTHER: Final = "-"
_NONE: Final = "."


class Peer(BaseModel):
    """Another system, and what it does wrong."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    name: str
    version: str
    notes: list[str]


class Row(BaseModel):
    """One kind of sensor: our profiles of it and a mark for each peer (none: "."). `merges`: it is about records over several packets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    what: str
    profiles: list[str]
    merges: bool = False
    peers: dict[str, str] = Field(default_factory=dict[str, str])


class Peers(BaseModel):
    """The file `peers.yaml`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    peers: list[Peer]
    rows: list[Row]


def load_peers() -> Peers:
    """The facts that come with Paceline. ValueError names a row about something that does not exist."""
    peers = Peers.model_validate(yaml.safe_load((resources.files("device_profiles") / "peers.yaml").read_text("utf-8")))
    names = {peer.name for peer in peers.peers}
    for row in peers.rows:
        unknown = [*(row.peers.keys() - names), *(name for name in row.profiles if catalogue().named(name) is None)]
        if unknown:
            raise ValueError(f"peers.yaml: row {row.what!r} names {unknown[0]!r}; name a peer of its list, or a profile that exists")
    return peers


def own_mark(row: Row, profiles: Catalogue) -> str:
    """Our mark: "." without profiles, "p" if one lacks golden frames or what the row is about, "c" if one has commands, else "y"."""
    found = [profile for name in row.profiles if (profile := profiles.named(name)) is not None]
    if not found:
        return _NONE
    whole = len(found) == len(row.profiles) and all(_is_whole(profile, row) for profile in found)
    return "p" if not whole else "c" if any(profile.commands for profile in found) else "y"


def part(name: str) -> str:
    """One generated part of the document: `profiles`, `quirks`, `coverage` or `missing`."""
    return "\n".join({"profiles": _profiles, "quirks": _quirks, "coverage": _coverage, "missing": _missing}[name]()) + "\n"


def rewritten(document: str) -> str:
    """The document with every generated part as it is now. ValueError names a part whose marks are missing."""
    for name in NAMES:
        begin, end = marks(name)
        if document.count(begin) != 1 or document.count(end) != 1:
            raise ValueError(f"the marks of part {name!r} are missing; write the lines {begin!r} and {end!r} once each")
        before, rest = document.split(begin)
        document = f"{before}{begin}\n{part(name)}{end}{rest.split(end)[1]}"
    return document


def marks(name: str) -> tuple[str, str]:
    """The lines around a generated part."""
    return f"<!-- {name}: made by python -m device_profiles.coverage -->", f"<!-- end of {name} -->"


def _is_whole(profile: Profile, row: Row) -> bool:
    return len(profile.golden) >= NEEDED and (bool(profile.more_mask) or not row.merges)


def _profiles() -> Iterator[str]:
    yield "| profile | of | what | stored as | frames |\n|---|---|---|---|---|"
    for profile in catalogue().all():
        stored: dict[str, list[str]] = {}
        for rule in profile.samples:
            fields = stored.setdefault(rule.layout, [])
            names = [name for name, _ in rule.sources] + ([rule.each.to] if rule.each else [])
            fields += [name for name in names if name not in fields]
        text = "; ".join(f"`{layout}`: {', '.join(fields)}" for layout, fields in stored.items())
        yield f"| `{profile.name}` | {_key(profile)} | {profile.about} | {text} | {len(profile.golden)} |"


def _key(profile: Profile) -> str:
    if profile.source == "ant":
        return f"ANT+ {profile.ant_type}"
    text = profile.key.upper()
    return text[4:8] if text.endswith("-0000-1000-8000-00805F9B34FB") else f"{text[:8]}-..."


def _quirks() -> Iterator[str]:
    yield "| profile | devices | what they do differently |\n|---|---|---|"
    for quirk in check(QuirksDoc, read_marked(QUIRKS.name, QUIRKS.read_text("utf-8"))).quirks:
        devices = ", ".join(f"{key} `{pattern}`" for key, pattern in quirk.match.items())
        yield f"| `{quirk.profile}` | {devices} | {quirk.about} |"


def _coverage() -> Iterator[str]:
    peers, profiles = load_peers(), catalogue()
    yield f"| sensor | **Paceline** | {' | '.join(peer.name for peer in peers.peers)} |"
    yield "|---|---|" + "---|" * len(peers.peers)
    for row in peers.rows:
        theirs = " | ".join(row.peers.get(peer.name, _NONE) for peer in peers.peers)
        yield f"| {row.what} | **{own_mark(row, profiles)}** | {theirs} |"


def _missing() -> Iterator[str]:
    peers, profiles = load_peers(), catalogue()
    ours = [row for row in peers.rows if own_mark(row, profiles) in _READS]
    for peer in peers.peers:
        counted = [(row, row.peers.get(peer.name, _NONE)) for row in ours if row.peers.get(peer.name, _NONE) != _OTHER]
        lacks = [row.what if mark == _NONE else f"{row.what}: {mark}" for row, mark in counted if mark not in _READS]
        notes = "".join(f" It {note}." for note in peer.notes)
        read = f"reads {len(counted) - len(lacks)} of {len(counted)}"
        yield f"- **{peer.name}** ({peer.version}) {read}.{notes} Not, or only in part: {'; '.join(lacks)}."
    beyond = [row for row in peers.rows if own_mark(row, profiles) == _NONE]
    yield ""
    yield "What Paceline does not read yet, and who does:"
    yield ""
    for row in beyond:
        readers = [f"{name} ({mark})" if mark != "y" else name for name, mark in row.peers.items() if mark not in {_NONE, _OTHER}]
        yield f"- {row.what}: {', '.join(readers) or 'none of them'}"


def main(arguments: list[str]) -> int:
    """Print the generated parts, or write them into the document named. Exit code 2 if the document cannot be used."""
    if not arguments:
        print("\n".join(part(name) for name in NAMES))  # noqa: T201
        return 0
    path = Path(arguments[0])
    try:
        path.write_text(rewritten(path.read_text("utf-8")), "utf-8")
    except (OSError, ValueError) as error:
        print(f"{path}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
