"""docs/scaling.md: its tables are those of the kept figures, and the arithmetic adds up."""

from __future__ import annotations

import pytest

from benchmarks import cluster, sizing

MADE, FLEET = sizing.kept()
FIGURES = MADE["figures"]


def test_the_page_has_the_tables_of_the_kept_figures() -> None:
    page = sizing.PAGE.read_text()
    assert page == sizing.with_blocks(page, MADE, FLEET), "run python -m benchmarks.growth --write, or leave the tables alone"


def test_the_kept_figures_are_of_every_part_in_both_regimes() -> None:
    assert sizing.PARTS == cluster.PARTS
    assert {c["samples_per_frame"] for c in FIGURES["growth"]} == {regime.samples for regime in sizing.REGIMES}
    assert all(set(c["cpu_s_per_million_samples"]) == {*sizing.PARTS, "all"} for c in FIGURES["growth"])
    assert FIGURES["ends"]["finished"] == FIGURES["ends"]["athletes"]


@pytest.mark.parametrize("regime", sizing.REGIMES)
def test_cores_are_cost_times_samples_a_second(regime: sizing.Regime) -> None:
    costs = sizing.measured(FIGURES, regime.samples)["cpu_s_per_million_samples"]
    busy = sizing.cores(FIGURES, regime)
    assert busy["live"] == pytest.approx(costs["live"] * 0.5)
    assert busy["finish"] >= costs["finish"] * 0.5
    assert regime.frames_per_s * regime.samples == pytest.approx(500_000)


def test_processes_are_planned_for_half_a_core_and_kafka_for_three_copies() -> None:
    assert [sizing.processes("live", cores) for cores in (0.1, 0.5, 0.51, 32.0)] == [1, 1, 2, 64]
    assert [sizing.processes("kafka", cores) for cores in (0.1, 24.0, 33.0)] == [3, 3, 5]
    assert [sizing.processes("influxd", cores) for cores in (0.1, 8.1)] == [1, 2]


def test_view_and_sink_divide_by_tenant_and_each_view_passes_over_what_is_of_others() -> None:
    """Half a million states a second at 1.5 us are three quarters of a core in each part but where there is one."""
    live = sizing.REGIMES[1]
    assert sizing.passed_cores(live) == pytest.approx(0.75)
    assert sizing.part_cores("view", 8.0, 1, live) == pytest.approx(8.0)
    assert sizing.part_cores("view", 8.0, 4, live) == pytest.approx(2.75)
    assert sizing.part_cores("sink", 8.0, 4, live) == pytest.approx(2.0)
    needed = [sizing.parts_needed({"view": view, "sink": sink}) for view, sink in ((0.5, 0.5), (0.6, 0.5), (0.9, 2.0), (90.0, 0.0))]
    assert needed == [1, 2, 4, 64]
    assert sizing.told_processes("view", {"view": 0.9, "sink": 2.0}) == "4"


def test_a_workout_leaves_its_results_entries_and_events() -> None:
    sizes = {"activities.state": 6.0, "boards.state": 1.0, "events": 3.0, "tracks": 9.0}
    assert sizing.workout_bytes({"ends": {"bytes_per_sample": sizes, "samples_of_each": 1200}}) == pytest.approx(12_000)


def test_there_is_a_machine_for_each_copy_on_kafka_at_least() -> None:
    assert [sizing.machines(cores) for cores in (0.1, 24.0, 24.1)] == [3, 3, 4]


def test_a_million_athletes_for_an_hour_a_day_are_their_samples_times_what_one_takes() -> None:
    sizes = {"telemetry.frames": 300.0, "influxdb": 60.0, "live.state": 30.0, "stage.results": 1.0}
    cell = {"athletes": 1, "samples_per_frame": 30, "bytes_per_frame": sizes}
    rows = sizing.storage_rows({"growth": [cell]}, 3.6e9, sizing.REGIMES[0])
    assert rows["frames on Kafka"] == pytest.approx(300 * 1.2e8 * 7 * 3)
    assert rows["words between stages on Kafka"] == pytest.approx(1.2e8 * 7 * 3)
    assert rows["InfluxDB, live samples"] == pytest.approx(60 * 1.2e8 * 2)
    assert rows["changelogs on Kafka, six hours of replaced values"] == pytest.approx(30 * 1.2e8 / 4 * 3)
