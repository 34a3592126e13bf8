"""The log of a process: fixed fields, no secrets, counted by level. Each test runs where the log is set up: in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from broker.logs import MASK

FIELDS = ["time", "level", "role", "pid", "logger", "message"]


def written(script: str) -> list[str]:
    """The lines a script writes to its log."""
    code = f"import logging\nfrom broker.logs import hide, lines, measures, set_up_log\n{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_line_has_fixed_fields_and_the_error_only_with_an_exception() -> None:
    plain, failed = written(
        "set_up_log('info', 'json', 'ingest')\n"
        "logging.getLogger('a.b').warning('port %d: \"in use\"\\nby somebody', 1883)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('a').exception('failed')\n"
    )
    said = json.loads(plain)
    assert list(said) == FIELDS
    assert (said["level"], said["role"], said["logger"]) == ("warning", "ingest", "a.b")
    assert said["message"] == 'port 1883: "in use"\nby somebody'
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", said["time"])
    said = json.loads(failed)
    assert list(said) == [*FIELDS, "error"]
    assert said["error"].startswith("Traceback")
    assert said["error"].endswith("ZeroDivisionError: division by zero")


def test_secret_is_never_written_in_either_form_nor_in_a_traceback() -> None:
    for form in ("text", "json"):
        text = "\n".join(
            written(
                f"set_up_log('info', '{form}')\n"
                "hide(['s3cret-of-the-broker', 'short'])\n"
                "logging.warning('log in as a with %s', 's3cret-of-the-broker')\n"
                "try: raise ValueError('s3cret-of-the-broker')\n"
                "except ValueError: logging.exception('a short one stays')\n"
            )
        )
        assert "s3cret" not in text
        assert f"log in as a with {MASK}" in text
        assert f"ValueError: {MASK}" in text
        assert "a short one stays" in text


def test_level_is_held_and_lines_are_counted_by_level() -> None:
    last = written(
        "set_up_log('warning')\n"
        "set_up_log('warning', 'text', 'again')\n"
        "logging.info('a'); logging.warning('b'); logging.error('c')\n"
        "logging.error('%s', sorted((m.labels[0], m.value) for m in measures()))\n"
    )
    assert len(last) == 3
    assert last[2].endswith("ERROR root: [('error', 1), ('warning', 1)]")


def test_log_that_somebody_else_set_up_stays_as_it_is() -> None:
    (line,) = written("logging.basicConfig(format='mine: %(message)s')\nset_up_log('info', 'json')\nlogging.warning('b')\n")
    assert line == "mine: b"
