"""What goes from packet to packet: split records, rates, counters, toggles, repeated pages, and what is never stored."""

from __future__ import annotations

import pytest

from device_profiles.catalogue import Catalogue, build, catalogue
from device_profiles.marks import read_marked
from device_profiles.reader import Reader
from device_profiles.samples import Identity, Sample

S = 1_000_000
HEAD = 'profiles:\n  - name: it\n    ble: {service: "1826", characteristic: "2ACD", period_ms: 1000}\n'


def small(body: str, quirks: str | None = None) -> Catalogue:
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return build([read_marked("it.yaml", HEAD + lines)], None if quirks is None else read_marked("quirks.yaml", quirks))


def reader(body: str) -> Reader:
    return Reader(small(body).all()[0])


def of(name: str, **settings: float) -> Reader:
    profile = catalogue().named(name)
    assert profile is not None
    return Reader(profile, settings=settings)


def feed(it: Reader, packet: str, t_us: int) -> list[dict[str, float]]:
    return [dict(sample.values) for sample in it.feed(bytes.fromhex(packet), t_us)]


def csc(revs: int, ticks: int) -> str:
    return "02" + (revs % 65536).to_bytes(2, "little").hex() + (ticks % 65536).to_bytes(2, "little").hex()


class TestRates:
    def test_one_packet_is_no_rate(self) -> None:
        assert feed(of("csc_measurement"), csc(10, 0), S) == []

    def test_count_and_clock_may_roll_over(self) -> None:
        it = of("csc_measurement")
        feed(it, csc(65535, 65024), S)
        assert feed(it, csc(65537, 66048), 2 * S) == [{"cadence_rpm": 120.0}]

    def test_a_rate_holds_and_then_is_zero(self) -> None:
        it = of("csc_measurement")
        feed(it, csc(0, 0), 0)
        feed(it, csc(2, 1024), S)
        assert feed(it, csc(2, 1024), 2 * S) == [{"cadence_rpm": 120.0}]
        assert feed(it, csc(2, 1024), 4 * S) == [{"cadence_rpm": 0.0}]
        assert feed(it, csc(3, 4096), 5 * S) == [{"cadence_rpm": 20.0}]

    def test_a_gap_the_clock_cannot_span_starts_again(self) -> None:
        it = of("csc_measurement")
        feed(it, csc(0, 0), 0)
        assert feed(it, csc(50, 1024), 70 * S) == []
        assert feed(it, csc(51, 2048), 71 * S) == [{"cadence_rpm": 60.0}]

    def test_a_sensor_that_restarted_gives_no_rate_once(self) -> None:
        it = of("csc_measurement")
        feed(it, csc(5000, 1024), 0)
        assert feed(it, csc(1, 2048), S) == []
        assert feed(it, csc(2, 3072), 2 * S) == [{"cadence_rpm": 60.0}]

    def test_a_rate_nobody_reaches_is_counted_and_not_stored(self) -> None:
        it = of("csc_measurement")
        feed(it, csc(0, 0), 0)
        assert feed(it, csc(100, 1024), S) == []
        assert it.bad == {"implausible": 1}
        assert it.fields["cadence_rpm"] == 6000.0

    def test_the_wheel_of_the_device_counts(self) -> None:
        it = of("csc_measurement", wheel_m=2.0)
        feed(it, "01000000000000", 0)
        assert feed(it, "01030000000004", S) == [{"speed_mps": 6.0}]

    def test_power_comes_from_torque_and_period(self) -> None:
        it = reader(
            "fields: [{name: torque_nm, type: u16, div: 32}, {name: period_s, type: u16, div: 2048}]\n"
            "derive: [{name: power_w, kind: power_from_torque, count: torque_nm, time: period_s}]\n"
            "samples: {layout: motion.1, map: {power_w: power_w}}"
        )
        feed(it, "00000000", 0)
        assert feed(it, "40010008", S) == [{"power_w": pytest.approx(62.8318530718)}]


class TestCounters:
    BODY = (
        "fields: [{name: n, type: u8, bits: [0, 7]}, {name: lap, type: u8}]\n"
        "derive: [{name: total, kind: accumulate, field: n, max_gap_s: 10}, {name: laps, kind: toggles, field: lap}]\n"
        "samples: {layout: machine.1, map: {strokes: total}}"
    )

    def test_a_counter_grows_over_its_end_from_its_first_value(self) -> None:
        it = reader(self.BODY)
        totals = [feed(it, f"{n:02x}00", i * S)[0]["strokes"] for i, n in enumerate([100, 127, 0, 100, 4])]
        assert totals == [100, 127, 128, 228, 260]

    def test_what_a_long_gap_hid_is_not_counted(self) -> None:
        it = reader(self.BODY)
        feed(it, "0a00", 0)
        assert feed(it, "1400", 11 * S) == [{"strokes": 10}]
        assert feed(it, "1500", 12 * S) == [{"strokes": 11}]

    def test_toggles_count_changes(self) -> None:
        it = reader(self.BODY)
        laps = []
        for i, lap in enumerate([1, 1, 0, 0, 1]):
            feed(it, f"00{lap:02x}", i * S)
            laps.append(it.fields["laps"])
        assert laps == [0, 0, 1, 1, 2]


class TestSplitRecords:
    def test_a_record_is_whole_when_its_last_part_came(self) -> None:
        it = of("indoor_bike_data")
        assert feed(it, "41009600", 0) == []
        assert feed(it, "0000c409", 50_000) == [{"kind": 6, "speed_mps": pytest.approx(6.9444444), "power_w": 150}]
        assert it.bad == {}

    def test_a_record_without_its_end_is_taken_when_the_next_begins(self) -> None:
        it = of("indoor_bike_data")
        feed(it, "41009600", 0)
        samples = it.feed(bytes.fromhex("41009700"), 400_000)
        assert [(one.age_us, dict(one.values)) for one in samples] == [(400_000, {"kind": 6, "power_w": 150})]
        assert it.bad == {"unfinished": 1}

    def test_a_late_packet_is_no_end_of_an_old_record(self) -> None:
        it = of("indoor_bike_data")
        feed(it, "41009600", 0)
        samples = it.feed(bytes.fromhex("0000c409"), 2 * S)
        assert [set(one.values) for one in samples] == [{"kind", "power_w"}, {"kind", "speed_mps"}]


class TestHeartRate:
    def test_every_interval_is_a_sample_with_its_age(self) -> None:
        samples = of("heart_rate_measurement").feed(bytes.fromhex("103c000400020004"), S)
        assert samples == [
            Sample("beats.1", 1_500_000, {"hr_bpm": 60, "rr_ms": 1000.0}),
            Sample("beats.1", 1_000_000, {"hr_bpm": 60, "rr_ms": 500.0}),
            Sample("beats.1", 0, {"hr_bpm": 60, "rr_ms": 1000.0}),
        ]

    def test_an_absurd_interval_is_left_out_and_still_makes_others_older(self) -> None:
        it = of("heart_rate_measurement")
        samples = it.feed(bytes.fromhex("103c000400280004"), S)
        assert [one.age_us for one in samples] == [11_000_000, 0]
        assert it.bad == {"implausible": 1}

    def test_without_contact_there_is_no_heart_rate(self) -> None:
        it = of("heart_rate_measurement")
        assert feed(it, "0400", 0) == []
        assert feed(it, "0450", 0) == []
        assert "hr_bpm" not in it.fields

    def test_short_packets_are_counted(self) -> None:
        it = of("heart_rate_measurement")
        assert feed(it, "", 0) == feed(it, "01", 0) == feed(it, "0150", 0) == []
        assert feed(it, "183c00", 0) == [{"hr_bpm": 60}]
        assert it.bad == {"short": 4}

    def test_ant_repeats_count_once_and_a_missed_beat_gives_no_interval(self) -> None:
        it = of("heart_rate")
        assert feed(it, "00ffffff0000013c", 0) == [{"hr_bpm": 60}]
        assert feed(it, "00ffffff0000013c", S // 4) == []
        assert feed(it, "00ffffff0004023c", S) == [{"hr_bpm": 60, "rr_ms": 1000.0}]
        assert feed(it, "00ffffff000c043c", 3 * S) == [{"hr_bpm": 60}]

    def test_ant_pages_are_believed_after_the_toggle_changed(self) -> None:
        it = of("heart_rate")
        assert feed(it, "0763000000000100", 0) == []
        assert "battery_pct" not in it.fields
        assert feed(it, "8763000000000100", 0) == [{"battery_pct": 99}]


class TestRules:
    def test_what_is_kept_makes_no_sample_alone(self) -> None:
        it = of("fitness_equipment")
        feed(it, "1019fd259d270035", 0)
        assert feed(it, "50ffff0101000100", S) == []
        assert it.fields["equipment_type"] == 25

    def test_a_repeated_trainer_page_counts_once(self) -> None:
        it = of("fitness_equipment")
        first = feed(it, "19055af401fa2030", 0)
        assert first == [{"cadence_rpm": 90, "power_w": 250}]
        assert feed(it, "19055af401fa2030", S // 4) == []
        assert feed(it, "19065af401fa2030", S // 2) == first

    def test_the_first_source_that_is_there_counts(self) -> None:
        it = reader(
            'flags: u8\nfields: [{name: c, type: u8, if: "!0"}, {name: f, type: u8, if: "0"}]\n'
            "samples: {layout: body.1, map: {t: [c, {field: f, mul: 5, div: 9, add: -17.77777777777778}]}}"
        )
        assert feed(it, "0025", 0) == [{"t": 37}]
        assert feed(it, "0162", 0) == [{"t": pytest.approx(36.6667, abs=1e-4)}]

    def test_what_a_name_says_once_holds_wherever_it_stands(self) -> None:
        it = reader(
            "page: {byte: 0}\npages: {1: [{name: x, type: u8, plausible: [0, 9], enum: {3: three}}], 2: [{name: x, type: u8}]}\n"
            "samples: {layout: motion.1, map: {power_w: x}}"
        )
        assert (feed(it, "0209", 0), feed(it, "020a", 0)) == ([{"power_w": 9}], [])
        assert it.profile.fields["x"].enum == {3: "three"}

    def test_text_is_no_sample(self) -> None:
        it = reader("fields: [{name: x, type: utf8}]\nsamples: {layout: motion.1, map: {power_w: x}}")
        assert feed(it, "313233", 0) == []

    def test_a_quirk_changes_the_profile_of_that_device_only(self) -> None:
        quirks = "quirks:\n  - {profile: it, match: {name: 'Bad*', firmware: '1.?'}, about: half, patch: {fields.x.div: 2}}\n"
        profile = small("fields: [{name: x, type: u8}]\nsamples: {layout: motion.1, map: {power_w: x}}", quirks).all()[0]
        packet = bytes([9])
        assert Reader(profile, Identity(name="BADGER", firmware="1.3")).feed(packet, 0)[0].values == {"power_w": 4.5}
        assert Reader(profile, Identity(name="badger", firmware="2.0")).feed(packet, 0)[0].values == {"power_w": 9}
        assert Reader(profile, Identity()).feed(packet, 0)[0].values == {"power_w": 9}

    def test_one_profile_stands_inside_another(self) -> None:
        inner = "profiles:\n  - name: page\n    ant: {type: 5, period: 8192}\n    page: {byte: 0}\n    pages: {1: [{name: x, at: 1, type: u16}, {name: y, type: u8}]}\n    samples: {layout: motion.1, map: {power_w: x}}\n"
        outer = '  - name: wrapped\n    ble: {characteristic: "2ACD"}\n    use: {profile: page, offset: 4}\n'
        profile = build([read_marked("it.yaml", inner + outer)]).named("wrapped")
        assert profile is not None
        it = Reader(profile)
        assert feed(it, "a4094e05012c010900", 0) == [{"power_w": 300}]
        assert it.fields == {"x": 300, "y": 9}
        assert (profile.source, profile.layout) == ("ble", "motion.1")
