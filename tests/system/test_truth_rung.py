"""The truth rung: the Bluetooth suite in an emulated guest with the real kernel and bluetoothd. It must say what the virtual daemon said."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.truth.guest import run_guest
from tests.truth.initrd import depends_on, newc

SUITE = "tests/system/test_bluetooth_both.py"


@pytest.mark.nightly
@pytest.mark.timeout(2400)
async def test_the_same_suite_passes_on_the_real_bluetoothd(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/tmp/pytest", SUITE]
    done = await run_guest(command, folder=tmp_path, limit_s=2100)
    assert done.code == 0, done.output[-6000:]
    assert " passed" in done.output
    assert "failed" not in done.output.splitlines()[-1]


def test_archive_of_the_first_file_system_is_the_format_of_the_kernel() -> None:
    archive = newc({"a": (0o100644, b"12345")})
    assert archive[:6] == b"070701"
    assert archive[110:112] == b"a\0"
    assert archive[112:117] == b"12345"
    assert archive[120:126] == b"070701"
    assert archive[120 + 110 :].startswith(b"TRAILER!!!\0")


def test_what_a_kernel_module_needs_is_read_from_it() -> None:
    assert depends_on(b"license=GPL\0depends=9pnet,netfs-x\0name=9p\0") == ["9pnet", "netfs_x"]
    assert depends_on(b"license=GPL\0depends=\0name=9p\0") == []
