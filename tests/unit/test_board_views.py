"""Views and age classes: local days and weeks as the place counts them, no gap between classes, nothing that does not exist."""

from __future__ import annotations

from datetime import date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from broker.errors import BadInputError
from processors.age_class import AGE_CLASSES, age_class
from processors.board_views import View

BERLIN = "Europe/Berlin"
MINUTE_US = 60_000_000


def us(*when: int, zone: str = "UTC") -> int:
    return round(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000  # type: ignore[arg-type]


NOW_US = us(2026, 6, 10, 12, zone=BERLIN)  # a Wednesday


def test_age_classes_leave_no_gap() -> None:
    assert {age: age_class(1980, 1980 + age) for age in (-1, 0, 19, 20, 24, 25, 34, 35, 64, 65, 69, 70, 74, 75, 120)} == {
        -1: "U20", 0: "U20", 19: "U20", 20: "20-24", 24: "20-24", 25: "25-34", 34: "25-34", 35: "35-44", 64: "55-64", 65: "65-69",
        69: "65-69", 70: "70-74", 74: "70-74", 75: "75+", 120: "75+",
    }  # fmt: skip
    assert all(before[1] is not None and before[1] + 1 == after[0] for before, after in pairwise(AGE_CLASSES.values()))


@pytest.mark.parametrize(
    ("now", "hours"),
    [((2026, 3, 29, 12), 23), ((2026, 10, 25, 12), 25), ((2026, 6, 10, 0), 24)],
)
def test_a_day_is_as_long_as_its_place_says(now: tuple[int, ...], hours: int) -> None:
    begin, end = View.at(us(*now, zone=BERLIN), BERLIN, period="today").window_us
    assert end - begin == hours * 60 * MINUTE_US
    assert begin <= us(*now, zone=BERLIN) < end


def test_a_day_without_a_midnight_begins_with_the_change() -> None:
    day = View.at(us(2026, 9, 6, 15, zone="America/Santiago"), "America/Santiago", period="today")  # 00:00 jumps to 01:00
    before = View("f", None, "today", date(2026, 9, 5), "America/Santiago")
    assert before.window_us[1] == day.window_us[0] == us(2026, 9, 6, 1, zone="America/Santiago")


def test_views_that_mean_the_same_are_equal() -> None:
    weeks = {View(None, None, "week", date(2026, 6, day), BERLIN) for day in range(8, 15)}
    assert len(weeks) == 1
    assert View.at(NOW_US, BERLIN, period="week") in weeks
    assert View.at(NOW_US, BERLIN) == View()
    assert View(age_class="75+", zone=BERLIN) != View(age_class="75+")


@pytest.mark.parametrize(
    "wrong",
    [
        {"sex": "w"}, {"age_class": "30-39"}, {"period": "decade", "day": date(2026, 1, 1)}, {"weight_class": "60-70"}, {"club": "The Club"}, {"period": "month"}, {"period": "week"}, {"day": date(2026, 1, 1)},
        {"zone": "Mars/Base"}, {"zone": "../etc/passwd"}, {"zone": "Europe"}, {"zone": ""}, {"period": "today", "day": date(1, 1, 1)},
    ],
)  # fmt: skip
def test_a_view_that_does_not_exist_is_refused_with_a_cure(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInputError) as refused:
        View(**wrong)  # type: ignore[arg-type]
    assert refused.value.cure
