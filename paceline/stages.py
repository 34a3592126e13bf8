"""Wiring of the stages on Kafka: one replica of one stage, or the follower that keeps a state file for readers."""

from __future__ import annotations

import fcntl
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Final

from broker.errors import ConfigError
from broker.watch import Watch
from broker.watch_server import serving
from paceline.config import Settings
from paceline.site import Site
from paceline.stage_stop import ending_at_once, ending_without
from paceline.watched import METRICS_FOLDER, watch_of

if TYPE_CHECKING:
    from processors.shards import StageOnKafka
    from processors.track_blobs import SharedBlobs

FINISH_COMMIT_S: Final = 0.1  # it tells what is committed: boards wait for that


def run_stage(name: str, settings: Settings) -> None:
    """Run until SIGTERM or Ctrl-C, its figures and health served; a Kafka that is away is waited for. ConfigError when none is named."""
    if not settings.kafka.bootstrap:
        raise ConfigError("kafka.bootstrap is empty", cure="give host:port of a broker in the settings or as PACELINE_KAFKA__BOOTSTRAP")
    site = Site(settings)
    watch = watch_of(name if name == "view" else f"{name}-{settings.stages.replica}", settings)
    if name != "view":
        watch.ready_when("group", lambda: "has not joined its consumer group")  # until the engine, once made, answers for itself
    with serving(watch, settings.metrics, settings.data / METRICS_FOLDER), ending_without(settings.kafka, watch):
        if name == "view":
            _follow(site, watch)
        else:
            _stage(name, site, watch)


def tracks_of(site: Site) -> SharedBlobs:
    """The tracks that all stages share: in a folder, or in a bucket that answers now."""
    s = site.settings.stages
    if s.tracks.startswith("s3://"):
        from processors.track_bucket import Bucket, BucketBlobs

        blobs = BucketBlobs(Bucket(s.tracks, s.s3_endpoint, s.s3_region, s.s3_access_key, s.s3_secret_key.get_secret_value()))
        blobs.read("nobody", 0, 0)
        return blobs
    from processors.track_folder import FolderBlobs

    return FolderBlobs(Path(s.tracks) if s.tracks else site.platform_dir / "tracks")


def _stage(name: str, site: Site, watch: Watch) -> None:
    from processors.kafka_waiting import KafkaWaiting
    from processors.measures import size_of
    from processors.packed_efforts import warm_up as warm_up_boards
    from processors.quix_engine import Replica, StageApp
    from processors.warm import warm_up

    s = site.settings
    place = site.platform_dir / f"{name}-{s.stages.replica}"
    held = _hold(place, name, s.stages.replica)
    watch.measure(lambda: [size_of("state", place)])
    warm = warm_up_boards if name == "boards" else warm_up
    warm()
    commit_s = min(s.stages.commit_s, FINISH_COMMIT_S) if name == "finish" else s.stages.commit_s
    replica = Replica(s.kafka, place / "state", s.stages.replica, commit_s, s.stages.exactly_once)
    try:
        with ending_at_once(watch):
            waiting = KafkaWaiting(s.kafka, watch)
            stage = waiting.made(lambda: _made(name, site, place / "work"))
            app = waiting.made(lambda: StageApp(stage, replica, watch))
        app.run()
    finally:
        held.close()


def _hold(place: Path, name: str, replica: str) -> IO[bytes]:
    """Hold the folder of a replica until the process ends; ConfigError when another one does."""
    place.mkdir(parents=True, exist_ok=True)
    held = (place / "lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise ConfigError(
            f"stages.replica {replica}: a replica of stage {name} of this name runs already in {place}",
            cure="give each replica of a stage a name of its own, stages.replica or PACELINE_STAGES__REPLICA",
        ) from error
    return held


def _made(name: str, site: Site, work: Path) -> StageOnKafka:
    from broker.kafka_topics import FRAMES
    from processors.hot_board import HotRule
    from processors.quix_boards import BoardsOnKafka
    from processors.quix_finish import FinishOnKafka
    from processors.quix_live import LiveOnKafka
    from processors.reference_feed import ReferenceFeed

    if name == "boards":
        return BoardsOnKafka(HotRule(site.settings.stages.hot_boards, site.settings.stages.hot_shards))
    feed, blobs = ReferenceFeed(site.settings.kafka), tracks_of(site)
    if name == "live":
        partitions, s = feed.partitions_of(FRAMES), site.settings
        return LiveOnKafka(feed, blobs, work, partitions=partitions, tells=bool(s.influx.url), exactly_once=s.stages.exactly_once)
    return FinishOnKafka(feed, blobs, work)


def _follow(site: Site, watch: Watch) -> None:
    from gateway.data_lock import locked_directory
    from processors.kafka_view import KafkaView
    from processors.kafka_waiting import KafkaWaiting
    from processors.measures import of_view, size_of

    def made_view() -> KafkaView:
        return KafkaView(kafka, site.state_db, tells=bool(site.settings.influx.url), part=site.settings.view.followed)

    kafka, stop = site.settings.kafka, threading.Event()

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is called with
        watch.drain()
        stop.set()

    with locked_directory(site.platform_dir, "view"):  # two would write one file, each from where it is
        with ending_at_once(watch):
            view = KafkaWaiting(kafka, watch).made(made_view)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        try:
            watch.measure(lambda: of_view(view))
            watch.measure(lambda: [size_of("state", site.state_db)])
            watch.ready_when("view", view.caught_up)
            watch.link("kafka", lambda: not view.away(), view.away)
            view.run(stop, watch.part("rounds"))
        finally:
            view.close()
