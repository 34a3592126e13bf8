"""Follows the frames of a load through the platform: when each is in the log, believed, on a board, in the changelog, an event.

Every part is looked at where its readers look, a topic of Kafka. A frame that is overtaken by the next of its athlete (a board shows the
newest) counts at the moment the next one is seen.

To look costs Kafka as well: a fetch reads each of some 400 partitions, of which it has news in a few. Where topics stamp records as they
append them (`message.timestamp.type=LogAppendTime`), they are read twice a second and each counts from its stamp, a millisecond of the
broker's clock; else a fetch waits 20 ms, by which a latency is told too long at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from confluent_kafka import Consumer, KafkaException, TopicPartition

from broker.errors import ConfigError, LinkError
from broker.events.models import utc_us
from broker.frames import Frame, read_frame
from broker.kafka import KafkaSettings
from broker.kafka_topics import BELIEVED, BOARD_WORDS, FRAMES, LIVE_STATE, event_topics
from processors import live_kernel as k
from processors.believed import decode_believed
from processors.kafka_admin import admin_options
from processors.live_pages import entries_of
from processors.row_mirror import ROWS
from processors.shards import Message
from processors.stage_words import Entries, decode_board_word
from simulators.load_plan import LoadPlan
from simulators.load_report import Watched
from simulators.load_sightings import Sightings
from simulators.swarm import wall_us

ON_KAFKA: Final = {"log": (FRAMES,), "live": (BELIEVED,), "state": (LIVE_STATE,), "board": (BOARD_WORDS,)}
PARTS: Final = (*ON_KAFKA, "event", "influx")
WATCHED_EVENTS: Final = ("paceline.user.activity.started.v1", "paceline.social.effort.recorded.v1")
SPEED_UM_PER_US: Final = 3  # of everybody in a load
QUIET_S: Final = 5.0  # a part that shows nothing new for so long shows nothing more
_MOST: Final = 5000
_WAIT_S: Final = 0.02
_APPENDED: Final = 2  # what a record's time is: when it was appended, by the broker
_FETCH_MS: Final = 20  # of topics that stamp nothing
_STAMPED_FETCH_MS: Final = 500
_FETCH_BYTES: Final = 1_000_000
_REACH_S: Final = 30.0


class Watcher(Protocol):
    """One that looks, in a thread of its own, until `stop`."""

    sightings: dict[str, Sightings]

    def begin(self, plan: LoadPlan, from_us: int) -> None: ...
    def stop(self) -> None: ...


class KafkaWatch:
    """The parts that are topics. LinkError when Kafka does not answer, ConfigError when a topic is missing."""

    def __init__(self, kafka: KafkaSettings, parts: Sequence[str], *, stamped: bool = False) -> None:
        """`stamped`: the topics stamp what they append."""
        self.sightings: dict[str, Sightings] = {}
        self._parts = parts
        topics = {topic: part for part in parts for topic in (_event_topics() if part == "event" else ON_KAFKA[part])}
        self._part_of = topics
        settings: dict[str, Any] = {
            **admin_options(kafka), "group.id": "none", "enable.auto.commit": False, "fetch.queue.backoff.ms": 5,
            "fetch.wait.max.ms": _STAMPED_FETCH_MS if stamped else _FETCH_MS, "fetch.min.bytes": _FETCH_BYTES,
            "isolation.level": "read_committed",
        }  # fmt: skip
        self._consumer = Consumer(settings)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load watch")
        self._consumer.assign([place for topic in topics for place in self._ends(topic)])
        self._plan: LoadPlan | None = None

    def _ends(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic, from now on. A leader that was elected just now is asked again."""
        deadline_s = time.monotonic() + _REACH_S
        while True:
            try:
                places = [TopicPartition(topic, n) for n in self._consumer.list_topics(topic, timeout=_REACH_S).topics[topic].partitions]
                for place in places:
                    place.offset = self._consumer.get_watermark_offsets(place, timeout=_REACH_S)[1]
            except KafkaException as error:
                if time.monotonic() > deadline_s:
                    raise LinkError(f"Kafka does not answer about {topic}: {error}", cure="check kafka.bootstrap") from error
                time.sleep(0.2)
            else:
                break
        if not places:
            raise ConfigError(f"Kafka has no topic {topic}", cure="run `paceline topics apply`")
        return places

    def begin(self, plan: LoadPlan, from_us: int) -> None:
        """Look from now on."""
        self._plan = plan
        for part in self._parts:
            self.sightings[part] = Sightings(plan, from_us, newest_only=part in ("board", "state"), may_double=part == "log")
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Safe to call twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._plan is not None:
            self._thread.join(_REACH_S)
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopped.is_set():
            messages = self._consumer.consume(_MOST, _WAIT_S)
            now_us = wall_us()
            for m in messages:
                if m.error() is None:
                    part, (stamp, t_ms) = self._part_of[str(m.topic())], m.timestamp()
                    seen_us = t_ms * 1000 if stamp == _APPENDED else now_us
                    look(part, self.sightings[part], Message(m.offset() or 0, m.key(), m.value(), m.headers() or ()), seen_us)


def _event_topics() -> tuple[str, ...]:
    return tuple(topic.name for topic in event_topics() if any(name.startswith(topic.name.removesuffix("v1")) for name in WATCHED_EVENTS))


def look(part: str, seen: Sightings, m: Message, now_us: int) -> None:
    """Take what a message of the topics of a part shows."""
    if m.value is not None:
        _LOOKS[part](seen, m.key or b"", m.value, dict(m.headers), now_us)


def _log(seen: Sightings, key: bytes, value: bytes, headers: Mapping[str, bytes], now_us: int) -> None:  # noqa: ARG001 - all look alike
    frame = read_frame(value) if headers.get("kind") == b"frame" else None
    if isinstance(frame, Frame) and frame.utc_offset_us is not None:
        ended_us = frame.t0_us + frame.utc_offset_us + ((frame.samples or 1) - 1) * 1_000_000
        seen.see(frame.subject, ended_us, now_us)


def _live(seen: Sightings, key: bytes, value: bytes, headers: Mapping[str, bytes], now_us: int) -> None:  # noqa: ARG001
    block = decode_believed(value, BELIEVED)
    if not len(block):
        return
    first_us = np.array([seen.first_us(subject) or 0 for subject in block.subjects], np.int64)[block.subject_of]
    ends = (first_us > 0) & ((block.t_us - first_us) % seen.frame_us == 0)
    for at in np.flatnonzero(ends).tolist():
        seen.see(block.subjects[int(block.subject_of[at])], int(block.t_us[at]), now_us, again=block.again)


def _state(seen: Sightings, key: bytes, value: bytes, headers: Mapping[str, bytes], now_us: int) -> None:  # noqa: ARG001
    for entry in () if key.startswith(ROWS) else entries_of(key, value):
        if entry.row:
            seen.see(entry.key, int(np.frombuffer(entry.row, np.int64)[k.LAST_T]), now_us)


def _board(seen: Sightings, key: bytes, value: bytes, headers: Mapping[str, bytes], now_us: int) -> None:  # noqa: ARG001
    word = decode_board_word(value, 0)
    if isinstance(word, Entries):
        for entry in word.mutations:
            if not entry.removed:
                seen.see(entry.subject, entry.activity_us + entry.distance_um // SPEED_UM_PER_US, now_us)


def _event(seen: Sightings, key: bytes, value: bytes, headers: Mapping[str, bytes], now_us: int) -> None:  # noqa: ARG001
    if headers.get("ce_type", b"").decode() in WATCHED_EVENTS:
        subject, t_us = headers["ce_partitionkey"].decode(), utc_us(headers["ce_time"].decode())
        seen.happened(headers["ce_id"].decode(), subject, t_us, now_us)


_LOOKS: Final = {"log": _log, "live": _live, "state": _state, "board": _board, "event": _event}


def settle(watchers: Sequence[Watcher], frames: int, wait_s: float) -> dict[str, Watched]:
    """Wait until all frames are seen everywhere, or nothing new is for a while; what was seen. The watchers end."""
    deadline_s = time.monotonic() + wait_s
    parts = {part: seen for watcher in watchers for part, seen in watcher.sightings.items()}
    for part, seen in parts.items():
        if part in ON_KAFKA and seen.complete:
            seen.watched.owed = frames
    while time.monotonic() < deadline_s and any(
        (seen.watched.owed is None or seen.watched.seen < seen.watched.owed) and time.monotonic() - seen.news_s < QUIET_S
        for seen in parts.values()
    ):
        time.sleep(0.1)
    for watcher in watchers:
        watcher.stop()
    return {part: seen.watched for part, seen in parts.items()}
