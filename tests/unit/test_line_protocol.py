"""Lines from columns: the same bytes compiled and plain, types that never change, and the escapes of the official client."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client import Point

from processors.influx_schema import ALARM_PCT, BUCKET_OF, BUCKETS, TELE, jittered_ns
from processors.kernels.compiled import COMPILED
from processors.line_protocol import ABSENT, Field, Measurement, Points, encode_lines, field_text, series_keys, tag_text

MIXED = Measurement("m", ("a", "b"), (Field("n", "int"), Field("f1", "float", 1), Field("f7", "float", 7), Field("t", "text")), "ns")
INTS = st.one_of(st.integers(-(2**62), 2**62), st.integers(-20_000, 20_000), st.sampled_from([0, 9, 10, 9_999, 10_000, 99_999_999, 10**18]))
OPTIONAL = st.one_of(st.just(ABSENT), INTS)
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def both(points: Points) -> bytes:
    """The lines, checked to be the same bytes either way."""
    made = encode_lines(points, compiled=False)
    assert encode_lines(points, compiled=True) == made
    return made


@st.composite
def points(draw) -> Points:
    n = draw(st.integers(1, 12))
    series = draw(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
    texts = draw(st.lists(WORDS, min_size=1, max_size=4))
    of = [draw(st.integers(0, len(series) - 1)) for _ in range(n)]
    columns = (
        [draw(INTS) for _ in range(n)],
        [draw(OPTIONAL) for _ in range(n)],
        [draw(OPTIONAL) for _ in range(n)],
        [draw(st.one_of(st.just(ABSENT), st.integers(0, len(texts) - 1))) for _ in range(n)],
    )
    times = [draw(st.integers(-(10**18), 2 * 10**18)) for _ in range(n)]
    return Points(MIXED, series, column(*of), tuple(column(*c) for c in columns), column(*times), {"t": texts})


def by_hand(p: Points) -> bytes:
    """The same, one point after the other."""
    keys, lines = series_keys(p), []
    for row in range(len(p)):
        fields = []
        for f, c in zip(p.measurement.fields, p.columns, strict=True):
            value = int(c[row])
            if value == ABSENT:
                continue
            if f.kind == "int":
                fields.append(f"{f.name}={value}i")
            elif f.kind == "float":
                digits = str(abs(value)).rjust(f.decimals + 1, "0")
                fields.append(f"{f.name}={'-' if value < 0 else ''}{digits[: -f.decimals]}.{digits[-f.decimals :]}")
            else:
                text = field_text(p.texts[f.name][value]).replace("\\", "\\\\").replace('"', '\\"')
                fields.append(f'{f.name}="{text}"')
        lines.append(keys[int(p.series_of[row])] + f" {','.join(fields)} {int(p.times[row])}\n".encode())
    return b"".join(lines)


@given(points())
def test_any_columns_give_the_lines_one_would_write_by_hand_either_way(p: Points) -> None:
    assert both(p) == by_hand(p)


@given(WORDS, WORDS, WORDS)
def test_tags_and_texts_are_escaped_as_the_official_client_does(a: str, b: str, text: str) -> None:
    a, b, text = tag_text(a), tag_text(b), field_text(text)
    p = Points(
        Measurement("m m,m", ("a", "b"), (Field("t", "text"),)),
        [(a, b)],
        column(0),
        (column(0),),
        column(1_790_000_000_000_000_000),
        {"t": [text]},
    )
    theirs = Point("m m,m").tag("a", a).tag("b", b).field("t", text).time(1_790_000_000_000_000_000).to_line_protocol()
    assert both(p).decode() == theirs + "\n"


def test_the_compiler_is_there_so_both_ways_are_two():
    assert COMPILED


def test_floats_always_have_a_point_and_ints_an_i():
    p = Points(MIXED, [("x", "y")], column(0), (column(7), column(30), column(0), column(ABSENT)), column(5), {"t": [""]})
    assert both(p) == b"m,a=x,b=y n=7i,f1=3.0,f7=0.0000000 5\n"


def test_a_value_that_is_absent_leaves_its_field_out_and_an_empty_text_is_none():
    p = Points(MIXED, [("x", "y")], column(0), (column(0), column(ABSENT), column(ABSENT), column(0)), column(5), {"t": [""]})
    assert both(p) == b'm,a=x,b=y n=0i,t="" 5\n'


def test_numbers_between_zero_and_minus_one_keep_their_sign():
    p = Points(MIXED, [("x", "y")], column(0), (column(-1), column(-5), column(-1), column(ABSENT)), column(-5), {"t": []})
    assert both(p) == b"m,a=x,b=y n=-1i,f1=-0.5,f7=-0.0000001 -5\n"


def test_no_points_are_no_bytes():
    nothing = column()
    assert both(Points(MIXED, [], nothing, (nothing,) * 4, nothing, {"t": []})) == b""


@pytest.mark.parametrize("compiled", [True, False])
def test_a_point_without_its_first_field_is_an_error(compiled):
    p = Points(MIXED, [("x", "y")], column(0), (column(ABSENT),) * 4, column(5), {"t": []})
    with pytest.raises(ValueError, match="first field, n"):
        encode_lines(p, compiled=compiled)


@pytest.mark.parametrize(
    ("text", "held"),
    [("", "none"), ("a\nb", "a_b"), ("a\0", "a_"), ("a\\", "a_"), ("\\", "_"), ("a\\b", "a\\b"), ("a\x7f", "a_"), ("ü ☃", "ü ☃")],
)
def test_what_a_tag_cannot_hold_is_replaced(text, held):
    assert tag_text(text) == held


@pytest.mark.parametrize(
    "make",
    [
        lambda: Measurement("m", ("b", "a"), (Field("n", "int"),)),
        lambda: Measurement("m", ("a",), (Field("a", "int"),)),
        lambda: Measurement("m", ("a",), ()),
        lambda: Field("f", "float"),
        lambda: Field("f", "float", 10),
        lambda: Field("n", "int", 1),
    ],
)
def test_a_measurement_that_could_go_wrong_cannot_be_made(make):
    with pytest.raises(ValueError):
        make()


def test_only_the_live_bucket_knows_people_and_no_field_does():
    personal = {"ath", "athlete", "subject", "aid", "activity"}
    for bucket in BUCKETS.values():
        for m in bucket.measurements:
            assert not personal & {f.name for f in m.fields}
            assert ("ath" in m.tags) == (bucket.name == "live")


def test_there_are_five_buckets_and_each_measurement_is_in_one():
    assert list(BUCKETS) == ["live", "seg", "agg", "dev", "ops"]
    assert len(BUCKET_OF) == sum(len(bucket.measurements) for bucket in BUCKETS.values()) == 7
    assert BUCKETS["live"].keep_s == 48 * 3600
    assert 0 < ALARM_PCT < 100
    assert TELE.unit == "us"


@given(st.integers(1_700_000_000_000_000, 1_900_000_000_000_000), st.text(max_size=10))
def test_jitter_stays_in_its_millisecond_and_is_always_the_same(t_us: int, name: str) -> None:
    made = jittered_ns(t_us, name)
    assert made // 1_000_000 == t_us // 1000
    assert made == jittered_ns(t_us, name)
