"""`paceline events` on a real state file: what is printed, from where, and that following sees what comes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.events.catalogue import CATALOGUE
from broker.events.envelope import Event, decode_structured
from processors.results_db import put_events
from processors.state_db import StateDb

EXAMPLES = [decode_structured(path.read_bytes()) for path in sorted(Path("docs/events/examples").iterdir())]


def paceline(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "paceline", "events", *args], capture_output=True, text=True, timeout=60, check=False)


def put(db: StateDb, events: list[Event]) -> None:
    put_events(db.db, [(e.id, e.type, e.topic, e.key, e.tenant, e.time_us, e.body) for e in events])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    db = StateDb(tmp_path / "platform" / "state.db")
    put(db, EXAMPLES[:10])
    db.close()
    return tmp_path


def test_tail_prints_what_the_outbox_holds(data: Path) -> None:
    done = paceline("tail", "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 11))
    assert [decode_structured(json.dumps(line["event"]).encode()) for line in lines] == EXAMPLES[:10]


def test_tail_takes_a_pattern_and_a_place(data: Path) -> None:
    done = paceline("tail", "--data", str(data), "--type", "*.social.*", "--after", "3")
    wanted = [(n, e) for n, e in enumerate(EXAMPLES[:10], 1) if ".social." in e.type and n > 3]
    assert wanted
    lines = done.stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == [n for n, _ in wanted]
    assert all(event.type.removeprefix("paceline.").removesuffix(".v1") in line for (_, event), line in zip(wanted, lines, strict=True))
    assert f"subject={EXAMPLES[4].data.model_dump()['subject']}" in done.stdout


def test_tail_follows_until_it_is_told_to_stop(data: Path) -> None:
    command = [sys.executable, "-m", "paceline", "events", "tail", "--data", str(data), "--json", "--follow", "--after", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["seq"] == 10
            db = StateDb(data / "platform" / "state.db")
            put(db, EXAMPLES)  # those it holds are passed over
            db.close()
            come = [json.loads(process.stdout.readline()) for _ in EXAMPLES[10:]]
            assert [line["event"]["id"] for line in come] == [event.id for event in EXAMPLES[10:]]
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=60)
            assert (rest, errors, process.returncode) == ("", "", 0)
        finally:
            process.kill()


def test_tail_says_what_is_missing(tmp_path: Path) -> None:
    done = paceline("tail", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "state.db" in done.stderr
    assert "cure" in done.stderr
    broken = tmp_path / "platform" / "state.db"
    broken.parent.mkdir()
    broken.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    done = paceline("tail", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "state.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_schema_prints_one_or_all_and_writes_files(tmp_path: Path) -> None:
    name = "paceline.social.board.changed.v1"
    one = json.loads(paceline("schema", name).stdout)
    assert one == json.loads((Path("docs/events/schemas") / name / f"{CATALOGUE[name].schemaversion}.json").read_text())
    assert set(json.loads(paceline("schema").stdout)) == set(CATALOGUE)
    done = paceline("schema", "--out", str(tmp_path / "made"))
    assert done.returncode == 0, done.stderr
    for kind in CATALOGUE.values():
        file = f"{kind.name}/{kind.schemaversion}.json"
        assert (tmp_path / "made" / file).read_bytes() == (Path("docs/events/schemas") / file).read_bytes()


def test_schema_names_the_types_when_one_is_unknown(tmp_path: Path) -> None:
    done = paceline("schema", "paceline.user.nap.taken.v1")
    assert done.returncode == 1
    assert "paceline.user.nap.taken.v1" in done.stderr
    assert "paceline.social.effort.recorded.v1" in done.stderr
    (tmp_path / "file").write_text("in the way")
    done = paceline("schema", "--out", str(tmp_path / "file"))
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert "Traceback" not in done.stderr
