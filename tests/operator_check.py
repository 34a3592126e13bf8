"""What operators are given, read by the parsers of the programs that will read it: compose-go, Prometheus. Go builds them from their modules
once, into `.cache/tools` (a minute of a core): `tests/operators/main.go` says what it answers.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.go_tools import go_tool

SOURCE: Final = Path(__file__).with_name("operators")


def checker() -> Path:
    """The program, built on the first call."""
    text = b"".join((SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    return go_tool(f"operators-{hashlib.sha256(text).hexdigest()[:16]}", ".", what="tests/operators", cwd=SOURCE)


def asked(*arguments: object, given: str = "", cwd: Path | None = None) -> Any:
    """The answer as JSON; AssertionError with what it said when it refuses."""
    done = subprocess.run([checker(), *map(str, arguments)], input=given, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def metrics_of(questions: Iterable[str]) -> list[list[str]]:
    """The metrics each question to Prometheus names."""
    done = subprocess.run([checker(), "metrics"], input="\n".join(questions), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
