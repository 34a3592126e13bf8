"""What the device kit costs on a 32-bit board: measured on the emulated one, where a program takes the same number of instructions each time.

`python -m tests.firmware_costs` measures and compares with the table; with `--write` it writes `tests/vectors/firmware_costs.json` and
`docs/firmware-costs.md` anew. The table is a promise: whatever grows by more than 5 % fails the nightly test until somebody writes the new number down.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from paceline.device.board import load_board, load_example, names_in
from paceline.device.image import build
from paceline.device.manifest import Release, sign
from tests.emulated_board import PACKAGES, EmulatedBoard, kit_files, port_files
from tests.firmware import KIT
from tests.motion_made import pulse, walk
from tests.receiver_bytes import Instant, nav_pvt, nmea

TABLE = Path(__file__).parent / "vectors" / "firmware_costs.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "firmware-costs.md"
SCRIPT = Path(__file__).parent / "lanes" / "costs.py"
WHOLE = SCRIPT.with_name("whole_device.py")
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
RUN_S = 60
COUNT = 40  # instructions for a count of the board's timer: 25 counts and 1,000 instructions a microsecond
MORE_PCT = 5
Costs = dict[str, dict[str, float]]
_WITH_ASYNCIO = (
    'import time, select, asyncio\nfor name in ("core", "event", "lock", "funcs", "stream"):\n    __import__("asyncio." + name)\n'
)


def inputs() -> dict[str, bytes]:
    """What the script reads: a walk, a pulse, ten fixes in both languages near the antimeridian, something signed."""
    message = bytes(range(200))
    fixes = [Instant(-170_000_000 + i, 1_799_999_000 - i, time_ms=45_296_000 + 1000 * i) for i in range(10)]
    return {
        "motion": array("h", [axis for sample in walk(16, 110)[:1000] for axis in sample]).tobytes(),
        "light": array("i", pulse(10, lambda _: 72)).tobytes(),
        "ubx": b"".join(map(nav_pvt, fixes)),
        "nmea": b"".join(map(nmea, fixes)),
        "signed": KEY.public_key().public_bytes_raw() + KEY.sign(message) + message,
    }


def names(said: str) -> list[str]:
    """What the script measured, in its order."""
    return [line.rsplit(" ", 2)[0] for line in said.splitlines()]


def measure() -> Costs:
    """Instructions for each, and bytes of heap that each module holds once it is imported, with all that it imports but asyncio."""
    kit = kit_files()
    modules = sorted(path[:-3].replace("/", ".") for path in kit if path.startswith(PACKAGES) and not path.endswith("__init__.py"))
    with EmulatedBoard({**kit, "costs.py": SCRIPT.read_bytes(), **inputs()}) as board:
        groups = int(board.run("import costs\nprint(len(costs.GROUPS))"))
        said = ""
        for group in range(groups):
            board.restart()
            said += board.run(f'import costs\ncosts.GROUPS[{group}]("/rom")')
        rows = [line.rsplit(" ", 2) for line in said.splitlines()]
        instructions = {name: round(int(counts) * COUNT / int(done), 1) for name, done, counts in rows}
        board.restart()
        rows = [line.rsplit(" ", 1) for line in board.run('import costs\ncosts.objects("/rom")').splitlines()]
        objects: dict[str, float] = {name: int(held) for name, held in rows}
        heap: dict[str, float] = {}
        for module in modules:
            board.restart()
            board.run(_WITH_ASYNCIO + "gc.collect()\nbefore = gc.mem_alloc()")
            heap[module] = int(board.run(f"import {module}\ngc.collect()\nprint(gc.mem_alloc() - before)"))
        board.restart()
        board.run(_WITH_ASYNCIO + "gc.collect()\nbefore = gc.mem_alloc()")
        together = [module for module in modules if not module.endswith(("_plain", "_viper"))]
        heap["all of them"] = int(
            board.run("".join(f"import {name}\n" for name in together) + "gc.collect()\nprint(gc.mem_alloc() - before)")
        )
        heap["free for the device then"] = int(board.run("print(gc.mem_free())"))
    running: dict[str, float] = {}
    for name in names_in("devices"):
        base, modules = device_heap(name)
        heap[f"device {name}, all its modules"] = modules
        running["asyncio and the port, before anything"] = base
        steady, most = running_heap(name)
        running[f"{name}: steady"] = modules + steady
        running[f"{name}: at most"] = modules + most
    return {"instructions": instructions, "object_bytes": objects, "heap_bytes": heap, "running_bytes": running}


def device_heap(name: str) -> tuple[int, int]:
    """What is held before an example is imported, built as for a board, and what its modules hold then."""
    with EmulatedBoard({**port_files(), **_image(name)}) as emulated:
        base = int(emulated.run(_WITH_ASYNCIO + "gc.collect()\nbefore = gc.mem_alloc()\nprint(before)"))
        return base, int(emulated.run("import application\ngc.collect()\nprint(gc.mem_alloc() - before)"))


def running_heap(name: str) -> tuple[int, int]:
    """What an example that runs holds beyond its modules: steadily, and at most while its link breaks, an update is checked, and its console is asked."""
    fakes = {str(path.relative_to(KIT)): path.read_bytes() for path in (KIT / "fakes").rglob("*.py")}
    release = Release("application", 2, 0, 4_000_000_000, f"{load_example(name).boards[0]}-{name}")
    files = {"whole_device.py": WHOLE.read_bytes(), "manifest": sign(release, bytes(50_000), KEY)}
    with EmulatedBoard({**port_files(), **fakes, **files, **_image(name)}, roomy=True) as emulated:
        said = emulated.run(f'import whole_device\nwhole_device.main("{name}", {RUN_S}, open("/rom/manifest", "rb").read())')
        steady, most = said.splitlines()[-1].split()
        return int(steady), int(most)


def _image(name: str) -> Mapping[str, bytes]:
    example = load_example(name)
    board = load_board(example.boards[0]).model_copy(update={"mpy_arch": "armv7m"})
    return build(board, example, (KEY.public_key().public_bytes_raw(),), version=1).modules


def grown(table: Costs, measured: Costs) -> list[str]:
    """What is dearer than the table allows, or is not in both; free memory is dearer when it is less."""
    wrong: list[str] = []
    for part, rows in table.items():
        wrong += [f"{part}: {name} is in one only" for name in sorted(rows.keys() ^ measured[part].keys())]
        for name in sorted(rows.keys() & measured[part].keys()):
            was, now = rows[name], measured[part][name]
            if name.startswith("free"):
                was, now = now, was
            if now > was * (1 + MORE_PCT / 100):
                wrong.append(f"{part}: {name} was {rows[name]:,} and is {measured[part][name]:,}")
    return wrong


def table() -> Costs:
    """The checked-in one."""
    return json.loads(TABLE.read_text())


def page(costs: Costs) -> str:
    """The document made from a table."""
    lines = [
        "# What the device kit costs",
        "Written by `python -m tests.firmware_costs --write`; do not edit. Measured on an emulated Cortex-M3 (QEMU, `-icount shift=0`: a nanosecond of its time is one",
        "instruction) that runs MicroPython 1.25 of Debian's source package with 138 KB of heap: the same numbers on any machine, each time. `make nightly` fails when one",
        f"grows by more than {MORE_PCT} %. The heap is locked while samples are taken:",
        "what is counted here, but for the signature, allocates nothing.",
        "",
        "## Instructions",
        "| what | each |",
        "|---|---|",
        *(f"| {name} | {value:,.0f} |" for name, value in costs["instructions"].items()),
        "",
        "The signature is checked on an empty heap, as after a boot. Drivers are counted without their bus: a stub takes the place of I2C, and its own cost is taken off.",
        "",
        "## Heap",
        "Bytes that an object holds, with its buffers:",
        "",
        "| object | bytes |",
        "|---|---|",
        *(f"| {name} | {int(value):,} |" for name, value in costs["object_bytes"].items()),
        "",
        "Bytes that a module holds after its import from an image in flash (ROMFS), with all that it imports; asyncio, which firmware holds anyway, is not counted.",
        "",
        "| module | bytes |",
        "|---|---|",
        *(f"| {name} | {int(value):,} |" for name, value in costs["heap_bytes"].items()),
        "",
        "## Devices that run",
        "Bytes of heap that a whole example holds while it runs on the emulated board, its modules and all it made: steadily, linked, with eight bindings; and the most at any",
        f"operation of its flash or link in {RUN_S} s in which its link breaks, an update is offered and its signature checked, and its console is asked. asyncio and what the",
        "port itself holds come on top; with them no device reaches 96 KB of the 138 KB. 64 KB steadily is held by those with one sensor; the strap bridge and the wristband hold",
        "up to 72 KB. TLS is off here: on, the context and its certificates hold 2 KB more (`tests/system/test_firmware_memory.py`), and its buffers lie outside this heap.",
        "",
        "| what | bytes |",
        "|---|---|",
        *(f"| {name} | {int(value):,} |" for name, value in costs["running_bytes"].items()),
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    measured = measure()
    for line in grown(table(), measured) if TABLE.exists() else []:
        print(line)
    if "--write" in arguments:
        TABLE.write_text(json.dumps(measured, indent=1) + "\n")
        PAGE.write_text(page(measured))
    for rows in measured.values():
        for name, value in rows.items():
            print(f"{value:>14,.1f}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
