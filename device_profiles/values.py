"""The types of tables and of what comes out of them. They stand here because the engine's own file must run where there is no `typing`."""

from __future__ import annotations

Value = int | float | str | bytes | list[int | float | None]
Gate = tuple[str, tuple[int, ...], bool]
Row = tuple[str, int, int, bool, int, int, int, int, int, tuple[int, ...] | None, int, int, Gate | None]
