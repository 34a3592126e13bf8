"""What each process does with what another version of its program stored: taken as it is, made again, or refused with the cure; never
misread, and what is refused is left as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from broker.commands import Command
from broker.errors import StoreError
from broker.logrecord import Kind, LogRecord
from gateway.command_book import CommandBook
from gateway.refused import RefusedStore
from paceline.ca_book import Book
from processors.equipment import EquipmentDesk
from processors.influx_outbox import Change, Cursor, Outbox
from processors.log import SqliteLog
from processors.publish_cursor import Cursor as EventCursor
from processors.publish_cursor import read_cursor, write_cursor
from processors.quix_boards import BoardsOnKafka
from processors.quix_finish import FinishOnKafka
from processors.quix_live import LiveOnKafka
from processors.shards import StageOnKafka
from processors.state_db import SCHEMA_VERSION, StateDb
from processors.track_folder import FolderBlobs
from tests.memory_cluster import Cells, Feed, Topics

ORDER = {"action": "target_power_w", "value": 200}
COMMAND = Command.model_validate({"id": "c" * 26, "device": "bike", "athlete": "ann", "expires_us": 2_000_000, "order": ORDER})
RECORD = LogRecord(Kind.FRAME, "gym/ann", "gym", "box", 1_000_000, b"frame")


def log(path: Path) -> None:
    with SqliteLog.open(path) as opened:
        if not opened.end():
            opened.append([RECORD])
        assert opened.read(0, 9)[1] == [RECORD]


def equipment(path: Path) -> None:
    with closing(EquipmentDesk(path)) as desk:
        desk.send("gym", "box", COMMAND, 1_000_000)
        assert desk.find("gym", "c" * 26) is not None


def commands(path: Path) -> None:
    with CommandBook(path) as book:
        book.begin("c" * 26, "bike", b"answer", 1_000_000)
        assert book.begin("c" * 26, "bike", b"another", 1_000_000) == b"answer"


def refused(path: Path) -> None:
    with closing(RefusedStore(path)) as store:
        assert store.counts == {}


def outbox(path: Path) -> None:
    with closing(Outbox(path, cap_bytes=1_000_000)) as box:
        box.commit(Change(cursors={"events": Cursor(7, "e")}))
        assert box.cursor("events") == Cursor(7, "e")


def state(path: Path) -> None:
    StateDb(path).close()


def book(path: Path) -> None:
    Book.open(path).close()


STORES: dict[str, Callable[[Path], None]] = {
    "log.db": log, "equipment.db": equipment, "commands.db": commands, "refused.db": refused, "influx.db": outbox, "state.db": state,
    "book.db": book,
}  # fmt: skip


def version_of(path: Path, to: int | None = None) -> int:
    with closing(sqlite3.connect(path)) as db:
        if to is not None:
            db.execute(f"PRAGMA user_version={to}")
        return db.execute("PRAGMA user_version").fetchone()[0]


@pytest.mark.parametrize("name", STORES)
def test_a_file_of_a_newer_program_is_refused_with_the_cure_and_left_as_it_was(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    STORES[name](path)
    newer = version_of(path, version_of(path) + 1)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"version \d") as raised:
        STORES[name](path)
    assert name in raised.value.message
    assert raised.value.cure
    assert (version_of(path), path.read_bytes()) == (newer, before)
    assert [left.name for left in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["log.db", "equipment.db", "commands.db", "refused.db"])
def test_a_file_of_before_versions_were_noted_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    STORES[name](path)
    assert version_of(path, 0) == 0
    STORES[name](path)
    assert version_of(path) == 1


def test_a_state_of_an_older_program_is_set_aside_and_one_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state(path)
    version_of(path, SCHEMA_VERSION - 1)
    state(path)
    assert version_of(path) == SCHEMA_VERSION
    assert version_of(path.with_name(f"state.db.{SCHEMA_VERSION - 1}")) == SCHEMA_VERSION - 1


def stages(folder: Path) -> dict[str, StageOnKafka]:
    blobs = FolderBlobs(folder / "tracks")
    made = (
        LiveOnKafka(Feed([]), blobs, folder / "live", partitions=1),
        FinishOnKafka(Feed([]), blobs, folder / "finish"),
        BoardsOnKafka(),
    )
    return {stage.name: stage for stage in made}


@pytest.mark.parametrize("name", ["live", "finish", "boards"])
@pytest.mark.parametrize("step", [-1, 1])
def test_a_partition_of_another_version_is_refused_with_the_cure_and_its_cells_stay(tmp_path: Path, name: str, step: int) -> None:
    cells = Cells()
    stages(tmp_path)[name].open(0, cells, Topics(1)).close()
    written = cells.written.copy()
    cells.written[b"v"] = str(int(written[b"v"] or b"") + step).encode()
    before = cells.written.copy()
    with pytest.raises(StoreError, match=f"stage {name}: state of version") as raised:
        stages(tmp_path)[name].open(0, cells, Topics(1))
    assert f"paceline-{name}" in raised.value.cure
    assert cells.written == before
    cells.written = written
    stages(tmp_path)[name].open(0, cells, Topics(1)).close()


def test_a_cursor_of_a_newer_program_is_read_and_one_that_is_none_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "published.json"
    write_cursor(path, EventCursor(7, "e"))
    path.write_text(path.read_text().replace("{", '{"since": 3, ', 1))
    assert read_cursor(path) == EventCursor(7, "e")
    path.write_text('{"position": 7}')
    with pytest.raises(StoreError, match=r"published\.json") as raised:
        read_cursor(path)
    assert "same ids" in raised.value.cure
