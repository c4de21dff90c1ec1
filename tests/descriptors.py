"""Messages with a value in every field, and with another value in one, made from the descriptor.

A field that is added later is there too.
"""

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

_T = TypeVar("_T", bound=Message)

_FIRST_S = 1_700_000_000


def filled(kind: type[_T], depth: int = 3) -> _T:
    """Make a message in which every field is set and no two fields of one type are alike."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        _fill(message, field, depth)
    return message


def _fill(message: Message, field: Any, depth: int) -> None:
    name, number = field.name, field.number
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name)[f"key{number}"] = f"value{number}"
    elif field.message_type is not None and field.is_repeated:
        if depth:
            getattr(message, name).add().CopyFrom(_nested(field, number, depth))
    elif field.message_type is not None:
        if depth:
            getattr(message, name).CopyFrom(_nested(field, number, depth))
    elif field.is_repeated:
        getattr(message, name).append(_scalar(field, number))
    else:
        setattr(message, name, _scalar(field, number))


def _nested(field: Any, number: int, depth: int) -> Message:
    kind: Any = GetMessageClass(field.message_type)
    if kind.DESCRIPTOR.full_name in {"google.protobuf.Timestamp", "google.protobuf.Duration"}:
        stamp: Message = kind(seconds=_FIRST_S + number if kind is Timestamp else 100 + number, nanos=number * 1000)
        return stamp
    nested: Message = filled(kind, depth - 1)
    return nested


def _scalar(field: Any, number: int) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return bytes([number]) * 4 if field.type == FieldDescriptor.TYPE_BYTES else f"{field.name}-{number}"
        case FieldDescriptor.CPPTYPE_BOOL:
            return True
        case FieldDescriptor.CPPTYPE_ENUM:
            return field.enum_type.values[-1].number
        case _:
            return number


def fields_of(kind: type[Message]) -> list[str]:
    """Name every field of a message."""
    return [field.name for field in kind.DESCRIPTOR.fields]


def changed(message: _T, name: str) -> _T:
    """Copy a filled message with another value in this one field."""
    copy = type(message)()
    copy.CopyFrom(message)
    _change(copy, copy.DESCRIPTOR.fields_by_name[name])
    return copy


def _change(message: Message, field: Any) -> None:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key in list(value):
            value[key] = _another(field.message_type.fields_by_name["value"], value[key])
    elif field.message_type is not None:
        for nested in value if field.is_repeated else [value]:
            for inner, _ in nested.ListFields():
                _change(nested, inner)
    elif field.is_repeated:
        value[:] = [_another(field, one) for one in value]
    else:
        setattr(message, field.name, _another(field, value))


def _another(field: Any, value: Any) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            other = value.swapcase()
            return other if other != value else value + value[:1]
        case FieldDescriptor.CPPTYPE_BOOL:
            return not value
        case FieldDescriptor.CPPTYPE_ENUM:
            return next(one.number for one in field.enum_type.values[1:] if one.number != value)
        case _:
            return value + 1000


def differing(before: Message, after: Message) -> set[str]:
    """Name the fields in which two messages of one type differ."""
    one, other = ({field.name: value for field, value in message.ListFields()} for message in (before, after))
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
