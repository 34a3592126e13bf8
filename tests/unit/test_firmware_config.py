"""What a device keeps: a document that survives a cut at every byte, and the count of starts that failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.boots import LIMIT, Boots
from kit.config import MAX_BYTES, Kept
from kit.reset import DEEP_SLEEP, POWER_ON, WATCHDOG

OLD, NEW = {"node": "watch-7", "n": 1}, {"node": "watch-8", "n": 2, "more": [1, 2, None]}


def test_nothing_kept_is_an_empty_document(tmp_path: Path) -> None:
    assert Kept(str(tmp_path / "config")).load() == {}


def test_the_last_document_counts_whichever_copy_it_is_in(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path / "config"))
    for n in range(5):
        kept.save({"n": n})
        assert Kept(str(tmp_path / "config")).load() == {"n": n}


def test_a_save_without_a_load_before_goes_on_counting(tmp_path: Path) -> None:
    for n in range(4):
        Kept(str(tmp_path / "config")).save({"n": n})
    assert Kept(str(tmp_path / "config")).load() == {"n": 3}


def test_a_save_cut_at_every_byte_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kept = Kept(str(path))
    kept.save(OLD)
    before = {name: (tmp_path / name).read_bytes() for name in ("config.b",)}
    kept.save(NEW)
    whole = (tmp_path / "config.a").read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path / "config.a").write_bytes(whole[:cut])
        assert Kept(str(path)).load() == (NEW if cut == len(whole) else OLD)
    assert (tmp_path / "config.b").read_bytes() == before["config.b"]


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(1, 255))
def test_damage_never_gives_another_document(tmp_path_factory: pytest.TempPathFactory, junk: bytes, at: int, flip: int) -> None:
    folder = tmp_path_factory.mktemp("kept")
    kept = Kept(str(folder / "c"))
    kept.save(OLD)
    raw = bytearray((folder / "c.b").read_bytes())
    raw[at % len(raw)] ^= flip
    (folder / "c.b").write_bytes(bytes(raw))
    (folder / "c.a").write_bytes(junk)
    assert Kept(str(folder / "c")).load() == {}


def test_a_document_that_is_too_long_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path / "config"))
    kept.save(OLD)
    with pytest.raises(ValueError, match="at most 8192"):
        kept.save({"x": "y" * MAX_BYTES})
    assert Kept(str(tmp_path / "config")).load() == OLD


def boots(folder: Path) -> Boots:
    return Boots(Kept(str(folder / "boots")))


def test_starts_that_are_never_good_end_in_safe_mode_and_are_tried_again_now_and_then(tmp_path: Path) -> None:
    modes = [boots(tmp_path).begin(WATCHDOG) for _ in range(LIMIT + 8)]
    assert modes == [False] * LIMIT + [True, True, True, False] * 2


def test_a_good_start_ends_the_count(tmp_path: Path) -> None:
    for _ in range(LIMIT - 1):
        boots(tmp_path).begin(WATCHDOG)
    good = boots(tmp_path)
    good.begin(POWER_ON)
    good.good()
    assert boots(tmp_path).failed == 0
    assert not boots(tmp_path).begin(POWER_ON)


def test_safe_mode_is_not_a_good_start(tmp_path: Path) -> None:
    for _ in range(LIMIT):
        boots(tmp_path).begin(WATCHDOG)
    safe = boots(tmp_path)
    assert safe.begin(WATCHDOG)
    safe.good()
    assert boots(tmp_path).failed == LIMIT + 1


def test_waking_from_deep_sleep_is_no_start(tmp_path: Path) -> None:
    for _ in range(3 * LIMIT):
        assert not boots(tmp_path).begin(DEEP_SLEEP)
    assert not (tmp_path / "boots.a").exists()


def test_wakes_in_which_something_failed_end_in_no_safe_mode(tmp_path: Path) -> None:
    for n in range(3 * LIMIT):
        wake = boots(tmp_path)
        assert not wake.begin(DEEP_SLEEP)
        wake.fault(f"time: OSError {n}")
    assert (boots(tmp_path).failed, boots(tmp_path).last_fault) == (0, f"time: OSError {3 * LIMIT - 1}")


def test_a_fault_is_known_after_the_reset(tmp_path: Path) -> None:
    first = boots(tmp_path)
    first.begin(POWER_ON)
    first.fault("gnss: MemoryError")
    second = boots(tmp_path)
    assert (second.last_fault, second.failed) == ("gnss: MemoryError", 1)
    second.begin(WATCHDOG)
    second.good()
    assert boots(tmp_path).last_fault == ""
