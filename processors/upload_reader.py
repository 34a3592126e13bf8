"""`python -m processors.upload_reader`: reads one uploaded file in a process of its own, so that no file disturbs or ends the platform.

In on stdin: two lengths, what is asked (JSON) and the file. Out on stdout: two lengths, what was found (JSON) and the log records. It runs
at the lowest priority, within the memory and CPU time it was given, and ends when its parent is gone. `upload_process` is the other side.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

from broker.errors import BadInputError
from broker.logrecord import encode_records
from processors.upload_file import read_upload, records_of

_log = logging.getLogger(__name__)

LENGTHS: Final = struct.Struct(">IQ")
_PARENT_S: Final = 1.0


def encode_message(said: dict[str, Any], body: bytes) -> bytes:
    """`said` and `body` behind their lengths, as both sides send them."""
    head = json.dumps(said).encode()
    return LENGTHS.pack(len(head), len(body)) + head + body


def decode_message(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Inverse of `encode_message`; ValueError when `raw` is not exactly one message."""
    if len(raw) < LENGTHS.size:
        raise ValueError("torn message")
    head, body = LENGTHS.unpack_from(raw)
    if len(raw) != LENGTHS.size + head + body:
        raise ValueError("torn message")
    at = LENGTHS.size + head
    return json.loads(raw[LENGTHS.size : at]), raw[at:]


def answer(asked: dict[str, Any], raw: bytes) -> bytes:
    """The message about one file: its records and counts, `refused` (message, cure) or `broken` (an error of the reader).

    MemoryError when the file needs too much.
    """
    now_us = int(asked["now_us"])
    try:
        upload = read_upload(asked["tenant"], asked["athlete"], asked["name"], raw, now_us)
        records = encode_records(records_of(upload, now_us))
    except BadInputError as error:
        return encode_message({"refused": [error.message, error.cure]}, b"")
    except MemoryError:
        raise
    except Exception as error:
        _log.exception("upload reader: %s", asked["name"])
        return encode_message({"broken": f"{type(error).__name__}: {error}"[:200]}, b"")
    return encode_message({"samples": upload.samples, "skipped": dict(upload.skipped), "damage": upload.damage}, records)


def main(memory_bytes: int, cpu_s: int) -> None:
    """Answer the one message on stdin."""
    confine(memory_bytes, cpu_s)
    with contextlib.suppress(BrokenPipeError), _kept_out() as out:
        try:
            said = answer(*decode_message(sys.stdin.buffer.read()))
        except ValueError:
            said = b""  # the parent went away in the middle
        except MemoryError:
            said = encode_message({"memory": True}, b"")
        out.write(said)
    signal.setitimer(signal.ITIMER_REAL, 0)  # an interpreter that ends has no handlers any more: the alarm would kill it


def confine(memory_bytes: int, cpu_s: int) -> None:
    """Take the limits on this process: more memory is a MemoryError, more CPU time ends it with SIGXCPU.

    It ends with its parent, and only so: SIGINT and SIGTERM go to all processes of a service, and the platform finishes what it has begun.
    """
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    os.nice(19)
    with contextlib.suppress(OSError):  # Linux: when memory is short, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    with contextlib.suppress(ValueError, OSError):  # a system that has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    parent = os.getppid()

    def look(*_: object) -> None:
        if os.getppid() != parent:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _PARENT_S, _PARENT_S)


def _kept_out() -> BinaryIO:
    """The way to the parent; what a parser prints goes to stderr instead."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
