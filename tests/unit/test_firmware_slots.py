"""Images in a slot: read as MicroPython's own reader reads them, imported from there before the base image, given up when they hang."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
from pathlib import Path

import pytest
from fakes.flash import Nor
from hypothesis import given
from hypothesis import strategies as st
from kit.romfs import RomFs
from kit.slots import TRIES, Slots

from paceline.device.romfs import romfs
from tests.firmware import KIT
from tests.micropython import MicroPython, find_or_unpack_micropython

FILES = {
    "application.py": b"def version():\n    return 1\n",
    "kit/__init__.py": b"",
    "kit/new.py": b"NAME = 'from the slot'\n",
    "data/deep/table.bin": bytes(range(256)) * 9,
    "data/empty": b"",
}


def flash_of(image: bytes, sector_bytes: int = 512) -> Nor:
    flash = Nor(-(-len(image) // sector_bytes) + 1, sector_bytes)
    flash.image[: len(image)] = image
    return flash


def tree(system: RomFs, path: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name, kind, _, _ in system.ilistdir(path):
        below = f"{path}/{name}".lstrip("/")
        if kind == 0x4000:
            found |= tree(system, below)
        else:
            found[below] = system.open(below, "rb").read()
    return found


def test_all_files_of_an_image_are_read_over_the_borders_of_blocks() -> None:
    system = RomFs(flash_of(romfs(FILES), 64))
    assert tree(system) == FILES
    assert system.stat("/data/deep/table.bin")[6] == 9 * 256
    assert system.stat("data")[0] == 0x4000
    with system.open("data/deep/table.bin", "rb") as file:
        assert file.read(3) + file.read(5) == bytes(range(8))
    system.chdir("/data")
    assert system.getcwd() == "/data"
    assert system.open("deep/table.bin", "rb").read(2) == b"\0\1"
    assert system.open("/application.py", "r").read() == FILES["application.py"].decode()


@pytest.mark.parametrize(
    ("ask", "errno"),
    [
        (lambda s: s.open("none", "rb"), 2),
        (lambda s: s.open("application.py/x", "rb"), 2),
        (lambda s: s.open("data", "rb"), 21),
        (lambda s: s.open("new", "wb"), 30),
        (lambda s: s.stat("data/none"), 2),
        (lambda s: list(s.ilistdir("application.py")), 20),
        (lambda s: s.chdir("application.py"), 20),
    ],
)
def test_what_is_not_there_is_an_error_by_its_number(ask, errno: int) -> None:
    with pytest.raises(OSError) as caught:
        ask(RomFs(flash_of(romfs(FILES))))
    assert caught.value.errno == errno


@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_damaged_images_are_errors_and_never_hang(dice: random.Random, hits: int) -> None:
    image = bytearray(romfs({name: content[:80] for name, content in FILES.items()}))
    for _ in range(hits):
        image[dice.randrange(len(image))] = dice.randrange(256)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        tree(RomFs(flash_of(bytes(image), 64)))


@pytest.fixture(scope="module")
def micropython() -> MicroPython:
    return find_or_unpack_micropython()


def test_micropython_reads_the_image_as_its_own_reader_does_and_imports_from_it(micropython: MicroPython, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(romfs(FILES))
    script = tmp_path / "mount.py"
    script.write_text(f"""
import os, sys, vfs
sys.path.insert(0, {str(KIT)!r})
from kit.romfs import RomFs
class Flash:
    def __init__(self, data):
        self.data = data + b"\\xff" * (512 - len(data) % 512)
    def readblocks(self, block, buffer, offset=0):
        buffer[:] = self.data[block * 512 + offset : block * 512 + offset + len(buffer)]
    def ioctl(self, operation, argument):
        return {{4: len(self.data) // 512, 5: 512}}.get(operation, 0)
def tree(path):
    for name, kind, *_ in os.ilistdir(path):
        if kind == 0x4000:
            yield from tree(path + "/" + name)
        else:
            with open(path + "/" + name, "rb") as file:
                yield path[3:] + "/" + name, file.read(), os.stat(path + "/" + name)[6]
data = open({str(tmp_path / "image")!r}, "rb").read()
vfs.mount(RomFs(Flash(data)), "/us")
vfs.mount(vfs.VfsRom(data), "/it")
assert list(tree("/us")) == list(tree("/it"))
sys.path.insert(0, "/us")
import application
print(application.version(), len(list(tree("/us"))))
""")
    assert micropython.run(script, heap="128wk").split() == ["1", str(len(FILES))]


DEVICE = """
import os, sys, vfs
sys.path.append({kit!r})
folder = sys.argv[1]
class Flash:  # a file, so that it outlives the process
    def __init__(self, name, sectors):
        self.path, self.sectors = folder + "/" + name, sectors
        try:
            os.stat(self.path)
        except OSError:
            with open(self.path, "wb") as new:
                new.write(b"\\xff" * (sectors * 4096))
    def readblocks(self, block, buffer, offset=0):
        with open(self.path, "rb") as file:
            file.seek(block * 4096 + offset)
            buffer[:] = file.read(len(buffer))
    def writeblocks(self, block, data, offset=0):
        old = bytearray(len(data))
        self.readblocks(block, old, offset)
        self._put(block * 4096 + offset, bytes([a & b for a, b in zip(old, data)]))
    def ioctl(self, operation, argument):
        if operation == 6:
            self._put(argument * 4096, b"\\xff" * 4096)
        return {{4: self.sectors, 5: 4096}}.get(operation, 0)
    def _put(self, at, data):
        with open(self.path, "r+b") as file:
            file.seek(at)
            file.write(data)
boot, parts = Flash("boot", 3), [Flash("a", 8), Flash("b", 8)]
from kit.start import start
slots, chosen = start(boot, parts, vfs.mount)
import application
print("runs", application.VERSION, chosen)
application.run(slots, parts)
"""
BASE = "VERSION = 0\n"
GOOD = "VERSION = {version}\nfrom kit import slots\ndef run(record, parts):\n    print(slots.__file__.startswith('/app/'))\n    record.confirm()\n"
HANGS = "VERSION = {version}\ndef run(record, parts):\n    while True:\n        pass\n"


def test_an_image_that_hangs_is_given_up_by_the_watchdog_and_the_old_one_runs(micropython: MicroPython, tmp_path: Path) -> None:
    """Processes of the unix port as starts of a device; one that hangs is killed, as a watchdog resets a device."""
    script = tmp_path / "device.py"
    script.write_text(DEVICE.format(kit=str(KIT)))
    (tmp_path / "application.py").write_text(BASE + "def run(record, parts):\n    pass\n")
    kit = {f"kit/{name}.py": (KIT / "kit" / f"{name}.py").read_bytes() for name in ("__init__", "slots")}

    def put(slot: str, source: str, version: int) -> None:
        """As an update leaves it: the image in the spare slot, and on trial."""
        image = romfs({"application.py": source.format(version=version).encode(), **kit})
        (tmp_path / slot).write_bytes(image.ljust(8 * 4096, b"\xff"))
        flash = Nor(3)
        flash.image[:] = (tmp_path / "boot").read_bytes()
        record = Slots(flash)
        assert "ab"[record.spare()] == slot
        record.try_next(version)
        (tmp_path / "boot").write_bytes(flash.image)

    def start(*, hangs: bool = False) -> list[str]:
        command = [*micropython.command, "-X", "heapsize=128wk", str(script), str(tmp_path)]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline().split()
            if hangs:
                process.kill()
            return said + process.stdout.read().split()

    assert start() == ["runs", "0", "None"]
    put("a", GOOD, 1)
    assert start() == ["runs", "1", "0", "True"]
    put("b", HANGS, 2)
    for _ in range(TRIES):
        assert start(hangs=True) == ["runs", "2", "1"]
    assert start() == ["runs", "1", "0", "True"]
    put("b", GOOD, 3)
    assert start() == ["runs", "3", "1", "True"]
    assert start() == ["runs", "3", "1", "True"]
    (tmp_path / "b").write_bytes(os.urandom(8 * 4096))  # the flash forgets: what the base image brings along starts
    assert start() == ["runs", "0", "None"]
