"""`paceline upload` as a process against an HTTP server that takes files with the real `Uploads` into a real log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.errors import BadInputError
from paceline.config import load
from paceline.site import open_site, publish_site
from processors.api.models import Problem, UploadAccepted
from processors.log import SqliteLog
from processors.uploads import Uploads
from tests.unit.test_files_fuzz import FILES


@dataclass
class Served:
    data: Path
    log: SqliteLog


class Handler(BaseHTTPRequestHandler):
    token = ""
    uploads: Uploads

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.headers["Authorization"] != f"Bearer {self.token}":
            self.answer(401, Problem(title="Unauthorized", status=401, detail="no token", cure="give one"))
            return
        assert url.path == "/api/v1/activities"
        try:
            result = self.uploads.accept("gym", query["athlete"], query["name"], raw)
        except BadInputError as error:
            self.answer(400, Problem(title="Bad Request", status=400, detail=error.message, cure=error.cure))
            return
        fields = {name: getattr(result, name) for name in UploadAccepted.model_fields if hasattr(result, name)}
        fields["skipped"] = dict(result.skipped)
        self.answer(202, UploadAccepted.model_validate({**fields, "athlete": query["athlete"], "repeated": result.known}))

    def answer(self, status: int, body: Problem | UploadAccepted) -> None:
        raw = body.model_dump_json().encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        del args


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    data = tmp_path / "site"
    with SqliteLog.open(tmp_path / "log.db") as log:
        Handler.uploads = Uploads(log)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        settings = load(None, {}, {"data": data, "api.port": server.server_address[1]}).settings
        site = open_site(settings)
        publish_site(site)
        Handler.token = site.settings.api.token.get_secret_value()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Served(data, log)
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)


def paceline(*args: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "paceline", "upload", *map(str, args)], capture_output=True, text=True, timeout=240, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_files_are_taken_known_or_refused_each_by_itself(served: Served, tmp_path: Path) -> None:
    paths = [tmp_path / "my ride & é.fit", tmp_path / "run.gpx", tmp_path / "bad.fit"]
    for path, raw in zip(paths, (FILES["fit"], FILES["gpx"], b"nothing"), strict=True):
        path.write_bytes(raw)
    done = paceline(paths[0], paths[2], paths[1], "--athlete", "ann", "--data", served.data)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")] == ["taken", "taken"]
    assert "refused  bad.fit: neither FIT, GPX nor TCX" in done.stderr
    assert "cure: give a FIT" in done.stderr
    stored = served.log.end()
    _, records = served.log.read(0, 1)
    assert json.loads(records[0].body)["name"] == "my ride & é.fit"
    again = paceline(paths[0], paths[1], "--athlete", "ann", "--data", served.data, "--json")
    assert again.returncode == 0
    said = json.loads(again.stdout)
    assert [(one["file"], one["repeated"], one["format"], one["sport"]) for one in said] == [
        (str(paths[0]), True, "fit", "cycling"),
        (str(paths[1]), True, "gpx", "cycling"),
    ]
    assert served.log.end() == stored


def test_files_that_cannot_be_read_are_refused_here(served: Served, tmp_path: Path) -> None:
    large = tmp_path / "large.fit"
    with large.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    done = paceline(tmp_path / "none.fit", tmp_path, large, "--athlete", "ann", "--data", served.data, "--json")
    assert done.returncode == 1
    assert [one["error"].rpartition(": ")[2] for one in json.loads(done.stdout)] == [
        "no such file",
        "not a regular file",
        "67108865 bytes, at most 67108864",
    ]
    assert served.log.end() == 0


def test_wrong_usage_a_wrong_token_and_a_site_that_is_not_there(served: Served, tmp_path: Path) -> None:
    ride = tmp_path / "ride.fit"
    ride.write_bytes(FILES["fit"])
    for args, code, says in (
        ((ride, "--athlete", "Ann B", "--data", served.data), 2, "'Ann B' is not an id"),
        ((ride, "--athlete", "ann", "--data", tmp_path / "nowhere"), 2, "site.json"),
        (("--athlete", "ann", "--data", served.data), 2, "FILES"),
    ):
        done = paceline(*args)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    Handler.token = "another"
    refused = paceline(ride, "--athlete", "ann", "--data", served.data)
    assert refused.returncode == 1
    assert "answers 401: no token" in refused.stderr
    site = json.loads((served.data / "site.json").read_text())
    site["api"]["port"] = 1
    (served.data / "site.json").write_text(json.dumps(site))
    silent = paceline(ride, "--athlete", "ann", "--data", served.data)
    assert silent.returncode == 1
    assert "no answer from http://127.0.0.1:1" in silent.stderr
    assert "paceline run" in silent.stderr
    assert served.log.end() == 0
