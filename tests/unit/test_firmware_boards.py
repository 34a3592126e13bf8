"""Boards as TOML: those of the kit are sound, a wrong one is refused by its field, and the partition table is what a bootloader reads."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from broker.errors import ConfigError
from paceline.device.board import KIT, load_board, names_in
from paceline.device.partition_table import TABLE_BYTES, partition_table

TEXT = (KIT / "boards" / "esp32.toml").read_text("utf-8")


@pytest.mark.parametrize("name", names_in("boards"))
def test_boards_of_the_kit_are_sound(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert board.flash.part("boot").bytes >= 3 * 4096  # the record and the progress of an update
    assert board.flash.part("app_a").bytes == board.flash.part("app_b").bytes
    assert {"led", "button"} <= set(board.pins)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('name = "esp32"', 'name = "esp32"\ncolour = "red"', "colour"),
        ("led = 2", "led = -2", "pins.led"),
        ("offset = 0x200000, bytes = 0x80000", "offset = 0x200000, bytes = 0x90000", "partition boot at 0x280000 overlaps"),
        ("offset = 0x280000", "offset = 0x280100", "whole sectors"),
        ("bytes = 0xD0000", "bytes = 0xE0000", "ends beyond"),
        ('name = "ring"', 'name = "rings"', "partition ring is missing"),
        ("heap_bytes = 134_000", "heap_bytes = ", "Invalid value"),
    ],
)
def test_board_that_breaks_a_rule_is_refused_by_its_field(tmp_path: Path, old: str, new: str, names: str) -> None:
    assert old in TEXT
    (tmp_path / "mine.toml").write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError, match=r"mine\.toml") as caught:
        load_board("mine", tmp_path)
    assert names in str(caught.value)


def test_unknown_board_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match="esp32, esp32s3, sim"):
        load_board("esp33")


def test_partition_table_is_entries_and_their_md5() -> None:
    partitions = load_board("esp32").flash.partitions
    table = partition_table(partitions)
    assert len(table) == TABLE_BYTES
    entries = [struct.unpack_from("<HBBII16sI", table, 32 * i) for i in range(len(partitions))]
    assert {entry[0] for entry in entries} == {0x50AA}
    assert [(entry[3], entry[4], entry[5].rstrip(b"\0").decode()) for entry in entries] == [(p.offset, p.bytes, p.name) for p in partitions]
    assert (entries[2][1], entries[3][1]) == (0, 1)  # app, data
    end = 32 * len(partitions)
    assert table[end : end + 16] == b"\xeb\xeb" + b"\xff" * 14
    assert table[end + 16 : end + 32] == hashlib.md5(table[:end]).digest()
    assert set(table[end + 32 :]) == {0xFF}
