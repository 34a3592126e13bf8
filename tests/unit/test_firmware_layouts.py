"""The checked-in layout modules of the kit are those of `broker/layouts.yaml`."""

from __future__ import annotations

from broker.layouts import all_layouts, micropython_module
from tests.firmware import KIT


def test_every_layout_has_its_module_and_nothing_else_is_there() -> None:
    """After a new layout: write `micropython_module(layout)` into `firmware/micropython/kit/layouts/`."""
    folder = KIT / "kit" / "layouts"
    wanted = {f"{layout.name.replace('.', '_')}.py": micropython_module(layout) for layout in all_layouts().values()}
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py", *wanted}
    assert {name: (folder / name).read_text() for name in wanted} == wanted
