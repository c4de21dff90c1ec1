"""XML in answers: a document, and a value at a path. Pure."""

from typing import Any
from xml.parsers import expat

import attrs

_MOST_DEPTH = 64


class _Refused(Exception):
    """A document that is not read: it declares entities, or is nested too deeply."""


@attrs.define
class Element:
    """One element. Names are without their namespace; `text` is that of the element itself."""

    attributes: dict[str, str]
    children: dict[str, list["Element"]] = attrs.Factory(dict)
    text: str = ""


def read_xml(body: bytes | str) -> Element | None:
    """Read a document, whose root is the only child of what is returned; None when it cannot be read.

    A document type is refused: with it, a few bytes can declare gigabytes.
    """
    stack = [Element({})]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _MOST_DEPTH:
            raise _Refused
        element = Element({_local(key): value for key, value in attributes.items()})
        stack[-1].children.setdefault(_local(name), []).append(element)
        stack.append(element)

    def end(_: str) -> None:
        stack.pop()

    def data(text: str) -> None:
        stack[-1].text += text

    def refuse(*_: Any) -> None:
        raise _Refused

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _Refused, ValueError, LookupError):
        return None
    return stack[0]


def xml_text_at(document: Element, path: str) -> str:
    """Return the text at a dotted path (`response.message.0.id`, `response.message.@id`); empty when there is none.

    A name is the first element of that name; a number behind it counts them from 0.
    """
    found, node = [document], document
    for step in path.split("."):
        if step.startswith("@"):
            return node.attributes.get(step[1:], "")
        if step.isdecimal() and step not in node.children:
            number = int(step[:4])
            if number >= len(found):
                return ""
            node = found[number]
            found = [node]
            continue
        found = node.children.get(step, [])
        if not found:
            return ""
        node = found[0]
    return node.text.strip() if path else ""


def _local(name: str) -> str:
    return name.rpartition(":")[2]
