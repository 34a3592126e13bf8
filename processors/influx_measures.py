"""What the sink to InfluxDB counts, as figures for operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from broker.metric_list import INFLUX_LINES, INFLUX_SERIES, INFLUX_WAITING, INFLUX_WAITING_BYTES
from broker.metrics import Measure
from broker.watch import Watch
from processors.influx_sink import Sink
from processors.measures import size_of

_COUNTED = ("made", "sent", "refused", "sent_again", "refused_series", "expired", "dropped_full", "lost_blocks", "late")


def show(watch: Watch, sink: Sink, outbox: Path) -> None:
    """Give `watch` the figures and lanes of a sink. A lane that the server refuses is a link that is down."""
    for bucket, lane in sink.sender.lanes.items():
        watch.link(f"influx {bucket}", lambda lane=lane: not lane.error, lambda lane=lane: lane.error)
    watch.measure(lambda: of_sink(sink))
    watch.measure(lambda: [size_of("influx_outbox", outbox)])


def of_sink(sink: Sink) -> Iterator[Measure]:
    """Lines by what became of them since the outbox began, what waits, and how many series each bucket has."""
    counters = sink.outbox.counters()
    for name in _COUNTED:
        yield INFLUX_LINES.of(counters.get(name, 0), name)
    yield INFLUX_WAITING.of(counters["waiting_lines"])
    yield INFLUX_WAITING_BYTES.of(counters["waiting_bytes"])
    for name, bucket in sink.collector.buckets.items():
        yield INFLUX_SERIES.of(counters.get(f"series_{name}", 0) / bucket.series, name)
