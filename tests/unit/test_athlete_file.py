"""The file of athletes and bindings: times, places of errors, and that nothing wrong gets through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import BadInputError
from paceline.athlete_file import parse_athletes

ANN = '[[athlete]]\nid = "ann"\nname = "Ann"\n'
T_US = 1_777_912_200_000_000  # 2026-05-04 16:30 UTC


def errors(text: str, known: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(BadInputError) as refused:
        parse_athletes(text, "f.toml", "gym", known)
    assert refused.value.cure
    return refused.value.message.split("\n")


@pytest.mark.parametrize(
    "time",
    [
        "2026-05-04T18:30:00+02:00", "2026-05-04T16:30:00Z", "2026-05-04 16:30:00Z", '"2026-05-04T16:30:00Z"', '"2026-05-04T16:30:00.0z"',
        '"2026-05-04T12:30:00-04:00"',
    ],
)  # fmt: skip
def test_times_of_rfc_3339(time: str) -> None:
    found = parse_athletes(f'{ANN}[[binding]]\ndevice = "s"\nathlete = "ann"\nfrom = {time}\n', "f", "gym")
    assert [(b.from_us, b.to_us, b.subject) for b in found.bindings] == [(T_US, None, "gym/ann")]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)), st.integers(-14 * 60, 14 * 60))  # noqa: DTZ001 - the offset comes beside it
def test_time_is_exact_to_the_microsecond_at_any_offset(local: datetime, offset_min: int) -> None:
    t = local.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    found = parse_athletes(f'{ANN}[[binding]]\ndevice = "s"\nathlete = "ann"\nto = "{t.isoformat()}"\n', "f", "gym")
    assert datetime.fromtimestamp(0, UTC) + timedelta(microseconds=found.bindings[0].to_us or 0) == t


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[athlet]]\n", "f.toml, line 1: unknown key 'athlet' (did you mean athlete?)"),
        ("athlete = 3\n", "f.toml, line 1: athlete is no list of tables"),
        ("[athlete]\nid = 'a'\n", "f.toml, line 1: athlete is no list of tables"),
        (f'{ANN}nik = "x"\n', "f.toml, line 4: athlete 1, nik: unknown key"),
        ("# first\n[[athlete]]\nid = 'Ann'\nname = 'x'\n", "f.toml, line 3: athlete 1, id: 'Ann' is not an id"),
        (f"{ANN}show = true\n", "f.toml, line 4: athlete 1, show: Input should be 'yes', 'no' or 'nickname'"),
        (f'{ANN}birth_year = "1990"\n', "f.toml, line 4: athlete 1, birth_year:"),
        (f"{ANN}hr_zones_bpm = [1, 2, 3]\n", "f.toml, line 4: athlete 1, hr_zones_bpm:"),
        (f"{ANN}hr_zones_bpm = [110, 130, 150, 300]\n", "f.toml, line 4: athlete 1, hr_zones_bpm: 300 is outside 30-240"),
        (f"{ANN}hr_zones_bpm = [29, 130, 150, 180]\n", "f.toml, line 4: athlete 1, hr_zones_bpm: 29 is outside 30-240"),
        (f"{ANN}hr_zones_bpm = [110, 130, 150, {10**18}]\n", "f.toml, line 4: athlete 1, hr_zones_bpm: 1000000000000000000 is outside 30-240"),
        (f"{ANN}hr_zones_bpm = [120, 110, 130, 140]\n", "f.toml, line 1: athlete 1: hr_zones_bpm must be four rising heart rates"),
        (f'{ANN}show = "nickname"\n', "f.toml, line 1: athlete 1: show = 'nickname' needs a nickname"),
        (f"{ANN}{ANN}", "f.toml, line 5: athlete 2, id: 'ann' is that of athlete 1 too"),
        ("[[athlete]]\nid = 'a'\n", "f.toml, line 1: athlete 1, name: Field required"),
        (f"{ANN}[[binding]]\ndevice = 's'\nathlete = 'anne'\n", "f.toml, line 6: binding 1, athlete: nobody is called 'anne' (did you mean ann?)"),
        (f"{ANN}[[binding]]\ndevice = 's'\nathlete = 'ann'\nfrom = 2026-05-04T18:30:00\n", "f.toml, line 7: binding 1, from: 2026-05-04 18:30:00 is"),
        (f"{ANN}[[binding]]\ndevice = 's'\nathlete = 'ann'\nto = 2026-05-04\n", "f.toml, line 7: binding 1, to: 2026-05-04 is not a time"),
        (f"{ANN}[[binding]]\ndevice = 's'\nathlete = 'ann'\nfrom_us = 3\n", "f.toml, line 7: binding 1, from_us: unknown key"),
        (
            f"{ANN}[[binding]]\ndevice = 's'\nathlete = 'ann'\nfrom = 2026-05-04T18:30:00Z\nto = 2026-05-04T18:30:00Z\n",
            "f.toml, line 4: binding 1: from must be before to",
        ),
        (f"{ANN}[[binding]]\nathlete = 'ann'\n", "f.toml, line 4: binding 1, device: Field required"),
        ("[[athlete]\n", "f.toml: "),
    ],
)  # fmt: skip
def test_error_names_file_line_and_field(text: str, says: str) -> None:
    found = errors(text)
    assert len(found) == 1
    assert found[0].startswith(says)


def test_all_errors_are_told_in_the_order_of_the_file() -> None:
    found = errors(f'{ANN}x = 1\n[[binding]]\ndevice = "S"\nathlete = "bob"\n[[athlete]]\nid = "bob"\nname = ""\n')
    assert [error.split(":")[0] for error in found] == ["f.toml, line 4", "f.toml, line 6", "f.toml, line 10"]


def test_binding_may_name_an_athlete_known_before() -> None:
    text = '[[binding]]\ndevice = "s"\nathlete = "cy"\n'
    assert "nobody is called 'cy'" in errors(text)[0]
    assert parse_athletes(text, "f", "gym", ["cy"]).bindings[0].athlete == "cy"


def test_empty_file_says_nothing() -> None:
    assert parse_athletes("", "f", "gym").athletes == ()
