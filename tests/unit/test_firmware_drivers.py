"""Drivers against sensors by their registers: every sample arrives, lost ones are told, other chips and silent buses are named with the cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware import on_path
from tests.motion_made import pulse

with on_path():
    from drivers.battery import Battery
    from drivers.bmi270 import Bmi270
    from drivers.hall import Hall
    from drivers.max30102 import DEPTH, FULL_SCALE, Max30102
    from drivers.mpu6050 import Mpu6050
    from dsp.ppg import Ppg
    from fakes import machine
    from fakes.machine import ADC, I2C, Pin
    from fakes.sensors.bmi270 import Bmi270Model
    from fakes.sensors.max30102 import Max30102Model
    from fakes.sensors.mpu6050 import Mpu6050Model

CONFIG = bytes(range(256)) * 32  # 8,192 bytes, as the chip's own
Sample = tuple[int, int, int]
triples = st.lists(st.tuples(*[st.integers(-32_768, 32_767)] * 3), max_size=120)


@pytest.fixture(scope="module")
def short_config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("bosch") / "short.bin"
    path.write_bytes(b"ab")
    return str(path)


def sleep_ms(ms: int) -> None:
    """The models are ready at once."""


@pytest.fixture(autouse=True)
def _board() -> None:
    machine.reset()


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "bmi270.bin"
    path.write_bytes(CONFIG)
    return str(path)


def started(kind: str, config: str, int_pin=None):
    machine.reset()
    if kind == "mpu6050":
        model = machine.wire_i2c(0, Mpu6050Model(int_pin))
        return Mpu6050(I2C(0), sleep_ms, int_pin=int_pin), model
    model = machine.wire_i2c(0, Bmi270Model(CONFIG, int_pin))
    return Bmi270(I2C(0), sleep_ms, config, int_pin=int_pin), model


def read_all(driver) -> list[Sample]:
    made: list[Sample] = []
    while True:
        count = driver.read()
        there = driver.acceleration
        made += [(there.x[i], there.y[i], there.z[i]) for i in range(count)]
        if count < 32:
            return made


# MAX30102


def light_sensor(int_pin=None, **how) -> tuple[Max30102, Max30102Model]:
    model = machine.wire_i2c(0, Max30102Model(int_pin))
    return Max30102(I2C(0), sleep_ms, int_pin=int_pin, **how), model


@given(st.lists(st.integers(0, 40), max_size=30))
def test_every_sample_of_light_arrives_once_or_is_told_as_lost(pushes: list[int]) -> None:
    machine.reset()
    sensor, model = light_sensor()
    sent = got = lost = 0
    for count in pushes:
        for _ in range(count):
            model.push(200_000 + sent, 100_000 + sent)
            sent += 1
        read = sensor.read()
        lost += sensor.lost
        for i in range(read):
            assert sensor.infrared[i] == 100_000 + got + lost
            assert sensor.red[i] == 200_000 + got + lost
            got += 1
    assert got + lost == sent
    if max(pushes, default=0) <= DEPTH:
        assert lost == 0


def test_a_full_fifo_is_not_taken_for_an_empty_one() -> None:
    sensor, model = light_sensor()
    for i in range(DEPTH):
        model.push(i, i)
    assert sensor.read() == DEPTH
    assert sensor.lost == 0
    assert sensor.read() == 0


def test_the_interrupt_line_says_when_to_read() -> None:
    pin = Pin(4, Pin.IN, Pin.PULL_UP)
    sensor, model = light_sensor(pin)
    assert not sensor.due
    for i in range(16):
        model.push(i, i)
    assert not sensor.due
    model.push(16, 16)
    assert sensor.due
    assert pin.value() == 0
    assert sensor.read() == 17
    assert (sensor.due, pin.value()) == (False, 1)


def test_heart_rate_through_the_sensor_and_its_fifo() -> None:
    sensor, model = light_sensor()
    ppg = Ppg(50)
    for i, light in enumerate(pulse(14, lambda _: 72)):
        model.push(50_000, FULL_SCALE - light)
        if i % 20 == 19:
            for at in range(sensor.read()):
                ppg.add(FULL_SCALE - sensor.infrared[at])
    assert sensor.finger
    assert abs(ppg.hr_dbpm - 720) <= 10


def test_without_a_finger_it_says_so() -> None:
    sensor, model = light_sensor()
    model.push(800, 900)
    sensor.read()
    assert not sensor.finger


def test_sleeping_light_sensor_measures_nothing() -> None:
    sensor, model = light_sensor()
    sensor.sleep()
    model.push(1, 1)
    assert sensor.read() == 0
    sensor.wake()
    model.push(1, 1)
    assert sensor.read() == 1


# Motion


@pytest.mark.parametrize("kind", ["mpu6050", "bmi270"])
def test_every_sample_of_motion_arrives_in_thousandths_of_g(kind: str, config: str) -> None:
    driver, model = started(kind, config)
    sent = [(i * 251 % 65_536 - 32_768, -i, 4096) for i in range(150)]
    for x, y, z in sent:
        model.push(x, y, z)
    got = read_all(driver)
    assert got == [(x * 1000 >> 12, y * 1000 >> 12, 1000) for x, y, z in sent]
    assert not driver.lost
    assert read_all(driver) == []


@pytest.mark.parametrize("kind", ["mpu6050", "bmi270"])
def test_a_fifo_that_ran_over_is_told_and_what_follows_is_whole(kind: str, config: str) -> None:
    driver, model = started(kind, config)
    for i in range(500):
        model.push(i, 0, 4096)
    first = driver.read()
    assert driver.lost
    assert first == 0 or driver.acceleration.z[0] == 1000
    read_all(driver)
    model.push(4096, -4096, 2048)
    assert read_all(driver) == [(1000, -1000, 500)]
    assert not driver.lost


@pytest.mark.parametrize(("kind", "samples"), [("mpu6050", 1), ("bmi270", 16)])
def test_motion_raises_its_line(kind: str, samples: int, config: str) -> None:
    pin = Pin(5, Pin.IN)
    driver, model = started(kind, config, pin)
    for _ in range(samples - 1):
        model.push(0, 0, 4096)
    assert not driver.due
    model.push(0, 0, 4096)
    assert driver.due
    assert len(read_all(driver)) == samples
    assert (driver.due, pin.value()) == (False, 0)


@pytest.mark.parametrize("kind", ["mpu6050", "bmi270"])
def test_motion_sensors_sleep_and_wake(kind: str, config: str) -> None:
    driver, model = started(kind, config)
    driver.sleep()
    model.push(0, 0, 4096)
    driver.wake()
    model.push(0, 0, 2048)
    assert read_all(driver) == [(0, 0, 500)]


def test_a_piece_at_the_end_of_the_configuration_may_be_short(tmp_path: Path) -> None:
    path = tmp_path / "short.bin"
    path.write_bytes(CONFIG[:328])
    machine.wire_i2c(0, Bmi270Model(CONFIG[:328]))
    Bmi270(I2C(0), sleep_ms, str(path))


def test_without_its_configuration_the_chip_is_not_started(tmp_path: Path, config: str) -> None:
    machine.wire_i2c(0, Bmi270Model(CONFIG))
    with pytest.raises(OSError, match=r"BMI270 at 0x68 needs Bosch's configuration: put it at .*none.bin"):
        Bmi270(I2C(0), sleep_ms, str(tmp_path / "none.bin"))
    wrong = tmp_path / "wrong.bin"
    wrong.write_bytes(CONFIG[:-1] + b"?")
    with pytest.raises(OSError, match="is not the chip's configuration"):
        Bmi270(I2C(0), sleep_ms, str(wrong))


# Errors


def makers(config: str) -> list[tuple[str, int, object, object]]:
    """Name, address, driver, and a model with a wrong identity."""
    return [
        ("MAX30102", 0x57, lambda: Max30102(I2C(0), sleep_ms), lambda: Max30102Model(part=0x11)),
        ("MPU-6050", 0x68, lambda: Mpu6050(I2C(0), sleep_ms), lambda: Mpu6050Model(who=0x12)),
        ("BMI270", 0x68, lambda: Bmi270(I2C(0), sleep_ms, config), lambda: Bmi270Model(CONFIG, chip=0xD1)),
    ]


@pytest.mark.parametrize("which", range(3))
def test_a_silent_bus_is_named_with_the_cure(which: int, config: str) -> None:
    name, address, make, _ = makers(config)[which]
    with pytest.raises(OSError, match=f"{name} does not answer at 0x{address:02x}: check SDA, SCL") as caught:
        make()
    assert caught.value.args[0] == machine.ENODEV


@pytest.mark.parametrize("which", range(3))
def test_another_chip_at_the_address_is_named(which: int, config: str) -> None:
    name, address, make, wrong = makers(config)[which]
    machine.wire_i2c(0, wrong())
    with pytest.raises(OSError, match=f"chip at 0x{address:02x} says 0x.., and {name} says"):
        make()


@pytest.mark.parametrize("kind", ["mpu6050", "bmi270"])
def test_two_transfers_without_answer_are_counted_and_the_third_ends_it(kind: str, config: str) -> None:
    driver, model = started(kind, config)
    model.push(0, 0, 4096)
    model.silent = 2
    assert len(read_all(driver)) == 1
    assert driver.nacks == 2
    model.silent = 3
    with pytest.raises(OSError, match="does not answer at 0x68"):
        driver.read()
    assert read_all(driver) == []


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), triples)
def test_transfers_that_fail_now_and_then_lose_no_sample(silences: list[int], samples: list[Sample]) -> None:
    machine.reset()
    model = machine.wire_i2c(0, Mpu6050Model())
    driver = Mpu6050(I2C(0), sleep_ms)
    got: list[Sample] = []
    for i, (x, y, z) in enumerate(samples):
        model.push(x, y, z)
        model.silent = silences[i % len(silences)]
        got += read_all(driver)
    assert got == [(x * 1000 >> 12, y * 1000 >> 12, z * 1000 >> 12) for x, y, z in samples]


def test_settings_that_a_sensor_cannot_do_are_refused(config: str) -> None:
    with pytest.raises(ValueError, match="50 or 100 Hz"):
        Max30102(I2C(0), sleep_ms, rate_hz=60)
    with pytest.raises(ValueError, match="a part of 1000"):
        Mpu6050(I2C(0), sleep_ms, rate_hz=60)
    with pytest.raises(ValueError, match="25, 50, 100 or 200"):
        Bmi270(I2C(0), sleep_ms, config, rate_hz=60)
    with pytest.raises(ValueError, match="divider_x1000"):
        Battery(ADC(34), 10)


@pytest.mark.parametrize("which", range(3))
def test_a_chip_that_started_anew_is_found_out(which: int, config: str) -> None:
    name, address, make, _ = makers(config)[which]
    model = machine.wire_i2c(0, (Max30102Model(), Mpu6050Model(), Bmi270Model(CONFIG))[which])
    driver = make()
    driver.check()
    model._reset()  # a brown-out
    with pytest.raises(OSError, match=f"{name} at 0x{address:02x} lost its settings"):
        driver.check()
    make().check()


@given(pushes=st.lists(st.integers(0, 400), min_size=1, max_size=12), kind=st.sampled_from(["mpu6050", "bmi270"]))
def test_samples_of_motion_stay_in_order_and_gaps_are_told(short_config: str, pushes: list[int], kind: str) -> None:
    machine.reset()
    model = machine.wire_i2c(0, Mpu6050Model() if kind == "mpu6050" else Bmi270Model(b"ab"))
    driver = Mpu6050(I2C(0), sleep_ms) if kind == "mpu6050" else Bmi270(I2C(0), sleep_ms, short_config)
    sent = after = 0
    for count in pushes:
        for _ in range(count):
            model.push(sent * 5, -sent * 5, 4096)
            sent += 1
        told = False
        while True:
            read = driver.read()
            told |= driver.lost
            for i in range(read):
                number = -(-driver.acceleration.x[i] * 4096 // 5000)
                assert driver.acceleration.z[i] == 1000
                assert number == after or (told and number > after)
                after = number + 1
            if driver.lost and kind == "mpu6050":
                after = sent  # it was emptied
            if read < 32:
                break
        assert after == sent


# Hall and battery


def test_a_crank_on_a_pin_is_counted_through_its_bounce() -> None:
    now_us = [0]
    pin = Pin(25, Pin.IN, Pin.PULL_UP)
    crank = Hall(pin, lambda: now_us[0])
    for _ in range(30):
        for level in (0, 1, 0, 1, 0):
            pin.drive(level)
            now_us[0] += 700
        now_us[0] += 100_000
        pin.drive(1)
        now_us[0] += 566_667 - 3_500
    assert crank.rpm.pulses == 30
    assert crank.rpm.bounces == 60
    assert crank.rpm.drpm(now_us[0]) == 900
    crank.stop()
    pin.drive(0)
    assert crank.rpm.pulses == 30


@pytest.mark.parametrize(("millivolts", "percent"), [(4250, 100), (4180, 100), (3800, 50), (3600, 10), (3300, 0), (3000, 0)])
def test_charge_is_read_behind_the_divider(millivolts: int, percent: int) -> None:
    machine.wire_adc(34, millivolts // 2)
    battery = Battery(ADC(34))
    assert battery.read() == millivolts // 2 * 2
    assert battery.percent == percent
    assert battery.low == (millivolts < 3400)


def test_charge_does_not_rise_because_a_load_ended() -> None:
    level = [1900]
    machine.wire_adc(34, lambda: level[0])
    battery = Battery(ADC(34))
    battery.read()
    before = battery.percent
    level[0] = 1910
    battery.read()
    assert battery.percent == before
    level[0] = 2050
    battery.read()
    assert battery.percent > before + 20


def test_a_battery_that_is_not_there_is_told() -> None:
    with pytest.raises(OSError, match="check the divider"):
        Battery(ADC(34)).read()


# The fakes themselves


def test_a_bus_lists_what_answers() -> None:
    machine.wire_i2c(0, Max30102Model())
    model = machine.wire_i2c(0, Mpu6050Model())
    assert I2C(0).scan() == [0x57, 0x68]
    model.awake = False
    assert I2C(0).scan() == [0x57]
    assert I2C(1).scan() == []


def test_a_register_pointer_is_written_and_read_on() -> None:
    machine.wire_i2c(0, Mpu6050Model())
    bus = I2C(0)
    bus.writeto(0x68, b"\x75")
    buf = bytearray(1)
    bus.readfrom_into(0x68, buf)
    assert buf[0] == 0x68
    assert bus.readfrom_mem(0x68, 0x75, 1) == b"\x68"


def test_a_line_that_is_not_read_loses_bytes_as_the_chip_does() -> None:
    uart = machine.UART(2, rxbuf=8)
    uart.arrive(b"0123456789")
    assert (uart.any(), uart.lost) == (8, 2)
    buf = bytearray(5)
    assert uart.readinto(buf) == 5
    assert machine.uart(2) is uart
    assert uart.readinto(bytearray(9)) == 3
    assert uart.readinto(buf) is None
