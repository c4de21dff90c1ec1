"""Records of every kind with random contents, for property tests of their readers."""

import random
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_T = TypeVar("_T", bound=Message)
_TEXTS = ["", "a", "Привет", "\0", "x" * 300, "\U0001f600", "0190a1b2-c3d4-7123-8abc-0123456789ab"]


def fill(record: _T, chance: random.Random, depth: int = 3) -> _T:
    """Set about two thirds of the fields, nested ones too; enums also get numbers that only a newer version knows."""
    for field in record.DESCRIPTOR.fields:
        if chance.random() < 1 / 3:
            continue
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            getattr(record, field.name).update({chance.choice(_TEXTS): chance.choice(_TEXTS) for _ in range(2)})
        elif field.is_repeated:
            values = getattr(record, field.name)
            for _ in range(chance.randint(1, 3)):
                if kind is None:
                    values.append(_value(field, chance))
                else:
                    fill(values.add(), chance, depth - 1)
        elif kind is None:
            setattr(record, field.name, _value(field, chance))
        elif _is_time(kind):
            stamp = getattr(record, field.name)
            stamp.seconds, stamp.nanos = chance.randint(0, 253402300799), chance.randrange(10**9)
        elif depth > 0:
            fill(getattr(record, field.name), chance, depth - 1)
            getattr(record, field.name).SetInParent()
    return record


def _is_time(kind: Any) -> bool:
    return bool(kind.full_name == "google.protobuf.Timestamp")


def _value(field: Any, chance: random.Random) -> object:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return chance.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.randint(0, 20))
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_ENUM:
            return chance.choice([*(value.number for value in field.enum_type.values), 99])
        case FieldDescriptor.TYPE_UINT32:
            return chance.choice([1, 7, 2**32 - 1])
        case FieldDescriptor.TYPE_UINT64:
            return chance.choice([1, 7, 2**64 - 1])
        case FieldDescriptor.TYPE_INT32:
            return chance.choice([-1, 7, 2**31 - 1])
        case FieldDescriptor.TYPE_INT64:
            return chance.choice([-1, 7, 2**63 - 1])
        case _:
            return 1.5
