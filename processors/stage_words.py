"""What the stages of a cluster tell each other, as bytes: live to finish (`stage.results`), live and finish to boards (`stage.boards`),
and a hot board and its shards (`hot_board.py`) each other.

A word is a msgpack array that begins with its kind. Words of a subject are in one partition of `stage.results`, in the order they were
said; `said` is the place of a word among those of its partition, (frames offset, number), by which a repeat after a kill is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

import msgpack

from broker.errors import BadInputError
from broker.reference import UploadRef, decode_reference, encode_reference
from processors.owed import Place
from processors.results import Effort, Phase, Timed
from processors.stage import Activity, Begun, LiveEfforts, Mutation

Said = tuple[int, int]
_BEGUN: Final = 1
_EFFORTS: Final = 2
_FINISH: Final = 3
_EFFORT: Final = 4
_ENTRIES: Final = 5
_DEALT: Final = 6
_FRONT: Final = 7
_CURE: Final = "only the stages write this topic; run the same version of every stage"


@dataclass(frozen=True, slots=True)
class ToFinish:
    """An activity that is over: finish it from its track, samples of `keys` that count for its subject by what is known at `changes`, the
    offset of the last change of reference data that was taken."""

    activity: Activity
    keys: Sequence[str]
    uploads: Sequence[UploadRef]
    appended_us: int
    changes: int = -1


@dataclass(frozen=True, slots=True)
class EffortNow:
    """An effort as it is now; it belongs to the board of its segment. `place`: among the words of the partition that says so. `was`: as
    boards know it, when that is another subject's."""

    effort: Effort
    appended_us: int
    place: Place | None = None
    was: Effort | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Changed entries of one board of a class in progress."""

    mutations: Sequence[Mutation]


class How(IntEnum):
    """What a shard is to do with an effort it is dealt."""

    TAKE = 0
    LEAVE = 1  # it is dealt to another shard, as somebody else's
    HOLD = 2  # it stood before the board was cut into shards: nothing happened
    WHOLE = 3  # no effort: all that stood before was dealt


class Item(NamedTuple):
    """One effort for a shard. `word` is an `EffortNow` as bytes, empty for WHOLE; `own` its own awards, for HOLD."""

    how: int
    version: int
    word: bytes
    own: str = ""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a hot board deals to one of its shards; versions grow, but for HOLD."""

    tenant: str
    segment: str
    shard: int
    items: Sequence[Item]


class Placed(NamedTuple):
    """What one effort of a shard moved at the front: efforts that came (or changed) and that went, and whose rows may have moved."""

    version: int
    appended_us: int
    cause: Effort
    subjects: Sequence[str]
    came: Sequence[Effort]
    went: Sequence[str]  # ids


@dataclass(frozen=True, slots=True)
class Front:
    """What a shard tells its board: what moved among its efforts that came in among the first ten."""

    shard: int
    moved: Sequence[Placed]


Result = Begun | LiveEfforts | ToFinish
BoardWord = EffortNow | Entries | Dealt | Front


def encode_result(word: Result, said: Said) -> bytes:
    """A word of `stage.results`."""
    if isinstance(word, Begun):
        body: list[Any] = [_BEGUN, said, word.subject, word.activity, word.anchor_us, word.appended_us, word.over, word.merged_into]
    elif isinstance(word, LiveEfforts):
        timed = [(t.segment, t.ordinal, t.start_us, t.elapsed_ms, int(t.phase), t.accuracy_ms, t.curve_ms) for t in word.timed]
        body = [_EFFORTS, said, word.subject, word.activity, timed, word.appended_us, word.whole]
    else:
        body = [
            _FINISH,
            said,
            tuple(word.activity),
            list(word.keys),
            [encode_reference(u) for u in word.uploads],
            word.appended_us,
            word.changes,
        ]
    return msgpack.packb(body)


def decode_result(raw: bytes, version: int, where: str = "word") -> tuple[Result, Said]:
    """Inverse of `encode_result`; a word is as new as its own offset, `version`."""
    try:
        kind, said, *rest = msgpack.unpackb(raw, use_list=False)
        if kind == _BEGUN:
            subject, activity, anchor_us, appended_us, over, merged_into = rest
            return Begun(subject, activity, anchor_us, version, appended_us, over, merged_into), said
        if kind == _EFFORTS:
            subject, activity, timed, appended_us, whole = rest
            made = [Timed(segment, n, at, ms, Phase(phase), accuracy, curve) for segment, n, at, ms, phase, accuracy, curve in timed]
            return LiveEfforts(subject, activity, made, version, appended_us, whole), said
        if kind == _FINISH:
            activity, keys, uploads, appended_us, *changes = rest  # a word that waited for this program has none
            refs = [ref for ref in map(decode_reference, uploads) if isinstance(ref, UploadRef)]
            return ToFinish(Activity(*activity), keys, refs, appended_us, *changes), said
    except (ValueError, TypeError, IndexError) as error:
        raise BadInputError(f"{where}: {error}", cure=_CURE) from error
    raise BadInputError(f"{where}: a word of kind {kind}", cure=_CURE)


def encode_board_word(word: BoardWord) -> bytes:
    """A word of `stage.boards`."""
    if isinstance(word, Entries):
        return msgpack.packb([_ENTRIES, [tuple(m) for m in word.mutations]])
    if isinstance(word, Dealt):
        return msgpack.packb([_DEALT, word.tenant, word.segment, word.shard, word.items])
    if isinstance(word, Front):
        moved = [(p.version, p.appended_us, _told(p.cause), p.subjects, [_told(e) for e in p.came], p.went) for p in word.moved]
        return msgpack.packb([_FRONT, word.shard, moved])
    was = () if word.was is None else (_told(word.was),)
    return msgpack.packb([_EFFORT, _told(word.effort), word.appended_us, word.place, *was])


def decode_board_word(raw: bytes, version: int, where: str = "word") -> BoardWord:
    """Inverse of `encode_board_word`; an effort is as new as the word's own offset, `version`."""
    try:
        kind, *rest = msgpack.unpackb(raw, use_list=False)
        if kind == _ENTRIES:
            return Entries([Mutation(*m) for m in rest[0]])
        if kind == _EFFORT:
            values, appended_us, *said = rest  # one without a place is of an older program
            place, was = said[0] if said else None, said[1] if len(said) > 1 else None
            return EffortNow(
                _effort(values, version), appended_us, Place(*place) if place else None, _effort(was, version) if was else None
            )  # fmt: skip
        if kind == _DEALT:
            tenant, segment, shard, items = rest
            return Dealt(tenant, segment, shard, [Item(*item) for item in items])
        if kind == _FRONT:
            shard, moved = rest
            placed = [Placed(n, at, _effort(cause), subjects, [*map(_effort, came)], went) for n, at, cause, subjects, came, went in moved]
            return Front(shard, placed)
    except (ValueError, TypeError, IndexError) as error:
        raise BadInputError(f"{where}: {error}", cure=_CURE) from error
    raise BadInputError(f"{where}: a word of kind {kind}", cure=_CURE)


class Whose(NamedTuple):
    """Whose an effort is and was, and the place of the word that says so."""

    subject: str
    was: str
    place: Place | None


def whose_of(raw: bytes) -> Whose | None:
    """Whose the effort of an `EffortNow` is, without a look at the rest; None for any other word."""
    if len(raw) < 2 or raw[1] != _EFFORT:  # the kind follows the header of a short array
        return None
    try:
        _, values, _, *said = msgpack.unpackb(raw, use_list=False)
        subject = values[3]
        return Whose(subject, said[1][3] if len(said) > 1 else subject, Place(*said[0]) if said and said[0] else None)
    except (ValueError, TypeError, IndexError):
        return None


def _told(e: Effort) -> tuple[Any, ...]:
    return (
        e.id, e.tenant, e.segment, e.subject, e.activity, e.ordinal, e.start_us, e.elapsed_ms, int(e.phase), e.accuracy_ms, e.hr_avg_bpm,
        e.power_avg_w, e.curve_ms, e.version, e.removed, e.doubts, e.plausibility_pct, e.kept_off, e.ruling,
    )  # fmt: skip


def _effort(values: Sequence[Any], version: int | None = None) -> Effort:
    told = list(values)
    told[8] = Phase(told[8])
    if version is not None:
        told[13] = version
    return Effort(*told)


def board_of(word: EffortNow) -> str:
    """The key of a word about an effort: its board."""
    return f"{word.effort.tenant}/{word.effort.segment}"


def board_key(tenant: str, segment: str) -> bytes:
    """The key of a board."""
    return f"{tenant}/{segment}".encode()
