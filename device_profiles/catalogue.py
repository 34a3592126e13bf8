"""All profiles: read from YAML once, found by characteristic, by ANT+ device type or by name.

Refused, with file and line: two profiles of one name or one key, and all that `schema.py`, `compiler.py` and `quirks.py` refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from device_profiles.compiler import Written, compile_profile
from device_profiles.errors import BadProfileError
from device_profiles.marks import Marked, read_marked
from device_profiles.profile import BASE_UUID, Match, Profile
from device_profiles.quirks import match_of, patched
from device_profiles.refusals import check, refusal
from device_profiles.schema import FieldDoc, FileDoc, QuirksDoc

FOLDER: Final = Path(__file__).parent / "profiles"
QUIRKS: Final = Path(__file__).parent / "quirks.yaml"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Profiles by name, in the order of their files."""

    by_name: Mapping[str, Profile]
    by_key: Mapping[str, Profile]

    def ble(self, uuid: str) -> Profile | None:
        """The profile of a characteristic: a 128-bit UUID, or the 4 digits of an assigned one."""
        text = uuid.lower()
        return self.by_key.get(BASE_UUID.format(text) if len(text) == 4 else text)

    def ant(self, device_type: int) -> Profile | None:
        """The profile of an ANT+ device type."""
        return self.by_key.get(f"ant:{device_type}")

    def named(self, name: str) -> Profile | None:
        """The profile of that name."""
        return self.by_name.get(name)

    def all(self) -> tuple[Profile, ...]:
        """Every profile."""
        return tuple(self.by_name.values())


@cache
def catalogue() -> Catalogue:
    """The profiles that come with Paceline."""
    return load(sorted(FOLDER.glob("*.yaml")), QUIRKS)


def load(files: Iterable[Path], quirks: Path | None = None) -> Catalogue:
    """The profiles of some files. BadProfileError names what is wrong with the first bad one."""
    marked = [read_marked(path.name, _text(path)) for path in files]
    return build(marked, None if quirks is None else read_marked(quirks.name, _text(quirks)))


def build(files: Iterable[Marked], quirks: Marked | None = None) -> Catalogue:
    """The same from documents that are read already."""
    written: dict[str, Written] = {}
    common: dict[int, list[FieldDoc]] = {}
    for marked in files:
        doc = check(FileDoc, marked)
        for page, rows in doc.common_pages.items():
            if page in common:
                raise refusal(marked, ("common_pages", page), f"common page {page} is written twice", "keep one")
            common[page] = rows
        for i, profile in enumerate(doc.profiles):
            if profile.name in written:
                raise refusal(marked, ("profiles", i, "name"), f"{profile.name!r} is written twice", "give one of them another name")
            written[profile.name] = Written(profile, marked, ("profiles", i))
    compiled = {name: compile_profile(one, written, common) for name, one in written.items()}
    for name, variants in _variants(written, common, quirks).items():
        compiled[name] = replace(compiled[name], variants=tuple(variants))
    by_key: dict[str, Profile] = {}
    for name, profile in compiled.items():
        if profile.key in by_key:
            one = written[name]
            raise refusal(
                one.marked, (*one.place, profile.source), f"{profile.key} is that of {by_key[profile.key].name} too", "keep one profile"
            )
        by_key[profile.key] = profile
    return Catalogue(compiled, by_key)


def _variants(
    written: Mapping[str, Written], common: Mapping[int, list[FieldDoc]], quirks: Marked | None
) -> dict[str, list[tuple[Match, str, Profile]]]:
    found: dict[str, list[tuple[Match, str, Profile]]] = {}
    for i, quirk in enumerate(check(QuirksDoc, quirks).quirks if quirks is not None else ()):
        assert quirks is not None
        if quirk.profile not in written:
            raise refusal(quirks, ("quirks", i, "profile"), f"there is no profile {quirk.profile!r}", "name one that exists")
        changed = patched(written[quirk.profile], quirk, quirks, i)
        profile = compile_profile(changed, written, common)
        found.setdefault(quirk.profile, []).append((match_of(quirk), quirk.about, profile))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadProfileError(path.name, 1, "", f"cannot be read: {error}", "give a readable UTF-8 file") from error
