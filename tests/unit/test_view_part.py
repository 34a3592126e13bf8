"""Parts of a view: each has of its tenants what the whole has of them, nothing of others, and all together have everything."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import msgpack
import pytest
from click.testing import CliRunner

from broker.errors import BadInputError, ConfigError, StoreError
from broker.kafka_topics import ACTIVITIES_STATE, REFERENCE
from broker.view_part import WHOLE, ViewPart, number_of, part_from
from broker.watch import Watch
from paceline.commands.topics import topics
from paceline.config import load
from paceline.parts import run_api
from paceline.site import Site
from processors.believed import decode_believed
from processors.believed_db import blocks_after
from processors.hot_board import NONE_HOT, HotRule
from processors.row_mirror import row_key
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from processors.view_file import check_part, is_filling, open_part, whole_now
from processors.view_lines import MOST_WAITING
from tests.tenants_told import TENANTS, rides_of, view_of

PARTS = tuple(ViewPart(number, 3) for number in (1, 2, 3))
SUBJECT_IN = {
    "state": "key", "numbering": "subject", "attempts": "subject", "activity": "subject", "undated": "subject", "wake": "key",
    "reference": "tenant", "final": "subject", "effort": "tenant", "award": "subject", "board": "subject", "outbox": "tenant",
}  # fmt: skip


@pytest.fixture(scope="module", params=[NONE_HOT, HotRule(("*/hill",), 2)], ids=["whole boards", "hot boards"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return rides_of(tmp_path_factory.mktemp("cluster"), request.param)


def rows(store: StateDb, wanted: ViewPart) -> dict[str, list[object]]:
    """Rows by table, of the tenants of a part."""
    found: dict[str, list[object]] = {}
    for table, owner in SUBJECT_IN.items():
        columns = [name for _, name, *_ in store.db.execute(f"PRAGMA table_info({table})") if (table, name) != ("outbox", "seq")]
        said = [dict(zip(columns, row, strict=True)) for row in store.db.execute(f"SELECT {', '.join(columns)} FROM {table}")]
        found[table] = sorted((row for row in said if wanted.has_subject(str(row[owner]))), key=repr)
    ours = "SELECT final_track.*, subject FROM final_track JOIN final USING (id) ORDER BY id"
    found["final_track"] = [row[:2] for row in store.db.execute(ours) if wanted.has_subject(row[2])]
    found["believed"] = sorted(
        (b.subjects[of], t_us, um)
        for b in (decode_believed(block.body) for block in blocks_after(store.db, 0, 1_000_000))
        for of, t_us, um in zip(b.subject_of.tolist(), b.t_us.tolist(), b.dist_um.tolist(), strict=True)
        if wanted.has_subject(b.subjects[of])
    )  # fmt: skip
    return found


@pytest.mark.parametrize("batch", [1, 40])
def test_each_part_has_what_the_whole_has_of_its_tenants_and_nothing_else(tmp_path: Path, told: list[Record], batch: int) -> None:
    with closing(view_of(tmp_path / "whole.db", told, WHOLE)) as whole:
        everything = rows(whole, WHOLE)
        assert {table for table in everything if not everything[table]} <= {"undated", "attempts", "wake"}
        sizes = dict.fromkeys(everything, 0)
        for part in PARTS:
            with closing(view_of(tmp_path / f"{part.number}.db", told, part, batch)) as store:
                here = rows(store, WHOLE)
                assert here == rows(whole, part)
                assert store.db.execute("SELECT count(*) FROM final_track").fetchone()[0] == len(here["final_track"])
                assert store.db.execute("SELECT count(*) FROM waiting_line").fetchone()[0] == 0
                sizes = {table: sizes[table] + len(here[table]) for table in sizes}
        assert sizes == {table: len(found) for table, found in everything.items()}


def test_records_of_other_parts_are_counted_as_passed_over(tmp_path: Path, told: list[Record]) -> None:
    nobodys = next(part for number in range(1, 65) if not any((part := ViewPart(number, 64)).has(tenant) for tenant in TENANTS))
    with closing(open_part(tmp_path / "state.db", nobodys)) as store:
        view = StateView(store, tells=True, part=nobodys)
        view.take(told)
        assert not any(rows(store, WHOLE).values())
        assert 0 < view.passed <= len(told)


def test_a_line_before_its_activity_waits_for_it_and_few_wait(tmp_path: Path) -> None:
    def line(n: int) -> Record:
        return Record(ACTIVITIES_STATE, 0, n, row_key("final_track", [f"a{n}"]), msgpack_row(f"a{n}", b"line"), ())

    def activity(n: int, tenant: str) -> Record:
        row = (f"a{n}", f"{tenant}/ann", 1, 1, 2, None, None, None, None, 1, b"body")
        return Record(ACTIVITIES_STATE, 0, n, row_key("final", [f"a{n}"]), msgpack_row(*row), ())

    ours = next(tenant for tenant in TENANTS if PARTS[0].has(tenant))
    theirs = next(tenant for tenant in TENANTS if not PARTS[0].has(tenant))
    with closing(open_part(tmp_path / "state.db", PARTS[0])) as store:
        view = StateView(store, part=PARTS[0])
        for batch in ([line(1), line(2)], [activity(1, theirs), activity(2, ours)], [line(1)], [activity(3, theirs), line(3)]):
            view.take(batch)
        assert store.db.execute("SELECT id FROM final_track").fetchall() == [("a2",)]
        assert store.db.execute("SELECT id FROM final").fetchall() == [("a2",)]
        view.take([line(n) for n in range(10, 10 + MOST_WAITING + 5)])
        assert store.db.execute("SELECT count(*) FROM waiting_line").fetchone()[0] == MOST_WAITING


def msgpack_row(*values: object) -> bytes:
    return msgpack.packb(values)


def test_a_tenant_is_in_one_part_of_any_number_of_them() -> None:
    for of in (1, 2, 7, 64):
        counts = [sum(ViewPart(number, of).has(f"t{n}") for number in range(1, of + 1)) for n in range(200)]
        assert counts == [1] * 200
    assert [number_of(tenant, 4) for tenant in ("gym", "club", "hall", "münchen")] == [1, 3, 4, 4]  # for ever: files rest on it


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/65", "1", "1/2/3", "a/b", "01/2", "", "1/2 "])
def test_what_is_no_part_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(BadInputError, match="is no part") as refused:
        part_from(text)
    assert "k/n" in refused.value.cure
    with pytest.raises(ConfigError, match=r"view\.part"):
        load(None, {"PACELINE_VIEW__PART": text or "none"})


def test_a_setting_names_the_part() -> None:
    assert load(None, {}).settings.view.followed == WHOLE
    assert load(None, {"PACELINE_VIEW__PART": "2/4"}).settings.view.followed == ViewPart(2, 4)


def kept(path: Path, part: ViewPart) -> StateDb:
    """A file as a view of a part begins it."""
    store = open_part(path, part)
    store.db.execute("INSERT OR IGNORE INTO position VALUES (?, 0)", (f"{REFERENCE}[0]",))
    return store


def test_a_file_of_another_part_is_made_again_and_served_only_when_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.db"
    for part in (WHOLE, ViewPart(1, 2), ViewPart(1, 3), WHOLE):
        with closing(kept(path, part)) as store:
            assert is_filling(store.db) == ("made again" in caplog.text)
            store.db.execute("INSERT INTO wake VALUES ('gym/ann', 'close', 1)")
        if "made again" in caplog.text:
            with pytest.raises(StoreError, match="is not read whole yet") as refused:
                check_part(path, part)
            assert "paceline health" in refused.value.cure
            check_part(path, part, filled=False)
        with closing(kept(path, part)) as store:  # it starts again: the file stays
            assert store.db.execute("SELECT count(*) FROM wake").fetchone() == (1,)
            whole_now(store.db)
        check_part(path, part)
        with pytest.raises(StoreError, match=rf"is of part {part} of the tenants, view.part here is 5/7"):
            check_part(path, ViewPart(5, 7))
    assert caplog.text.count("made again") == 3


def test_the_state_of_one_machine_is_never_removed_for_a_part(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(StateDb(path)) as store:
        store.db.execute("INSERT INTO position VALUES ('live', 7)")
    with pytest.raises(ConfigError, match="is not what a view keeps"):
        open_part(path, ViewPart(1, 2))
    with closing(open_part(path, WHOLE)) as store:
        assert store.position("live") == 7


def test_a_part_that_is_begun_says_so_before_anything_is_in_it(tmp_path: Path) -> None:
    with closing(open_part(tmp_path / "state.db", ViewPart(2, 2))) as store:
        assert is_filling(store.db)
    with closing(open_part(tmp_path / "new.db", WHOLE)) as store:
        assert not is_filling(store.db)


async def test_an_api_does_not_serve_another_part_than_its_view_has_nor_half_of_it(tmp_path: Path) -> None:
    settings = load(None, {"PACELINE_DATA": str(tmp_path), "PACELINE_VIEW__PART": "1/2"}).settings
    site = Site(settings)
    kept(site.state_db, WHOLE).close()
    with pytest.raises(StoreError, match=r"is of part 1/1 of the tenants, view\.part here is 1/2"):
        await run_api(site, Watch("api"))
    kept(site.state_db, settings.view.followed).close()
    with pytest.raises(StoreError, match="is not read whole yet"):
        await run_api(site, Watch("api"))


def test_a_command_names_the_part_of_a_tenant_for_a_proxy() -> None:
    said = CliRunner().invoke(topics, ["parts", *TENANTS, "--of", "4", "--json"])
    assert json.loads(said.output) == {tenant: f"{number_of(tenant, 4)}/4" for tenant in TENANTS}
