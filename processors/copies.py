"""Copies of frames on a cluster: those of a device for an athlete whose partition is another one.

The home of a frame is the partition of the key it was stamped with. Bound to somebody whose partition is another, it goes there once more:
the same record, put into that partition whatever its key says, with the date of its boot as its home knows it. There it is stored
under a key of its own, `stamp>partition`, so that whom it counts for is looked up as at home, and nothing of its home is written twice.
Origin, boot and number stay, so a copy that comes again is a repeat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from broker.errors import BadInputError
from broker.frames import Clock, Frame
from processors.tracks import Track

DATE_HEADER: Final = "date"  # only copies have it
_MARK: Final = ">"  # in no id

Date = tuple[int, int]
"""What dates the undated frames of a boot: the lowest number of its dated frames, and the offset of that one."""


def copy_key(stamp: str, partition: int) -> str:
    """Where copies of frames with a stamp are stored in a partition."""
    return f"{stamp}{_MARK}{partition}"


def is_copy(key: str) -> bool:
    """Whether copies are stored under this key."""
    return _MARK in key


def stamp_of(key: str) -> str:
    """The key that frames stored under `key` were stamped with."""
    return key.partition(_MARK)[0]


def encode_date(date: Date) -> bytes:
    """The value of the header."""
    return f"{date[0]} {date[1]}".encode()


def date_of(headers: Iterable[tuple[str, bytes]], where: str) -> Date | None:
    """The date in the headers of a copy, None for any other record. BadInputError names `where`."""
    found = next((value for name, value in headers if name == DATE_HEADER), None)
    if found is None:
        return None
    try:
        seq, offset_us = found.split(b" ")
        return int(seq), int(offset_us)
    except ValueError as error:
        raise BadInputError(f"{where}: header date {found!r}", cure="run the same version of every live stage") from error


def frames_of(track: Track, origin: str, stamp: str) -> Iterator[Frame]:
    """The frames that samples of an origin in a folded track came in: numbers, times and records are those that were sent.

    They are dated by their times: when the own clock of the device began, a track does not keep.
    """
    _, _, device = origin.rpartition("/")
    own = origin.count("/") == 1
    numbers = [n for n, (name, _) in enumerate(track.sources) if name == origin]
    subject = "" if "/@" in stamp else stamp
    for number in numbers:
        mine = np.flatnonzero(track.source == number)
        seqs = track.seq[mine]
        order = np.lexsort((track.index[mine], seqs))
        mine, seqs = mine[order], seqs[order]
        cuts = np.flatnonzero(np.diff(seqs)) + 1
        for part in np.split(mine, cuts):
            records = track.records[part]
            first_us = int(track.t_us[part[0]]) - int(records["tick_ms"][0]) * 1000
            boot, seq = track.sources[number][1], int(track.seq[part[0]])
            yield Frame(track.layout, int(own), device, boot, seq, first_us, 0, int(Clock.RECORDED), subject, records.tobytes())
