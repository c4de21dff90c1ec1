"""Bounds the size of answers. Pure.

gRPC clients refuse an answer of more than 4 MiB unless they are told otherwise, and then a caller cannot read its own
messages.
"""

from collections.abc import Sequence

from sms.gateway.v1 import message_pb2 as pb

MAX_ANSWER_BYTES = 3 * 1024 * 1024
_FRAME_BYTES = 8
"""What surrounds one message of a list: its tag and length."""


def shortened(status: pb.MessageStatus) -> pb.MessageStatus:
    """Return the status without its oldest attempts if it would be too large with them."""
    size = status.ByteSize()
    if size <= MAX_ANSWER_BYTES:
        return status
    dropped = 0
    for attempt in status.attempts:
        if size <= MAX_ANSWER_BYTES:
            break
        size -= attempt.ByteSize()
        dropped += 1
    shorter = pb.MessageStatus()
    shorter.CopyFrom(status)
    del shorter.attempts[:dropped]
    return shorter


def page_of(found: Sequence[pb.MessageStatus], size: int) -> list[pb.MessageStatus]:
    """Return the first of `found`: up to `size`, and as many as fit into an answer, but at least one."""
    page: list[pb.MessageStatus] = []
    room = MAX_ANSWER_BYTES
    for status in map(shortened, found[:size]):
        room -= status.ByteSize() + _FRAME_BYTES
        if page and room < 0:
            break
        page.append(status)
    return page
