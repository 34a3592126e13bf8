"""The one error tree. Bad input from outside is a `Rejected` value in hot loops and an exception with a cure elsewhere.

Invariant: every message names the file, field or topic at fault, and every exception carries a `cure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import final


class PacelineError(Exception):
    """Base of all errors Paceline raises on purpose. `cure` says what to do about it."""

    def __init__(self, message: str, *, cure: str = "") -> None:
        super().__init__(message if not cure else f"{message}\n  cure: {cure}")
        self.message = message
        self.cure = cure


class BadInputError(PacelineError):
    """A file, argument or message from outside is wrong."""


class ConfigError(BadInputError):
    """A configuration value is missing, unknown or out of range."""


class StoreError(PacelineError):
    """A durable store cannot be read or written."""


class LinkError(PacelineError):
    """A broker or server cannot be reached or refused us."""


class Reason(StrEnum):
    """Why a row was refused. The words travel in acks and dead letters: never rename one, only add."""

    BAD_BUNDLE = "bad_bundle"  # header or row framing of a bundle cannot be read
    BAD_FRAME = "bad_frame"  # not the msgpack array a frame is, or a field of the wrong type or range
    BAD_RECORDS = "bad_records"  # record block empty or not a whole number of records
    OVERSIZED = "oversized"  # more than the frame or message limit
    BAD_ID = "bad_id"  # device or subject id outside the allowed alphabet or length
    BAD_JSON = "bad_json"  # the JSON form does not follow its schema
    WRONG_TENANT = "wrong_tenant"  # subject belongs to another tenant than the credential
    FUTURE_TIME = "future_time"  # dated more than the allowance after the time of arrival
    RESERVED_FLAG = "reserved_flag"  # a flag bit this version does not know
    NOT_SELF_NUMBERED = "not_self_numbered"  # a device behind a box must number its own frames (flag bit 0)
    CORRUPT_ROW = "corrupt_row"  # the node itself found its stored row damaged


@final
@dataclass(frozen=True, slots=True)
class Rejected:
    """A counted refusal: the reason, what exactly was wrong, and the bytes as they came."""

    reason: Reason
    detail: str
    raw: bytes
