"""Steps, cadence, repetitions, heart rate and turns on the device: against recordings with their truth, and against what is made by formula."""

from __future__ import annotations

import functools
import itertools
import random
import re
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware import KIT, on_path
from tests.motion_made import exercise, pulse, stillness, walk
from tests.motion_recordings import DATA, NAMED_ONE, REPS, STEPS, Sample, heartpy, pulse_recording, rep_recording, step_recording

with on_path():
    from dsp import loops_plain, ppg
    from dsp import steps as steps_module
    from dsp.cadence import Cadence
    from dsp.magnitude import Magnitude
    from dsp.ppg import Ppg
    from dsp.reps import Reps
    from dsp.rpm import Rpm
    from dsp.steps import Steps


def walked(samples: list[Sample] | tuple[Sample, ...], rate_hz: int = 100) -> tuple[int, list[int]]:
    """Steps counted, and the cadence of each second."""
    magnitude, steps, cadence = Magnitude(rate_hz), Steps(), Cadence()
    each_second: list[int] = []
    for x_mg, y_mg, z_mg in samples:
        level = magnitude.add(x_mg, y_mg, z_mg)
        if level >= 0:
            steps.add(level)
            if cadence.add(level, steps.count):
                each_second.append(cadence.cadence_spm)
    return steps.count, each_second


@functools.cache
def walked_recording(name: str, rate_hz: int = 50) -> tuple[int, list[int]]:
    return walked(step_recording(name, rate_hz)[0], rate_hz)


def repeated(pieces: tuple[tuple[Sample, ...], ...] | list[list[Sample]], rate_hz: int) -> Reps:
    reps = Reps(rate_hz)
    for piece in pieces:
        for x_mg, y_mg, z_mg in piece:
            reps.add(x_mg, y_mg, z_mg)
        reps.gap()
    return reps


def beats(light: list[int] | tuple[int, ...], rate_hz: int = 50, motion_mg: int = 0) -> list[tuple[float | None, int]]:
    """Heart rate (or None) and reason of each second."""
    reader = Ppg(rate_hz)
    return [(reader.hr_dbpm / 10 if reader.hr_dbpm >= 0 else None, reader.reason) for sample in light if reader.add(sample, motion_mg)]


# Steps


def test_steps_of_the_recordings_are_within_4_5_per_cent_in_the_mean() -> None:
    errors = {name: (walked_recording(name)[0] / len(step_recording(name, 50)[1]) - 1) * 100 for name in STEPS}
    for name, error in errors.items():
        print(f"{name}: {error:+.1f} % of {len(step_recording(name, 50)[1])} steps")
    mean = statistics.fmean(map(abs, errors.values())) if errors else 0.0
    print(f"mean absolute error {mean:.1f} %")
    assert mean <= 4.5
    assert all(abs(error) <= 8 for error in errors.values())


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_numbers_tuned_on_eight_recordings_hold_for_the_ninth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter's numbers over a grid: the best of eight recordings, judged on the one left out; and the numbers taken are not the best of the nine."""
    levels = {name: levels_of(step_recording(name, 50)[0], 50) for name in STEPS}
    truth = {name: len(step_recording(name, 50)[1]) for name in STEPS}
    grid = list(itertools.product((30, 40, 50, 60), (6, 7), (4, 5, 6), (1, 4, 6)))
    errors: dict[tuple[int, ...], dict[str, float]] = {}
    for numbers in grid:
        for field, value in zip(("FLOOR_MG", "APART", "_MEAN", "WALK_STEPS"), numbers, strict=True):
            monkeypatch.setattr(steps_module, field, value)
        errors[numbers] = {name: abs(counted(levels[name]) / truth[name] - 1) * 100 for name in STEPS}
    left_out: list[float] = []
    for name in STEPS:
        best = min(grid, key=lambda numbers: sum(error for other, error in errors[numbers].items() if other != name))
        left_out.append(errors[best][name])
    if STEPS:
        means = sorted(statistics.fmean(one.values()) for one in errors.values())
        print(
            f"left out: {statistics.fmean(left_out):.1f} % in the mean, worst {max(left_out):.1f} %; the grid from {means[0]:.1f} to {means[-1]:.1f} %"
        )
        assert statistics.fmean(left_out) <= 4.5


def levels_of(samples: tuple[Sample, ...], rate_hz: int) -> list[int]:
    magnitude = Magnitude(rate_hz)
    return [level for sample in samples if (level := magnitude.add(*sample)) >= 0]


def counted(levels: list[int]) -> int:
    steps = Steps()
    for level in levels:
        steps.add(level)
    return steps.count


@pytest.mark.parametrize("rate_hz", [25, 100, 200])
def test_sample_rate_changes_little(rate_hz: int) -> None:
    for name in STEPS[:1]:
        assert abs(walked_recording(name, rate_hz)[0] - walked_recording(name)[0]) <= walked_recording(name)[0] * 0.03
    assert abs(walked(walk(100, 115, rate_hz), rate_hz)[0] - 100) <= 2


@pytest.mark.parametrize("spm", [70, 90, 110, 130, 160, 180, 200])
@pytest.mark.parametrize("uneven", [0.0, 0.3])
def test_made_walks_and_runs_are_counted(spm: int, uneven: float) -> None:
    counted, _ = walked(walk(200, spm, uneven=uneven))
    assert abs(counted - 200) <= 3


def test_a_device_on_a_table_counts_nothing() -> None:
    assert walked(stillness(120))[0] == 0


def test_three_shakes_are_no_walk() -> None:
    one = [(0, 0, 1000)] * 30 + [(0, 0, 1600)] * 10 + [(0, 0, 400)] * 10
    assert walked(one * 3 + [(0, 0, 1000)] * 400)[0] == 0


def test_a_gap_in_the_samples_keeps_the_count() -> None:
    samples = walk(40, 110)
    magnitude, steps = Magnitude(100), Steps()
    for _ in range(2):
        for x_mg, y_mg, z_mg in samples:
            level = magnitude.add(x_mg, y_mg, z_mg)
            if level >= 0:
                steps.add(level)
        magnitude.gap()
        steps.gap()
    assert abs(steps.count - 80) <= 4


@given(st.lists(st.tuples(*[st.integers(-(1 << 20), 1 << 20)] * 3), max_size=300))
def test_no_samples_raise(samples: list[Sample]) -> None:
    counted, _ = walked(samples)
    assert 0 <= counted <= len(samples)


def test_rates_that_do_not_fit_are_refused_with_the_cure() -> None:
    for made, rate in ((Magnitude, 90), (Reps, 25), (Ppg, 60)):
        with pytest.raises(ValueError, match="set the sensor to a multiple of"):
            made(rate)


# Cadence


def test_cadence_of_the_recordings_is_that_of_the_feet() -> None:
    """Where the feet go evenly for four seconds; a step more or less at the edges of such a window is 3 steps a minute."""
    errors: list[float] = []
    steady = 0
    for name in STEPS:
        truth = step_recording(name, 50)[1]
        for second, said in enumerate(walked_recording(name)[1], start=1):
            feet = [at for at in truth if second - 4 <= at <= second]
            gaps = [b - a for a, b in itertools.pairwise(feet)]
            if len(gaps) < 4 or max(gaps) > 1.5 * min(gaps):
                continue
            steady += 1
            if said >= 0:
                errors.append(abs(said - 60 * len(gaps) / sum(gaps)))
    if STEPS:
        print(f"cadence: {len(errors)} of {steady} windows, mean error {statistics.fmean(errors):.2f} steps a minute")
        assert len(errors) >= steady * 0.85
        assert statistics.fmean(errors) <= 2.5
        assert sum(error > 10 for error in errors) <= len(errors) * 0.01


@pytest.mark.parametrize("spm", [80, 120, 165, 190])
@pytest.mark.parametrize("uneven", [0.0, 0.5])
def test_cadence_counts_both_feet_also_where_one_is_weak(spm: int, uneven: float) -> None:
    said = [value for value in walked(walk(60, spm, uneven=uneven))[1] if value >= 0]
    assert len(said) >= 5
    assert abs(statistics.median(said) - spm) <= 2


def test_cadence_of_nobody_is_no_value() -> None:
    assert set(walked(stillness(30))[1]) == {-1}


# Repetitions


def test_repetitions_of_the_recordings_are_right_to_one() -> None:
    for name, truth in REPS.items():
        if (DATA / "reps" / f"{name}.csv").exists():
            seen = repeated(rep_recording(name), 10)
            print(f"{name}: {seen.count} in {seen.sets} set")
            assert abs(seen.count - truth) <= 1
            assert seen.sets == 1


def test_the_recording_named_one_pushup_is_counted_as_what_it_shows() -> None:
    name, shown = NAMED_ONE
    if (DATA / "reps" / f"{name}.csv").exists():
        assert abs(repeated(rep_recording(name), 10).count - shown) <= 1


@pytest.mark.parametrize("reps", [4, 5, 8, 12, 30])
@pytest.mark.parametrize("seconds_each", [0.8, 1.5, 3.0, 4.5])
def test_made_exercises_are_counted(reps: int, seconds_each: float) -> None:
    assert abs(repeated([exercise(reps, seconds_each)], 50).count - reps) <= 1


def test_a_set_ends_with_a_pause_and_the_next_begins() -> None:
    counted = repeated([[*exercise(8, 2.0), *exercise(6, 1.5)]], 50)
    assert counted.sets == 2
    assert abs(counted.count - 14) <= 2


def test_picking_the_device_up_is_no_repetition() -> None:
    dice = random.Random(5)
    handled: list[Sample] = []
    for _ in range(12):
        x, y, z = (dice.randint(-900, 900) for _ in range(3))
        handled += [(x, y, z)] * dice.randint(20, 700)
    assert repeated([handled], 50).count == 0
    assert repeated([stillness(60, 50)], 50).count == 0


@given(st.lists(st.tuples(st.integers(1, 40), *[st.integers(-40_000, 40_000)] * 3), max_size=120))
def test_no_motion_raises_and_repetitions_only_grow(holds: list[tuple[int, int, int, int]]) -> None:
    reps = Reps(10)
    before = 0
    for length, x_mg, y_mg, z_mg in holds:
        for _ in range(length):
            made = reps.add(x_mg, y_mg, z_mg)
            assert made >= 0
            assert reps.count == before + made
            before = reps.count
    assert reps.sets <= reps.count // 4


# Heart rate


def test_pulse_of_the_recordings_is_that_of_heartpy_or_no_value() -> None:
    """Mean error at most 1 beat a minute where a value is given, never more than 10; a value in at least half of the windows."""
    for name, reference in heartpy().items():
        if not (DATA / "ppg" / f"{name}.csv").exists():
            continue
        said = beats(pulse_recording(name))
        windows = {second: said[second - 1][0] for second in reference if second <= len(said)}
        given_at = {second: bpm for second, bpm in windows.items() if bpm is not None}
        errors = [abs(bpm - wanted) for second, bpm in given_at.items() if (wanted := reference[second]) is not None]
        print(
            f"{name}: {len(given_at)} of {len(windows)} windows, mean error {statistics.fmean(errors):.2f}, largest {max(errors):.1f} beats a minute"
        )
        assert len(errors) == len(given_at)
        assert len(given_at) * 2 >= len(windows)
        assert statistics.fmean(errors) <= 1
        assert max(errors) <= 10


@pytest.mark.parametrize("bpm", [42, 60, 75, 100, 140, 180, 195])
@pytest.mark.parametrize("rate_hz", [50, 100])
def test_made_pulse_is_read(bpm: int, rate_hz: int) -> None:
    said = [value for value, _ in beats(pulse(30, lambda _: bpm, rate_hz), rate_hz)[8:]]
    assert sum(value is not None for value in said) >= 0.9 * len(said)
    assert all(abs(value - bpm) <= 2.5 for value in said if value is not None)


@pytest.mark.parametrize("noise", [30.0, 100.0, 300.0])
def test_noise_in_the_light_makes_values_fewer_and_none_wrong(noise: float) -> None:
    for bpm in range(33, 220, 31):
        said = [value for value, _ in beats(pulse(20, lambda _, bpm=bpm: bpm, noise=noise, seed=bpm))[8:]]
        assert all(abs(value - bpm) <= 5 for value in said if value is not None), (bpm, said)


def test_rising_pulse_is_followed() -> None:
    said = beats(pulse(90, lambda at: 70 + at))
    for second, (value, _) in enumerate(said, start=1):
        if value is not None:
            assert abs(value - (70 + second - 4)) <= 4  # the middle of the window is 4 s ago
    assert sum(value is not None for value, _ in said) >= 60


@pytest.mark.parametrize("seed", range(6))
def test_noise_alone_has_no_heart_rate(seed: int) -> None:
    dice = random.Random(seed)
    slow = [dice.gauss(0, 1) for _ in range(400)]
    noise = [int(100_000 + 300 * slow[i // 8 % 400] + dice.gauss(0, 150)) for i in range(60 * 50)]
    assert all(value is None for value, _ in beats(noise))


def test_each_reason_for_no_value_is_told() -> None:
    light = pulse(20, lambda _: 80)
    assert beats(light)[3] == (None, ppg.FILLING)
    assert beats([100_000] * 1000)[-1] == (None, ppg.FLAT)
    assert beats([*light[:900], (1 << 18) - 1, *light[900:]])[-1] == (None, ppg.CLIPPED)
    assert beats(light, motion_mg=900)[-1] == (None, ppg.MOVING)
    assert beats([*pulse(12, lambda _: 60), *pulse(12, lambda _: 140)])[-6][0] is None
    assert len(ppg.REASONS) == ppg.UNSTEADY + 1


def test_clipping_is_forgotten_after_a_window() -> None:
    light = pulse(40, lambda _: 80)
    light[500] = (1 << 18) - 1
    said = beats(light)
    assert [reason for _, reason in said].count(ppg.CLIPPED) == ppg.WINDOW_S
    assert said[-1][1] == ppg.GOOD


@given(st.lists(st.integers(-(1 << 18), 1 << 19), max_size=600))
def test_no_light_raises(light: list[int]) -> None:
    beats([sample for sample in light for _ in range(3)])


# Turns


def test_cadence_of_a_crank_with_a_bouncing_contact() -> None:
    rpm = Rpm()
    now_us = (1 << 30) - 2_000_000  # the clock wraps on the way
    for _ in range(20):
        for bounce_us in (0, 300, 900, 4000):
            rpm.pulse((now_us + bounce_us) & ((1 << 30) - 1))
        now_us += 666_667
    assert rpm.pulses == 20
    assert rpm.bounces == 60
    assert rpm.drpm(now_us - 600_000) == 900


def test_no_pulse_means_slower_then_standing() -> None:
    rpm = Rpm()
    rpm.pulse(0)
    assert rpm.drpm(100_000) == 0
    rpm.pulse(500_000)
    assert rpm.drpm(600_000) == 1200
    assert rpm.drpm(1_500_000) == 600
    assert rpm.drpm(3_500_000) == 0
    assert rpm.pulses == 2
    rpm.pulse(1 << 30)  # long after: nothing is made of the time between
    assert rpm.drpm(1 << 30) == 0


@given(st.integers(15_001, 2_999_999), st.integers(300, 8000), st.integers(1, 8))
def test_speed_is_circumference_by_time(period_us: int, circumference_mm: int, magnets: int) -> None:
    rpm = Rpm(magnets=magnets)
    rpm.pulse(0)
    rpm.pulse(period_us)
    wanted = circumference_mm * 1_000_000 / magnets / period_us
    assert abs(rpm.speed_mmps(period_us, circumference_mm) - wanted) <= 1 + wanted * 0.001
    assert abs(rpm.drpm(period_us) - 600_000_000 / magnets / period_us) <= 1


@given(st.lists(st.integers(0, 1 << 31), max_size=200))
def test_every_pulse_is_one_or_a_bounce(gaps_us: list[int]) -> None:
    rpm = Rpm()
    now_us = 0
    for gap_us in gaps_us:
        now_us += gap_us
        rpm.pulse(now_us)
        assert 0 <= rpm.drpm(now_us + 1) <= 600_000_000 // 15_000
    assert rpm.pulses + rpm.bounces == len(gaps_us)


def test_settings_of_a_contact_are_checked() -> None:
    with pytest.raises(ValueError, match="0 < debounce_us < stop_us"):
        Rpm(debounce_us=5_000_000)


# Loops


def test_native_loops_are_the_bytecode_under_other_heads() -> None:
    def bodies(name: str) -> str:
        text = (KIT / "dsp" / name).read_text()
        text = text.replace("@micropython.viper\n", "")
        text = re.sub(r": (int|ptr16)\b", "", text).replace(") -> int:", "):").replace("  # noqa: F821", "")
        return text[text.index("def ") :]

    assert bodies("loops_viper.py") == bodies("loops_plain.py")


@given(st.integers(0, (1 << 30) - 1))
def test_integer_square_root(n: int) -> None:
    root = loops_plain.isqrt(n)
    assert root * root <= n < (root + 1) * (root + 1)


def test_the_kit_is_where_it_is_looked_for() -> None:
    assert (Path(KIT) / "dsp" / "loops.py").exists()
