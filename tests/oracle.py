"""protovalidate as the oracle: an implementation of the proto's rules that is not ours."""

from collections.abc import Callable
from typing import Any

import protovalidate
from google.protobuf.message import Message

from messaging.errors import InvalidRequest

_COUNTS = frozenset({"repeated.max_items", "map.max_pairs"})
_VALIDATOR = protovalidate.Validator()


def broken_rules(message: Message) -> list[tuple[str, str]]:
    """Give every rule of the proto that a message breaks: the field's path as we spell it, and the rule's.

    A rule is spelled as its path in the proto: `map.keys.string.pattern`, `cel(schedule_time.near)`; two bounds are one
    rule, `duration.gte_lte`, as they are to protovalidate.
    """
    violations = [violation.proto for violation in _VALIDATOR.collect_violations(message)]
    found = [(_field(violation), _rule(violation)) for violation in violations]
    # The contents of what has too many elements are not looked at.
    too_many = {field for field, rule in found if rule in _COUNTS}
    return [one for one in found if one[1] in _COUNTS or one[0].partition("[")[0] not in too_many]


def refused_fields(judge: Callable[[], object]) -> list[str]:
    """Give the path of the field of every fault for which we refuse; nothing when we do not."""
    try:
        judge()
    except InvalidRequest as refused:
        return [field for field, _ in refused.violations]
    return []


def _field(violation: Any) -> str:
    path = ""
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript is not None and element.subscript.field == "index":  # a path never echoes a key
            path += f"[{element.subscript.value}]"
    return path


# The rules of oneofs and messages have no path, only an id, which is an expression's own where it is none of these.
_BY_ID = {"required": "required", "message.oneof": "oneof"}


def _rule(violation: Any) -> str:
    if not violation.rule:
        return _BY_ID.get(violation.rule_id, f"cel({violation.rule_id})")
    *outer, last = [element.field_name for element in violation.rule.elements]
    cel = last in {"cel", "cel_expression"}
    # The id says more than the path where one rule in the proto gives several (`uuid_empty`, `gte_lte`).
    name = f"cel({violation.rule_id})" if cel else violation.rule_id.rpartition(".")[2]
    return ".".join([*outer, name])
