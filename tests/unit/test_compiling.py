"""Kernels are compiled ahead of everything else; a compiler that fails is an error that names the cure."""

from __future__ import annotations

import sys

import pytest

from broker.errors import PacelineError
from paceline.compiling import compile_kernels


async def test_compiler_that_fails_is_an_error_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(PacelineError, match=r"could not be compiled.*\n.*processors\.warm"):
        await compile_kernels(lambda _: None)


async def test_compiled_kernels_are_loaded_and_nothing_is_wrong() -> None:
    said: list[str] = []
    await compile_kernels(said.append)
    assert len(said) <= 1
