"""InfluxDB 2.7 itself: set-up, tokens that may do no more than they must, writing and asking, what it refuses, and erasing a person."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from broker.errors import ConfigError, LinkError
from broker.influx import InfluxSettings
from paceline.cli import cli
from processors import influx_queries as ask
from processors.influx_admin import InfluxAdmin
from processors.influx_packing import pack
from processors.influx_schema import BUCKETS
from processors.influx_wire import Meaning, Verdict, WriteLink
from tests.influx_two_server import InfluxTwo, start_influx_two
from tests.influx_world import InfluxWorld
from tests.system.test_writing_influx import Sinking

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(4 * 3600)]

US = 1_000_000


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxTwo]:
    with asyncio.Runner() as runner:
        server = start_influx_two(tmp_path_factory.mktemp("influx2"))
        try:
            yield runner.run(server.__aenter__())
        finally:
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def tokens(two: InfluxTwo, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `paceline influx setup` made: the tokens of the sink and of a reader."""
    folder = tmp_path_factory.mktemp("site")
    env = {"PACELINE_INFLUX__URL": two.url, "PACELINE_INFLUX__TOKEN": two.token, "PACELINE_INFLUX__ORG": two.org}
    arguments = ["influx", "setup", "--data", str(folder), "--reader-token-file", str(folder / "reader")]
    first = CliRunner().invoke(cli, arguments, env=env, catch_exceptions=False)
    assert first.output.count("made") == len(BUCKETS)
    again = CliRunner().invoke(cli, arguments, env=env, catch_exceptions=False)
    assert again.output.count("as it should be") == len(BUCKETS)
    secrets = json.loads((folder / "secrets" / "secrets.json").read_text())
    return {"sink": secrets["influx:token"], "reader": (folder / "reader").read_text()}


def settings_of(two: InfluxTwo, token: str, **more: object) -> InfluxSettings:
    return InfluxSettings.model_validate({"url": two.url, "org": two.org, "token": SecretStr(token), "timeout_s": 60.0, **more})


def written(settings: InfluxSettings, line: str, bucket: str = "live", unit: str = "us") -> Verdict:
    link = WriteLink(settings)
    try:
        return link.write(bucket, unit, pack(line.encode() + b"\n"))
    finally:
        link.close()


@pytest.fixture
async def sinking(two: InfluxTwo, tokens: dict[str, str], tmp_path: Path) -> AsyncIterator[Sinking]:
    """A world an hour old, and a sink for it."""
    world = InfluxWorld(tmp_path / "platform", t0_us=(time.time_ns() // 1000 // US - 5 * 3600) * US)
    made = Sinking(world, settings_of(two, tokens["sink"]))
    yield made
    made.close()
    world.close()


async def test_what_athletes_did_is_written_read_and_an_erased_one_deleted(
    sinking: Sinking, two: InfluxTwo, tokens: dict[str, str]
) -> None:
    world = sinking.world
    world.segments()
    world.ride_on(150)
    world.finish()
    world.report_nodes()
    sinking.collect()
    await sinking.send()
    reader = InfluxAdmin(settings_of(two, tokens["reader"]))

    tracks = {name: len(reader.query(ask.track("paceline_live", "gym", name, "-12h"))) for name in ("anna", "bob")}
    assert sum(tracks.values()) == len(world.samples())
    assert len(reader.query(ask.efforts("paceline_seg", "gym", "hill", "-12h"))) == 2
    assert [row["place"] for row in reader.query(ask.board_now("paceline_seg", "gym", "hill", "-12h"))] == ["01", "02"]
    assert reader.query(ask.totals("paceline_agg", "gym", "act_1m", "-12h"))
    assert [row["gw"] for row in reader.query(ask.health("paceline_dev", "gym", "-12h"))] == ["box"]
    assert {row["stage"] for row in reader.query(ask.pipeline("paceline_ops", "-12h"))} == {"ingest", "live", "influx"}
    world.erase("bob")
    sinking.collect()
    await sinking.send()
    assert reader.query(ask.track("paceline_live", "gym", "bob", "-12h")) == []
    assert len(reader.query(ask.track("paceline_live", "gym", "anna", "-12h"))) == tracks["anna"]
    assert [row["place"] for row in reader.query(ask.board_now("paceline_seg", "gym", "hill", "-12h"))] == ["01"]
    assert sinking.outbox.counters()["dead"] == 0


def test_a_reader_writes_deletes_and_sees_nothing_but_the_five_buckets(two: InfluxTwo, tokens: dict[str, str]) -> None:
    reader = settings_of(two, tokens["reader"])
    refused = written(reader, "tele,ath=eve,kind=smooth,tenant=gym dist=1.0")
    assert refused.meaning == Meaning.STOPPED
    assert "paceline influx setup" in refused.cure
    with pytest.raises(ConfigError, match="refuses the token"):
        InfluxAdmin(reader).erase("live", "gym", "eve")
    with pytest.raises((ConfigError, LinkError)):
        InfluxAdmin(reader).query('from(bucket: "first") |> range(start: -1h)')


def test_what_the_sink_may_not_do_it_is_told_with_the_cure(two: InfluxTwo, tokens: dict[str, str]) -> None:
    elsewhere = written(settings_of(two, tokens["sink"], bucket="nowhere_{bucket}"), "tele,ath=eve,kind=smooth,tenant=gym dist=1.0")
    assert (elsewhere.meaning, "influx.bucket" in elsewhere.cure) == (Meaning.STOPPED, True)
    assert written(settings_of(two, "wrong"), "tele,ath=eve,kind=smooth,tenant=gym dist=1.0").meaning == Meaning.STOPPED
    with pytest.raises(ConfigError, match=r"influx\.token"):
        InfluxAdmin(settings_of(two, tokens["sink"])).make_token()
    with pytest.raises(ConfigError, match=r"influx\.org"):
        InfluxAdmin(settings_of(two, two.token, org="nobody")).make_buckets()


def test_wrong_lines_and_points_that_are_too_old_are_told_apart(two: InfluxTwo, tokens: dict[str, str]) -> None:
    sink, now_us = settings_of(two, tokens["sink"]), time.time_ns() // 1000
    line = "tele,ath=eve,kind=smooth,tenant=gym dist=1.0"
    assert written(sink, f"{line} {now_us}").meaning == Meaning.DONE
    (row,) = InfluxAdmin(sink).query_influxql("live", "SELECT last(dist) FROM tele GROUP BY ath")
    assert (row["tags"], row["time"], row["last"]) == ("ath=eve", str(now_us), "1")
    assert written(sink, f"{line[:-2]}i {now_us}").meaning == Meaning.BAD
    assert written(sink, "no line").meaning == Meaning.BAD
    assert written(sink, f"{line} {now_us - 50 * 3600 * US}").meaning == Meaning.EXPIRED
    assert written(sink, f"{line} {now_us - 50 * 3600 * US}\n{line[:-2]}i {now_us}").meaning == Meaning.BAD


@pytest.mark.parametrize("athlete", ["ann", 'a"b\\c', "a b", "a=b,c"])
def test_an_athlete_is_deleted_whatever_the_name_holds(two: InfluxTwo, tokens: dict[str, str], athlete: str) -> None:
    sink = settings_of(two, tokens["sink"])
    tag = athlete.replace(",", "\\,").replace("=", "\\=").replace(" ", "\\ ")
    assert written(sink, f"tele,ath={tag},kind=smooth,tenant=gym dist=1.0").meaning == Meaning.DONE
    assert len(InfluxAdmin(sink).query(ask.track("paceline_live", "gym", athlete, "-1h"))) == 1
    assert InfluxAdmin(sink).erase("live", "gym", athlete)
    assert InfluxAdmin(sink).query(ask.track("paceline_live", "gym", athlete, "-1h")) == []
