"""A bad profile is refused with its file, the line and the field."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest

from device_profiles.catalogue import FOLDER, build, load
from device_profiles.errors import BadProfileError
from device_profiles.marks import read_marked

HEAD = 'profiles:\n  - name: it\n    ble: {service: "1826", characteristic: "2ACD"}\n'  # three lines


def refused(text: str, quirks: str | None = None) -> BadProfileError:
    with pytest.raises(BadProfileError) as caught:
        build([read_marked("it.yaml", text)], None if quirks is None else read_marked("quirks.yaml", quirks))
    assert "cure: " in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("body", "line", "field", "detail"),
    [
        ("    fields: [{name: x, type: u7}]", 4, "fields", "u8"),
        ("    fields:\n      - {name: x, type: u8}\n      - {name: X, type: u8}", 6, "fields.X.name", "match"),
        ("    fields:\n      - {name: x, type: u8}\n      - {name: y, type: u8, dib: 10}", 6, "fields.y.dib", "not permitted"),
        ("    fields: [{name: x}]", 4, "fields.x", "go together"),
        ("    fields: [{type: u8, name: x, skip: 3}]", 4, "fields.x", "exactly one"),
        ("    fields: [{name: x, type: u8, div: 0}]", 4, "fields.x.div", "divided by 0"),
        ("    fields: [{name: x, type: u8, mul: .inf}]", 4, "fields.x.mul", "number"),
        ('    fields: [{name: x, type: u8, mul: "2"}]', 4, "fields.x.mul", "number"),
        ("    fields: [{name: x, type: u32, mul: 4294967296}]", 4, "fields.x.mul", "exactly"),
        ("    fields: [{name: x, type: u8, bits: [4, 5]}]", 4, "fields.x.bits", "do not lie"),
        ("    fields: [{name: x, type: u8, signed: true}]", 4, "fields.x.signed", "for `bits`"),
        ("    fields: [{name: x, type: sfloat, bits: [0, 4]}]", 4, "fields.x", "integer"),
        ('    fields: [{name: x, type: u8, if: "3"}]', 4, "fields.x.if", "no flags"),
        ('    flags: u8\n    fields:\n      - {name: x, type: u8, if: "8"}', 6, "fields.x.if", "8 bits"),
        ('    flags: u8\n    fields:\n      - {name: x, type: u8, if: "3 or 4"}', 6, "fields.x.if", "condition"),
        ("    fields: [{name: x, type: flags, bits: [0, 1]}]", 4, "fields.x.type", "no flags"),
        ("    fields:\n      - {name: x, type: u8, repeat: rest}\n      - {name: y, type: u8}", 6, "fields.y", "reaches to the end"),
        ("    fields: [{group: [{name: x, type: utf8}], repeat: rest}]", 4, "fields.0.group.x", "fixed length"),
        ("    fields: [{name: x, type: u8, unit: m}, {name: x, type: u8, unit: s}]", 4, "fields.x.unit", "another unit"),
        ("    fields: [{name: x, type: u8, state_gate: {field: y, not: 1}}]", 4, "state_gate", "no field is named 'y'"),
        ("    fields: [{name: x, type: u8, state_gate: {field: x}}]", 4, "state_gate", "either"),
        ("    pages: {1: [{name: x, type: u8}]}", 2, "it", "`page`"),
        ("    page: {byte: 0}\n    flags: u8", 2, "it", "not both"),
        ("    page: {byte: 0}\n    common: [80]", 5, "common", "no common page 80"),
        ("    more_data: {bit: 0}", 2, "it", "`flags`"),
        ("    ant: {type: 17, period: 8192}", 2, "it", "exactly one"),
        ("    samples:\n      layout: motion.1\n      map: {power_w: watts}", 6, "map.power_w", "no field is named 'watts'"),
        ("    keep: [x]", 4, "keep", "no field"),
        ("    derive: [{name: r, kind: rate, count: x}]", 4, "derive.r", "`time`"),
        ("    fields: [{name: x, type: utf8}]\n    derive: [{name: r, kind: accumulate, field: x}]", 5, "derive.r", "integers"),
        ("    fields: [{name: x, type: u8}]\n    derive: [{name: x, kind: toggles, field: x}]", 5, "derive.x.name", "a field already"),
        ("    fields: [{name: x, type: u8}]\n    derive: [{name: r, kind: rate, count: x, time: x, scale: m}]", 5, "scale", "no setting"),
        ("    hook: unheard_of", 4, "hook", "no hook"),
        ("    use: {profile: other}", 4, "use.profile", "no profile 'other'"),
        ("    golden: [{hex: 12, fields: {}}]", 4, "golden", "quotes"),
        ('    golden: [{hex: "123", fields: {}}]', 4, "golden", "even number"),
        ("    commands:\n      go: {op: 1, page: 2}", 5, "commands.go", "`op`"),
        ("    commands:\n      go: {op: 1, args: [{name: v, type: u8, min: 0, max: 300}]}", 5, "commands.go.args.v.max", "does not fit"),
        ("    commands:\n      go: {op: 1, length: 2, args: [{name: v, type: u16, min: 0, max: 3}]}", 5, "commands.go.length", "3 bytes"),
        ("    name: it", 4, "name", "twice"),
        ("    fields: [}", 4, "", ""),
    ],
)  # fmt: skip
def test_refusal_names_line_and_field(body: str, line: int, field: str, detail: str) -> None:
    error = refused(HEAD + body + "\n")
    assert (error.file, error.line) == ("it.yaml", line), str(error)
    assert field in error.field, str(error)
    assert detail in error.detail, str(error)


def test_an_unquoted_uuid_is_refused_with_its_cure() -> None:
    error = refused("profiles:\n  - name: it\n    ble:\n      characteristic: 2902\n")
    assert (error.line, error.field) == (4, "profiles.it.ble.characteristic")
    assert "quotes" in error.detail


@pytest.mark.parametrize(
    "text", ["profiles: &a [*a]", "profiles: " + "[" * 5000, "profiles: [{name: 2024-13-45}]", "- 1", "7", "profiles: {? [a]: b}"]
)
def test_a_document_of_another_shape_is_refused(text: str) -> None:
    assert refused(text).file == "it.yaml"


def test_two_profiles_of_one_name_or_key_are_refused() -> None:
    second = HEAD.replace("profiles:\n", "").replace("2ACD", "2ACE")
    assert refused(HEAD + second).line == 4
    assert refused(HEAD + second.replace("it", "that").replace("2ACE", "2ACD")).line == 5


@pytest.mark.parametrize(
    ("quirk", "line", "detail"),
    [
        ("  - {profile: that, match: {name: x}, about: a, patch: {about: b}}", 2, "no profile"),
        ("  - profile: it\n    match: {name: x}\n    about: a\n    patch: {fields.y.type: u8}", 5, "no place"),
        ("  - profile: it\n    match: {name: x}\n    about: a\n    patch: {fields.x.type: u7}", 5, "refused"),
        ("  - profile: it\n    match: {brand: x}\n    about: a\n    patch: {about: u7}", 3, "manufacturer"),
        ("  - profile: it\n    match: {}\n    about: a\n    patch: {about: u7}", 3, "at least 1"),
    ],
)
def test_a_bad_quirk_is_refused_with_its_line(quirk: str, line: int, detail: str) -> None:
    error = refused(HEAD + "    fields: [{name: x, type: u8}]\n", "quirks:\n" + quirk + "\n")
    assert (error.file, error.line) == ("quirks.yaml", line), str(error)
    assert detail in error.detail


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadProfileError, match=r"bad\.yaml"):
        load([tmp_path / "bad.yaml"])
    with pytest.raises(BadProfileError, match="cannot be read"):
        load([tmp_path / "none.yaml"])


def test_damaged_profile_files_are_taken_or_refused_and_nothing_else() -> None:
    dice = random.Random(5)
    common = read_marked("ant_common.yaml", (FOLDER / "ant_common.yaml").read_text())
    texts = [path.read_text() for path in sorted(FOLDER.glob("*.yaml")) if path.name != "ant_common.yaml"]
    taken = 0
    for _ in range(150):
        lines = dice.choice(texts).splitlines()
        for _ in range(dice.randint(1, 3)):
            i = dice.randrange(len(lines))
            words = lines[i].split(" ")
            words[dice.randrange(len(words))] = dice.choice(
                ["", "[", "x", "-1", "{}", "null", "1e999", '"2A37"', "u8,", "name:", "true", "99999999999999999999"]
            )
            lines[i] = " ".join(words)
        with suppress(BadProfileError):
            build([common, read_marked("it.yaml", "\n".join(lines))])
            taken += 1
    assert 0 < taken < 100
