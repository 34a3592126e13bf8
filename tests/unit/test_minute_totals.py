"""Totals by minute: the same whatever the cut, replaced when told again, told with zero where nothing is left."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import StoreError
from processors.believed import ABSENT, NO_POS, Believed, gathered
from processors.minute_totals import (
    DIST_UM,
    HR_N,
    HR_SUM,
    MINUTE_US,
    PW_N,
    Last,
    Minute,
    N,
    decode_minute,
    group_of,
    minute_of,
    minutes_in,
    take,
    totals,
)  # fmt: skip

T0_US = 1_790_000_040_000_000
US = 1_000_000


def block(rows: list[tuple[str, int, int, int, int]], *, again: bool = False, lat: int = 470_000_000, lon: int = 80_000_000) -> Believed:
    """Samples (subject, second, metres so far, heart rate, power)."""
    subjects = sorted({row[0] for row in rows})
    n = len(rows)
    of, second, metres, hr, power = (
        np.array([subjects.index(row[0]) for row in rows], np.int64), *(np.array([row[c] for row in rows], np.int64) for c in range(1, 5)),
    )  # fmt: skip
    constant = {name: np.full(n, value, np.int64) for name, value in (("source", 0), ("lat", lat), ("lon", lon), ("altitude_dm", 0))}
    return Believed(
        subjects, of, T0_US + second * US, **constant, speed_cmps=np.zeros(n, np.int64), hr_bpm=hr, power_w=power,
        cadence_rpm=np.full(n, ABSENT, np.int64), dist_um=metres * 1_000_000, position=np.arange(n), appended_us=T0_US, again=again,
    )  # fmt: skip


def every_minute(blocks: list[Believed]) -> dict[int, Minute]:
    held: dict[int, Minute] = {}
    last: dict[str, Last] = {}
    for one in blocks:
        for start_us in minutes_in(one):
            held.setdefault(start_us, Minute(start_us))
        take(one, held, last)
    return held


STEPS = st.lists(
    st.tuples(st.sampled_from(["gym/a", "gym/b", "gym/c"]), st.integers(0, 30), st.integers(0, 40), st.integers(60, 200)),
    min_size=1,
    max_size=60,
)


def samples_of(steps: list[tuple[str, int, int, int]]) -> list[tuple[str, int, int, int, int]]:
    """Samples in time order: everybody's clock and distance only grow."""
    clock: dict[str, int] = {}
    metres: dict[str, int] = {}
    made = []
    for name, seconds, far, hr in steps:
        first = name not in clock
        clock[name] = clock.get(name, 0) + (0 if first else seconds + 1)
        metres[name] = metres.get(name, 0) + (0 if first else far)
        made.append((name, clock[name], metres[name], hr if hr % 3 else ABSENT, hr if hr % 5 == 0 else ABSENT))
    return made


@given(STEPS, st.lists(st.integers(0, 60), max_size=6))
def test_any_cut_gives_what_one_counts_by_hand(steps, cuts) -> None:
    samples = samples_of(steps)
    bounds = sorted({0, len(samples), *(c for c in cuts if c < len(samples))})
    held = every_minute([block(samples[lo:hi]) for lo, hi in pairwise(bounds)])
    before: dict[str, int] = {}
    expected: dict[tuple[int, str], list[int]] = {}
    for name, second, metres, hr, power in samples:
        row = expected.setdefault((minute_of(T0_US + second * US), name), [0, 0, 0, 0, 0])
        row[0] += 1
        row[1] += (metres - before.get(name, metres)) * US
        row[2] += 0 if hr == ABSENT else hr
        row[3] += hr != ABSENT
        row[4] += power != ABSENT
        before[name] = metres
    found = {
        (m.start_us, name): [row[N], row[DIST_UM], row[HR_SUM], row[HR_N], row[PW_N]] for m in held.values() for name, row in m.rows.items()
    }
    assert found == expected


@given(STEPS, st.integers(0, 60))
def test_an_activity_that_is_told_again_replaces_what_was_told(steps, missing) -> None:
    samples = [s for s in samples_of(steps) if s[0] == "gym/a"]
    if not samples:
        return
    whole = every_minute([block(samples)])
    kept = samples[: missing % len(samples)] or samples[:1]
    again = every_minute([block(kept), block(samples, again=True), block(samples, again=True)])
    assert {m: again[m].rows for m in whole} == {m: whole[m].rows for m in whole}


def test_a_new_activity_begins_at_nothing_and_an_unknown_past_counts_no_distance():
    held = every_minute(
        [block([("gym/a", 0, 5_000, 100, ABSENT)]), block([("gym/a", 1, 5_010, 100, ABSENT)]), block([("gym/a", 2, 3, 100, ABSENT)])]
    )
    assert next(iter(held.values())).rows["gym/a"][DIST_UM] == 13_000_000


def test_an_old_activity_told_again_moves_nobody_who_is_under_way():
    last: dict[str, Last] = {}
    now, old = block([("gym/a", 7_200, 100, 1, ABSENT)]), block([("gym/a", 0, 9_000, 1, ABSENT)], again=True)
    for one in (now, old, block([("gym/a", 7_201, 104, 1, ABSENT)])):
        held = {start_us: Minute(start_us) for start_us in minutes_in(one)}
        take(one, held, last)
    assert sum(row[DIST_UM] for m in held.values() for row in m.rows.values()) == 4_000_000


def test_minutes_that_are_not_held_are_passed_over():
    assert take(block([("gym/a", 0, 0, 100, ABSENT)]), {}, {}) == set()


def test_groups_count_people_and_means_and_a_group_that_is_left_is_told_as_zero():
    minute = next(
        iter(every_minute([block([("gym/a", 0, 0, 100, ABSENT), ("gym/b", 1, 0, 120, ABSENT), ("gym/a", 2, 0, 140, ABSENT)])]).values())
    )
    (row,) = totals([minute], minute.start_us, minute.told)
    assert row.tags == ("N045E005", "gps", "other", "gym")
    assert row.values == (3, 2, 0, 1200, None)
    assert row.t == minute.start_us * 1000
    minute.rows["gym/a"][PW_N] = 1
    minute.rows["gym/a"][4] = 250
    minute.rows["gym/b"][PW_N] = 1
    told = totals([minute], minute.start_us, minute.told)
    assert [(r.tags[2], r.values[0]) for r in told] == [("other", 0), ("ride", 3)]


@pytest.mark.parametrize(
    ("lat", "lon", "region"),
    [
        (470_000_000, 80_000_000, "N045E005"),
        (-10_000_000, -10_000_000, "S005W005"),
        (NO_POS, NO_POS, "none"),
        (0, 1_799_999_999, "N000E175"),
    ],
)
def test_a_region_is_a_cell_of_five_degrees(lat, lon, region):
    minute = next(iter(every_minute([block([("gym/a", 0, 0, 100, ABSENT)], lat=lat, lon=lon)]).values()))
    assert group_of("gym/a", minute.rows["gym/a"])[0] == region


@pytest.mark.parametrize(("metres", "sport"), [(20, "other"), (180, "run"), (400, "ride")])
def test_the_sport_of_a_minute_is_read_off_its_distance(metres, sport):
    minute = next(iter(every_minute([block([("gym/a", 0, 0, 100, ABSENT), ("gym/a", 19, metres, 100, ABSENT)])]).values()))
    assert group_of("gym/a", minute.rows["gym/a"])[2] == sport


def test_a_minute_survives_its_bytes_and_damage_is_an_error_with_a_cure():
    minute = next(iter(every_minute([block([("gym/a", 0, 0, 100, ABSENT)])]).values()))
    totals([minute], minute.start_us, minute.told)
    back = decode_minute(minute.encode())
    assert (back.start_us, back.rows, back.told) == (minute.start_us, minute.rows, minute.told)
    with pytest.raises(StoreError, match=r"influx\.db"):
        decode_minute(b"\x93\x01")


def test_minutes_between_the_samples_of_an_activity_told_again_are_looked_at():
    assert minutes_in(block([("gym/a", 0, 0, 1, ABSENT), ("gym/a", 240, 0, 1, ABSENT)], again=True)) == {
        minute_of(T0_US) + i * MINUTE_US for i in range(5)
    }


def test_blocks_gathered_into_one_come_to_the_same_minutes_with_fewer_steps():
    blocks = [block([("gym/a", at, 3 * at, 150, ABSENT), ("gym/b", at, 4 * at, ABSENT, 200)]) for at in range(0, 150, 7)]
    blocks += [block([("gym/c", 150 + at, 2 * at, 90, ABSENT)]) for at in range(20)]
    one = gathered(blocks)
    assert one.subjects == ["gym/a", "gym/b", "gym/c"]
    assert len(one) == sum(map(len, blocks))
    assert every_minute([one]) == every_minute(blocks)


def test_minute_packs_what_changed_since_it_was_packed_and_reads_back_whole():
    held = every_minute([block([("gym/a", 1, 3, 150, ABSENT), ("gym/b", 2, 4, 90, ABSENT)])])[T0_US // MINUTE_US * MINUTE_US]
    minute = decode_minute(held.encode())
    assert minute == held
    for subject, row in (("gym/b", [7] * 11), ("gym/c", [1] * 11), ("gym/a", [2] * 11)):
        minute.put(subject, row)
        assert decode_minute(minute.encode()) == minute
    assert minute.drop("gym/a")
    assert not minute.drop("gym/d")
    assert decode_minute(minute.encode()) == minute
    assert set(minute.rows) == {"gym/b", "gym/c"}
