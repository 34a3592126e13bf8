"""Constants and branches that a device need not hold: folded in the sources of an image, line for line, and nothing else changes."""

from __future__ import annotations

import ast

import pytest

from paceline.device.board import load_board, load_example, names_in
from paceline.device.folding import folded
from paceline.device.image import all_sources


def fold(source: str, **others: str) -> str:
    given = {"module.py": source.encode()} | {f"{name}.py": text.encode() for name, text in others.items()}
    return folded(given)["module.py"].decode()


def test_private_number_becomes_a_constant() -> None:
    assert fold("_WAIT_MS = 500\n") == "_WAIT_MS = const(500)\n"


def test_public_number_that_nobody_asks_for_becomes_private_where_it_is_read() -> None:
    assert fold("LIMIT = 5\n\ndef f(x, y=LIMIT):\n    return x + LIMIT\n") == (
        "_LIMIT = const(5)\n\ndef f(x, y=_LIMIT):\n    return x + _LIMIT\n"
    )


@pytest.mark.parametrize(
    "other",
    ["from module import LIMIT\n", "import module\nprint(module.LIMIT)\n", "import module\nmodule.LIMIT = 3\n", 'getattr(x, "LIMIT")\n'],
)
def test_number_that_another_module_reaches_for_stays(other: str) -> None:
    assert fold("LIMIT = 5\n", other=other) == "LIMIT = 5\n"


def test_numbers_of_one_line_are_folded_each_for_itself() -> None:
    assert fold("A, _B, C = 1, 2, 3\n", other="import module\nmodule.C\n") == "_A = const(1); _B = const(2); C = 3\n"


def test_number_made_of_earlier_ones_is_reckoned() -> None:
    assert fold("_SLOTS = 4\n_MASK = (1 << _SLOTS) - 1 | -0 * 3\n") == "_SLOTS = const(4)\n_MASK = const(15)\n"


@pytest.mark.parametrize(
    "source",
    [
        "count = 0\n\ndef f():\n    global count\n    count += 1\n",
        "n = 1\n\ndef f(n):\n    return n\n",
        "n = 1\n\ndef f():\n    for n in range(3):\n        pass\n",
        "n = 1\n\ndef f():\n    n = 2\n    return n\n",
        "n = 1\n_n = f()\n",
        'n = 1\nprint(f"{n}")\n',
        "n = 1\nn = 2\n",
        "L = 1 << 252\n",
        "RATE = 0.5\nNAME = 'x'\nON = True\n",
        "PAIR = (\n    1,\n)\n",
        "try:\n    N = 1\nexcept ValueError:\n    pass\n",
    ],
)
def test_what_is_no_constant_of_one_line_stays(source: str) -> None:
    assert fold(source) == source


def test_branch_of_the_other_interpreter_goes_and_lines_keep_their_numbers() -> None:
    source = 'import sys\nif sys.implementation.name == "micropython":\n    import tls\nelse:\n    import ssl\n\n    x = 1\n_Y = 2\n'
    assert fold(source) == "import sys\nif True:\n    import tls\n\n\n\n\n_Y = const(2)\n"


def test_text_beyond_ascii_is_not_shifted() -> None:
    assert fold('N = 7\nsay("é", N)\n') == '_N = const(7)\nsay("é", _N)\n'


@pytest.mark.parametrize("name", names_in("devices"))
def test_an_image_loses_names_and_no_line(name: str) -> None:
    example = load_example(name)
    sources = all_sources(load_board(example.boards[0]), example, (), None, 1)
    lean = folded(sources)
    assert lean.keys() == sources.keys()
    for path, source in lean.items():
        assert source.count(b"\n") == sources[path].count(b"\n"), path
        tree = ast.parse(source, path)
        known = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        before = {node.id for node in ast.walk(ast.parse(sources[path])) if isinstance(node, ast.Name)}
        read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        assert read - before - known <= {"const"}, path
    assert b"get_running_loop" not in lean["kit/stream.py"]
