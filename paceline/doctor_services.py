"""Doctor: the servers beyond one machine that the settings name. Looks and changes nothing: a write to InfluxDB is a comment, no point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.errors import PacelineError
from broker.influx import InfluxSettings
from broker.kafka import KafkaSettings

if TYPE_CHECKING:
    from paceline.doctor import Finding


def kafka(settings: KafkaSettings) -> Finding:
    """Whether the cluster answers, lets us in, and has every topic as it must be."""
    from broker.kafka_topics import all_topics
    from paceline.doctor import Finding
    from processors.kafka_admin import KafkaAdmin

    wanted = all_topics()
    try:
        changes = KafkaAdmin(settings).differences(wanted, 1)
    except PacelineError as error:
        return Finding("kafka", False, error.message, error.cure)
    wrong = "; ".join(f"{change.topic} {change.what}" for change in changes[:3])
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return Finding("kafka", not changes, f"{wrong}{more}" if wrong else f"{len(wanted)} topics as they must be", "paceline topics apply")


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
