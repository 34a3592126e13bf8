"""Golden frames: the packets that a profile's file carries with what they must come to.

Every profile needs three. The vectors of one profile are the test of every interpreter that decodes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from device_profiles.profile import Golden, Profile
from device_profiles.reader import Reader
from device_profiles.samples import Sample
from device_profiles.values import Value

NEEDED: Final = 3


def failures(profile: Profile) -> Iterator[str]:
    """What is wrong with the golden frames of a profile, one sentence each."""
    if len(profile.golden) < NEEDED:
        yield f"{profile.name}: {len(profile.golden)} golden frames; every profile needs {NEEDED}"
    for golden in profile.golden:
        yield from _golden(profile, golden)


def play(profile: Profile, golden: Golden) -> tuple[dict[str, Value], list[Sample]]:
    """Fields after the last packet, and the samples it gave."""
    reader = Reader(profile)
    samples: list[Sample] = []
    for i, packet in enumerate(golden.packets):
        samples = reader.feed(packet, (1 + i) * golden.every_ms * 1000)
    return reader.fields, samples


def plain(value: object) -> object:
    """A value as YAML and JSON can say it: bytes as hexadecimal digits."""
    return value.hex() if isinstance(value, bytes) else value


def _golden(profile: Profile, golden: Golden) -> Iterator[str]:
    fields, samples = play(profile, golden)
    here = f"{profile.name} {golden.packets[-1].hex()}"
    yield from (f"{here}: {text}" for text in _differences(golden.fields, {name: plain(value) for name, value in fields.items()}))
    if golden.samples is None:
        return
    if len(golden.samples) != len(samples):
        yield f"{here}: {len(samples)} samples instead of {len(golden.samples)}: {[dict(one.values) for one in samples]}"
        return
    for i, (wanted, sample) in enumerate(zip(golden.samples, samples, strict=True)):
        found: dict[str, object] = dict(sample.values)
        if "age_ms" in wanted:
            found["age_ms"] = sample.age_us / 1000
        if "layout" in wanted:
            found["layout"] = sample.layout
        yield from (f"{here}: sample {i}: {text}" for text in _differences(wanted, found))


def _differences(wanted: Mapping[str, object], found: Mapping[str, object]) -> Iterator[str]:
    for name in sorted({*wanted, *found}):
        if name not in found:
            yield f"{name} is missing, {wanted[name]!r} is expected"
        elif name not in wanted:
            yield f"{name} is {found[name]!r}, and is not expected"
        elif not _same(wanted[name], found[name]):
            yield f"{name} is {found[name]!r} instead of {wanted[name]!r}"


def _same(wanted: object, found: object) -> bool:
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_same, wanted, found))  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return abs(wanted - found) <= 1e-9 * max(1.0, abs(wanted))
    return wanted == found
