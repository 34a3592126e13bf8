"""A 32-bit board that is emulated: MicroPython 1.25 for a Cortex-M3 in QEMU, whose clock counts instructions. The same program takes the same number each time.

The firmware is built from Debian's source package with Debian's compiler, both unpacked into `.cache/tools` (about a minute, once), and started in Debian's QEMU.
Modules of the kit lie compiled in a ROMFS image in its memory, as in the flash of a device. A script runs by the raw REPL.

    with EmulatedBoard({"kit/frame.py": source, ...}) as board:
        print(board.run("import kit.frame; ..."))
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Self

from paceline.device.folding import folded
from paceline.device.image import compiled as module
from paceline.device.romfs import romfs
from tests.debian_packages import TOOLS, ServerUnavailableError, cure, find_or_unpack, library_environment, only_one, own_lists
from tests.firmware import KIT
from tests.micropython import debian_sources

ROM_AT = 0x2100_0000  # 16 MB of the board's PSRAM
WAIT_S = 300.0
ROOMY_HEAP_BYTES = 400 * 1024
PACKAGES = ("kit", "ble", "drivers", "dsp")
STAND_INS = Path(__file__).parent / "lanes" / "emulated"
_PRELUDE = """
import gc, sys, uctypes, vfs
vfs.mount(vfs.VfsRom(uctypes.bytearray_at({at}, {length})), "/rom")
sys.path.insert(0, "/rom")
"""


def find_or_build_firmware(tools: Path = TOOLS, *, roomy: bool = False) -> Path:
    """The ELF file of the firmware, built when it is not there; `roomy` has `ROOMY_HEAP_BYTES`. ServerUnavailableError says what is missing
    and the cure.
    """
    built = tools / "micropython-qemu" / ("roomy.elf" if roomy else "firmware.elf")
    with only_one("micropython-qemu", tools):
        if not built.exists():
            _build(built.parent, tools)
    return built


def kit_files() -> dict[str, bytes]:
    """All the kit by path, with what this port lacks for it."""
    return {str(path.relative_to(KIT)): path.read_bytes() for folder in PACKAGES for path in (KIT / folder).rglob("*.py")} | port_files()


def port_files() -> dict[str, bytes]:
    """What this port lacks: MicroPython's own asyncio, a clock, and names of networks."""
    files = {path.name: path.read_bytes() for path in STAND_INS.glob("*.py")}
    return files | {f"asyncio/{path.name}": path.read_bytes() for path in find_or_build_firmware().with_name("asyncio").glob("*.py")}


def compiled(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Modules as bytecode, and native code for the board, as an image for a device has them: constants folded, but those of layouts, which
    a script may look for by names it makes. Scripts of tests keep their assertions.
    """
    sources = {path: data for path, data in files.items() if path.endswith(".py")}
    sources |= {path: data for path, data in folded(sources).items() if not path.startswith("kit/layouts/")}
    return {path[:-3] + ".mpy": module(path, source, "armv7m", not path.startswith(PACKAGES)) for path, source in sources.items()}


class EmulatedBoard:
    """Runs while it is entered. `files` by path; those that end in .py are compiled. `roomy`: with a heap that no device has, for what stands
    around one.
    """

    def __init__(self, files: Mapping[str, bytes], *, roomy: bool = False) -> None:
        self._roomy = roomy
        self.rom = romfs({path: data for path, data in files.items() if not path.endswith(".py")} | compiled(files))
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        qemu = find_or_unpack("qemu-arm", "usr/bin/qemu-system-arm", ("qemu-system-arm",))
        firmware = find_or_build_firmware(roomy=self._roomy)
        self._folder = tempfile.TemporaryDirectory()
        rom = Path(self._folder.name, "rom.img")
        rom.write_bytes(self.rom)
        machine = ["-machine", "mps2-an385", "-nographic", "-monitor", "none", "-serial", "stdio", "-semihosting"]
        clock = ["-icount", "shift=0,sleep=off"]  # a nanosecond of its time is one instruction, and nothing waits for ours
        load = ["-kernel", str(firmware), "-device", f"loader,file={rom},addr={ROM_AT:#x},force-raw=on"]
        data = qemu.parents[1] / "share" / "qemu"
        command = [str(qemu), *machine, *clock, *load, *(["-L", str(data)] if data.exists() else [])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=library_environment(qemu), bufsize=0
        )
        self._until(b">>> ")
        self._type(b"\x01")
        self._until(b"raw REPL; CTRL-B to exit\r\n>")
        self.run(_PRELUDE.format(at=ROM_AT, length=len(self.rom)))
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._process is not None
        assert self._folder is not None
        self._process.kill()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def run(self, script: str) -> str:
        """What a script printed. AssertionError with what it raised."""
        self._type(script.encode() + b"\x04")
        said = self._until(b"\x04>")
        assert said.startswith(b"OK"), said
        printed, _, raised = said[2:-2].partition(b"\x04")
        assert not raised, f"on the emulated board: {raised.decode(errors='replace')}\n{printed[-2000:].decode(errors='replace')}"
        return printed.decode().replace("\r\n", "\n")

    def restart(self) -> None:
        """An empty heap, nothing imported."""
        self._type(b"\x04")
        self._until(b"raw REPL; CTRL-B to exit\r\n>")
        self.run(_PRELUDE.format(at=ROM_AT, length=len(self.rom)))

    def _pipe(self, name: str) -> IO[bytes]:
        pipe = getattr(self._process, name)
        assert pipe is not None
        return pipe

    def _type(self, data: bytes) -> None:
        self._pipe("stdin").write(data)

    def _until(self, wanted: bytes) -> bytes:
        output = self._pipe("stdout").fileno()
        said = b""
        deadline = time.monotonic() + WAIT_S
        while not said.endswith(wanted):
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(output, 65_536) if ready else b""
            if not more:
                raise AssertionError(f"the emulated board said {said[-2000:]!r} and then nothing: {wanted!r} was awaited")
            said += more
        return said


def _build(folder: Path, tools: Path) -> None:
    making = tools / ".micropython-qemu.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for program in ("make", "gcc"):
        if shutil.which(program) is None:
            raise ServerUnavailableError(f"no {program}: {cure('build-essential')}")
    compiler = find_or_unpack("arm-gcc", "usr/bin/arm-none-eabi-gcc", ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi"), tools)
    source = _unpack_source(making)
    (making / "manifest.py").touch()  # nothing is frozen: the kit comes as an image
    environment = {**library_environment(compiler), "PATH": f"{compiler.parent}:{os.environ['PATH']}"}
    headers = compiler.parents[1] / "include" / "newlib"
    options = ["BOARD=MPS2_AN385", f"FROZEN_MANIFEST={making / 'manifest.py'}"]
    if headers.exists():
        options.append(f"CFLAGS_EXTRA=-isystem {headers}")
    roomy = [*options, "BUILD=build-roomy", f"MICROPY_HEAP_SIZE={ROOMY_HEAP_BYTES}"]
    make = ["make", "-j2", "-C"]
    for command in ([*make, "mpy-cross"], [*make, "ports/qemu", *options], [*make, "ports/qemu", *roomy]):
        done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, timeout=1800, check=False)
        if done.returncode:
            raise ServerUnavailableError(f"{' '.join(command[:4])}: {(done.stdout + done.stderr)[-1500:]}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(source / "extmod" / "asyncio", folder / "asyncio", ignore=shutil.ignore_patterns("manifest.py"))
    for build, name in (("build-MPS2_AN385", "firmware.elf"), ("build-roomy", "roomy.elf")):
        shutil.copy(source / "ports" / "qemu" / build / "firmware.elf", folder / name)
    shutil.rmtree(making)


def _unpack_source(making: Path) -> Path:
    """The source of the very package that lane A runs."""
    apt = making / "apt"
    options = debian_sources(apt, own_lists(apt), "deb-src")
    for words in (("update",), ("source", "--download-only", "micropython")):
        done = subprocess.run(["apt-get", *options, *words], cwd=making, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise ServerUnavailableError(f"apt-get {words[0]} failed ({done.stderr.strip().splitlines()[-1:]}): {cure('micropython')}")
    archive = next(making.glob("micropython_*.orig.tar.*"))
    with tarfile.open(archive) as tar:
        tar.extractall(making / "source", **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (source,) = (making / "source").iterdir()
    (source / "lib" / "micropython-lib").mkdir(exist_ok=True)
    (source / "lib" / "micropython-lib" / "README.md").touch()
    return source
