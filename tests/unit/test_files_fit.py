"""FIT as devices write it: damaged, chained, big-endian, compressed, with sentinels; built here byte by byte."""

import struct

import pytest

from device_profiles.errors import FileError
from device_profiles.files import Point, Recording, decode_recording
from device_profiles.files.fit_frames import FitFrames, crc16
from device_profiles.files.fit_reading import read_fit
from device_profiles.files.fit_writing import encode_fit

EPOCH_S = 631_065_600
T = 1_000_000_000  # FIT seconds
TIME = (253, 4, 0x86)
HR = (3, 1, 0x02)


def us(t_s):
    return (t_s + EPOCH_S) * 1_000_000


def definition(number, *fields, local=0, big=False, developer=()):
    order = ">" if big else "<"
    head = struct.pack(order + "BBBHB", 0x40 | (0x20 if developer else 0) | local, 0, int(big), number, len(fields))
    tail = bytes((len(developer),)) + b"".join(bytes(d) for d in developer) if developer else b""
    return head + b"".join(bytes(field) for field in fields) + tail


def data(form, *values, local=0):
    return bytes((local,)) + struct.pack(form, *values)


def fit(*messages, header_crc=None, file_crc=None, data_bytes=None):
    body = b"".join(messages)
    header = struct.pack("<BBHI4s", 14, 0x20, 2132, len(body) if data_bytes is None else data_bytes, b".FIT")
    content = header + struct.pack("<H", crc16(header) if header_crc is None else header_crc) + body
    return content + struct.pack("<H", crc16(content) if file_crc is None else file_crc)


def read(content, **options):
    return decode_recording(content, "ride.fit", **options)


def heart(*rates, start=T):
    return b"".join(data("<IB", start + i, rate) for i, rate in enumerate(rates))


def rates(recording):
    return [(point.t_us, point.hr_bpm) for point in recording.points]


PLAIN = fit(definition(20, TIME, HR), heart(100, 101, 102))
WHOLE = [(us(T), 100.0), (us(T + 1), 101.0), (us(T + 2), 102.0)]


def test_crc_is_that_of_the_fit_protocol():
    assert crc16(b"123456789") == 0xBB3D


def test_plain_records():
    got = read(PLAIN)
    assert rates(got) == WHOLE
    assert (got.damage, dict(got.skipped), got.format, got.source) == (None, {}, "fit", "ride.fit")


def test_twelve_byte_header_and_crcs_of_zero_are_no_damage():
    body = definition(20, TIME, HR) + heart(100, 101, 102)
    short = struct.pack("<BBHI4s", 12, 0x10, 100, len(body), b".FIT") + body
    assert rates(read(short + struct.pack("<H", crc16(short)), strict=True)) == WHOLE
    assert rates(read(fit(body, header_crc=0), strict=True)) == WHOLE
    assert rates(read(fit(body, file_crc=0), strict=True)) == WHOLE


def test_sentinels_are_absent():
    fields = (TIME, (0, 4, 0x85), (1, 4, 0x85), (2, 2, 0x84), (3, 1, 0x02), (4, 1, 0x02), (5, 4, 0x86), (6, 2, 0x84), (7, 2, 0x84))
    values = (0x7FFFFFFF, 0x7FFFFFFF, 0xFFFF, 0xFF, 0xFF, 0xFFFFFFFF, 0xFFFF, 0xFFFF)
    got = read(fit(definition(20, *fields), data("<IiiHBBIHH", T, *values)))
    assert list(got.points) == [Point(us(T))]
    assert not got.skipped


def test_enhanced_values_win_and_cadence_has_its_fraction():
    fields = (TIME, (73, 4, 0x86), (6, 2, 0x84), (2, 2, 0x84), (78, 4, 0x86), (4, 1, 0x02), (53, 1, 0x02))
    got = read(
        fit(
            definition(20, *fields),
            data("<IIHHIBB", T, 70_123, 0xFFFF, 3000, 10_001, 90, 64),
            data("<IIHHIBB", T + 1, 0xFFFFFFFF, 5_000, 3000, 0xFFFFFFFF, 90, 0xFF),
        )
    )
    first, second = got.points
    assert (first.speed_mps, first.altitude_m, first.cadence_rpm) == (70.123, pytest.approx(1500.2), 90.5)
    assert (second.speed_mps, second.altitude_m, second.cadence_rpm) == (5.0, 100.0, 90.0)


def test_big_endian_twin_is_equal():
    got = read(fit(definition(20, TIME, HR, (7, 2, 0x84), big=True), data(">IBH", T, 100, 513)))
    assert list(got.points) == [Point(us(T), hr_bpm=100.0, power_w=513.0)]


def test_compressed_timestamps_roll_over_from_the_last_time_of_any_message():
    at = T - T % 32 + 30
    content = fit(
        definition(20, TIME, HR, local=0),
        definition(20, HR, local=1),
        definition(21, TIME, (0, 1, 0), local=2),
        data("<IB", at, 100),
        bytes((0x80 | 1 << 5 | 31, 101)),
        bytes((0x80 | 1 << 5 | 1, 102)),
        data("<IB", at + 40, 0, local=2),
        bytes((0x80 | 1 << 5 | (at + 45) % 32, 103)),
    )
    assert rates(read(content)) == [(us(at), 100.0), (us(at + 1), 101.0), (us(at + 3), 102.0), (us(at + 45), 103.0)]


def test_chained_parts_are_one_recording():
    got = read(PLAIN + fit(definition(20, TIME, HR), heart(110, start=T + 10)))
    assert rates(got) == [*WHOLE, (us(T + 10), 110.0)]
    assert got.damage is None


def test_an_empty_part_before_another_is_passed_over():
    assert rates(read(fit() + PLAIN, strict=True)) == WHOLE


def test_a_file_of_countless_tiny_messages_is_refused():
    content = fit(definition(20), b"\0" * 1001)
    with pytest.raises(FileError, match=r"ride\.fit: more than 1000 messages"):
        read_fit(content, "ride.fit", max_messages=1000)
    with pytest.raises(FileError, match="none of its 1001 points"):
        read_fit(content, "ride.fit", max_messages=1001)


def test_bytes_after_the_file_are_counted():
    got = read(PLAIN + b"trailing rubbish")
    assert rates(got) == WHOLE
    assert got.skipped == {"trailing_bytes": 16}


def test_developer_fields_are_passed_over_even_without_description():
    record = definition(20, TIME, HR, developer=((0, 2, 0), (1, 0, 0)))
    got = read(fit(record, data("<IBH", T, 100, 999), data("<IBH", T + 1, 101, 999), data("<IBH", T + 2, 102, 999)))
    assert rates(got) == WHOLE


def test_fields_of_impossible_or_zero_size_are_absent_and_counted():
    got = read(fit(definition(20, TIME, (5, 1, 0x86), (7, 0, 0x84), HR), data("<IBB", T, 7, 100)))
    assert list(got.points) == [Point(us(T), hr_bpm=100.0)]
    assert got.skipped == {"field_of_impossible_size": 2}


def test_wrong_crc_is_damage_but_what_can_be_read_is_kept():
    for content in (PLAIN[:-1] + bytes((PLAIN[-1] ^ 1,)), fit(definition(20, TIME, HR), heart(100, 101, 102), header_crc=1)):
        got = read(content)
        assert rates(got) == WHOLE
        assert got.damage is not None
        assert "CRC" in got.damage
        with pytest.raises(FileError, match=r"ride\.fit: the file is damaged.*CRC"):
            read(content, strict=True)


def test_cut_at_every_byte_gives_the_points_before_the_cut_or_a_clear_refusal():
    content = fit(definition(20, TIME, HR), heart(*range(100, 120)))
    whole = rates(read(content))
    first_point_ends = 14 + 12 + 6
    for length in range(first_point_ends):
        with pytest.raises(FileError) as caught:
            read(content[:length])
        assert caught.value.cure
    for length in range(first_point_ends, len(content)):
        got = read(content[:length])
        assert rates(got) == whole[: (length - 14 - 12) // 6]
        assert got.damage == f"cut off: {length} bytes of {len(content)}"


def test_header_of_a_device_that_died_is_read_to_the_end():
    content = fit(definition(20, TIME, HR), heart(100, 101, 102), data_bytes=0)[:-2]
    got = read(content)
    assert rates(got) == WHOLE
    assert got.damage is not None
    assert "did not finish" in got.damage


def test_message_of_an_undefined_type_ends_the_reading():
    got = read(fit(definition(20, TIME, HR), heart(100, 101, 102), data("<IB", T + 9, 9, local=5)))
    assert rates(got) == WHOLE
    assert got.damage is not None
    assert "never defined" in got.damage


def test_in_a_damaged_file_a_time_of_another_year_is_left_out():
    got = read(fit(definition(20, TIME, HR), heart(100, 101, 102), heart(9, start=T + 2**27), file_crc=1))
    assert rates(got) == WHOLE
    assert got.skipped == {"time_far_off_in_damaged_file": 1}


def test_times_since_power_on_are_no_times():
    with pytest.raises(FileError, match="no times: none of its 3 points"):
        read(fit(definition(20, TIME, HR), heart(100, 101, 102, start=5)))
    mixed = read(fit(definition(20, TIME, HR), heart(99, start=5), heart(100, 101, 102)))
    assert rates(mixed) == WHOLE
    assert mixed.skipped == {"point_without_time": 1, "time_since_power_on": 1}


def test_beats_follow_their_own_clock_and_start_again_after_a_gap():
    record, hrv = definition(20, TIME, HR), definition(78, (0, 6, 0x84), local=1)
    got = read(
        fit(
            hrv, data("<HHH", 800, 0xFFFF, 0xFFFF, local=1),
            record, heart(100), data("<HHH", 600, 620, 0xFFFF, local=1),
            heart(101, start=T + 1), data("<HHH", 610, 0, 0xFFFF, local=1),
            heart(102, start=T + 60), data("<HHH", 700, 0xFFFF, 0xFFFF, local=1),
        )
    )  # fmt: skip
    assert [(b.t_us - us(T), b.rr_ms) for b in got.beats] == [(0, 600), (620_000, 620), (1_230_000, 610), (60_000_000, 700)]
    assert got.skipped == {"beat_without_time_or_interval": 2}


def test_file_id_sport_and_laps_are_read():
    content = fit(
        definition(0, (0, 1, 0), (1, 2, 0x84), (2, 2, 0x84), local=1),
        data("<BHH", 4, 1, 2697, local=1),
        definition(12, (0, 1, 0), local=2),
        data("<B", 1, local=2),
        definition(19, TIME, (2, 4, 0x86), local=3),
        data("<II", T + 2, T, local=3),
        definition(20, TIME, HR),
        heart(100, 101, 102),
    )
    got = read(content)
    assert (got.sport, got.device, got.lap_starts_us) == ("running", "garmin fenix5", (us(T),))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (fit(), "no points at all .a FIT file with no messages"),
        (fit(definition(0, (0, 1, 0)), data("<B", 2)), "no points at all .a FIT file of type settings with 1 file_id"),
        (fit(definition(101, TIME), data("<I", T), data("<I", T + 20)), "no points at all .a FIT file with 2 length"),
        (fit(definition(20, HR), data("<B", 99)), "no times: none of its 1 points"),
        (fit(definition(20, TIME, HR), heart(1))[:20], "damaged: cut off: 20 bytes of 34, and no point stands before"),
        (bytes((14,)) + bytes(7) + b".FIT", "damaged: no FIT header|damaged: cut off"),
        (bytes((3,)) + PLAIN[1:], "damaged: no FIT header"),
    ],
)
def test_files_without_points_are_refused_naming_what_they_hold(content, found):
    with pytest.raises(FileError, match=found) as caught:
        read(content)
    assert caught.value.path == "ride.fit"
    assert caught.value.cure


def test_framing_forgets_nothing_and_invents_nothing():
    content = encode_fit(Recording([Point(us(T + i), power_w=float(i)) for i in range(5)]))
    assert [m.definition.global_number for m in FitFrames(content)] == [0, 21, 20, 20, 20, 20, 20, 21, 19, 18, 34]


def test_a_long_file_is_read_without_keeping_its_messages():
    """100 bytes a point, where fitparse's own list takes several thousand."""
    import tracemalloc

    content = fit(definition(20, TIME, HR), heart(*([120] * 4_000)))
    read(PLAIN)
    tracemalloc.start()
    got = read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(got.points) == 4_000
    assert peak < 4_000 * 450
