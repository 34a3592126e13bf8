"""One suite over every place where the stages of a cluster keep their tracks: a folder, and a bucket of a real S3-compatible server."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.errors import StoreError
from processors.track_blobs import Blob, Objects, SharedBlobs, beside_key
from processors.track_bucket import Bucket, BucketObjects
from processors.track_folder import FolderObjects
from tests.s3_server import S3, start_s3

BUCKET = [pytest.mark.nightly, pytest.mark.timeout(1_800)]  # its server is built once, minutes of a core


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("bucket", marks=BUCKET)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return FolderObjects(tmp_path / "tracks")
    server: S3 = request.getfixturevalue("s3")
    return BucketObjects(server.bucket(f"below/{tmp_path.name}"))


def test_an_object_is_there_whole_until_it_is_dropped(objects: Objects) -> None:
    body = random.Random(1).randbytes(3_000_000)
    assert objects.names("gym%2Fann") == []
    assert objects.get("gym%2Fann", "a.track") is None
    objects.put("gym%2Fann", "a.track", body)
    objects.put("gym%2Fann", "b.track", b"")
    objects.settle("gym%2Fann")
    assert sorted(objects.names("gym%2Fann")) == ["a.track", "b.track"]
    assert objects.get("gym%2Fann", "a.track") == body
    assert objects.get("gym%2Fann", "b.track") == b""
    objects.drop("gym%2Fann", ["a.track", "never.track"])
    assert objects.names("gym%2Fann") == ["b.track"]
    objects.put("gym%2Fann", "b.track", b"again")
    assert objects.get("gym%2Fann", "b.track") == b"again"


def test_places_whose_names_begin_alike_are_apart(objects: Objects) -> None:
    for place in ("gym%2Fann", "gym%2Fann~", "gym%2Fanna", "gym%2F@strap"):
        objects.put(place, "a", place.encode())
    assert objects.names("gym%2Fann") == ["a"]
    assert objects.get("gym%2Fann~", "a") == b"gym%2Fann~"


def test_tracks_are_replaced_by_what_holds_them_and_dates_by_later_ones(objects: Objects) -> None:
    blobs = SharedBlobs(objects)
    blobs.replace("gym/ann", [], [Blob(1, n * 10, n * 10 + 5, 6, str(n).encode()) for n in range(200)])
    assert len(blobs.read("gym/ann", 0, 2000)) == 200
    assert blobs.read("gym/ann", 12, 21) == [b"1", b"2"]
    blobs.replace("gym/ann", blobs.stored("gym/ann", 0, 995), [Blob(1, 0, 995, 600, b"whole")])
    assert sorted(blobs.read("gym/ann", 0, 1012)) == [b"100", b"101", b"whole"]
    key = beside_key("gym/@strap")
    blobs.replace_beside(key, 7, [Blob(1, 0, 5, 6, b"early")])
    blobs.replace_beside(key, 9, [Blob(1, 20, 25, 6, b"late")])
    blobs.replace_beside(key, 8, [Blob(1, 10, 15, 6, b"behind")])
    assert blobs.read(key, 0, 100) == [b"late"]


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("wrong", ["key", "bucket", "endpoint"])
def test_a_bucket_that_cannot_be_used_is_an_error_with_its_cure(s3: S3, wrong: str) -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        right = s3.bucket("x")
        made: dict[str, Bucket] = {
            "key": right._replace(secret_key="wrong"),
            "bucket": right._replace(url="s3://there-is-none/x"),
            "endpoint": right._replace(endpoint=nobody),
        }
        objects = BucketObjects(made[wrong], tried_s=1)
        for what in (lambda: objects.names("a"), lambda: objects.put("a", "b", b"x")):
            with pytest.raises(StoreError, match="s3://") as caught:
                what()
            assert "stages.s3_endpoint" in caught.value.cure


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_a_store_that_is_away_for_a_moment_is_waited_for(s3: S3) -> None:
    objects = BucketObjects(s3.bucket("waits"))
    objects.put("a", "b", b"before")
    s3.kill()
    again = threading.Timer(2.0, s3.start)  # while it is asked for
    again.start()
    assert objects.get("a", "b") == b"before"
    again.join(120)
