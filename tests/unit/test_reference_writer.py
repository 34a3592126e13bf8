"""Writes of people: durably in the log, and bindings in the configuration of the boxes they concern."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.logrecord import Kind
from broker.nodeconfig import Binding, NodeConfig, parse_node_config
from broker.reference import BindingRef, SegmentRef, decode_reference
from processors.api import ApiOptions, create_app
from processors.api.app import close_app
from processors.api.kinds import PREFIX
from processors.api.opening import open_services
from processors.log import SqliteLog
from processors.reference_writer import ReferenceWriter, timeline
from processors.runner import Runner
from tests.api_stores import HOUR_US, NOW_US, Stores, apply_references, client_of, stores


def binding(ident: str, athlete: str, from_us: int | None = None, to_us: int | None = None, **more: object) -> BindingRef:
    return BindingRef.model_validate(
        {"tenant": "gym", "id": ident, "node": "box", "device": "strap", "athlete": athlete, "from_us": from_us, "to_us": to_us} | more
    )


@pytest.fixture
def got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    monkeypatch.setattr("processors.api.services.APPLIED_S", 0.0)
    with stores(tmp_path, "gym") as made:
        yield made


def config(got: Stores, node: str) -> NodeConfig:
    path = got.folder / "nodes" / "gym" / f"{node}.json"
    return parse_node_config(path.read_bytes(), str(path))


def test_change_is_a_log_record_of_its_tenant(tmp_path: Path) -> None:
    with SqliteLog.open(tmp_path / "log.db") as log:
        writer = ReferenceWriter(
            log, tmp_path / "nodes", standing=lambda _: [], hearing=lambda _t, _d: [], clock_us=lambda: 1_800_000_000_000_000
        )
        value = SegmentRef(tenant="gym", id="hill", name="Hill", points=((1, 2), (3, 4)))
        assert writer.put(value) == 1
        assert writer.put_all([value, value.model_copy(update={"removed": True})]) == 3
        _, records = log.read(0, 10)
        assert [(r.kind, r.key, r.tenant, r.node, r.appended_us) for r in records] == [
            (Kind.REFERENCE, "gym", "gym", "", 1_800_000_000_000_000)
        ] * 3
        assert decode_reference(records[0].body) == value
        assert not (tmp_path / "nodes").exists()


def test_of_two_bindings_the_greater_id_stands_at_each_instant() -> None:
    found = timeline(
        [binding("b1", "ann"), binding("b2", "ben", 100, 200), binding("b3", "cleo", 150, None), binding("b4", "dan", removed=True)]
    )
    assert found == [
        Binding(device="strap", athlete="ann", to_us=100),
        Binding(device="strap", athlete="ben", from_us=100, to_us=150),
        Binding(device="strap", athlete="cleo", from_us=150),
    ]


spans = st.tuples(
    st.integers(0, 30), st.sampled_from("abc"), st.none() | st.integers(0, 20), st.none() | st.integers(21, 40), st.booleans()
)


@given(st.lists(spans, max_size=8, unique_by=lambda s: s[0]))
def test_box_and_platform_agree_whom_a_device_counts_for(drawn: list[tuple[int, str, int | None, int | None, bool]]) -> None:
    refs = [binding(f"b{i:02}", athlete, from_us, to_us, removed=gone) for i, athlete, from_us, to_us, gone in drawn]
    told = NodeConfig(version=1, bindings=tuple(timeline(refs)))
    for t_us in range(-1, 42):
        covering = [b for b in refs if b.covers(t_us)]
        expected = max(covering, key=lambda b: b.id).athlete if covering else None
        assert told.athlete_at("strap", t_us) == expected


async def test_grey_tile_is_bound_ended_and_undone(got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        made = await http.post(f"{PREFIX}/bindings", json={"node": "box", "device": "strap9", "athlete": "zoe", "name": "Zoe"})
        assert made.status_code == 201
        apply_references(got)
        ident = made.json()["id"]
        bound = config(got, "box")
        assert bound.version == 1
        (told,) = bound.bindings
        assert (told.device, told.athlete, told.from_us, told.to_us) == ("strap9", "zoe", NOW_US - HOUR_US, None)  # from its activity on
        (line,) = [d for d in (await http.get(f"{PREFIX}/devices")).json()["devices"] if d["device"] == "strap9"]
        assert (line["athlete"], line["athlete_name"], line["binding"]) == ("zoe", "Zoe", ident)
        assert (await http.post(f"{PREFIX}/bindings/{ident}/end", json={"to_us": 5})).status_code == 400
        assert (await http.post(f"{PREFIX}/bindings/{ident}/end")).status_code == 200
        apply_references(got)
        assert config(got, "box").bindings[0].to_us is not None
        assert (await http.delete(f"{PREFIX}/bindings/{ident}")).status_code == 200
        apply_references(got)
        assert config(got, "box") == NodeConfig(version=3)
        assert (await http.delete(f"{PREFIX}/bindings/{ident}")).status_code == 404


async def test_every_box_that_hears_a_wearable_is_told_and_keeps_what_is_its_own(got: Stores) -> None:
    path = got.folder / "nodes" / "gym" / "box.json"
    path.parent.mkdir(parents=True)
    own = NodeConfig(
        version=7, frame_ms=500, bindings=(Binding(device="treadmill", athlete="ann"), Binding(device="strap9", athlete="old"))
    )
    path.write_text(own.model_dump_json())
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.post(f"{PREFIX}/bindings", json={"device": "strap9", "athlete": "ann", "from_us": 5})
        assert answer.status_code == 201
    told = config(got, "box")
    assert (told.version, told.frame_ms) == (8, 500)
    assert told.bindings == (Binding(device="treadmill", athlete="ann"), Binding(device="strap9", athlete="ann", from_us=5))


async def test_a_damaged_configuration_does_not_stop_a_binding(got: Stores) -> None:
    path = got.folder / "nodes" / "gym" / "box.json"
    path.parent.mkdir(parents=True)
    path.write_text("{not json")
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.post(f"{PREFIX}/bindings", json={"node": "box", "device": "strap9", "athlete": "ann"})
    assert answer.status_code == 201
    assert path.read_text() == "{not json"
    assert got.log.end() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"device": "strap9"}, 422),
        ({"device": "strap9", "athlete": "Not An Id"}, 400),
        ({"device": "strap9", "athlete": "ann", "from_us": 10, "to_us": 5}, 400),
        ({"device": "strap9", "athlete": "ann", "colour": "red"}, 422),
    ],
)
async def test_wrong_bindings_are_refused_with_the_field(body: dict[str, object], status: int, got: Stores) -> None:
    with client_of(got, ApiOptions("gym")) as http:
        answer = await http.post(f"{PREFIX}/bindings", json=body)
        assert answer.status_code == status
        assert answer.json()["detail"]
        assert answer.json()["cure"]
        assert got.log.end() == 0


async def test_a_write_shows_once_the_runner_has_it(tmp_path: Path) -> None:
    with SqliteLog.open(tmp_path / "log.db") as log:
        runner = Runner(log, tmp_path / "state.db")
        running = asyncio.create_task(runner.run())
        try:
            with open_services(log, tmp_path / "state.db", tmp_path / "nodes", "gym", nodes=dict, latency=dict) as services:
                app = create_app(services, ApiOptions("gym"))
                async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
                    written = await http.put(f"{PREFIX}/athletes/ann", json={"name": "Ann"})
                    assert written.json() == {"id": "ann", "position": 1, "applied": True}
                    assert (await http.get(f"{PREFIX}/athletes/ann")).json()["name"] == "Ann"
                close_app(app)
        finally:
            await runner.finish(running, 5.0)
            runner.close()
