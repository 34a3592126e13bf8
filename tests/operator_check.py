"""What operators are given, read by the parsers of the programs that will read it: compose-go, Prometheus. Go builds them from their modules
once, into `.cache/tools` (a minute of a core): `tests/operators/main.go` says what it answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tests.debian_packages import TOOLS, ServerUnavailableError, only_one

SOURCE: Final = Path(__file__).with_name("operators")


def checker() -> Path:
    """The program, built on the first call."""
    text = b"".join((SOURCE / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    target = TOOLS / f"operators-{hashlib.sha256(text).hexdigest()[:16]}"
    with only_one("operators"):
        if not target.exists():
            _build(target)
    return target


def _build(target: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise ServerUnavailableError(
            "what reads docker-compose.yml for the tests is built by Go: apt install golang, or put go on the PATH"
        )
    making = target.with_name(f".{target.name}.making")
    environment = {**os.environ, "GOFLAGS": "-modcacherw", "CGO_ENABLED": "0"}
    command = ["nice", "-n", "15", go, "build", "-o", str(making), "."]
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise ServerUnavailableError(
            f"Go could not build tests/operators: {done.stderr.strip()[-2000:]}; check that it reaches its module proxy"
        )
    making.rename(target)


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


if __name__ == "__main__":
    checker()
