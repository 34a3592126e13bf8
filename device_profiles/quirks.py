"""What some devices do differently, as data: patches of a profile's document, matched by what the device says of itself.

A patch names places by keys, indexes or the `name` of a list's item: `fields.resistance.type: u8`. The patched document passes the whole
schema again. Refused: a place that does not exist, except a new key at its end.
"""

from __future__ import annotations

import copy
from typing import Any

from device_profiles.compiler import Written
from device_profiles.marks import Marked
from device_profiles.profile import Match
from device_profiles.refusals import check, item_of, refusal
from device_profiles.schema import ProfileDoc, QuirkDoc
from device_profiles.schema_words import listed


def match_of(quirk: QuirkDoc) -> Match:
    """Which devices it is about."""
    return Match(tuple((str(key), pattern) for key, pattern in quirk.match.items()))


def patched(written: Written, quirk: QuirkDoc, quirks: Marked, index: int) -> Written:
    """The profile's document with the patch. BadProfileError names the line in the quirks' file."""
    data: Any = written.marked.data
    for part in written.place:
        data = data[part]
    data = copy.deepcopy(data)
    for path, value in quirk.patch.items():
        if not _put(data, path.split("."), value):
            raise refusal(
                quirks,
                ("quirks", index, "patch", path),
                f"{quirk.profile} has no place {path!r}",
                "name it by keys and by the names of list items",
            )
    marked = Marked(quirks.file, data, None)
    try:
        doc = check(ProfileDoc, marked)
    except Exception as error:
        raise refusal(quirks, ("quirks", index, "patch"), f"the patched profile is refused: {error}", "mend the patch") from error
    return Written(doc.model_copy(update={"golden": []}), Marked(quirks.file, data, None), ())


def _put(data: Any, path: list[str], value: object) -> bool:
    for part in path[:-1]:
        data = _step(data, part)
    if isinstance(data, dict):
        data[path[-1]] = value
        return True
    return False


def _step(data: Any, part: str) -> Any:
    if isinstance(data, list) and not part.isdigit():
        return next((item for item in listed(data) if item_of(item, "name") == part), None)
    found = item_of(data, part)
    return item_of(data, int(part)) if found is None and part.isdigit() else found
