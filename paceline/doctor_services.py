"""Doctor: the servers beyond one machine that the settings name. Looks and changes nothing: a write to InfluxDB is a comment, no point."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from broker.errors import PacelineError
from broker.influx import InfluxSettings
from broker.kafka import KafkaSettings

if TYPE_CHECKING:
    from paceline.doctor import Finding
    from processors.kafka_admin import Change


REACH_S: Final = 5.0
APART_S: Final = 60.0  # what is dated five minutes ahead is refused (docs/bad-input.md)


def kafka(settings: KafkaSettings) -> Finding:
    """Whether the cluster answers, lets us in, and has every topic as it must be."""
    from broker.kafka_topics import all_topics
    from paceline.doctor import Finding
    from processors.kafka_admin import UNREACHED_CURE, KafkaAdmin
    from processors.kafka_faults import AWAY

    wanted = all_topics()
    try:
        changes = KafkaAdmin(settings, reach_s=REACH_S).differences(wanted, 1)
    except PacelineError as error:
        return Finding("kafka", False, error.message, f"{AWAY}; else {error.cure}" if error.cure == UNREACHED_CURE else error.cure)
    wrong = "; ".join(map(_wrong, changes[:3]))
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return Finding("kafka", not changes, f"{wrong}{more}" if wrong else f"{len(wanted)} topics as they must be", "paceline topics apply")


def _wrong(change: Change) -> str:
    if not change.setting:
        return f"topic {change.topic} is missing"
    return f"topic {change.topic}: {change.setting} is {change.found or 'not set'} and must be {change.wanted}"


def influx(settings: InfluxSettings) -> list[Finding]:
    """Whether InfluxDB answers, and each bucket may be written."""
    from paceline.doctor import Finding
    from processors.influx_admin import InfluxAdmin
    from processors.influx_packing import pack
    from processors.influx_schema import BUCKETS
    from processors.influx_wire import Meaning, WriteLink

    link, found = WriteLink(settings), list[Finding]()
    try:
        found.append(Finding("influx", True, f"{InfluxAdmin(settings).version()} at {settings.url}"))
        for bucket in BUCKETS:
            verdict = link.write(bucket, "ns", pack(b"# paceline doctor\n"))
            good = verdict.meaning == Meaning.DONE
            cure = verdict.cure or "try again in a moment"
            found.append(Finding(f"influx {bucket}", good, settings.named(bucket) if good else verdict.said, cure))
    except PacelineError as error:
        found.append(Finding("influx", False, error.message, error.cure))
    finally:
        link.close()
    return found


def clocks(settings: InfluxSettings, now_s: Callable[[], float]) -> list[Finding]:
    """Whether the clock of this machine and that of InfluxDB, which dates its answers, are one; nothing when it does not answer."""
    from paceline.doctor import Finding

    try:
        trust = ssl.create_default_context(cafile=settings.cafile or None) if settings.url.startswith("https") else None
        with urllib.request.urlopen(f"{settings.url}/ping", timeout=REACH_S, context=trust) as answer:  # noqa: S310 - http or https
            dated = str(answer.headers["Date"] or "")
        ahead_s = now_s() - parsedate_to_datetime(dated).timestamp()
    except (OSError, ValueError, http.client.HTTPException):
        return []
    said = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the clock of {settings.url}"
    return [Finding("clocks", abs(ahead_s) < APART_S, said, "set the one that is wrong, here or there (timedatectl set-ntp true)")]
