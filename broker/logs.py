"""The one place where a process sets up its log: plain lines for people, or JSON lines with fixed fields for machines. Secrets never.

Fields of a JSON line: `time` (UTC, RFC 3339 with microseconds), `level`, `role`, `pid`, `logger`, `message`, and `error` (the traceback)
only with an exception. What was named to `hide` is written as `********`, wherever it would come from: the last line of defence, as
nothing of ours logs a secret. Lines by level are counted (`lines`).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from broker.metric_list import LOG_LINES
from broker.metrics import Measure

Level = Literal["debug", "info", "warning", "error"]

MASK: Final = "********"
SHORTEST_SECRET: Final = 8  # a shorter one would blot out words
_NOISY: Final = ("amqtt", "transitions", "uvicorn")  # they tell every state change
_hidden: set[str] = set()
lines: Counter[str] = Counter()


class LogSettings(BaseModel):
    """How lines are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["text", "json"] = "text"


def set_up_log(level: Level, form: Literal["text", "json"] = "text", role: str = "") -> None:
    """Write the log to standard error from now on; calling it again changes form and role. A log that somebody else set up stays his."""
    root = logging.getLogger()
    if any(type(handler.formatter) not in {_JsonLines, _TextLines} for handler in root.handlers):
        return
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(role) if form == "json" else _TextLines())
    handler.addFilter(_count)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def hide(secrets: Iterable[str]) -> None:
    """Never write these values."""
    _hidden.update(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)


def measures() -> list[Measure]:
    """Lines by level, for a `Watch`."""
    return [LOG_LINES.of(count, level) for level, count in dict(lines).items()]


def _count(record: logging.LogRecord) -> bool:
    lines[record.levelname.lower()] += 1
    return True


def _without_secrets(text: str) -> str:
    for secret in tuple(_hidden):
        if secret in text:
            text = text.replace(secret, MASK)
    return text


class _TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return _without_secrets(super().format(record))


class _JsonLines(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said: dict[str, Any] = {
            "time": f"{second}.{int(record.created % 1 * 1e6):06d}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "pid": os.getpid(),
            "logger": record.name,
            "message": _without_secrets(record.getMessage()),
        }
        if record.exc_info:
            said["error"] = _without_secrets(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)
