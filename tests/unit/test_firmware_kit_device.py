"""A device of the kit on a board that is not there: what it takes of its configuration."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import machine
from fakes.esp32 import Chip, Esp32
from fakes.flash import Nor
from fakes.network import Air, Network
from kit.boots import GOOD_ALONE_MS, LIMIT
from kit.config import Kept
from kit.device import Device, Port
from kit.layouts import motion_1

SET_UP = {"node": "band", "tenant": "gym", "host": "127.0.0.1", "port": 1883, "password": "x", "tls": False, "athlete": "ann"}


def device_in(folder: Path) -> Any:
    """A device that was set up, and starts."""
    Kept(str(folder / "config")).save(SET_UP)
    esp32 = Esp32(Chip(Nor(3, 4096), [(1, 0x40, 0, 3, "ring")]))
    board = SimpleNamespace(PINS={"led": 2}, HARDWARE="sim")
    return Device(board, Port(machine, Network(Air({})), esp32, folder=str(folder)), sink=None)


def configured(device: Any, **document: Any) -> None:
    device._on_config(document)
    assert device.node.state["cfg_error"] == ""
    assert device.node.state["cfg_version"] == document["version"]


@pytest.mark.parametrize(("policy", "keeps_newest"), [("drop_oldest", True), ("reject_new", False), (None, False)])
def test_full_policy_of_the_configuration_is_applied(tmp_path: Path, policy: str | None, keeps_newest: bool) -> None:
    device = device_in(tmp_path)
    configured(device, version=1, full_policy=policy)
    rows = [bytes((i,)) * 1000 for i in range(20)]  # of which 3 sectors hold 12 at most
    for row in rows:
        device.node.append(row)
    ring = device.node.ring
    assert (ring.dropped > 0) == keeps_newest
    assert (device.node.outbox.lost > 0) == (not keeps_newest)
    assert ring.dropped + device.node.outbox.lost + ring.owed == len(rows)


def test_without_a_policy_again_new_rows_are_rejected_again(tmp_path: Path) -> None:
    device = device_in(tmp_path)
    configured(device, version=1, full_policy="drop_oldest")
    assert device.node.ring.drop_oldest
    configured(device, version=2)
    assert not device.node.ring.drop_oldest


def test_configuration_counts_for_the_frames_that_follow(tmp_path: Path) -> None:
    device = device_in(tmp_path)
    session = device.session()
    session.start(motion_1, device.clock.monotonic_us())
    configured(device, version=1, frame_ms=1000, bindings=[{"device": "band", "athlete": "ben"}])
    assert session.frame_ms == 1000
    assert device.subject_of("band") == "gym/ben"
    assert device.subject_of("other") == "gym/ann"


@pytest.mark.parametrize(("minutes", "safe"), [(9, True), (10, False)])
async def test_starts_out_of_reach_of_the_platform_do_not_end_in_safe_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, safe: bool
) -> None:
    for _ in range(LIMIT):
        device = device_in(tmp_path)
        assert not device.boots.safe
        monkeypatch.setattr(device.clock, "monotonic_us", lambda: minutes * 60_000_000)
        telling = asyncio.create_task(device._tell_health())
        await asyncio.sleep(0.01)
        telling.cancel()
    assert (minutes * 60_000 < GOOD_ALONE_MS) == safe
    assert device_in(tmp_path).boots.safe == safe


def test_bindings_are_right_from_the_first_frame_of_a_start_without_a_link(tmp_path: Path) -> None:
    configured(device_in(tmp_path), version=4, frame_ms=500, full_policy="drop_oldest", bindings=[{"device": "band", "athlete": "ben"}])
    device = device_in(tmp_path)
    assert device.subject_of("band") == "gym/ben"
    assert device.session().frame_ms == 500
    assert device.node.ring.drop_oldest
    assert device.node.state["cfg_version"] == 4
    device._on_config({"version": 4, "bindings": []})  # the same again, as it is retained
    assert device.subject_of("band") == "gym/ben"


def test_configuration_that_cannot_be_kept_runs_and_is_said(tmp_path: Path) -> None:
    device = device_in(tmp_path)
    device._memory._kept._paths = (str(tmp_path / "none" / "a"), str(tmp_path / "none" / "b"))
    configured(device, version=1, bindings=[{"device": "band", "athlete": "ben"}])
    assert device.subject_of("band") == "gym/ben"
    assert any("not kept" in line for line in device.log.lines)


def test_configuration_that_is_too_long_or_no_object_is_refused_where_the_platform_sees_it(tmp_path: Path) -> None:
    device = device_in(tmp_path)
    for payload, why in ((None, "longer than this device receives"), (b"[]", "no JSON object"), (b"{", "no JSON object")):
        device.node.state["cfg_error"] = ""
        device.node._on_message(b"pl/1/gym/band/cfg", payload)
        assert why in device.node.state["cfg_error"]
    configured(device, version=1)
