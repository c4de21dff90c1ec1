"""Decodes the requests of unary calls, after their size was looked at.

grpc would decode them itself, and answer what cannot be decoded with UNKNOWN and a traceback in the log.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from messaging.errors import InvalidRequest, RequestTooLarge

Decode = Callable[[bytes], Any]


def decoder(deserialize: Decode | None, longest: int) -> Decode:
    """Return what decodes the requests of one method, of at most `longest` bytes; it raises InvalidRequest."""
    if deserialize is None:
        return _undecoded
    kind = getattr(getattr(deserialize, "__self__", None), "__name__", "message of this method")

    def decode(raw: bytes) -> Any:
        if len(raw) > longest:
            cure = "shorten it, or send many messages with BatchSend"
            raise RequestTooLarge("request", len(raw), longest, cure)
        try:
            return deserialize(raw)
        except DecodeError as exc:
            raise InvalidRequest([("request", f"cannot be parsed: it is not a {kind}")]) from exc

    return decode


def forget_frames(error: BaseException) -> None:
    """Take the tracebacks from an error that was dealt with.

    grpc keeps the exception that ends a call together with the call, in a cycle, and cycles are collected rarely. The
    frames in a traceback hold the request: a thousand refused requests would keep their bytes. So the outermost frame
    also lets go of its request.
    """
    chain: BaseException | None = error
    while chain is not None and chain.__traceback__ is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__


def _undecoded(raw: bytes) -> bytes:
    return raw
