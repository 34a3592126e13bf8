"""Tracks in a bucket of an S3-compatible store, instead of a folder that all machines mount.

A write is whole or not there, and a list shows what was written before it: S3 and what is compatible with it promise both. Nothing is
changed in place, so no lock and no condition is asked for. An outage is tried again for a minute; after that the stage ends, and is started
again at its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from obstore.exceptions import BaseError
from obstore.store import S3Store

from broker.errors import ConfigError, StoreError
from processors.track_blobs import SharedBlobs

if TYPE_CHECKING:
    from obstore.store import S3Config

SCHEME: Final = "s3://"
TRIED_S: Final = 60
_ANSWER_S: Final = 30
_CURE: Final = "check that the store runs, and stages.s3_endpoint, s3_region, s3_access_key, s3_secret_key and the bucket in stages.tracks"


class Bucket(NamedTuple):
    """Where a store is: `url` is `s3://bucket/prefix`. Without an `endpoint` it is Amazon's of the region, without keys those of the
    machine are taken."""

    url: str
    endpoint: str = ""
    region: str = "us-east-1"
    access_key: str = ""
    secret_key: str = ""


class BucketBlobs(SharedBlobs):
    """Tracks below a prefix of a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        super().__init__(BucketObjects(bucket))


class BucketObjects:
    """Objects below a prefix, `{prefix}/{place}/{name}`."""

    def __init__(self, bucket: Bucket, tried_s: float = TRIED_S) -> None:
        name, _, prefix = bucket.url.removeprefix(SCHEME).partition("/")
        if not bucket.url.startswith(SCHEME) or not name:
            raise ConfigError(f"stages.tracks: {bucket.url!r} names no bucket", cure="write s3://bucket/prefix")
        self._url = bucket.url
        config: S3Config = {"region": bucket.region, "virtual_hosted_style_request": not bucket.endpoint}
        if bucket.endpoint:
            config["endpoint"] = bucket.endpoint
        if bucket.access_key:
            config["access_key_id"], config["secret_access_key"] = bucket.access_key, bucket.secret_key
        self._store = S3Store(
            name,
            prefix=prefix or None,
            config=config,
            client_options={"allow_http": bucket.endpoint.startswith("http://"), "timeout": timedelta(seconds=_ANSWER_S)},
            retry_config={"max_retries": 20, "retry_timeout": timedelta(seconds=tried_s)},
        )

    def names(self, place: str) -> list[str]:
        with self._told():
            parts = self._store.list(f"{_safe(place)}/")  # pyright: ignore[reportUnknownMemberType] - its other form gives Arrow
            return [found["path"].rpartition("/")[2] for part in parts for found in part]

    def get(self, place: str, name: str) -> bytes | None:
        with self._told():
            try:
                return bytes(self._store.get(f"{_safe(place)}/{name}").bytes())
            except FileNotFoundError:
                return None

    def put(self, place: str, name: str, body: bytes) -> None:
        with self._told():
            self._store.put(f"{_safe(place)}/{name}", body)

    def settle(self, place: str) -> None:
        """What the store has taken is durable."""

    def drop(self, place: str, names: Sequence[str]) -> None:
        with self._told():
            self._store.delete([f"{_safe(place)}/{name}" for name in names])

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(f"{self._url}: {str(error).splitlines()[0]}", cure=_CURE) from error


def _safe(place: str) -> str:
    """A place without percent signs: clients and servers differ in how often they undo them."""
    return place.replace("%", "=")
