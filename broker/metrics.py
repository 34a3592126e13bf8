"""What a process counts, as OpenMetrics text. Counting costs nothing extra: parts keep plain integers, and are asked when somebody looks.

A `Metric` says what a figure means (all stand in `broker/metric_list.py`); a part tells `Measure`s: `INGEST_FRAMES.of(stats.frames)`.
Labels are few words known beforehand, never persons, devices or nodes; beyond `MAX_SERIES` of one metric the rest is left out and
counted. A source that fails costs its own figures only. Sources are called from the thread of whoever looks: they only read, and copy
tables before they walk over them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

log = logging.getLogger(__name__)

PREFIX: Final = "paceline_"
MAX_SERIES: Final = 128

Kind = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values spread: `counts[i]` of them at most `bounds[i]` (not those of smaller bounds), the last count those above all bounds."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float  # the sum of all values


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure: its whole name (a counter's without `_total`), what it means, its unit, which is the name's end, and its labels."""

    name: str
    kind: Kind
    says: str
    unit: str = ""
    labels: tuple[str, ...] = ()

    def of(self, value: float | Distribution, *words: str) -> Measure:
        """Its value now, for these labels in their order."""
        if len(words) != len(self.labels):
            raise ValueError(f"{self.name}: {len(words)} labels, {len(self.labels)} are needed")
        return Measure(self, value, words)

    @property
    def sample_name(self) -> str:
        """As it is asked for in queries: with the ending of its kind."""
        return self.name + {"counter": "_total", "info": "_info", "histogram": "_bucket", "gauge": ""}[self.kind]


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric's value at this moment."""

    metric: Metric
    value: float | Distribution
    labels: tuple[str, ...] = ()


class MetricsSettings(BaseModel):
    """Where a process shows its figures and its health. Port 0: any free one, told in `<data>/metrics/<role>.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    enabled: bool = True
    host: str = Field(default="127.0.0.1", min_length=1, max_length=253)
    port: int = Field(default=0, ge=0, le=65_535)


Source = Callable[[], Iterable[Measure]]

SOURCE_FAILURES: Final = Metric(
    f"{PREFIX}metric_source_failures", "counter", "Parts that could not tell their figures when they were asked."
)
SERIES_LEFT_OUT: Final = Metric(f"{PREFIX}metric_series_left_out", "counter", f"Label values beyond {MAX_SERIES} of one metric.")


class Registry:
    """The figures of one process. `add` a source; `text` asks all of them."""

    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._failing: set[Source] = set()
        self.failures = 0
        self.left_out = 0

    def add(self, source: Source) -> None:
        """Ask `source` at every look; `measures` of a part is one."""
        self._sources.append(source)

    def measures(self) -> list[Measure]:
        """All figures now. Two sources that tell the same metric and labels: the first counts."""
        found: dict[tuple[str, tuple[str, ...]], Measure] = {}
        series: dict[str, int] = {}
        for source in self._sources:
            for measure in self._asked(source):
                key = measure.metric.name, measure.labels
                if key in found:
                    continue
                if series.get(measure.metric.name, 0) >= MAX_SERIES:
                    self.left_out += 1
                    continue
                series[measure.metric.name] = series.get(measure.metric.name, 0) + 1
                found[key] = measure
        return [*found.values(), SOURCE_FAILURES.of(self.failures), SERIES_LEFT_OUT.of(self.left_out)]

    def _asked(self, source: Source) -> list[Measure]:
        try:
            told = list(source())
        except Exception:
            self.failures += 1
            if source not in self._failing:
                self._failing.add(source)
                log.exception("metrics: %s cannot tell its figures", getattr(source, "__qualname__", source))
            return []
        self._failing.discard(source)
        return told

    def text(self) -> bytes:
        """OpenMetrics 1.0 text, with what the operating system knows of this process (`process_*`)."""
        from prometheus_client.openmetrics import exposition

        return cast("bytes", exposition.generate_latest(self))  # pyright: ignore[reportUnknownMemberType] - it has no types

    def collect(self) -> Generator[object]:
        """Families as prometheus_client writes them."""
        from prometheus_client import ProcessCollector
        from prometheus_client.core import Metric as Family

        yield from ProcessCollector(registry=None).collect()
        grouped: dict[str, list[Measure]] = {}
        for measure in self.measures():
            grouped.setdefault(measure.metric.name, []).append(measure)
        for name in sorted(grouped):
            metric = grouped[name][0].metric
            family = Family(metric.name, metric.says, metric.kind, metric.unit)
            for measure in grouped[name]:
                labels = dict(zip(metric.labels, measure.labels, strict=True))
                if isinstance(measure.value, Distribution):
                    for sample, more, value in _buckets(measure.value):
                        family.add_sample(metric.name + sample, labels | more, value)
                else:
                    family.add_sample(metric.sample_name, labels, measure.value)
            yield family


def _buckets(spread: Distribution) -> list[tuple[str, dict[str, str], float]]:
    made: list[tuple[str, dict[str, str], float]] = []
    below = 0
    for bound, count in zip([*spread.bounds, None], spread.counts, strict=True):
        below += count
        made.append(("_bucket", {"le": "+Inf" if bound is None else str(float(bound))}, below))
    return [*made, ("_count", {}, below), ("_sum", {}, spread.total)]
