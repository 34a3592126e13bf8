"""What the stages of a cluster tell each other, as bytes: live to finish (`stage.results`), live and finish to boards (`stage.boards`).

A word is a msgpack array that begins with its kind. Words of a subject are in one partition of `stage.results`, in the order they were
said; `said` is the place of a word among those of its partition, (frames offset, number), by which a repeat after a kill is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

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
    """An effort as it is now; it belongs to the board of its segment. `place`: among the words of the partition that says so."""

    effort: Effort
    appended_us: int
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Entries:
    """Changed entries of one board of a class in progress."""

    mutations: Sequence[Mutation]


Result = Begun | LiveEfforts | ToFinish
BoardWord = EffortNow | Entries


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
    e = word.effort
    body = (
        e.id, e.tenant, e.segment, e.subject, e.activity, e.ordinal, e.start_us, e.elapsed_ms, int(e.phase), e.accuracy_ms, e.hr_avg_bpm,
        e.power_avg_w, e.curve_ms, e.version, e.removed, e.doubts, e.plausibility_pct, e.kept_off, e.ruling,
    )  # fmt: skip
    return msgpack.packb([_EFFORT, body, word.appended_us, word.place])


def decode_board_word(raw: bytes, version: int, where: str = "word") -> BoardWord:
    """Inverse of `encode_board_word`; an effort is as new as the word's own offset, `version`."""
    try:
        kind, *rest = msgpack.unpackb(raw, use_list=False)
        if kind == _ENTRIES:
            return Entries([Mutation(*m) for m in rest[0]])
        if kind == _EFFORT:
            values, appended_us, *said = rest  # one without a place is of an older program
            told = list[Any](values)
            told[8], told[13] = Phase(told[8]), version
            return EffortNow(Effort(*told), appended_us, Place(*said[0]) if said and said[0] else None)
    except (ValueError, TypeError, IndexError) as error:
        raise BadInputError(f"{where}: {error}", cure=_CURE) from error
    raise BadInputError(f"{where}: a word of kind {kind}", cure=_CURE)


def board_of(word: EffortNow) -> str:
    """The key of a word about an effort: its board."""
    return f"{word.effort.tenant}/{word.effort.segment}"
