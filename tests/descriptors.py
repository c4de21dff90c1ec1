"""Messages with a value in every field, made from the descriptor: a field that is added later is there too."""

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
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
    kind: Any = field.message_type._concrete_class
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
