"""A signed image into a device: what is refused and why, a power cut at every operation of the flash, an image that hangs, versions that only grow."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fakes.esp32 import Chip, Esp32
from fakes.flash import Nor, PowerCut
from hypothesis import given
from hypothesis import strategies as st
from kit import manifest as manifests
from kit.firmware_slots import FirmwareSlots
from kit.slots import NONE, TRIES, Slots
from kit.start import start
from kit.update import Download

from paceline.device.romfs import romfs

SIGNER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
KEYS = [Ed25519PrivateKey.from_private_bytes(b"o" * 32).public_key().public_bytes_raw(), SIGNER.public_key().public_bytes_raw()]
HARDWARE = b"esp32-strap"
NOW_S = 1_800_000_000
SECTOR = 512


def image_of(version: int, size: int = 3 * SECTOR - 100) -> bytes:
    return random.Random(version).randbytes(size)


def signed(
    version: int = 5,
    *,
    minimum: int = 0,
    hardware: bytes = HARDWARE,
    expires_s: int = NOW_S + 60,
    image: bytes | None = None,
    signer: Ed25519PrivateKey = SIGNER,
    context: bytes = manifests.CONTEXT,
) -> bytes:
    image = image_of(version) if image is None else image
    body = manifests.unsigned(
        manifests.APPLICATION, version, minimum, len(image), expires_s, hardware.ljust(32, b"\0"), hashlib.sha256(image).digest()
    )
    return body + signer.sign(context + body)


def judge(raw: bytes, *, running: int = 4, failed: int = 0, room: int = 4096, now_s: int | None = NOW_S) -> str:
    manifest, why = manifests.judge(raw, KEYS, HARDWARE, running, failed, {manifests.APPLICATION: room}, now_s)
    assert (manifest is None) == bool(why)
    return why


@pytest.mark.parametrize(
    ("raw", "how", "why"),
    [
        (signed(), {}, ""),
        (signed(minimum=4), {}, ""),
        (b"", {}, "bad_manifest"),
        (signed()[:-1], {}, "bad_manifest"),
        (signed() + b"\0", {}, "bad_manifest"),
        (b"PLU2" + signed()[4:], {}, "bad_manifest"),
        (signed(image=b""), {}, "bad_manifest"),
        (signed(hardware=b"a\0b"), {}, "bad_manifest"),
        (signed(minimum=6), {}, "bad_manifest"),
        (signed()[:-1] + b"\0", {}, "bad_signature"),
        (signed(signer=Ed25519PrivateKey.generate()), {}, "bad_signature"),
        (signed(context=b""), {}, "bad_signature"),
        (signed(hardware=b"esp32-bike"), {}, "other_hardware"),
        (signed(), {"now_s": None}, "no_clock"),
        (signed(expires_s=NOW_S), {}, "expired"),
        (signed(), {"running": 5}, "older"),
        (signed(), {"running": 9}, "older"),
        (signed(minimum=5), {}, "below_minimum"),
        (signed(), {"failed": 5}, "failed_here"),
        (signed(), {"room": 1000}, "too_large"),
    ],
)
def test_manifest_is_taken_or_refused_by_a_word(raw: bytes, how: dict[str, int], why: str) -> None:
    assert judge(raw, **how) == why
    assert not why or why in manifests.REASONS


@given(st.integers(0, 91), st.integers(1, 255))
def test_every_byte_of_a_manifest_is_signed(at: int, change: int) -> None:
    raw = bytearray(signed())
    raw[at] ^= change
    assert judge(bytes(raw)) in ("bad_manifest", "bad_signature")


@given(st.one_of(st.binary(max_size=200), st.binary(min_size=152, max_size=152).map(lambda tail: b"PLU1" + tail)))
def test_no_bytes_are_taken_that_nobody_signed(raw: bytes) -> None:
    assert judge(raw) in ("bad_manifest", "bad_signature")


PARTS = ((1, 0x40, 0, 3, "boot"), (1, 0x41, 3, 8, "app_a"), (1, 0x41, 11, 8, "app_b"), (0, 16, 19, 1, "ota_0"), (0, 17, 20, 1, "ota_1"))


class Device:
    """A device with a record of slots and two slots of eight sectors."""

    def __init__(self, seed: int = 1) -> None:
        self.nor = Nor(21, SECTOR, seed=seed)
        self.chip = Chip(self.nor, PARTS)
        self.esp32 = Esp32(self.chip)
        self.flash, *self.slots = (self.esp32.Partition(name) for name in ("boot", "app_a", "app_b"))

    def start(self) -> tuple[Slots, int | None]:
        slots = Slots(self.flash)
        return slots, slots.choose()

    def content(self, slot: int | None, size: int) -> bytes:
        assert slot is not None
        return bytes(self.nor.image[(3 + 8 * slot) * SECTOR :][:size])

    def update(self, version: int, piece: int = 200) -> bool:
        """Download and put on trial whatever is missing. Raises PowerCut where the power is cut."""
        slots, _ = self.start()
        return self.fetch(slots, version, piece)

    def fetch(self, slots: Slots, version: int, piece: int = 200) -> bool:
        image = image_of(version)
        manifest, why = manifests.judge(
            signed(version), KEYS, HARDWARE, slots.version, slots.failed_version, {manifests.APPLICATION: 8 * SECTOR}, NOW_S
        )
        assert not why
        download = Download(slots, self.slots[slots.spare()], manifest)
        while download.offset < len(image):
            download.take(image[download.offset : download.offset + piece])
        return download.finish()

    def installed(self, version: int) -> Device:
        assert self.update(version)
        slots, chosen = self.start()
        assert chosen is not None
        assert slots.confirm()
        return self


def test_new_device_starts_its_base_image() -> None:
    assert Device().start()[1] is None


def test_image_is_started_on_trial_and_stays_once_confirmed() -> None:
    device = Device()
    assert device.update(5)
    slots, chosen = device.start()
    assert chosen == 0
    assert device.content(chosen, len(image_of(5))) == image_of(5)
    assert slots.confirm()
    assert not slots.confirm()
    for _ in range(5):
        slots, chosen = device.start()
        assert (chosen, slots.version, slots.trial) == (0, 5, NONE)


def test_image_that_hangs_has_its_tries_and_then_the_old_one_starts_for_good() -> None:
    device = Device().installed(5)
    assert device.update(6)
    for _ in range(TRIES):
        assert device.start()[1] == 1
    for _ in range(4):
        slots, chosen = device.start()
        assert (chosen, slots.version, slots.failed_version) == (0, 5, 6)
    assert manifests.judge(signed(6), KEYS, HARDWARE, 5, slots.failed_version, {1: 4096}, NOW_S)[1] == "failed_here"
    assert device.content(0, len(image_of(5))) == image_of(5)
    assert device.update(7)
    assert device.start()[1] == 1


def test_first_image_that_hangs_leaves_the_base_image() -> None:
    device = Device()
    assert device.update(5)
    assert [device.start()[1] for _ in range(TRIES + 2)] == [0] * TRIES + [None, None]


def test_image_that_gives_itself_up_is_not_tried_again() -> None:
    device = Device().installed(5)
    assert device.update(6)
    slots, chosen = device.start()
    assert chosen == 1
    slots.give_up()
    assert device.start()[1] == 0


def mounted_by(device: Device) -> int | None:
    """What a start mounts; images of `image_of` are no ROMFS, those of `romfs` are."""
    before, modules = list(sys.path), dict(sys.modules)
    try:
        return start(device.flash, dict(enumerate(device.slots)), lambda _, root: None, "")[1]
    finally:
        sys.path[:] = before
        sys.modules.update(modules)


@pytest.mark.parametrize("proved", [False, True])
def test_signed_image_that_cannot_be_mounted_is_never_confirmed_by_what_runs_in_its_place(
    proved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.start.os.listdir", lambda root: ["application.mpy"])
    device = Device()
    if proved:
        device.installed(5)
        whole = romfs({"application.mpy": b"five"})
        device.nor.image[3 * SECTOR : 3 * SECTOR + len(whole)] = whole
    assert device.update(6)
    assert mounted_by(device) == (0 if proved else None)
    slots = Slots(device.flash)
    assert not slots.confirm()  # nothing is on trial: the first bundle confirms nothing
    assert (slots.version, slots.failed_version) == (5 if proved else 0, 6)


def test_nothing_is_downloaded_over_an_image_on_trial() -> None:
    device = Device().installed(5)
    assert device.update(6)
    slots, chosen = device.start()
    assert chosen == 1
    with pytest.raises(ValueError, match="on trial"):
        device.fetch(slots, 7)


def test_truncated_and_changed_images_are_never_on_trial() -> None:
    device = Device().installed(5)
    slots, _ = device.start()
    image = bytearray(image_of(6))
    manifest = manifests.read(signed(6))
    download = Download(slots, device.slots[1], manifest)
    download.take(image[:-1])
    assert not download.finish()
    assert slots.trial == NONE
    download.take(b"?")
    assert download.offset == len(image)
    assert not download.finish()
    assert slots.trial == NONE
    assert download.offset == 0
    download.take(image + b"more than the image has")
    assert download.finish()


def test_download_goes_on_where_it_stopped() -> None:
    device = Device().installed(5)
    slots, _ = device.start()
    download = Download(slots, device.slots[1], manifests.read(signed(6)))
    download.take(image_of(6)[: 2 * SECTOR + 7])
    again = Download(device.start()[0], device.slots[1], manifests.read(signed(6)))
    assert again.offset == 2 * SECTOR
    other = Download(device.start()[0], device.slots[1], manifests.read(signed(7)))
    assert other.offset == 0


def test_image_with_more_blocks_than_are_counted_is_refused() -> None:
    device = Device()
    raw = manifests.unsigned(1, 5, 0, SECTOR * SECTOR, NOW_S + 1, HARDWARE.ljust(32, b"\0"), bytes(32))
    manifest = manifests.read(raw + bytes(64))
    with pytest.raises(ValueError, match="progress sector"):
        Download(device.start()[0], device.slots[0], manifest)


def test_block_that_does_not_keep_its_bytes_is_an_error() -> None:
    device = Device()
    download = Download(device.start()[0], device.slots[0], manifests.read(signed(6)))
    device.nor.image[3 * SECTOR + 77] = 0
    device.nor._erase = lambda block: None  # worn out
    with pytest.raises(OSError, match="block 0"):
        download.take(image_of(6)[:SECTOR])


@pytest.mark.parametrize("seed", range(3))
def test_power_cut_at_every_write_of_an_update_leaves_the_old_image_or_the_whole_new_one(seed: int) -> None:
    device = Device().installed(5)
    before = device.nor.operations
    device.update(6)
    device.start()[0].confirm()
    total = device.nor.operations - before
    assert total > 12
    for cut in range(1, total + 1):
        device = Device(seed=1000 * seed + cut).installed(5)
        device.nor.cut_at = cut
        with pytest.raises(PowerCut):
            device.update(6)
            device.start()[0].confirm()
        device.nor.power_up()
        slots, chosen = device.start()
        assert chosen is not None
        version = slots.trial_version if slots.trial == chosen else slots.version
        assert version in (5, 6)
        assert device.content(chosen, len(image_of(version))) == image_of(version), f"cut {cut}"
        if version == 5:  # it finishes where it stopped
            assert slots.failed_version == 0
            if slots.trial == NONE:
                assert device.fetch(slots, 6)
            slots, chosen = device.start()
        slots.confirm()
        slots, chosen = device.start()
        assert (chosen, slots.version) == (1, 6), f"cut {cut}"


@pytest.mark.parametrize("seed", range(3))
def test_power_cut_at_every_write_of_a_roll_back_ends_in_the_old_image(seed: int) -> None:
    for cut in range(1, 3 * (TRIES + 1)):
        device = Device(seed=1000 * seed + cut).installed(5)
        device.update(6)
        device.nor.cut_at = cut
        for _ in range(TRIES + 2):
            try:
                device.start()
            except PowerCut:
                device.nor.power_up()
        device.nor.power_up()
        for _ in range(TRIES):
            slots, chosen = device.start()
        assert (chosen, slots.version, slots.failed_version) == (0, 5, 6), f"cut {cut}"


@given(st.lists(st.sampled_from(["good", "hangs", "cut"]), max_size=8), st.randoms(use_true_random=False))
def test_whatever_happens_the_version_never_falls_and_what_starts_is_whole(steps: list[str], dice: random.Random) -> None:
    device, highest, version = Device().installed(1), 1, 1
    for step in steps:
        version += 1
        if step == "cut":
            device.nor.cut_at = dice.randrange(1, 12)
        with contextlib.suppress(PowerCut):
            device.update(version)
        device.nor.power_up()
        slots, chosen = device.start()
        runs = slots.trial_version if slots.trial == chosen else slots.version
        assert device.content(chosen, len(image_of(runs))) == image_of(runs)
        assert runs >= highest
        if step == "hangs":
            for _ in range(TRIES):
                slots, chosen = device.start()
            assert slots.version == highest
        elif slots.confirm():
            highest = runs


def firmware_started(device: Device) -> FirmwareSlots:
    device.chip.reset()
    slots = FirmwareSlots(device.flash, 0, device.esp32.Partition)
    assert slots.choose() == int(device.chip.running[-1])
    return slots


def test_firmware_partition_is_confirmed_or_noted_as_failed() -> None:
    device = Device()
    slots = firmware_started(device)
    slots.try_next(7)
    slots = firmware_started(device)
    assert device.chip.running == "ota_1"
    assert slots.confirm()
    assert firmware_started(device).version == 7
    assert device.chip.running == "ota_1"
    firmware_started(device).try_next(8)
    firmware_started(device)  # hangs
    slots = firmware_started(device)
    assert (device.chip.running, slots.version, slots.failed_version) == ("ota_1", 7, 8)


def test_power_cut_while_the_bootloader_is_told_fails_no_version() -> None:
    for cut in range(1, 5):
        device = Device(seed=cut)
        slots = firmware_started(device)
        device.nor.cut_at = cut
        with pytest.raises(PowerCut):
            slots.try_next(7)
        device.nor.power_up()
        slots = firmware_started(device)
        assert slots.failed_version == 0
        if device.chip.running == "ota_1":
            slots.confirm()
            assert firmware_started(device).active == 1
