"""Truth reports count lost, duplicated and wrong exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from broker.layouts import layout_named
from simulators.truth import Made, Truth, compare

MOTION = layout_named("motion.1")


def made(seq, *, origin="gym/a", boot=7, subject="gym/a", samples=2, hr=120.0):
    records = b"".join(MOTION.pack({"tick_ms": 1000 * k, "hr_bpm": hr, "distance_m": 10.0 * seq + k}) for k in range(samples))
    return Made(origin, boot, seq, subject, MOTION.id, 1_000_000 * seq, None, records)


def truth_of(count):
    truth = Truth()
    for seq in range(count):
        truth.add(made(seq))
    return truth


def rows(truth):
    return [(m.origin, m.boot, m.seq, m.subject, m.records) for m in truth]


@given(
    st.integers(1, 60),
    st.sets(st.integers(0, 59)),
    st.sets(st.integers(0, 59)),
    st.sets(st.integers(0, 59)),
    st.sets(st.integers(0, 59)),
    st.randoms(),
)
def test_faults_put_in_are_the_faults_counted(count, lose, repeat, spoil, release, shuffle):
    truth = truth_of(count)
    truth.release(("gym/a", 7, seq) for seq in release if seq < count)
    stored = []
    for row in rows(truth):
        seq = row[2]
        if seq in lose:
            continue
        stored.append((*row[:4], row[4][::-1] + b"x") if seq in spoil else row)
        if seq in repeat:
            stored.append(row)
    stored += [("gym/a", 8, 0, "gym/a", b"")]
    shuffle.shuffle(stored)
    report = compare(truth, stored)
    every = set(range(count))
    assert report.frames_sent == count
    assert report.samples == 2 * count
    assert report.lost == len(every & lose - release)
    assert report.optional_missing == len(every & lose & release)
    assert report.duplicated == len((every & repeat) - lose)
    assert report.wrong == len((every & spoil) - lose)
    assert report.unknown == 1
    assert not report.clean
    assert report.frames_stored == len(every - lose)
    assert report.samples_stored == 2 * report.frames_stored


def test_undisturbed_is_clean_and_another_subject_is_wrong():
    truth = truth_of(5)
    assert compare(truth, rows(truth)).clean
    report = compare(truth, [(*row[:3], "gym/b", row[4]) for row in rows(truth)])
    assert report.wrong == 5
    assert "subject" in report.examples[0]


def test_two_frames_of_one_name_are_a_bug_of_the_simulator():
    truth = truth_of(2)
    truth.add(made(1))
    with pytest.raises(ValueError, match="two different frames"):
        truth.add(made(1, hr=121.0))


def test_json_form_is_exact():
    truth = truth_of(4)
    truth.release([("gym/a", 7, 2)])
    back = Truth.from_json(truth.to_json())
    assert list(back) == list(truth)
    assert back.numbers() == {("gym/a", 7): {0, 1, 2, 3}}
    for bad in ("", "[]", '{"paceline_truth":2,"frames":[]}', '{"paceline_truth":1,"frames":[[1]]}'):
        with pytest.raises(BadInputError, match=r"t\.json"):
            Truth.from_json(bad, "t.json")


def test_athlete_truth_is_what_the_quantised_samples_say():
    truth = Truth()
    truth.add(replace(made(0, hr=120.4), utc_us=0))
    truth.add(replace(made(1, hr=130.0), utc_us=5_000_000))
    (athlete,) = truth.athletes()
    assert (athlete.samples, athlete.hr_mean_bpm, athlete.hr_last_bpm, athlete.distance_m) == (4, 125.0, 130.0, 11.0)
    assert (athlete.first_utc_us, athlete.last_utc_us) == (0, 6_000_000)


def test_merge_joins_and_refuses_conflicts():
    one, two = truth_of(2), Truth()
    two.add(made(9))
    one.merge(two)
    assert len(one) == 3
    two.add(made(0, hr=99.0))
    with pytest.raises(ValueError, match="two different"):
        one.merge(two)
