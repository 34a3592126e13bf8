"""The device kit is checked on the host, with stubs of the modules that only a board has; what a board would refuse is found here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.firmware import KIT


def errors_of(folder: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    return json.loads(done.stdout)["generalDiagnostics"]


def test_kit_and_examples_are_free_of_errors() -> None:
    assert [(one["file"].removeprefix(str(KIT)), one["message"]) for one in errors_of(KIT)] == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [("machine.WDT(timeout=60_000)", "machine.Watchdog(60_000)", "Watchdog"), ("watchdog.feed)", "wacthdog.feed)", "wacthdog")],
)
def test_what_a_board_does_not_have_is_found(tmp_path: Path, old: str, new: str, says: str) -> None:
    source = (KIT / "main.py").read_text()
    assert old in source
    (tmp_path / "main.py").write_text(source.replace(old, new))
    shutil.copytree(KIT / "typings", tmp_path / "typings")
    (tmp_path / "pyrightconfig.json").write_text(
        '{"include": ["main.py"], "stubPath": "typings", "typeCheckingMode": "off", "reportUndefinedVariable": "error"}'
    )
    assert any(says in one["message"] for one in errors_of(tmp_path))
