"""What the boards stage is told, made up: efforts that come, are timed again, removed, ruled on and given to somebody else; and what
readers see of it in the end, from one machine or from a cluster of which only the boards run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from broker.events.envelope import Event, decode_structured
from broker.events.folding import fold
from broker.kafka_topics import BOARD_WORDS, BOARDS_STATE
from processors.board_book import BoardBook, RowStore
from processors.board_views import View
from processors.effort_store import SegmentEfforts
from processors.results import CURVE_POINTS, Effort, Phase, Ruling, effort_id
from processors.results_db import effort, efforts_of_segment, events, put_events, segments_with_efforts
from processors.segment_board import SegmentBoard
from processors.shards import Message, StageOnKafka
from processors.stage_words import EffortNow, board_of, encode_board_word
from processors.state_db import StateDb
from processors.state_view import Record, StateView
from tests.memory_cluster import Cells, Process, Topics

NOW_US = 1_781_085_600_000_000
EFFORTS = "paceline.social.effort.v1"
MINUTE_US = 60_000_000
RULINGS: tuple[Ruling, ...] = ("", "", "", "", "flagged", "cleared", "hidden")


def words_of(rng: random.Random, athletes: int, count: int, segments: Sequence[str] = ("hill",)) -> list[EffortNow]:
    """Words about efforts of a few athletes, so that times tie, places change and workouts share time. Each is a change."""
    held: list[Effort] = []
    made: list[EffortNow] = []
    while len(made) < count:
        kind, old = rng.random(), None
        if kind < 0.5 or not held:
            who, segment = rng.randrange(athletes), rng.choice(list(segments))
            activity = f"w{who}-{rng.randrange(6)}"
            now = Effort(
                effort_id(activity, segment, len(held)), "gym", segment, f"gym/a{who}", activity, len(held),
                NOW_US + rng.randrange(200) * MINUTE_US // 4, rng.choice([60_000, 61_000, 62_500]) + rng.randrange(20) * 1000,
                rng.choice(list(Phase)), rng.choice([100, 200]), rng.choice([None, 150]), None, (7,) * CURVE_POINTS, 0,
            )  # fmt: skip
            held.append(now)
        else:
            at = rng.randrange(len(held))
            old = held[at]
            if kind < 0.7:
                now = replace(old, elapsed_ms=max(old.elapsed_ms + rng.randrange(-5, 6) * 1000, 1000), phase=Phase.FINAL)
            elif kind < 0.8:
                now = replace(old, removed=not old.removed)
            elif kind < 0.9:
                now = replace(old, ruling=rng.choice(RULINGS))
            else:
                now = replace(old, subject=f"gym/a{rng.randrange(athletes)}")
            held[at] = now
        was = None if old is None or old.subject == now.subject else old
        made.append(EffortNow(now, NOW_US + len(made), was=was))
    return made


def on_one_machine(folder: Path, words: Sequence[EffortNow]) -> Path:
    """The words through the boards of one machine; the state file."""
    folder.mkdir(parents=True, exist_ok=True)
    store = StateDb(folder / "state.db")
    told: list[Event] = []
    book = BoardBook(RowStore(store.db), told, Counter())
    store.db.execute("BEGIN")
    for version, word in enumerate(words, 1):
        book.put(effort(store.db, word.effort.id), replace(word.effort, version=version), word.appended_us)
    put_events(store.db, [(e.id, e.type, e.topic, e.key, e.tenant, e.time_us, e.body) for e in told])
    store.db.execute("COMMIT")
    store.close()
    return folder / "state.db"


class BoardsAlone:
    """A replica of the boards stage and nobody else, its topics in memory."""

    def __init__(self, make: Callable[[], StageOnKafka], partitions: int = 3) -> None:
        self.topics = Topics(partitions)
        self.cells: dict[int, Cells] = {}
        self.process = Process(make, self.topics, self.cells, {})

    def say(self, words: Sequence[EffortNow]) -> None:
        for word in words:
            self.topics.send(BOARD_WORDS, board_of(word).encode(), encode_board_word(word))

    def drain(self, rng: random.Random | None = None) -> None:
        """Until nobody has anything to do; with `rng` cut, checkpointed and killed anywhere."""
        while True:
            done = self.process.step(1000 if rng is None else rng.choice([1, 3, 10, 100]))
            if rng is not None:
                if rng.random() < 0.3:
                    self.process.checkpoint()
                elif rng.random() < 0.15:
                    self.process.kill()
                    done += 1
            if not done:
                self.process.checkpoint()
                return

    def view(self, folder: Path, rng: random.Random | None = None) -> Path:
        """What readers see, as a state file; with `rng` the partitions of the state are read in any order, as a file that is made anew does."""
        folder.mkdir(parents=True, exist_ok=True)
        store = StateDb(folder / "state.db")
        view = StateView(store)
        told = list(self.topics.told)
        if rng is not None:
            lanes: dict[tuple[str, int], list[tuple[str, Message]]] = {}
            for lane, one in zip(self.topics.lanes, told, strict=True):
                lanes.setdefault(lane if lane[0] == BOARDS_STATE else ("events", 0), []).append(one)
            told = []
            while lanes:
                lane = rng.choice(sorted(lanes))
                told.append(lanes[lane].pop(0))
                if not lanes[lane]:
                    del lanes[lane]
        store.db.execute("BEGIN")
        records = [Record(topic, 0, m.offset, m.key or b"", m.value, m.headers) for topic, m in told]
        while records:
            n = len(records) if rng is None else rng.choice([1, 5, 200])
            view.take(records[:n])
            records = records[n:]
        store.db.execute("COMMIT")
        store.close()
        return folder / "state.db"


def shown(state: Path) -> dict[str, str]:
    """Everything of boards that must not depend on the way."""
    store = StateDb(state)
    db = store.db
    try:
        made: dict[str, str] = {}
        for tenant, segment in segments_with_efforts(db):
            for e in sorted(efforts_of_segment(db, tenant, segment), key=lambda e: e.id):
                made[f"effort {e.id}"] = repr(replace(e, version=0))
            board = SegmentBoard(segment, store=SegmentEfforts(db, tenant, segment))
            board.follow()
            for view in (View(), View.at(NOW_US, "UTC", period="week")):
                lines: list[object] = []
                cursor = None
                while True:
                    page = board.top(view, 3, cursor)
                    lines += [(row.rank, row.subject, row.effort.id, row.gap_leader_ms, row.gap_faster_ms) for row in page.rows]
                    cursor = page.cursor
                    if cursor is None:
                        break
                made[f"board {tenant}/{segment} {view}"] = repr((lines, board.percentiles_ms(view), board.efforts(view)))
        for subject, name, *rest in db.execute("SELECT subject, effort, tenant, segment, kinds FROM award ORDER BY effort, subject"):
            made[f"award {name} {subject}"] = repr(rest)
        # events of an effort have the key of its subject, so those from before and after it was given to somebody else come in no order
        told = sorted(
            (decode_structured(row.body) for row in events(db, limit=1 << 40)), key=lambda e: e.position if e.topic == EFFORTS else 0
        )
        for place, said in fold(told).items():
            made[f"told {place}"] = repr(said)
        return made
    finally:
        store.close()
