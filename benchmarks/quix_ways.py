"""How long a frame takes through the stages on Kafka, at a steady rate: from its append to what readers see of it.

Records are sent when their time has come, whatever the stages do meanwhile. Readers only note when a record came, and look into it at the
end: this process shares its cores with those it measures.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from broker.kafka_records import encode_log_record
from broker.kafka_topics import BOARDS_STATE
from broker.logrecord import LogRecord
from processors import live_kernel as k
from processors.live_pages import entries_of
from processors.stage_words import Entries, decode_board_word
from processors.state_db import StateDb
from processors.state_view import Record, StateView

READS = 1000
BURST = 500
FLUSH_S = 60.0


class Came(NamedTuple):
    """A record, and when it came."""

    at_s: float
    offset: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Reader:
    """Records of a topic with the time each came; `later`: read at the end, for those whose time does not matter."""

    bootstrap: str
    topic: str
    partitions: int
    later: bool = False
    came: list[Came] = field(default_factory=list[Came])
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """From now on."""
        settings = {"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.auto.commit": False, "fetch.wait.max.ms": 5}
        consumer = Consumer({**settings, "fetch.queue.backoff.ms": 5})
        places = [TopicPartition(self.topic, n) for n in range(self.partitions)]
        starts = [consumer.get_watermark_offsets(place, timeout=30)[1] for place in places]

        def listen() -> None:
            left = 0
            if self.later:
                self._stop.wait()
            consumer.assign([TopicPartition(self.topic, n, start) for n, start in enumerate(starts)])
            if self.later:
                left = sum(consumer.get_watermark_offsets(place, timeout=30)[1] for place in places) - sum(starts)
            while not self._stop.is_set() or len(self.came) < left:
                found = consumer.consume(READS, 0.01)
                now_s = time.time()
                self.came += [Came(now_s, m.offset() or 0, m.key() or b"", m.value()) for m in found if m.error() is None]
            consumer.close()

        self._thread = threading.Thread(target=listen)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()


@dataclass(slots=True)
class Sent:
    """The frames of each subject: the time of each append, in us."""

    frames: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    late_s: float = 0.0  # by how much the sender itself was behind, at most

    def appended_us(self, subject: str, offsets: Sequence[int], offset: int) -> int:
        """The append of the newest frame of a subject up to an offset; `offsets` are those of all its frames."""
        number = bisect_right(offsets, offset)
        return self.frames[subject][number - 1] if number else 0


def send(producer: Producer, records: Sequence[LogRecord], per_s: float) -> Sent:
    """Send records at a rate, each with its time as the time of its append; no two of a subject have the same."""
    sent = Sent()
    began_s, number = time.time(), 0
    while number < len(records):
        now_s = time.time()
        due = min(int((now_s - began_s) * per_s) + 1, len(records), number + BURST)
        if due <= number:
            producer.poll(0)
            time.sleep(0.005)
            continue
        sent.late_s = max(sent.late_s, now_s - began_s - number / per_s)
        for record in records[number:due]:
            times = sent.frames.setdefault(record.key, [])
            times.append(max(int(now_s * 1e6), times[-1] + 1 if times else 0))
            made = encode_log_record(record._replace(appended_us=times[-1]))
            producer.produce(made.topic, made.value, made.key, headers=made.headers)
        number = due
        producer.poll(0)
    assert producer.flush(FLUSH_S) == 0
    return sent


def waits_ms(sent: Sent, seen: Iterable[tuple[float, str, int]]) -> list[float]:
    """How long each frame took, from (when it came, subject, append of the newest frame that is in it) in order. AssertionError when one is
    missing."""
    waiting = {subject: list(times) for subject, times in sent.frames.items()}
    waits: list[float] = []
    for at_s, subject, appended_us in seen:
        left = waiting.get(subject)
        while left and left[0] <= appended_us:
            waits.append(at_s * 1000 - left.pop(0) / 1000)
    missing = sum(map(len, waiting.values()))
    assert not missing, f"{missing} frames were not seen"
    return waits


def states_in(came: Iterable[Came]) -> Iterator[tuple[float, str, int]]:
    """When which subject was how new."""
    for record in came:
        for entry in entries_of(record.key, record.value) if record.value else ():
            if entry.row:
                yield record.at_s, entry.key, int(np.frombuffer(entry.row, np.int64)[k.APPENDED])


def _offsets(came: Iterable[Came], sent: Sent) -> dict[str, list[int]]:
    """Where the frames of each subject are in their partition."""
    offsets: dict[str, list[int]] = {subject: [] for subject in sent.frames}
    for record in came:
        if record.key.decode() in offsets:
            offsets[record.key.decode()].append(record.offset)
    return offsets


def entries_in(came: Iterable[Came], frames: Iterable[Came], sent: Sent) -> Iterator[tuple[float, str, int]]:
    """When which subject's entry was how new."""
    offsets = _offsets(frames, sent)
    for record in came:
        word = decode_board_word(record.value or b"", 0)
        for m in word.mutations if isinstance(word, Entries) else ():
            if m.subject in offsets:
                yield record.at_s, m.subject, sent.appended_us(m.subject, offsets[m.subject], m.version)


def boards_in(folder: Path, came: Sequence[Came], frames: Iterable[Came], sent: Sent) -> Iterator[tuple[float, str, int]]:
    """When which subject's entry was how new, as readers of the state of boards know it."""
    offsets, known = _offsets(frames, sent), dict[str, int]()
    store = StateDb(folder / "shown.db")
    view = StateView(store)
    for at_s, group in groupby(came, lambda record: record.at_s):
        store.db.execute("BEGIN")
        view.take(Record(BOARDS_STATE, 0, record.offset, record.key, record.value, ()) for record in group)
        store.db.execute("COMMIT")
        for subject, version in store.db.execute("SELECT subject, version FROM board WHERE board='live/way'").fetchall():
            if known.get(subject) != version and subject in offsets:
                known[subject] = version
                yield at_s, subject, sent.appended_us(subject, offsets[subject], version)
    store.close()


def spread(waits: Sequence[float]) -> tuple[int, int]:
    """The median and the 99th percentile."""
    return round(float(np.percentile(waits, 50))), round(float(np.percentile(waits, 99)))
