"""Writes docs/api.md from the comments of the protos and the table of errors: `python tools/reference.py [FILE]`.

Needs `buf` on the PATH. tools/check_proto.sh compares what stands in the repository with what this would write.
"""

import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

from gateway_grpc import errors as mapping
from messaging import errors

TARGET = pathlib.Path("docs/api.md")
PACKAGE = "sms.gateway.v1"
_SERVICE, _MESSAGE, _ENUM, _MEMBER = 6, 4, 5, 2
"""Numbers of fields in descriptor.proto, by which source locations name what they belong to."""

_HEAD = f"""# API reference

Made by `make proto` from the comments in `proto/`; do not edit. Package `{PACKAGE}`. What every field may hold stands
in the protos as protovalidate's rules, so that a client in any language can judge as the gateway does.
"""

_ERRORS = """## Errors

Every error carries `google.rpc.ErrorInfo` with the domain `sms.gateway` and one of these reasons.

| reason | code | when | comes with |
| --- | --- | --- | --- |
| `INTERNAL` | `INTERNAL` | The gateway failed, by no fault of the caller; the operator's log knows more. | |"""

_OTHERS = (errors.SetupError,)
"""Branches of the tree that no caller ever meets."""

Path = tuple[int, ...]


class Comments:
    """The comments of one file, by the path of what they stand before."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._found = {
            tuple(one.path): one.leading_comments for one in file.source_code_info.location if one.leading_comments
        }

    def text(self, path: Path) -> str:
        """Give a comment as one line of Markdown."""
        lines = self._found.get(path, "").strip().splitlines()
        return re.sub(r"\s+", " ", " ".join(line.strip() for line in lines)).replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """Write the reference."""
    target = pathlib.Path(arguments[0]) if arguments else TARGET
    command = [shutil.which("buf") or "buf", "build", "proto", "--as-file-descriptor-set", "-o", "-#format=binpb"]
    image = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603
    files = [one for one in FileDescriptorSet.FromString(image).file if one.package == PACKAGE]
    target.write_text("\n".join(_pages(files)) + "\n", encoding="utf-8")


def _pages(files: Sequence[FileDescriptorProto]) -> Iterator[str]:
    yield _HEAD
    told = [(file, Comments(file)) for file in files]
    for file, comments in told:
        for n, service in enumerate(file.service):
            yield from _service(service, (_SERVICE, n), comments)
    yield from _errors()
    yield from _all("Messages", told, lambda file: file.message_type, _MESSAGE, _message)
    yield from _all("Enumerations", told, lambda file: file.enum_type, _ENUM, _enum)


def _all(
    title: str,
    told: Sequence[tuple[FileDescriptorProto, Comments]],
    members: Callable[[FileDescriptorProto], Sequence[object]],
    number: int,
    write: Callable[..., Iterator[str]],
) -> Iterator[str]:
    yield f"## {title}\n"
    for file, comments in told:
        for n, one in enumerate(members(file)):
            yield from write(one, (number, n), comments)


def _service(service: ServiceDescriptorProto, path: Path, comments: Comments) -> Iterator[str]:
    yield f"## {service.name}\n\n{comments.text(path)}\n"
    yield "| call | request | response | what it does |\n| --- | --- | --- | --- |"
    for n, method in enumerate(service.method):
        request = _linked(method.input_type, stream=method.client_streaming)
        response = _linked(method.output_type, stream=method.server_streaming)
        yield f"| `{method.name}` | {request} | {response} | {comments.text((*path, _MEMBER, n))} |"
    yield ""


def _message(message: DescriptorProto, path: Path, comments: Comments) -> Iterator[str]:
    yield f"### {message.name}\n\n{comments.text(path)}\n"
    if not message.field:
        return
    yield "| field | type | meaning |\n| --- | --- | --- |"
    maps = {f".{PACKAGE}.{message.name}.{one.name}": one for one in message.nested_type if one.options.map_entry}
    for n, field in enumerate(message.field):
        yield f"| `{field.name}` | {_type(field, maps)} | {comments.text((*path, _MEMBER, n))} |"
    yield ""


def _enum(enum: EnumDescriptorProto, path: Path, comments: Comments) -> Iterator[str]:
    yield f"### {enum.name}\n\n{comments.text(path)}\n\n| value | number | meaning |\n| --- | ---: | --- |"
    for n, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {comments.text((*path, _MEMBER, n))} |"
    yield ""


def _errors() -> Iterator[str]:
    yield _ERRORS
    for kind in _leaves(errors.GatewayError):
        if issubclass(kind, _OTHERS):
            continue
        code = next(mapping.CODES[one] for one in kind.__mro__ if one in mapping.CODES).name
        when = " ".join((kind.__doc__ or "").split())
        details = ["`BadRequest`"] * issubclass(kind, errors.InvalidRequest)
        details += ["`RetryInfo`"] * issubclass(kind, errors.BacklogFull | errors.Unavailable)
        details += ["`QuotaFailure`"] * issubclass(kind, errors.BacklogFull)
        yield f"| `{kind.reason}` | `{code}` | {when} | {', '.join(details)} |"
    yield ""


def _leaves(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    """Give what can be raised below a class of the tree, in the order in which it is written."""
    # A class without a reason of its own is for ourselves: callers hear its parent's.
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__ and "reason" in vars(one)]
    if not below:
        yield kind
    for one in below:
        yield from _leaves(one)


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    if field.type_name in maps:
        key, value = maps[field.type_name].field
        return f"map of {_type(key, maps)} to {_type(value, maps)}"
    name = _linked(field.type_name) if field.type_name else f"`{field.Type.Name(field.type)[5:].lower()}`"
    return f"list of {name}" if field.label == field.LABEL_REPEATED else name


def _linked(type_name: str, *, stream: bool = False) -> str:
    name = type_name.rpartition(".")[2]
    text = f"[{name}](#{name.lower()})" if type_name.startswith(f".{PACKAGE}.") else f"`{type_name.lstrip('.')}`"
    return f"stream of {text}" if stream else text


if __name__ == "__main__":
    main(sys.argv[1:])
