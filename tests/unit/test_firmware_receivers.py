"""Bytes of satellite receivers into fixes: to 1e-7 degrees, cut anywhere, through noise; nothing raises, and nothing false is taken."""

from __future__ import annotations

import itertools
import random
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware import KIT, on_path
from tests.receiver_bytes import Instant, nav_pvt, nmea, sentence, ubx

with on_path():
    from drivers import ubx as ubx_driver
    from drivers.gnss import Gnss
    from drivers.nmea import Nmea
    from drivers.ubx import Ubx
    from fakes import machine

instants = st.builds(
    Instant,
    st.integers(-899_999_999, 899_999_999),
    st.integers(-1_799_999_999, 1_799_999_999),
    altitude_cm=st.integers(-50_000, 900_000),
    speed_mmps=st.integers(0, 99_000),
    course_cdeg=st.integers(0, 35_999),
    time_ms=st.integers(0, 86_399_999),
    date=st.tuples(st.integers(2024, 2079), st.integers(1, 12), st.integers(1, 28)),
    satellites=st.integers(4, 40),
)
Parser = type[Nmea] | type[Ubx]


def shown(fix) -> tuple:
    return (
        fix.lat_e7(),
        fix.lon_e7(),
        fix.altitude_cm,
        fix.speed_mmps,
        fix.course_cdeg,
        fix.accuracy_cm,
        fix.satellites,
        fix.dimensions,
        fix.utc_us(),
    )


def fixes(parser, data: bytes, cuts: list[int] | None = None) -> list[tuple]:
    """All fixes of a stream that arrives in pieces."""
    made: list[tuple] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts or range(len(data)))})
    for start, end in itertools.pairwise(edges):
        if parser.feed(data[start:end], end - start):
            made.append(shown(parser.fix))
    return made


@given(instants)
def test_a_fix_of_ubx_is_what_the_receiver_measured(at: Instant) -> None:
    (got,) = fixes(Ubx(), nav_pvt(at))
    assert got[:8] == (at.lat_e7, at.lon_e7, at.altitude_cm, at.speed_mmps, at.course_cdeg, at.accuracy_cm, at.satellites, 3)
    assert abs(got[8] - utc_us(at)) <= 1000


@given(instants)
def test_a_fix_of_nmea_is_within_a_unit(at: Instant) -> None:
    got = fixes(Nmea(), nmea(at))[-1]
    assert abs(got[0] - at.lat_e7) <= 1
    assert abs(got[1] - at.lon_e7) <= 1
    assert got[2] == at.altitude_cm
    assert abs(got[3] - at.speed_mmps) <= 1
    assert got[4] == at.course_cdeg
    assert abs(got[5] - at.accuracy_cm) <= 3
    assert got[6:8] == (at.satellites, 3)
    assert got[8] == utc_us(at)


def utc_us(at: Instant) -> int:
    return int(datetime(*at.date, tzinfo=UTC).timestamp()) * 1_000_000 + at.time_ms * 1000


def test_a_position_of_the_standard_is_read_to_the_last_digit() -> None:
    got = fixes(
        Nmea(),
        sentence("GPRMC,123519,A,4346.21300,N,01115.1500,E,022.4,084.4,230324,003.1,W")
        + sentence("GPGGA,123519,4346.21300,N,01115.1500,E,1,08,0.9,545.4,M,46.9,M,,"),
    )
    assert got[-1][:8] == (437_702_167, 112_525_000, 54_540, 11_523, 8_440, 450, 8, 3)


@pytest.mark.parametrize("digits", [1, 2, 3, 4, 5, 6, 9])
def test_minutes_of_any_length_are_read(digits: int) -> None:
    at = Instant(-337_700_216, 1_512_093_000)
    got = fixes(Nmea(), nmea(at, digits))[-1]
    assert abs(got[0] - at.lat_e7) <= 10 ** max(0, 7 - digits) / 60 + 1


@given(instants, st.lists(st.integers(0, 400)))
def test_any_cut_of_the_stream_gives_the_same(at: Instant, cuts: list[int]) -> None:
    for parser, data in ((Nmea, nmea(at) * 2), (Ubx, nav_pvt(at) * 2)):
        assert fixes(parser(), data, cuts)[-1] == fixes(parser(), data)[-1]


@given(st.binary(max_size=120), instants, st.binary(max_size=120))
def test_a_fix_is_found_in_noise_and_between_other_messages(before: bytes, at: Instant, after: bytes) -> None:
    wanted = shown_of(Ubx, nav_pvt(at))
    data = before + b"\xb5" + ubx(5, 1, b"\6\1") + nmea(at) + nav_pvt(at) + after + ubx(1, 0x35, bytes(400)) + nav_pvt(at)
    assert wanted in fixes(Ubx(), data)
    assert shown_of(Nmea, nmea(at)) in fixes(Nmea(), before + b"\n" + nav_pvt(at) + nmea(at) + after)


def shown_of(parser: Parser, data: bytes) -> tuple:
    return fixes(parser(), data)[-1]


@given(st.binary(max_size=600), st.lists(st.integers(0, 600)))
def test_no_bytes_raise(data: bytes, cuts: list[int]) -> None:
    for parser in (Nmea(), Ubx()):
        fixes(parser, data, cuts)


def mutants(parser: Parser, good: bytes, count: int, seed: int) -> int:
    """Feed a good stream with bytes changed, dropped, doubled; how many fixes came that are not the good one."""
    dice = random.Random(seed)
    wanted = shown_of(parser, good)
    false = 0
    for _ in range(count):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data))
            what = dice.randrange(4)
            if what == 0:
                data[at] ^= 1 << dice.randrange(8)
            elif what == 1:
                data[at] = dice.choice(b"$*,.\r\n\xb5\x62-09AV")
            elif what == 2:
                del data[at]
            else:
                data[at:at] = data[at : at + dice.randint(1, 90)]
        false += any(got != wanted for got in fixes(parser(), bytes(data), [dice.randrange(400) for _ in range(3)]))
    return false


@pytest.mark.parametrize(("parser", "make"), [(Nmea, nmea), (Ubx, nav_pvt)])
def test_damaged_streams_raise_nothing_and_make_no_false_fix(parser: Parser, make) -> None:
    """A checksum of 8 bits lets one wrong sentence of 256 pass where several bytes are wrong; one of UBX has 16."""
    false = mutants(parser, make(Instant(437_700_217, 112_525_000)), 2000, 11)
    assert false <= (20 if parser is Nmea else 0)


@pytest.mark.nightly
@pytest.mark.parametrize(("parser", "make"), [(Nmea, nmea), (Ubx, nav_pvt)])
@pytest.mark.timeout(1800)
def test_damaged_streams_at_length(parser: Parser, make) -> None:
    """That of UBX cannot see two bytes that lose their highest bit an even number of places apart: about one damaged stream in 10,000."""
    false = mutants(parser, make(Instant(437_700_217, 112_525_000)), 200_000, 12)
    print(f"{parser.__name__}: {false} false fixes of 200,000 damaged streams")
    assert false <= (2000 if parser is Nmea else 60)


def test_work_for_a_byte_is_bounded() -> None:
    """The worst stream, all sync characters, makes the search start again with each byte: looks are counted, not time."""

    class Counting(bytearray):
        looks = 0

        def __getitem__(self, at):
            Counting.looks += 1
            return super().__getitem__(at)

    for parser, data in (
        (Ubx(), b"\xb5\x62" * 2000),
        (Ubx(), b"\xb5\x62\1\7\x5c\0" * 700),
        (Nmea(), b"$" * 4000),
        (Nmea(), b"$GPGGA,,,,,,,,,*00\n" * 220),
    ):
        Counting.looks = 0
        for name in ("_frame", "_line"):
            if hasattr(parser, name):
                setattr(parser, name, Counting(getattr(parser, name)))
        parser.feed(data, len(data))
        assert Counting.looks <= len(data) * 110


def test_no_fix_is_told_as_none() -> None:
    assert fixes(Ubx(), nav_pvt(Instant(1, 2), kind=0)) == []
    assert fixes(Ubx(), nav_pvt(Instant(1, 2), flags=0)) == []
    parser = Nmea()
    assert fixes(parser, sentence("GNRMC,123519.00,V,,,,,,,301126,,,N") + sentence("GNGGA,123519.00,,,,,0,00,99.99,,,,,,")) == []
    assert parser.bad == 0
    assert parser.fix.dimensions == 0


def test_a_flat_fix_has_no_altitude() -> None:
    (got,) = fixes(Ubx(), nav_pvt(Instant(1, 2), kind=2))
    assert (got[2], got[7]) == (None, 2)


def test_impossible_places_are_bad() -> None:
    for lat, lon in (("9100.0000", "00000.0000"), ("4560.0000", "00000.0000"), ("45x0.0000", "00000.0000"), ("4500.0000", "18000.0001")):
        parser = Nmea()
        assert (
            fixes(
                parser, sentence(f"GNRMC,123519.00,A,{lat},N,{lon},E,0.0,0.0,301126,,,A") + sentence("GNGGA,123519.00,,,,,0,00,99.99,,,,,,")
            )
            == []
        )
        assert parser.bad == 1


def test_messages_to_the_receiver_are_framed_as_it_wants_them() -> None:
    assert ubx_driver.message(6, 8, (0xE8, 3, 1, 0, 1, 0)) == ubx(6, 8, bytes((0xE8, 3, 1, 0, 1, 0)))
    newer = ubx(6, 0x8A, bytes.fromhex("00010000 01002130 e803 07009120 01"))
    assert ubx_driver.start(1000) == ubx(6, 8, bytes((0xE8, 3, 1, 0, 1, 0))) + ubx(6, 1, bytes((1, 7, 1))) + newer
    with pytest.raises(ValueError, match="50 to 10000"):
        ubx_driver.start(1)


def test_a_receiver_is_read_without_waiting_and_its_silence_told() -> None:
    machine.reset()
    uart = machine.UART(1, 9600, rxbuf=512)
    now_ms = [0]
    gnss = Gnss(uart, Ubx(), lambda: now_ms[0], lambda later, earlier: later - earlier)
    gnss.send(ubx_driver.start(1000))
    assert bytes(uart.written) == ubx_driver.start(1000)
    assert gnss.poll() == 0
    uart.arrive(nav_pvt(Instant(437_700_217, 112_525_000)) * 3)
    assert gnss.poll() == 3
    assert gnss.fix.lat_e7() == 437_700_217
    now_ms[0] = 5000
    gnss.poll()
    gnss.check()
    now_ms[0] = 5001
    gnss.poll()
    with pytest.raises(OSError, match="cross TX and RX"):
        gnss.check()


@pytest.mark.parametrize("module", ["scan", "unpack"])
def test_native_code_is_the_bytecode_under_other_heads(module: str) -> None:
    def bodies(name: str) -> str:
        text = (KIT / "drivers" / name).read_text().replace("@micropython.viper\n", "")
        text = re.sub(r": (int|ptr8|ptr16|ptr32)\b", "", text).replace(") -> int:", "):")
        return text[text.index("def ") :]

    assert bodies(f"{module}_viper.py") == bodies(f"{module}_plain.py")
