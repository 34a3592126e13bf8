"""`paceline segments` and `athletes`: what gets in, what is refused and why, and that the examples of their pages can be imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broker.logrecord import Kind
from broker.nodeconfig import parse_node_config
from broker.reference import decode_reference
from paceline.cli import main
from paceline.config import load
from paceline.site import open_site, publish_site
from processors.log import SqliteLog
from processors.runner import Runner

DOCS = Path(__file__).parents[2] / "docs"
EAST = [(-30.0 + k * 2e-4, 45.0) for k in range(21)]  # 315 m along a parallel, longitude first
LINE = {"type": "LineString", "coordinates": EAST}


@dataclass
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def paceline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*args: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["paceline", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        caught = capsys.readouterr()
        return Said(int(ended.value.code or 0), caught.out, caught.err)

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A site with a state, whose platform does not run."""
    site = open_site(load(None, {}, {"data": tmp_path / "data", "api.port": 1}).settings)
    publish_site(site)
    advance(site.data)
    return site.data


def advance(data: Path) -> None:
    """What the platform does with the log."""
    with SqliteLog.open(data / "platform" / "log.db") as log:
        runner = Runner(log, data / "platform" / "state.db")
        runner.drain()
        runner.close()


def references(data: Path) -> list[Any]:
    with SqliteLog.open(data / "platform" / "log.db") as log:
        return [decode_reference(r.body) for r in log.read(0, 1000)[1] if r.kind == Kind.REFERENCE]


def features(*lines: tuple[str, list[tuple[float, float]]]) -> str:
    made = [
        {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "LineString", "coordinates": line}} for name, line in lines
    ]
    return json.dumps({"type": "FeatureCollection", "features": made})


def example(page: str, language: str, folder: Path) -> Path:
    """The only example of a language on a page, as a file."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    path = folder / f"example.{language}"
    path.write_text(text)
    return path


def test_segments_before_the_first_start_and_beside_a_state(paceline: Run, data: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "fresh", data):
        file = tmp_path / "two.geojson"
        file.write_text(features(("Col de Test", EAST), ("Col de Test", EAST[::-1])))
        said = paceline("segments", "import", file, "--sport", "ride", "--data", folder)
        assert said.code == 0, said.err
        assert re.match(r"imported  col-de-test  31\d\.\d m  ride  Col de Test\nimported  col-de-test-2 ", said.out)
        assert [one["id"] for one in paceline("segments", "list", "--data", folder, "--json").json] == ["col-de-test", "col-de-test-2"]
    advance(data)  # from here on the state knows them
    again = paceline("segments", "import", file, "--sport", "ride", "--data", data, "--json").json
    assert [one["state"] for one in again] == ["known", "known"]
    shown = paceline("segments", "show", "col-de-test-2", "--data", data, "--json").json
    assert shown["line"][0] == pytest.approx((45.0, EAST[-1][0]))
    assert "ride" in paceline("segments", "show", "col-de-test", "--data", data).out
    assert len(references(data)) == 2


def test_removed_segment_is_gone_and_comes_back_under_its_id(paceline: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "climb.geojson"
    file.write_text(json.dumps(LINE))
    assert paceline("segments", "import", file, "--data", data).code == 0
    assert paceline("segments", "remove", "climb", "--data", data, "--json").json == {"id": "climb", "removed": True}
    assert paceline("segments", "list", "--data", data, "--json").json == []
    for word in ("show", "remove"):
        said = paceline("segments", word, "climb", "--data", data)
        assert said.code == 1
        assert "no segment 'climb'" in said.err
    back = paceline("segments", "import", file, "--data", data, "--json").json
    assert [(one["id"], one["state"]) for one in back] == [("climb", "imported")]
    assert [ref.removed for ref in references(data)] == [False, True, False]


def test_refused_segments_are_named_and_the_others_imported(paceline: Run, data: Path, tmp_path: Path) -> None:
    there_and_back = [*EAST[5:], *EAST[::-1], *EAST]
    good = features(("short", EAST[:3]), ("good", EAST), ("again", there_and_back), ("", EAST[2:]))
    files = {"mixed.geojson": good, "metres.geojson": features(("far", [(4e6, 5e6), (4e6, 5.1e6)])), "damaged.gpx": "<gpx><trk>"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = [tmp_path / name for name in (*files, "missing.gpx")]
    said = paceline("segments", "import", *paths, "--data", data, "--json")
    assert said.code == 1
    refused = {Path(one["file"]).name + ":" + one.get("name", ""): one for one in said.json if "error" in one}
    assert refused.keys() == {"mixed.geojson:short", "mixed.geojson:again", "metres.geojson:", "damaged.gpx:", "missing.gpx:"}
    assert all(one["cure"] and str(tmp_path) in one["error"] for one in refused.values())
    assert "at least 50 m" in refused["mixed.geojson:short"]["error"]
    assert "touches its own start" in refused["mixed.geojson:again"]["error"]
    assert "not on the globe" in refused["metres.geojson:"]["error"]
    assert {one["id"] for one in said.json if "error" not in one} == {"good", "segment-4"} == {ref.id for ref in references(data)}
    plain = paceline("segments", "import", *paths, "--data", data)
    assert plain.code == 1
    assert plain.err.count("refused   ") == plain.err.count("cure:") == 5
    assert plain.out.count("known") == 2


def test_segments_of_another_tenant_are_its_own(paceline: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "climb.geojson"
    file.write_text(json.dumps(LINE))
    assert paceline("segments", "import", file, "--data", data, "--tenant", "club").code == 0
    assert paceline("segments", "list", "--data", data, "--json").json == []
    assert [one["id"] for one in paceline("segments", "list", "--data", data, "--tenant", "club", "--json").json] == ["climb"]
    assert {ref.tenant for ref in references(data)} == {"club"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["segments", "import"], "FILES"),
        (["segments", "list", "--tenant", "No Id"], "--tenant"),
        (["segments", "list", "--data", "nowhere"], "nowhere/platform/log.db"),
        (["athletes", "list", "--data", "nowhere"], "nowhere/platform/log.db"),
        (["segments", "import", "x.gpx", "--sport", "swim"], "--sport"),
    ],
)
def test_wrong_usage_is_exit_2(paceline: Run, args: list[str], says: str) -> None:
    said = paceline(*args)
    assert said.code == 2
    assert says in said.err
    assert not Path("nowhere").exists()


def test_athletes_and_bindings_get_in_once(paceline: Run, data: Path, tmp_path: Path) -> None:
    file = example("athletes.md", "toml", tmp_path)
    first = paceline("athletes", "import", file, "--data", data, "--json")
    assert first.code == 0, first.err
    assert (first.json["athletes"], first.json["bindings"], first.json["known"]) == (2, 3, 0)
    advance(data)
    assert "0 athletes and 0 bindings taken, 5 were there" in paceline("athletes", "import", file, "--data", data).out
    found = paceline("athletes", "list", "--data", data, "--json").json
    assert [(a["id"], a["show"], a["hr_zones_bpm"]) for a in found["athletes"]] == [
        ("ann", "yes", [115, 135, 155, 172]), ("ben", "nickname", None),
    ]  # fmt: skip
    assert [(b["device"], b["node"], b["athlete"], b["from"], b["to"]) for b in found["bindings"]] == [
        ("strap-7", "", "ann", "2026-05-04T16:30:00Z", "2026-05-04T17:30:00Z"),
        ("strap-7", "", "ben", "2026-05-04T17:30:00Z", None),
        ("bike-3", "box", "ben", None, None),
    ]
    assert "shown as Turbo" in paceline("athletes", "list", "--data", data).out
    told = data / "platform" / "nodes" / "gym" / "box.json"
    assert [(b.device, b.athlete) for b in parse_node_config(told.read_bytes(), "box").bindings] == [("bike-3", "ben")]

    file.write_text('[[athlete]]\nid = "ann"\nname = "Ann"\nshow = "no"\n[[binding]]\ndevice = "strap-7"\nathlete = "ben"\n')
    changed = paceline("athletes", "import", file, "--data", data, "--json").json
    assert [a["show"] for a in changed["changed"]] == ["no"]
    assert changed["bound"][0]["id"] > found["bindings"][-1]["id"]  # the one made last wins


def test_file_with_an_error_changes_nothing(paceline: Run, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "class.toml"
    file.write_text('[[athlete]]\nid = "ann"\nname = "Ann"\n\n[[athlete]]\nid = "ben"\nnane = "Ben"\n')
    said = paceline("athletes", "import", file, "--data", data)
    assert said.code == 1
    assert f"{file}, line 7: athlete 2, nane: unknown key (did you mean name?)" in said.err
    assert references(data) == []
    assert paceline("athletes", "import", tmp_path / "none.toml", "--data", data).code == 1


@pytest.mark.parametrize(("language", "ids"), [("geojson", ["gannet-climb"]), ("text", ["pier-sprint", "segment-2"])])
def test_examples_of_the_segments_page_can_be_imported(paceline: Run, data: Path, tmp_path: Path, language: str, ids: list[str]) -> None:
    said = paceline("segments", "import", example("segments.md", language, tmp_path), "--data", data, "--json")
    assert said.code == 0, said.out
    assert [one["id"] for one in said.json] == ids


def test_pages_name_every_command(paceline: Run) -> None:
    for group, page in (("segments", "segments.md"), ("athletes", "athletes.md")):
        words = re.findall(r"^  ([a-z]+)  ", paceline(group, "--help").out.partition("Commands:")[2], re.MULTILINE)
        assert words
        assert all(f"paceline {group} {word} " in (DOCS / page).read_text() for word in words)


def test_several_processes_may_import_at_once(data: Path, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []
    for k in range(2):
        file = tmp_path / f"part{k}.geojson"
        file.write_text(features(*((f"line {k} {n}", [(lon, lat + (k * 50 + n) * 1e-3) for lon, lat in EAST]) for n in range(20))))
        started.append(subprocess.Popen([sys.executable, "-m", "paceline", "segments", "import", str(file), "--data", str(data)]))
    with SqliteLog.open(data / "platform" / "log.db") as log:
        runner = Runner(log, data / "platform" / "state.db")
        while any(process.poll() is None for process in started):
            runner.drain()
        runner.drain()
        runner.close()
    assert [process.wait(60) for process in started] == [0, 0]
    assert len({ref.id for ref in references(data)}) == 40
