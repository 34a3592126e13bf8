"""A real S3-compatible server for tests: versitygw over a folder, built by Go from its module once, into `.cache/tools`; checks signatures.

with start_s3(tmp_path) as s3:
    s3.bucket("some/prefix")                              # for BucketObjects
    s3.kill(); s3.start()                                 # kill -9, and again with its data
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paceline.supervise import free_port
from processors.track_bucket import Bucket
from tests.debian_packages import ServerUnavailableError
from tests.go_tools import go_tool

VERSITYGW: Final = "1.8.0"
NAME: Final = "tracks"
ACCESS_KEY, SECRET_KEY = "tests", "tests-secret"
START_TIMEOUT_S: Final = 120.0


def find_versitygw() -> Path:
    """The server, built on the first call (some two minutes of a core)."""
    return go_tool(f"versitygw-{VERSITYGW}", f"github.com/versity/versitygw/cmd/versitygw@v{VERSITYGW}", what=f"versitygw {VERSITYGW}")


@dataclass(slots=True)
class S3:
    """A server with one bucket."""

    binary: Path
    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, prefix: str) -> Bucket:
        return Bucket(f"s3://{NAME}/{prefix}", self.endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY)

    def start(self) -> None:
        """Start with the data it has, and wait until it listens."""
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        command = [str(self.binary), "--port", f"127.0.0.1:{self.port}", "--quiet", "posix", str(self.home)]
        with self.home.with_name("out").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = self.home.with_name("out").read_text(errors="replace")[-2000:]
                    raise ServerUnavailableError(f"versitygw did not start on port {self.port}:\n{said}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)


@contextmanager
def start_s3(folder: Path) -> Generator[S3]:
    """A running server with an empty bucket."""
    home = folder / "store"
    (home / NAME).mkdir(parents=True)
    server = S3(find_versitygw(), home, free_port())
    server.start()
    try:
        yield server
    finally:
        server.kill()
