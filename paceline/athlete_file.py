"""The TOML file of athletes and bindings: `[[athlete]]` and `[[binding]]` tables, checked whole before anything is stored.

An unknown key or a wrong value is an error that names the file, the line where it can be found, the table and the field. Pure but for
`read_athlete_file`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import ValidationError

from broker.errors import BadInputError
from broker.reference import ZONES_BPM, AthleteRef, BindingRef

T = TypeVar("T", AthleteRef, BindingRef)
ATHLETE_KEYS: Final = (
    "id",
    "name",
    "show",
    "nickname",
    "sex",
    "birth_year",
    "hr_max_bpm",
    "hr_zones_bpm",
    "weight_kg",
    "clubs",
    "follows",
    "blocks",
)
BINDING_KEYS: Final = ("device", "node", "athlete", "from", "to")
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
_FIELDS: Final = {"from": "from_us", "to": "to_us"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CURE: Final = "see docs/athletes.md"
_HINTS: Final = {
    "id": 'such as "ann-2"', "show": 'write "yes", "no" or "nickname" in quotes', "nickname": "give one, or another `show`",
    "sex": 'write "f", "m" or "x", or leave it out', "hr_zones_bpm": "lower bounds of zones 2 to 5, such as [115, 135, 155, 172]",
    "weight_kg": "kilograms, such as 68.5", "clubs": 'ids of clubs, such as ["pier-club"]', "follows": 'ids of athletes, such as ["ben"]',
    "blocks": 'ids of athletes, such as ["ben"]',
}  # fmt: skip
_TIME_CURE: Final = "write a date and time with its offset from UTC: 2026-05-04T18:30:00+02:00 or 2026-05-04T16:30:00Z"


@dataclass(frozen=True, slots=True)
class AthleteFile:
    """What the file says. The bindings have the id `new`: the caller gives them theirs, in this order."""

    athletes: tuple[AthleteRef, ...]
    bindings: tuple[BindingRef, ...]


def read_athlete_file(path: Path, tenant: str, known: Iterable[str] = ()) -> AthleteFile:
    """The file at `path`; as `parse_athletes`."""
    cure = "give a TOML file this user can read; see docs/athletes.md"
    try:
        if not path.is_file():
            raise BadInputError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}", cure=cure)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadInputError(f"{path}: more than {MAX_FILE_BYTES} bytes", cure="split it")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}", cure=cure) from error
    return parse_athletes(text, str(path), tenant, known)


def parse_athletes(text: str, where: str, tenant: str, known: Iterable[str] = ()) -> AthleteFile:
    """The athletes and bindings in `text`. Bindings may name its athletes and those `known` (ids).

    BadInputError with one line for every error found.
    """
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInputError(f"{where}: {error}", cure=f"the file must be TOML; {_CURE}") from error
    reader = _Reader(text, where, tenant)
    reader.check_keys(document)
    athletes = [reader.athlete(k, table) for k, table in reader.tables(document, "athlete")]
    ids = {*known, *(athlete.id for athlete in athletes if athlete is not None)}
    bindings = [reader.binding(k, table, ids) for k, table in reader.tables(document, "binding")]
    if reader.errors:
        raise BadInputError("\n".join(said for _, said in sorted(reader.errors)), cure=f"nothing was taken; {_CURE}")
    return AthleteFile(tuple(a for a in athletes if a), tuple(b for b in bindings if b))


class _Reader:
    """Collects what is wrong, each with its place."""

    def __init__(self, text: str, where: str, tenant: str) -> None:
        self.errors: list[tuple[int, str]] = []
        self._lines = text.splitlines()
        self._where = where
        self._tenant = tenant
        self._ids: dict[str, int] = {}

    def check_keys(self, document: Mapping[str, Any]) -> None:
        for key in document:
            if key not in {"athlete", "binding"}:
                self._wrong(f"unknown key {key!r}", self._line_of(key, 0, len(self._lines)), _nearest(key, ("athlete", "binding")))

    def tables(self, document: Mapping[str, Any], kind: str) -> list[tuple[int, dict[str, Any]]]:
        """The tables of a kind with their numbers from 1."""
        found: Any = document.get(kind, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in cast("list[Any]", found)):
            self._wrong(f"{kind} is no list of tables", self._line_of(kind, 0, len(self._lines)), f"head each one with [[{kind}]]")
            return []
        return list(enumerate(cast("list[dict[str, Any]]", found), 1))

    def athlete(self, number: int, table: dict[str, Any]) -> AthleteRef | None:
        """One `[[athlete]]`; None when it is wrong."""
        if not self._known_keys("athlete", number, table, ATHLETE_KEYS):
            return None
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        made = self._made(AthleteRef, "athlete", number, {**fields, "tenant": self._tenant})
        if made is not None and self._ids.setdefault(made.id, number) != number:
            self._field("athlete", number, "id", f"{made.id!r} is that of athlete {self._ids[made.id]} too", "give each athlete once")
            return None
        least, most = ZONES_BPM
        beyond = [bound for bound in (made.hr_zones_bpm or () if made is not None else ()) if not least <= bound <= most]
        if beyond:
            self._field("athlete", number, "hr_zones_bpm", f"{beyond[0]} is outside {least}-{most}", _HINTS["hr_zones_bpm"])
            return None
        return made

    def binding(self, number: int, table: dict[str, Any], ids: set[str]) -> BindingRef | None:
        """One `[[binding]]`; None when it is wrong."""
        if not self._known_keys("binding", number, table, BINDING_KEYS):
            return None
        times: dict[str, int] = {}
        for key in ("from", "to"):
            if key in table:
                time_us = _time_us(table[key])
                if time_us is None:
                    self._field("binding", number, key, f"{table[key]!s} is not a time with an offset from UTC", _TIME_CURE)
                    return None
                times[_FIELDS[key]] = time_us
        fields = {key: value for key, value in table.items() if key not in _FIELDS}
        made = self._made(BindingRef, "binding", number, {**fields, **times, "tenant": self._tenant, "id": "new"})
        if made is not None and made.athlete not in ids:
            cure = _nearest(made.athlete, ids, "describe that athlete with [[athlete]] first")
            self._field("binding", number, "athlete", f"nobody is called {made.athlete!r}", cure)
            return None
        return made

    def _known_keys(self, kind: str, number: int, table: dict[str, Any], keys: tuple[str, ...]) -> bool:
        unknown = [key for key in table if key not in keys]
        for key in unknown:
            self._field(kind, number, key, "unknown key", _nearest(key, keys))
        return not unknown

    def _made(self, model: type[T], kind: str, number: int, fields: dict[str, Any]) -> T | None:
        try:
            return model.model_validate(fields, strict=True)
        except ValidationError as error:
            for one in error.errors():
                field = str(one["loc"][0]) if one["loc"] else ""
                shown = next((key for key, name in _FIELDS.items() if name == field), field)
                said = one["msg"].removeprefix("Value error, ").replace("from_us", "from").replace("to_us", "to")
                self._field(kind, number, shown, said, "remove it" if one["type"] == "extra_forbidden" else _HINTS.get(shown, "correct it"))
            return None

    def _field(self, kind: str, number: int, field: str, detail: str, cure: str) -> None:
        first, end = self._span(kind, number)
        line = self._line_of(field, first, end) if field else 0
        self._wrong(f"{kind} {number}{f', {field}' if field else ''}: {detail}", line or first, cure)

    def _wrong(self, detail: str, line: int, cure: str) -> None:
        self.errors.append((line, f"{self._where}{f', line {line}' if line else ''}: {detail} ({cure})"))

    def _span(self, kind: str, number: int) -> tuple[int, int]:
        """The line of the head of a table and the one behind its end, (0, 0) where they cannot be told."""
        heads = [k for k, line in enumerate(self._lines, 1) if re.match(r"\s*\[", line)]
        mine = [k for k in heads if re.match(rf"\s*\[\[\s*{kind}\s*\]\]", self._lines[k - 1])]
        if number > len(mine):
            return 0, 0
        first = mine[number - 1]
        return first, next((k for k in heads if k > first), len(self._lines) + 1)

    def _line_of(self, key: str, first: int, end: int) -> int:
        """The line that gives a key, 0 where it cannot be told."""
        pattern = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
        return next((k for k in range(max(first, 1), min(end, len(self._lines)) + 1) if pattern.match(self._lines[k - 1])), 0)


def _nearest(key: str, keys: Iterable[str], otherwise: str = "") -> str:
    near = difflib.get_close_matches(key, list(keys), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else otherwise or f"known are {', '.join(keys)}"


def _time_us(value: object) -> int | None:
    """UTC microseconds of a TOML date-time or a text in RFC 3339, None without an offset."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", value):
            return None
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        return None
    return (value - _EPOCH) // timedelta(microseconds=1)
