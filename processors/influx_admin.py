"""What only InfluxDB 2.x can: buckets, tokens and deleting, and queries, through the official client.

1.8 answers 404 to all but queries; 3 Core has other ways. The hot path needs none of this. Every call has a time limit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

import urllib3.exceptions
from influxdb_client import (
    Authorization,
    BucketRetentionRules,
    BucketsApi,
    InfluxDBClient,
    Permission,
    PermissionResource,
)
from influxdb_client.rest import ApiException

from broker.errors import ConfigError, LinkError
from broker.influx import InfluxSettings
from processors.influx_schema import BUCKETS, Bucket

_NOT_HERE: Final = (404, 405, 501)
_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class Done(NamedTuple):
    """One thing a set-up did, or found as it should be."""

    bucket: str
    what: str


class InfluxAdmin:
    """One server. LinkError when it cannot be asked, ConfigError when it refuses us; each says the cure."""

    def __init__(self, settings: InfluxSettings) -> None:
        self._settings = settings

    def version(self) -> str:
        """The version the server states, empty when it states none."""
        with self._client() as client:
            return client.version() or ""

    def make_buckets(self) -> list[Done]:
        """Make the buckets that are missing and give the others the retention of the schema. ConfigError on a server without buckets."""
        with self._client() as client:
            self._org_id(client)
            buckets = client.buckets_api()
            return [self._make_bucket(buckets, bucket) for bucket in BUCKETS.values()]

    def make_token(self, *, reads_only: bool = False) -> str:
        """A token that may read and write the five buckets and nothing else; `reads_only`: read them, for dashboards."""
        with self._client() as client:
            org = self._org_id(client)
            permissions: list[Permission] = []
            for bucket in BUCKETS:
                found = client.buckets_api().find_bucket_by_name(self._settings.named(bucket))
                if found is None:
                    raise ConfigError(f"bucket {self._settings.named(bucket)} is not there", cure="make the buckets first")
                resource = PermissionResource(type="buckets", id=found.id, org_id=org)
                permissions += [Permission(action=action, resource=resource) for action in (("read",) if reads_only else ("read", "write"))]
            description = "paceline reader" if reads_only else "paceline sink"
            wanted = Authorization(org_id=org, permissions=permissions, description=description)
            made = client.authorizations_api().create_authorization(authorization=wanted)
            return made.token

    def erase(self, bucket: str, tenant: str, athlete: str) -> bool:
        """Delete every point of an athlete from a bucket; False when the server has no way to."""
        predicate = f'ath="{_quoted(athlete)}" AND tenant="{_quoted(tenant)}"'
        try:
            with self._client() as client:
                client.delete_api().delete(_FIRST, _LAST, predicate, bucket=self._settings.named(bucket), org=self._settings.org)
        except NotHereError:
            return False
        return True

    def query(self, flux: str) -> list[dict[str, str]]:
        """The rows of a Flux query, from raw CSV (the client's own records cost thirty times the CPU)."""
        with self._client() as client:
            text = client.query_api().query_raw(flux, self._settings.org).data.decode("utf-8")
        return rows_of(text)

    def query_influxql(self, bucket: str, text: str) -> list[dict[str, str]]:
        """The rows of an InfluxQL query on a bucket of ours, times in microseconds: a tenth of the server's CPU of the same in Flux. 2.x
        knows a bucket by its name as database and retention policy."""
        database, _, policy = self._settings.named(bucket).partition("/")
        asked = {"db": database, **({"rp": policy} if policy else {}), "epoch": "u", "q": text}
        with self._client() as client:
            found = client.api_client.call_api(
                "/query", "GET", query_params=list(asked.items()), header_params={"Accept": "application/csv"}, _preload_content=False,
                _return_http_data_only=True,
            )  # fmt: skip
            return list(csv.DictReader(io.StringIO(found.data.decode("utf-8"))))

    def _make_bucket(self, buckets: BucketsApi, bucket: Bucket) -> Done:
        name = self._settings.named(bucket.name)
        rules = BucketRetentionRules(type="expire", every_seconds=bucket.keep_s, shard_group_duration_seconds=bucket.shard_s)
        found = buckets.find_bucket_by_name(name)
        if found is None:
            buckets.create_bucket(bucket_name=name, retention_rules=rules, org=self._settings.org, description=bucket.about)
            return Done(name, "made")
        if not found.retention_rules or found.retention_rules[0].every_seconds != bucket.keep_s:
            found.retention_rules = [rules]
            buckets.update_bucket(bucket=found)
            return Done(name, f"keeps {bucket.keep_s // 3600} h now")
        return Done(name, "as it should be")

    def _org_id(self, client: InfluxDBClient) -> str:
        found = client.organizations_api().find_organizations(org=self._settings.org)
        if not found:
            raise self._no_org()
        return found[0].id

    def _no_org(self) -> ConfigError:
        return ConfigError(
            f"influx.org {self._settings.org} is not on the server, or influx.token may not see it",
            cure="set influx.org to one that is there, and for the set-up influx.token to an all-access token",
        )

    @contextmanager
    def _client(self) -> Generator[InfluxDBClient]:
        s = self._settings
        client = InfluxDBClient(
            s.url, s.token.get_secret_value(), org=s.org, timeout=int(s.timeout_s * 1000), ssl_ca_cert=s.cafile or None, retries=False
        )
        try:
            yield client
        except ApiException as error:
            raise self._meant(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise LinkError(
                f"InfluxDB at {s.url}: {type(error).__name__}: {error}", cure="start it, or check influx.url and influx.cafile"
            ) from error
        finally:
            client.close()

    def _meant(self, error: ApiException) -> ConfigError | LinkError:
        status, said = error.status or 0, error.message or error.reason or ""
        if status in (401, 403):
            return ConfigError(
                f"InfluxDB at {self._settings.url} refuses the token: {said}",
                cure="set influx.token (PACELINE_INFLUX__TOKEN) to one that may do this: an all-access token for the set-up",
            )
        if status == 404 and "organization" in said:
            return self._no_org()
        if status in _NOT_HERE:
            return NotHereError(
                f"InfluxDB at {self._settings.url} has no such thing: {status} {said}",
                cure="2.x has buckets and tokens; on 1.8 CREATE DATABASE and RETENTION POLICY, and set influx.bucket to database/policy",
            )
        return LinkError(f"InfluxDB at {self._settings.url}: {status} {said}", cure="look at its log, try again")


class NotHereError(ConfigError):
    """The server does not know the call."""


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of an answer in annotated CSV: its tables one after the other, each with its own columns."""
    rows: list[dict[str, str]] = []
    for table in text.replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in table.split("\n") if line and not line.startswith("#")]
        rows.extend({name: value for name, value in row.items() if name} for row in csv.DictReader(lines))
    return rows


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
