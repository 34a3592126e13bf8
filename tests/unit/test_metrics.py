"""Figures of a process: the text is OpenMetrics by the parser of its own library, and nothing a source does spoils the rest."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from broker.metric_list import DEAD_LETTERS, INGEST_FRAMES, METRICS, SAMPLE_TO_BOARD, SPOOL_LEFT
from broker.metrics import MAX_SERIES, PREFIX, SERIES_LEFT_OUT, SOURCE_FAILURES, Distribution, Measure, Metric, Registry

LABELS = {"version", "role", "link", "level", "store", "reason", "stage", "of", "state", "within", "part", "bucket", "topic"}


def families(registry: Registry) -> dict[str, object]:
    return {family.name: family for family in text_string_to_metric_families(registry.text().decode())}


def samples(registry: Registry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(registry.text().decode())
        for sample in family.samples
    }


def test_counter_gauge_and_histogram_are_read_back_by_the_parser_of_the_library() -> None:
    registry = Registry()
    registry.add(lambda: [INGEST_FRAMES.of(7), DEAD_LETTERS.of(2, "bad_frame"), SPOOL_LEFT.of(1.5)])
    registry.add(lambda: [SAMPLE_TO_BOARD.of(Distribution((0.1, 1.0), (3, 2, 1), 4.5))])
    got = samples(registry)
    assert got["paceline_ingest_frames_total", ()] == 7
    assert got["paceline_dead_letters_total", (("reason", "bad_frame"),)] == 2
    assert got["paceline_spool_left_hours", ()] == 1.5
    name = "paceline_sample_to_board_seconds"
    assert [got[f"{name}_bucket", (("le", le),)] for le in ("0.1", "1.0", "+Inf")] == [3, 5, 6]
    assert got[f"{name}_count", ()] == 6
    assert got[f"{name}_sum", ()] == 4.5
    assert got["process_resident_memory_bytes", ()] > 0


def test_source_that_fails_costs_its_own_figures_only_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> list[Measure]:
        raise ValueError("a store is closed")

    registry = Registry()
    registry.add(broken)
    registry.add(lambda: [INGEST_FRAMES.of(7)])
    with caplog.at_level(logging.ERROR):
        assert samples(registry)["paceline_ingest_frames_total", ()] == 7
        assert samples(registry)[SOURCE_FAILURES.sample_name, ()] == 2
    assert len(caplog.records) == 1


def test_labels_beyond_the_limit_are_left_out_and_counted() -> None:
    registry = Registry()
    registry.add(lambda: [DEAD_LETTERS.of(1, f"reason{i}") for i in range(MAX_SERIES + 3)])
    measures = registry.measures()
    assert sum(measure.metric is DEAD_LETTERS for measure in measures) == MAX_SERIES
    assert SERIES_LEFT_OUT.of(3) in measures


def test_same_metric_told_twice_counts_once() -> None:
    registry = Registry()
    registry.add(lambda: [INGEST_FRAMES.of(1)])
    registry.add(lambda: [INGEST_FRAMES.of(2)])
    assert samples(registry)["paceline_ingest_frames_total", ()] == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.floats(allow_nan=False))
def test_any_label_and_value_come_back_as_they_are(word: str, value: float) -> None:
    metric = Metric("paceline_test", "gauge", "Any\\ word\n", labels=("reason",))
    registry = Registry()
    registry.add(lambda: [metric.of(value, word)])
    assert samples(registry)["paceline_test", (("reason", word),)] == value


def test_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="paceline_dead_letters: 0 labels, 1 are needed"):
        DEAD_LETTERS.of(1)


def test_list_has_each_name_once_with_its_unit_at_the_end_and_only_known_labels() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    for metric in METRICS:
        assert metric.name.startswith(PREFIX)
        assert not metric.name.endswith("_total")
        assert metric.name.endswith(metric.unit)
        assert metric.says.endswith(".")
        assert set(metric.labels) <= LABELS, f"{metric.name}: a new label needs a bounded set of values, and a place in this test"
