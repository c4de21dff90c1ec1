"""The fields of a request by their paths, as the tree of a JSON document. Pure.

A path is names with dots between them. `name[]` and `name[0]` is the first item of a list, `name[1]` the second:

    to[]                 {"to": [...]}
    messages[].text      {"messages": [{"text": ...}]}
    messages[1].text     the same in the second item
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

_PART = re.compile(r"([^.\[\]]+)((?:\[[0-9]{0,2}\])*)")


class BadPath(ValueError):
    """A path that is none, or that contradicts another one."""


@attrs.define
class _Branch:
    """An object, whose children have names, or a list, whose children have numbers."""

    children: dict[str | int, Any] = attrs.Factory(dict)


def plant(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Build the document of these fields; raises BadPath. A list must have every item up to its last."""
    root = _Branch()
    for path, value in fields.items():
        steps = list(_steps(path))
        branch = root
        for step in steps[:-1]:
            branch = branch.children.setdefault(step, _Branch())
            if not isinstance(branch, _Branch):
                raise BadPath(f"{path} lies below a field that has a value")
        if steps[-1] in branch.children:
            raise BadPath(f"{path} has the place of another field")
        branch.children[steps[-1]] = value
    document: dict[str, Any] = _grown(root, "")
    return document


def _steps(path: str) -> Iterator[str | int]:
    """Split a path into the names of objects and the numbers of items."""
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise BadPath(f"{path} must be names with dots between them; name[] or name[0] is the first item of a list")
        yield match[1]
        yield from (int(index or 0) for index in re.findall(r"\[([0-9]*)\]", match[2]))


def _grown(node: Any, path: str) -> Any:
    """Turn branches into objects and lists."""
    if not isinstance(node, _Branch):
        return node
    numbers = [step for step in node.children if isinstance(step, int)]
    if not numbers:
        return {name: _grown(child, f"{path}.{name}" if path else str(name)) for name, child in node.children.items()}
    if len(numbers) < len(node.children):
        raise BadPath(f"{path} is a list by one field and an object by another")
    if sorted(numbers) != list(range(len(numbers))):
        raise BadPath(f"{path} is a list that lacks an item: number them from 0")
    return [_grown(node.children[index], f"{path}[{index}]") for index in range(len(numbers))]
