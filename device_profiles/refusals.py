"""From what pydantic says of a document to an error with file, line and field."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from device_profiles.errors import BadProfileError
from device_profiles.marks import Marked

Place = tuple[str | int, ...]
_T = TypeVar("_T", bound=BaseModel)


def check(kind: type[_T], marked: Marked) -> _T:
    """The document of that kind. BadProfileError names the first place that is wrong, and its line."""
    try:
        return kind.model_validate(marked.data if marked.data is not None else {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = tuple(part for part in first["loc"] if isinstance(part, int) or not part.startswith(("list[", "function-", "constrained")))
        raise refusal(marked, place, first["msg"].removeprefix("Value error, ")) from error


def refusal(marked: Marked, place: Place, detail: str, cure: str = "see docs/profiles.md for this word") -> BadProfileError:
    """The error of a place in a document: its line, and its path with names instead of indexes."""
    words: list[str] = []
    data: Any = marked.data
    for part in place:
        data = item_of(data, part)
        name: object = item_of(data, "name") if isinstance(part, int) else None
        words.append(name if isinstance(name, str) else str(part))
    return BadProfileError(marked.file, marked.line(place), ".".join(words), detail, cure)


def item_of(data: Any, part: str | int) -> Any:
    """What stands under a key or an index; None if nothing does."""
    if isinstance(data, dict):
        return data.get(part)  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(data, list) and isinstance(part, int) and part < len(data):  # pyright: ignore[reportUnknownArgumentType]
        return data[part]  # pyright: ignore[reportUnknownVariableType]
    return None
