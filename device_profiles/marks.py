"""YAML text -> data, and for any place in it the line where it stands, so that a refusal can name it.

Refused: text that is no YAML, and a key that stands twice in one mapping (YAML would silently take the last).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from device_profiles.errors import BadProfileError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Marked:
    """What a YAML document holds. Lines count from 1."""

    file: str
    data: Any
    root: yaml.Node | None

    def line(self, place: Iterable[str | int]) -> int:
        """The line of a place, given as keys and indexes; the nearest enclosing line if the last of them does not exist."""
        node, line = self.root, 1
        for part in place:
            found = _child(node, part)
            if found is None:
                continue
            line, node = found
        return line


def read_marked(file: str, text: str) -> Marked:
    """Parse one document. BadProfileError names the line."""
    loader = _LOADER(text)
    try:
        root: yaml.Node | None = loader.get_single_node()
        _refuse_doubles(file, root, (), set())
        data = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise BadProfileError(file, 0 if mark is None else mark.line + 1, "", str(error.problem), "mend the YAML there") from error
    except yaml.YAMLError as error:
        raise BadProfileError(file, 1, "", str(error).splitlines()[0], "save the file as plain UTF-8 text") from error
    except (RecursionError, ValueError) as error:  # a hundred levels deep, or a date that is none
        raise BadProfileError(file, 1, "", f"cannot be read: {error}", "write it plainly") from error
    finally:
        loader.dispose()
    return Marked(file, data, root)


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value = node.value[part]
        return value.start_mark.line + 1, value
    return None


def _refuse_doubles(file: str, node: yaml.Node | None, place: tuple[str, ...], seen: set[int]) -> None:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in names:
                raise BadProfileError(
                    file, key.start_mark.line + 1, ".".join((*place, name)), "stands twice in one mapping", "keep one of them"
                )
            names.add(name)
            _refuse_doubles(file, value, (*place, name), seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _refuse_doubles(file, value, (*place, str(i)), seen)
