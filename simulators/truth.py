"""What was made, exactly, and the comparison with what was stored: lost, duplicated and wrong as counts of frames.

A frame is named by `(origin, boot, seq)`. It is owed once its device took it; it becomes optional when the device itself lost it for good
(dead battery, re-imaged box) or was told it is refused: then it may be stored or not, but never twice and never changed.
The JSON form lets another process compare; records travel as base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from broker.errors import BadInputError
from broker.layouts import all_layouts

Key = tuple[str, int, int]
Stored = tuple[str, int, int, str, bytes]  # origin, boot, seq, subject, records
_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Made:
    """One frame as it was made. `subject` is whom it must count for, `utc_us` the true time of its first sample, `dated_us` the
    device's."""

    origin: str
    boot: int
    seq: int
    subject: str
    layout: int
    utc_us: int
    dated_us: int | None
    records: bytes
    owed: bool = True

    @property
    def key(self) -> Key:
        return self.origin, self.boot, self.seq

    @property
    def samples(self) -> int:
        return len(self.records) // all_layouts()[self.layout].size


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome. Counts are frames, but `samples` and `samples_stored`. `examples` names the first few of each fault."""

    frames_sent: int
    frames_stored: int  # distinct frames of ours
    samples: int
    samples_stored: int
    lost: int
    duplicated: int
    wrong: int
    unknown: int  # stored, but never made
    optional_missing: int
    examples: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing lost, duplicated, wrong or invented."""
        return not (self.lost or self.duplicated or self.wrong or self.unknown)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class AthleteTruth:
    """What a right consumer must find for one subject, after quantisation. Heart rate and distance are None when never measured."""

    subject: str
    samples: int
    first_utc_us: int
    last_utc_us: int
    distance_m: float | None  # largest device distance
    hr_mean_bpm: float | None
    hr_last_bpm: float | None


class Truth:
    """Collects every frame made. Not thread-safe."""

    def __init__(self) -> None:
        self._made: dict[Key, Made] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[Made]:
        return iter(self._made.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._made

    def add(self, made: Made) -> None:
        """Record one frame. ValueError when another frame has the same name: then the simulator is broken."""
        if self._made.setdefault(made.key, made) != made:
            raise ValueError(f"two different frames are called {made.key}")

    def release(self, keys: Iterable[Key]) -> None:
        """These frames are no longer owed: their device lost them, or was told they are refused."""
        for key in keys:
            self._made[key] = replace(self._made[key], owed=False)

    def merge(self, other: Truth) -> None:
        """Take over what another part of the simulation made."""
        for made in other:
            self.add(made)

    @property
    def samples(self) -> int:
        return sum(made.samples for made in self)

    def numbers(self) -> dict[tuple[str, int], set[int]]:
        """The sequence numbers of every `(origin, boot)`."""
        numbers: dict[tuple[str, int], set[int]] = {}
        for made in self:
            numbers.setdefault((made.origin, made.boot), set()).add(made.seq)
        return numbers

    def samples_of(self, subject: str) -> list[tuple[int, dict[str, float | None]]]:
        """All samples of one subject as `(true utc_us of the frame + tick, SI values)`, by time; ties by origin."""
        found: list[tuple[int, str, dict[str, float | None]]] = []
        for made in self:
            if made.subject == subject:
                rows = all_layouts()[made.layout].unpack(made.records)
                found += [(made.utc_us + int(values["tick_ms"] or 0) * 1000, made.origin, values) for values in rows]
        found.sort(key=lambda item: item[:2])
        return [(utc_us, values) for utc_us, _, values in found]

    def athletes(self) -> list[AthleteTruth]:
        """What each subject must show, by subject."""
        return [_athlete(subject, self.samples_of(subject)) for subject in sorted({made.subject for made in self})]

    def to_json(self) -> str:
        """One document; `from_json` is its inverse."""
        rows = [
            [m.origin, f"{m.boot:016x}", m.seq, m.subject, m.layout, m.utc_us, m.dated_us, base64.b64encode(m.records).decode(), m.owed]
            for m in self
        ]
        return json.dumps({"paceline_truth": 1, "frames": rows}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str, where: str = "truth") -> Truth:
        """Read `to_json`; BadInputError names `where`."""
        truth = Truth()
        try:
            document: dict[str, Any] = json.loads(text)
            if document["paceline_truth"] != 1:
                raise BadInputError(
                    f"{where}: truth of version {document['paceline_truth']!r}", cure="read it with the version that wrote it"
                )
            for origin, boot, seq, subject, layout, utc_us, dated_us, records, owed in document["frames"]:
                truth.add(Made(origin, int(boot, 16), seq, subject, layout, utc_us, dated_us, base64.b64decode(records), owed))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInputError(f"{where}: not a truth document: {error}", cure="write it with Truth.to_json") from error
        return truth


def compare(truth: Truth, stored: Iterable[Stored]) -> Report:
    """Hold what was stored against what was made. `stored` is every counted frame, in any order, repeats included."""
    made_by_key = {made.key: made for made in truth}
    seen: set[Key] = set()
    duplicated = wrong = unknown = samples = 0
    examples: list[str] = []
    for origin, boot, seq, subject, records in stored:
        key = (origin, boot, seq)
        made = made_by_key.get(key)
        if made is None:
            unknown += 1
            _note(examples, f"unknown {key}")
            continue
        if key in seen:
            duplicated += 1
            _note(examples, f"duplicated {key}")
        else:
            seen.add(key)
            samples += made.samples
        if (subject, records) != (made.subject, made.records):
            wrong += 1
            _note(examples, f"wrong {key}: " + ("subject" if subject != made.subject else "records"))
    missing = [made for made in truth if made.key not in seen]
    for made in missing:
        if made.owed:
            _note(examples, f"lost {made.key}")
    lost = sum(made.owed for made in missing)
    return Report(
        frames_sent=len(truth),
        frames_stored=len(seen),
        samples=truth.samples,
        samples_stored=samples,
        lost=lost,
        duplicated=duplicated,
        wrong=wrong,
        unknown=unknown,
        optional_missing=len(missing) - lost,
        examples=tuple(examples),
    )


def _note(examples: list[str], text: str) -> None:
    if len(examples) < _EXAMPLES:
        examples.append(text)


def _athlete(subject: str, samples: list[tuple[int, dict[str, float | None]]]) -> AthleteTruth:
    hearts = [hr for _, values in samples if (hr := values.get("hr_bpm")) is not None]
    metres = [m for _, values in samples if (m := values.get("distance_m")) is not None]
    return AthleteTruth(
        subject=subject,
        samples=len(samples),
        first_utc_us=samples[0][0],
        last_utc_us=samples[-1][0],
        distance_m=max(metres, default=None),
        hr_mean_bpm=sum(hearts) / len(hearts) if hearts else None,
        hr_last_bpm=hearts[-1] if hearts else None,
    )
