"""A hot board: one with more changes than a process carries. Its own partition deals each effort to the shard of its athlete, and keeps
only the front.

Which shard an athlete is in follows from the name, and a shard is a key of the same topic, so it has a partition, and with it a replica, of
its own. What is dealt carries a version that follows from the offset of its word: it grows along the whole board, and what is dealt again
after a kill is known by it. A board that becomes hot deals what stands on it first; it stays hot from then on, in as many shards.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from broker.kafka_topics import BOARD_WORDS
from processors.awards import BOARD_KINDS, OWN_KINDS, Awarded
from processors.board_book import BoardBook
from processors.board_cells import BoardCells
from processors.hot_front import HotFront
from processors.row_mirror import Cells
from processors.shards import Out
from processors.stage_words import Dealt, EffortNow, How, Item, Whose, encode_board_word

_HOT: Final = b"k"
MOST_KNOWN: Final = 10_000  # names of boards that are not hot
MOST_BYTES: Final = 250_000  # of a record that deals, about


@dataclass(frozen=True, slots=True)
class HotRule:
    """Which boards are hot: patterns of `tenant/segment`; and into how many shards one is cut when it becomes so."""

    patterns: Sequence[str] = ()
    shards: int = 8

    def means(self, board: str) -> bool:
        """Whether a board is to be hot."""
        return any(fnmatchcase(board, pattern) for pattern in self.patterns)


NONE_HOT: Final = HotRule()


class HotBoard:
    """The hot board of one segment, in its own partition."""

    def __init__(self, cells: Cells, boards: BoardCells, tenant: str, segment: str, shards: int) -> None:
        self._of = tenant, segment
        self._shards = shards
        self._boards = boards
        self._dealt: list[list[Item]] = [[] for _ in range(shards)]
        self._bytes = 0
        self.front = HotFront(cells, boards, tenant, segment, shards)

    def deal(self, word: bytes, whose: Whose, version: int, out: Out) -> None:
        """Deal a word about an effort. `version` grows along the partition."""
        now = shard_of(whose.subject, self._shards)
        was = now if whose.was == whose.subject else shard_of(whose.was, self._shards)
        if was != now:
            self._add(was, Item(How.LEAVE, 2 * version, word), out)
        self._add(now, Item(How.TAKE, 2 * version + 1, word), out)

    def begin(self, book: BoardBook, out: Out) -> None:
        """Deal what stands on the board until now."""
        placed = book.board(*self._of).placed(lambda subject: shard_of(subject, self._shards))
        book.forget(*self._of)
        self.front.seed(placed)
        found = False
        for e, awards in self._boards.drop(*self._of):
            found = True
            own = ",".join(word for word in awards if word in OWN_KINDS)
            of_board = tuple(word for word in awards if word in BOARD_KINDS)
            if of_board:
                self._boards.put_awards(Awarded(e.subject, e.id, awards, of_board), *self._of)
            word = encode_board_word(EffortNow(e, 0))
            self._add(shard_of(e.subject, self._shards), Item(How.HOLD, e.version, word, own), out)
        if found:
            for shard in range(self._shards):
                self._add(shard, Item(How.WHOLE, 0, b""), out)
        self.send(out)

    def send(self, out: Out) -> None:
        """Send what was dealt."""
        for shard, items in enumerate(self._dealt):
            if items:
                out.send(BOARD_WORDS, shard_key(*self._of, shard), encode_board_word(Dealt(*self._of, shard, items)))
                self._dealt[shard] = []
        self._bytes = 0

    def _add(self, shard: int, item: Item, out: Out) -> None:
        self._dealt[shard].append(item)
        self._bytes += len(item.word) + 32
        if self._bytes > MOST_BYTES:
            self.send(out)


class HotBoards:
    """The hot boards of a partition."""

    def __init__(self, cells: Cells, boards: BoardCells, book: BoardBook, rule: HotRule) -> None:
        self._cells = cells
        self._boards = boards
        self._book = book
        self._rule = rule
        self._hot: dict[bytes, HotBoard] = {}
        self._not_hot: set[bytes] = set()

    def of(self, key: bytes, out: Out) -> HotBoard | None:
        """The hot board of a key, None when it is not hot."""
        if key in self._not_hot:
            return None
        board = self._hot.get(key) or self._opened(key, out)
        if board is not None:
            self._hot[key] = board
            return board
        if len(self._not_hot) >= MOST_KNOWN:
            self._not_hot.clear()
        self._not_hot.add(key)
        return None

    def open(self) -> Iterator[HotBoard]:
        """Those that are open."""
        return iter(self._hot.values())

    def _opened(self, key: bytes, out: Out) -> HotBoard | None:
        tenant, _, segment = key.decode().partition("/")
        raw = self._cells.get(_HOT + key)
        if raw is None and not self._rule.means(key.decode()):
            return None
        shards = self._rule.shards if raw is None else int(raw)
        made = HotBoard(self._cells, self._boards, tenant, segment, shards)
        if raw is None:
            made.begin(self._book, out)
            self._cells.put(_HOT + key, str(shards).encode())
        return made


def shard_of(subject: str, shards: int) -> int:
    """In which shard an athlete is."""
    return zlib.crc32(subject.encode()) % shards


def shard_key(tenant: str, segment: str, shard: int) -> bytes:
    """The key of a shard."""
    return f"{tenant}/{segment}#{shard}".encode()
