"""Programs unpacked for the tests: two processes that want the same one at once, and one that was killed on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.debian_packages import PROJECT, unpacked_once

SCRIPT = """
import sys
from pathlib import Path
from tests.debian_packages import only_one
folder = Path(sys.argv[1])
for turn in range(200):
    with only_one("thing", folder):
        count = int((folder / "count").read_text())
        (folder / "count").write_text(str(count + 1))
"""


def test_one_process_at_a_time_is_let_in(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    both = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=PROJECT) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert (tmp_path / "count").read_text() == "400"


def test_what_is_unpacked_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "thing" / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "thing" / "usr" / "bin" / "thing").touch()
    assert unpacked_once(tmp_path / "thing", "usr/bin/thing", ("no-such-package",), lambda _: None).exists()
