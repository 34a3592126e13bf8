"""Set-up and erasing on InfluxDB 2.x, by its documented API; the rows of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.errors import ConfigError, LinkError
from broker.influx import InfluxSettings
from paceline.cli import cli
from processors.influx_admin import InfluxAdmin, rows_of
from processors.influx_schema import BUCKETS
from tests.influx_two import ORG_ID, TOKEN, InfluxTwo, start_two


@pytest.fixture
def two() -> Iterator[InfluxTwo]:
    with start_two() as server:
        yield server


def admin_of(two: InfluxTwo, **more: object) -> InfluxAdmin:
    return InfluxAdmin(InfluxSettings.model_validate({"url": two.url, "token": TOKEN, "timeout_s": 30, **more}))


def test_buckets_are_made_with_the_retention_and_shards_of_the_schema(two):
    done = admin_of(two).make_buckets()
    assert [d.what for d in done] == ["made"] * 5
    for name, bucket in BUCKETS.items():
        made = two.buckets[f"paceline_{name}"]
        (rule,) = made["retentionRules"]
        assert (rule["everySeconds"], rule["shardGroupDurationSeconds"]) == (bucket.keep_s, bucket.shard_s)


def test_a_second_set_up_changes_only_what_is_otherwise(two):
    admin_of(two).make_buckets()
    two.buckets["paceline_live"]["retentionRules"][0]["everySeconds"] = 3_600
    done = admin_of(two).make_buckets()
    assert [d.what for d in done] == ["keeps 48 h now", *["as it should be"] * 4]
    assert two.buckets["paceline_live"]["retentionRules"][0]["everySeconds"] == BUCKETS["live"].keep_s


def test_the_token_of_the_sink_may_use_the_five_buckets_and_nothing_else(two):
    admin = admin_of(two)
    admin.make_buckets()
    assert admin.make_token() == "drawn-0"
    (made,) = two.tokens
    assert made["orgID"] == ORG_ID
    assert sorted((p["action"], p["resource"]["type"], p["resource"]["id"]) for p in made["permissions"]) == sorted(
        (action, "buckets", bucket["id"]) for bucket in two.buckets.values() for action in ("read", "write")
    )


def test_the_token_of_a_dashboard_may_read_the_five_buckets_and_nothing_else(two, tmp_path):
    place = tmp_path / "shared" / "influx_token"
    for _ in range(2):  # the second time it is there
        run(two, tmp_path, "setup", "--reader-token-file", str(place))
    sink, reader = two.tokens
    assert (place.read_text(), place.stat().st_mode & 0o777) == (reader["token"], 0o444)
    assert sorted(p["resource"]["id"] for p in reader["permissions"]) == sorted(bucket["id"] for bucket in two.buckets.values())
    assert {p["action"] for p in reader["permissions"]} == {"read"}
    assert sink["description"] != reader["description"]


def test_a_token_before_the_buckets_is_an_error_with_its_cure(two):
    with pytest.raises(ConfigError, match="make the buckets first"):
        admin_of(two).make_token()


@pytest.mark.parametrize("athlete", ["ann", 'a"b\\c'])
def test_an_athlete_is_deleted_by_tags_alone(two, athlete):
    admin = admin_of(two)
    admin.make_buckets()
    assert admin.erase("live", "gym", athlete)
    (asked,) = two.deleted
    quoted = athlete.replace("\\", "\\\\").replace('"', '\\"')
    assert (asked["bucket"], asked["org"], asked["predicate"]) == ("paceline_live", "paceline", f'ath="{quoted}" AND tenant="gym"')
    assert asked["start"] < "1971" < "2199" < asked["stop"]


@pytest.mark.parametrize(("more", "says"), [({"token": "wrong"}, "influx.token"), ({"org": "nobody"}, "influx.org")])
def test_a_wrong_token_or_organisation_says_the_setting(two, more, says):
    with pytest.raises((ConfigError, LinkError), match=says):
        admin_of(two, **more).make_buckets()


def test_a_server_that_is_away_is_a_link_error_with_its_cure():
    with pytest.raises(LinkError, match=r"influx\.url"):
        InfluxAdmin(InfluxSettings(url="http://127.0.0.1:9", timeout_s=5)).make_buckets()


def run(two: InfluxTwo, folder: Path, *args: str, token: str = TOKEN) -> Result:
    env = {"PACELINE_INFLUX__URL": two.url, "PACELINE_INFLUX__TOKEN": token}
    return CliRunner().invoke(cli, ["influx", *args, "--data", str(folder)], env=env, catch_exceptions=False)


def test_set_up_leaves_the_sinks_token_where_only_the_site_reads_it(two, tmp_path):
    assert "paceline_live" in run(two, tmp_path, "setup").output
    secrets = tmp_path / "secrets" / "secrets.json"
    assert json.loads(secrets.read_text())["influx:token"] == "drawn-0"
    assert secrets.stat().st_mode & 0o077 == 0
    run(two, tmp_path, "setup")
    assert len(two.tokens) == 1


def test_set_up_may_keep_the_token_it_was_given(two, tmp_path):
    assert "used as it is" in run(two, tmp_path, "setup", "--keep-token").output
    assert two.tokens == []


@pytest.mark.parametrize(
    ("args", "url", "error", "says"),
    [
        (("status",), "http://127.0.0.1:9", ConfigError, "no sink ever ran here"),
        (("refused", "list"), "http://127.0.0.1:9", ConfigError, "no sink ever ran here"),
        (("refused", "send", "--all"), "http://127.0.0.1:9", ConfigError, "no sink ever ran here"),
        (("check",), "", ConfigError, r"influx\.url is empty"),
        (("check",), "http://127.0.0.1:9", LinkError, "start it"),
    ],
)
def test_what_stands_in_the_way_of_a_command_is_said_with_its_cure(tmp_path, args, url, error, says):
    with pytest.raises(error, match=says):
        CliRunner().invoke(cli, ["influx", *args, "--data", str(tmp_path)], env={"PACELINE_INFLUX__URL": url}, catch_exceptions=False)


def test_the_schema_is_printed_without_a_server():
    printed = CliRunner().invoke(cli, ["influx", "schema", "--json"], catch_exceptions=False).output
    assert [bucket["bucket"] for bucket in json.loads(printed)] == list(BUCKETS)


def test_rows_of_several_tables_keep_their_own_columns():
    text = "#datatype,string,long\r\n,result,table,_time,a\r\n,,0,t0,1\r\n,,0,t1,2\r\n\r\n,result,table,_time,b\r\n,,1,t2,x\r\n\r\n"
    assert rows_of(text) == [
        {"result": "", "table": "0", "_time": "t0", "a": "1"},
        {"result": "", "table": "0", "_time": "t1", "a": "2"},
        {"result": "", "table": "1", "_time": "t2", "b": "x"},
    ]
    assert rows_of("") == []


def test_quoted_values_with_line_ends_are_one_row():
    assert rows_of(',result,text\r\n,,"a, ""b"""\r\n')[0]["text"] == 'a, "b"'
