"""The language of profiles, feature by feature: what a packet of a small profile comes to."""

from __future__ import annotations

import pytest

from device_profiles.catalogue import build
from device_profiles.engine import EXTRA, PLANS_KEPT, SHORT, UNKNOWN_PAGE
from device_profiles.marks import read_marked
from device_profiles.profile import Profile

HEAD = 'profiles:\n  - name: it\n    ble: {service: "1826", characteristic: "2ACD"}\n'


def profile(body: str) -> Profile:
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return build([read_marked("it.yaml", HEAD + lines)]).all()[0]


def decoded(body: str, packet: str) -> tuple[dict[str, object], int]:
    fields, trouble = profile(body).decoder.decode(bytes.fromhex(packet))
    return dict(fields), trouble


@pytest.mark.parametrize(
    ("kind", "packet", "value"),
    [
        ("u8", "ff", 255),
        ("s8", "ff", -1),
        ("u16", "0180", 0x8001),
        ("s16", "0080", -32768),
        ("u24", "010203", 0x030201),
        ("s24", "ffffff", -1),
        ("u32", "01000080", 0x80000001),
        ("s32", "feffffff", -2),
        ("u48", "010000000080", 0x800000000001),
        ("u64", "0100000000000080", 0x8000000000000001),
        ("u16be", "0102", 0x0102),
        ("s16be", "ff00", -256),
        ("u24be", "010203", 0x010203),
        ("u32be", "01020304", 0x01020304),
        ("s32be", "ffffff00", -256),
        ("sfloat", "6cf1", 36.4),
        ("sfloat", "b0f4", 120.0),
        ("sfloat", "0080", 0.0),
        ("sfloat", "7800", 120.0),
        ("float", "6c0100ff", 36.4),
        ("float", "64ffffff", -15.6),
        ("float32", "0000c03f", 1.5),
        ("float32", "cdcccc3d", 0.10000000149011612),
        ("float32", "000080bf", -1.0),
        ("float32", "01000000", 1.401298464324817e-45),
        ("float32", "ffff7f7f", 3.4028234663852886e38),
        ("datetime7", "e80706140a1e00", "2024-06-20T10:30:00"),
        ("utf8", "4d69c3bc00ff", "Miü"),
        ("utf8", "41ff42", "A?B"),
        ("utf8", "41eda0806af0908d88", "A???j\U00010348"),
        ("bytes", "0001", b"\x00\x01"),
    ],
)
def test_each_type_gives_its_value(kind: str, packet: str, value: object) -> None:
    assert decoded(f"fields: [{{name: x, type: {kind}}}]", packet) == ({"x": value}, 0)


@pytest.mark.parametrize("packet", ["ff07", "0008", "fe07", "0208", "0108"])
def test_special_sfloats_are_absent(packet: str) -> None:
    assert decoded("fields: [{name: x, type: sfloat}]", packet) == ({}, 0)


@pytest.mark.parametrize("packet", ["ffff7f00", "00008000", "feff7f00", "02008000", "01008000", "01000080", "0100007f"])
def test_special_floats_and_absurd_exponents_are_absent(packet: str) -> None:
    assert decoded("fields: [{name: x, type: float}]", packet) == ({}, 0)


@pytest.mark.parametrize("packet", ["0000807f", "000080ff", "0000c07f"])
def test_a_float32_that_is_no_number_is_absent(packet: str) -> None:
    assert decoded("fields: [{name: x, type: float32}]", packet) == ({}, 0)


@pytest.mark.parametrize("packet", ["000006140a1e00", "e80700140a1e00", "e8070614181e00", "e80706140a1e3c"])
def test_a_date_that_is_none_is_absent(packet: str) -> None:
    assert decoded("fields: [{name: x, type: datetime7}]", packet) == ({}, 0)


def test_flags_decide_which_fields_are_there() -> None:
    body = 'flags: u8\nfields: [{name: a, type: u8, if: "0"}, {name: b, type: u8, if: "!0"}, {name: c, type: u8, if: "1 & !0"}]'
    assert decoded(body, "0105") == ({"a": 5}, 0)
    assert decoded(body, "0005") == ({"b": 5}, 0)
    assert decoded(body, "020506") == ({"b": 5, "c": 6}, 0)


def test_bits_packs_and_flags_are_parts_of_integers() -> None:
    body = """
flags: u8
fields:
  - {name: f, type: flags, bits: [1, 2]}
  - {pack: u24, parts: [[low, 0, 12], {name: high, bits: [12, 12], signed: true, div: 10}]}
  - {name: nibble, type: u8, bits: [4, 4]}
"""
    assert decoded(body, "065af0ff7b") == ({"f": 3, "low": 0x05A, "high": -0.1, "nibble": 7}, 0)


def test_scale_is_exact_and_one_division() -> None:
    assert decoded("fields: [{name: x, type: u16, mul: 0.005}]", "b036") == ({"x": 70.0}, 0)
    assert decoded("fields: [{name: x, type: u16, div: 100, add: -200}]", "0050") == ({"x": 4.8}, 0)
    assert decoded("fields: [{name: x, type: u8, add: -127}]", "7f") == ({"x": 0}, 0)
    assert decoded("fields: [{name: x, type: u8, mul: 2}]", "7f") == ({"x": 254}, 0)


def test_sentinels_are_absent_and_keep_their_place() -> None:
    assert decoded("fields: [{name: x, type: s16, na: 32767}, {name: y, type: u8, na: [0, 255]}, {name: z, type: u8}]", "ff7f0007") == (
        {"z": 7},
        0,
    )


def test_repeated_fields_are_lists() -> None:
    assert decoded("fields: [{name: x, type: u16, repeat: rest, div: 1024}]", "00040008") == ({"x": [1.0, 2.0]}, 0)
    assert decoded("fields: [{name: x, type: s16, na: 0, repeat: rest}]", "0000ffff") == ({"x": [None, -1]}, 0)
    assert decoded("fields: [{name: x, type: u16, repeat: rest}]", "") == ({"x": []}, 0)


def test_a_group_repeats_as_columns() -> None:
    body = "fields: [{skip: 1}, {group: [{name: id, type: u8}, {name: m, type: u8}, {name: kmh, type: u8}], repeat: rest}]"
    assert decoded(body, "1283031f8f1c2d973d47") == ({"id": [131, 143, 151], "m": [3, 28, 61], "kmh": [31, 45, 71]}, 0)
    assert decoded(body, "1283031f8f") == ({"id": [131], "m": [3], "kmh": [31]}, SHORT)


def test_a_state_withholds_a_field() -> None:
    by_flag = "flags: u8\nfields: [{name: state, type: flags, bits: [0, 1]}, {name: x, type: u8, state_gate: {field: state, only: 1}}]"
    assert decoded(by_flag, "0005") == ({"state": 0}, 0)
    assert decoded(by_flag, "0105") == ({"state": 1, "x": 5}, 0)
    by_field = "fields: [{name: x, type: u8, state_gate: {field: state, not: [2, 3]}}, {name: state, type: u8}]"
    assert decoded(by_field, "0502") == ({"state": 2}, 0)
    assert decoded(by_field, "0501") == ({"x": 5, "state": 1}, 0)
    assert decoded(by_field, "05") == ({}, SHORT)
    unknown = "fields: [{name: x, type: u8, state_gate: {field: state, only: 1}}, {name: state, type: u8, na: 255}]"
    assert decoded(unknown, "05ff") == ({}, 0)


def test_a_state_withholds_a_list() -> None:
    gated = "{name: x, type: u8, repeat: rest, state_gate: {field: state, not: 2}}"
    by_flag = f"flags: u8\nfields: [{{name: state, type: flags, bits: [0, 2]}}, {gated}]"
    assert decoded(by_flag, "010506") == ({"state": 1, "x": [5, 6]}, 0)
    assert decoded(by_flag, "020506") == ({"state": 2}, 0)
    by_field = f"fields: [{{name: state, type: u8}}, {gated}]"
    assert decoded(by_field, "010506") == ({"state": 1, "x": [5, 6]}, 0)
    assert decoded(by_field, "020506") == ({"state": 2}, 0)
    columns = "fields: [{name: state, type: u8}, {group: [{name: y, type: u8}, " + gated.replace(", repeat: rest", "") + "], repeat: rest}]"
    assert decoded(columns, "0205060708") == ({"state": 2, "y": [5, 7]}, 0)


def test_a_short_packet_keeps_what_is_whole() -> None:
    body = 'flags: u8\nfields: [{name: a, type: u8}, {name: b, type: u16, if: "0"}, {name: c, type: u8, repeat: rest}]'
    assert decoded(body, "010500") == ({"a": 5}, SHORT)
    assert decoded(body, "") == ({}, SHORT)
    assert decoded("fields: [{name: x, type: u16, repeat: rest}]", "010002") == ({"x": [1]}, SHORT)


def test_bytes_too_many_are_flagged() -> None:
    assert decoded("fields: [{name: x, type: u8}]", "0102") == ({"x": 1}, EXTRA)


def test_pages_share_fields_and_an_unknown_page_keeps_them() -> None:
    body = "page: {byte: 0, mask: 0x7F}\nfields: [{name: x, at: 3, type: u8}]\npages: {1: [{name: y, at: 1, type: u16}], 2: [{name: z, type: u8}]}"
    assert decoded(body, "81020304") == ({"x": 4, "y": 0x0302}, 0)
    assert decoded(body, "0209ff04") == ({"x": 4, "z": 9}, 0)
    assert decoded(body, "05020304") == ({"x": 4}, UNKNOWN_PAGE)


def test_random_flags_do_not_fill_the_memory() -> None:
    it = profile('flags: u16\nfields: [{name: a, type: u8, if: "0"}]')
    for flags in range(5000):
        it.decoder.decode(flags.to_bytes(2, "little") + b"\x01")
    assert len(it.decoder.plans) <= PLANS_KEPT
