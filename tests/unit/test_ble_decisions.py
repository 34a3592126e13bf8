"""Addresses, judging, faults and silence: the small decisions of the Bluetooth source."""

from __future__ import annotations

import pytest
from bleak.exc import BleakDBusError, BleakDeviceNotFoundError, BleakError, BleakGATTProtocolError

from broker.ids import is_id
from device_profiles.catalogue import catalogue
from device_profiles.samples import Identity
from gateway.ble_address import device_of_address, device_of_serial, is_address, kind_of, lasts
from gateway.ble_control import unwrapped, wrapped
from gateway.ble_faults import Fault, LinkEndedError, Meaning, fault_of
from gateway.ble_judging import Advert, Judge
from gateway.ble_silence import MAX_US, MIN_US, Silence, Step, allowed_us

S = 1_000_000
HEART_RATE = "0000180d-0000-1000-8000-00805f9b34fb"


def advert(name: str = "Strap 1", address: str = "C0:00:00:00:00:01", uuids: tuple[str, ...] = (HEART_RATE,)) -> Advert:
    return Advert(address, "random", "hci0", -60, name, uuids)


@pytest.mark.parametrize(
    ("address", "address_type", "kind", "stays"),
    [
        ("00:00:5E:00:53:01", "public", "public", True),
        ("C0:00:00:00:00:01", "random", "static", True),
        ("FF:00:00:00:00:01", "random", "static", True),
        ("40:00:00:00:00:01", "random", "resolvable", False),
        ("7F:00:00:00:00:01", "random", "resolvable", False),
        ("3F:00:00:00:00:01", "random", "non_resolvable", False),
    ],
)
def test_kind_of_address_says_whether_it_lasts(address, address_type, kind, stays):
    assert (kind_of(address, address_type), lasts(address, address_type, bonded=False)) == (kind, stays)
    assert lasts(address, address_type, bonded=True)
    assert is_address(address)


def test_ids_are_ids_and_the_serial_number_names_a_device_only_where_it_can():
    assert device_of_address("C0:0A:00:00:00:01") == "ble-c00a00000001"
    one = Identity(manufacturer="Maker", model="M1", serial="A-4711")
    named = device_of_serial(one)
    assert named is not None
    assert is_id(named)
    assert named != device_of_serial(Identity(manufacturer="Maker", model="M2", serial="A-4711"))
    for worthless in ("", "0", "0000000000", "123456", "12345678", "   ", "abcdef"):
        assert device_of_serial(Identity(manufacturer="Maker", model="M1", serial=worthless)) is None


def test_device_with_a_known_service_is_wanted_and_a_stranger_is_not():
    judge = Judge(catalogue().all())
    wanted = judge.judge(advert())
    assert (wanted.wanted, wanted.profiles) == (True, ("heart_rate_measurement",))
    stranger = judge.judge(advert(uuids=("0000fe9f-0000-1000-8000-00805f9b34fb",)))
    assert (stranger.wanted, stranger.reason) == (False, "advertises no service that a profile reads")


def test_a_battery_alone_makes_no_sensor():
    battery = "0000180f-0000-1000-8000-00805f9b34fb"
    assert battery not in Judge(catalogue().all()).services
    assert not Judge(catalogue().all()).judge(advert(uuids=(battery,))).wanted


@pytest.mark.parametrize("pattern", ["ble-c00000000001", "C0:00:00:00:00:01", "c0:00:*", "strap ?", "Strap*"])
def test_allow_and_deny_match_id_address_or_name_and_deny_wins(pattern):
    assert Judge(catalogue().all(), allow=[pattern]).judge(advert(uuids=())).wanted
    assert not Judge(catalogue().all(), allow=[pattern]).judge(advert("Other", "C1:00:00:00:00:02")).wanted
    denied = Judge(catalogue().all(), allow=[pattern], deny=[pattern]).judge(advert())
    assert (denied.wanted, "gateway.ble.deny" in denied.reason) == (False, True)


def test_deny_of_an_id_that_came_from_the_serial_number_is_found_too():
    judge = Judge(catalogue().all(), deny=["BLE-AB*"])
    assert judge.denies("ble-abcdef012345")
    assert not judge.denies("ble-012345abcdef")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (BleakGATTProtocolError(0x0E), Meaning.LOST),
        (BleakGATTProtocolError(0x05), Meaning.PAIRING),
        (BleakGATTProtocolError(0x0F), Meaning.PAIRING),
        (BleakGATTProtocolError(0x0A), Meaning.REFUSED),
        (BleakGATTProtocolError(0x80), Meaning.REFUSED),
        (BleakDBusError("org.bluez.Error.InProgress", ["Operation already in progress"]), Meaning.BUSY),
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-abort-by-local"]), Meaning.BUSY),
        (BleakDBusError("org.bluez.Error.NotConnected", ["Not Connected"]), Meaning.LOST),
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), Meaning.ADAPTER),
        (BleakDBusError("org.bluez.Error.NotPermitted", ["Not paired"]), Meaning.PAIRING),
        (BleakDBusError("org.freedesktop.DBus.Error.UnknownObject", ["gone"]), Meaning.GONE),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["gone"]), Meaning.DAEMON),
        (BleakDBusError("org.freedesktop.DBus.Error.NoReply", ["gone"]), Meaning.DAEMON),
        (BleakDBusError("org.bluez.Error.Failed", ["le-connection-unknown"]), Meaning.FAILED),
        (BleakDeviceNotFoundError("C0", "Device with address C0 was not found."), Meaning.GONE),
        (BleakError("failed to discover services, device disconnected"), Meaning.LOST),
        (BleakError("Not connected"), Meaning.LOST),
        (TimeoutError(), Meaning.SLOW),
        (EOFError(), Meaning.DAEMON),
        (BrokenPipeError(), Meaning.DAEMON),
        (ValueError(), Meaning.FAILED),
        (LinkEndedError(Fault(Meaning.ADAPTER, "off")), Meaning.ADAPTER),
    ],
)
def test_error_of_the_stack_has_one_meaning_and_words(error, meaning):
    fault = fault_of(error)
    assert fault.meaning is meaning
    assert fault.text


def test_link_that_answers_but_stays_silent_is_renewed_once_and_then_only_probed_ever_more_seldom():
    silence = Silence(8 * S, 0)
    assert silence.step(8 * S - 1) is Step.WAIT
    assert silence.step(8 * S) is Step.PROBE
    silence.answered(8 * S)
    assert silence.step(15 * S) is Step.WAIT
    assert silence.step(16 * S) is Step.RENEW
    renewed, now, waits = Silence(8 * S, 0, renewed=True), 0, []
    for _ in range(7):
        waits.append(renewed.deadline_us - now)
        now = renewed.deadline_us
        assert renewed.step(now) is Step.PROBE
        renewed.answered(now)
    assert waits == [8 * S, 8 * S, 16 * S, 32 * S, 64 * S, MAX_US, MAX_US]


def test_data_after_a_silence_makes_the_watch_strict_again():
    silence = Silence(8 * S, 0, renewed=True)
    silence.answered(8 * S)
    silence.heard(20 * S)
    assert (silence.probes, silence.renewed, silence.deadline_us) == (0, False, 28 * S)


def test_allowed_silence_follows_the_quickest_profile_within_bounds():
    assert allowed_us((1000, 250)) == MIN_US
    assert allowed_us((1000, 0)) == 8 * S
    assert allowed_us((0,)) == MAX_US
    assert allowed_us(()) == MAX_US
    assert allowed_us((600_000,)) == MAX_US


def test_page_survives_the_wrapping_and_a_wrong_checksum_is_no_page():
    page = bytes((49, 255, 255, 255, 255, 255, 0x90, 0x01))
    message = wrapped(page)
    assert message == bytes.fromhex("a4094f05 31ffffffffff9001 b8".replace(" ", ""))
    assert unwrapped(message) == page
    assert unwrapped(message[:-1] + bytes((message[-1] ^ 1,))) is None
    assert unwrapped(b"") is None
    with pytest.raises(ValueError, match="8 bytes"):
        wrapped(b"123")
