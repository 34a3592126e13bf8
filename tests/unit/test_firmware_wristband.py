"""A wristband whose sensors start anew by themselves: what they would say is unknown until they are made again, never what they said last."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fakes import machine
from fakes.sensors.max30102 import Max30102Model
from fakes.sensors.mpu6050 import Mpu6050Model

from paceline.device.board import board_module, load_board, load_example

PATIENCE_S = 60


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    board, keys = ModuleType("board"), ModuleType("update_keys")
    exec(board_module(load_board("sim"), load_example("wristband"), 1), board.__dict__)
    keys.__dict__["KEYS"] = ()
    for module in (board, keys):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "devices.wristband", raising=False)
    machine.reset()
    yield importlib.import_module("devices.wristband")
    sys.modules.pop("devices.wristband", None)
    machine.reset()


@pytest.mark.parametrize("kind", ["light", "motion"])
async def test_sensor_that_started_anew_ends_its_task_and_its_values_are_unknown(application: Any, kind: str) -> None:
    model = machine.wire_i2c(0, Max30102Model() if kind == "light" else Mpu6050Model())
    device = SimpleNamespace(app=SimpleNamespace(beat=lambda _name: None))
    wrist = application.Wrist()
    watch = application.watch_light if kind == "light" else application.watch_motion
    watching = asyncio.create_task(watch(device, machine.I2C(0), wrist))

    def known() -> bool:
        return wrist.lit if kind == "light" else wrist.felt

    async with asyncio.timeout(PATIENCE_S):
        while not known():
            if kind == "light":
                model.push(200_000, 200_000)
            await asyncio.sleep(0.01)
        model._reset()  # a brown-out
        with pytest.raises(OSError, match="lost its settings"):
            await watching
    assert not known()
