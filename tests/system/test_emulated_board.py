"""Lane B: the kit on an emulated 32-bit board. What it costs is what the table says, and its bytes and values are those of the other lanes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from broker.frames import encode_frame
from tests.emulated_board import EmulatedBoard, kit_files
from tests.firmware import KIT, run
from tests.firmware_costs import grown, measure, table
from tests.system.test_firmware_board import SCRIPT as BOARD
from tests.system.test_firmware_board import samples
from tests.system.test_firmware_frames import SCRIPT as FRAMES
from tests.system.test_firmware_frames import drawn, edges, golden, line_of
from tests.system.test_firmware_signals import SCRIPT as SIGNALS
from tests.system.test_firmware_signals import signals

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(2400)]


def test_nothing_costs_more_than_the_table_says() -> None:
    measured = measure()
    for part in measured.values():
        for name, value in part.items():
            print(f"{value:>14,.1f}  {name}")
    assert grown(table(), measured) == []


def test_the_same_program_takes_the_same_number_of_instructions_each_time() -> None:
    program = "from time import counts\nfrom dsp.loops import isqrt\nbefore = counts()\nfor n in range(100):\n    isqrt(n)\nprint(counts() - before)"
    said: set[str] = set()
    for _ in range(3):
        with EmulatedBoard(kit_files()) as board:
            said.add(board.run(program))
    assert len(said) == 1


def test_frames_are_those_of_the_wire_to_the_byte() -> None:
    from broker.layouts import all_layouts

    wanted = [*golden(), *(frame for layout in all_layouts().values() for frame in edges(layout)), *drawn(random.Random(8), 300)]
    lines = "\n".join(map(line_of, wanted)).encode()
    with EmulatedBoard({**kit_files(), "frame_bytes.py": FRAMES.read_bytes(), "frames": lines}) as board:
        said = board.run('import frame_bytes\nframe_bytes.main(open("/rom/frames"))').splitlines()
    assert [bytes.fromhex(text) for text in said] == [encode_frame(frame) for frame in wanted]


@pytest.mark.parametrize("name", ["walk", "pulse", "crank"])
def test_signals_come_to_the_same_with_31_bits_and_the_heap_locked(name: str, tmp_path: Path) -> None:
    what, text, rate_hz = signals()[name]
    lines = text.splitlines()[:1800] if what == "motion" else text.split()[:2000]
    given = "\n".join(lines).encode()
    with EmulatedBoard({**kit_files(), "dsp_samples.py": SIGNALS.read_bytes(), "given": given}) as board:
        said = board.run(f'import dsp_samples\ndsp_samples.main("{what}", {rate_hz}, open("/rom/given"))')
    assert said == run("cpython", SIGNALS, what, str(rate_hz), stdin=given)


def test_machine_code_and_bytecode_are_equal_for_drawn_arguments() -> None:
    with EmulatedBoard({**kit_files(), "twins.py": SIGNALS.with_name("twins.py").read_bytes()}) as board:
        assert int(board.run("import twins\ntwins.main(500)")) == 6000


def test_no_sample_of_a_whole_board_allocates_on_32_bits(tmp_path: Path) -> None:
    """Nine seconds: registers, FIFOs, interrupts, receivers east of 107 degrees, where a longitude is longer than a small integer."""
    given = "\n".join(samples().splitlines()[:450]).encode()
    config = tmp_path / "bmi270.bin"
    config.write_bytes(bytes(range(256)) * 2)
    fakes = {
        str(path.relative_to(KIT)): path.read_bytes()
        for path in (KIT / "fakes").rglob("*.py")
        if path.parent.name == "sensors" or path.stem in ("__init__", "machine")
    }
    with EmulatedBoard(
        {**kit_files(), **fakes, "board_samples.py": BOARD.read_bytes(), "given": given, "bmi270.bin": config.read_bytes()}
    ) as board:
        said = board.run('import board_samples\nboard_samples.main("/rom/bmi270.bin", open("/rom/given"))')
    assert said == run("cpython", BOARD, str(config), stdin=given)
