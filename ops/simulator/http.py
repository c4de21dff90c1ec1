"""Parses HTTP/1.1 requests from chunks with arrival times, and encodes replies; does not use sockets."""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 1024 * 1024

REASONS: Mapping[int, str] = MappingProxyType(
    {
        200: "OK",
        400: "Bad Request",
        401: "Unauthorized",
        402: "Payment Required",
        404: "Not Found",
        405: "Method Not Allowed",
        413: "Content Too Large",
        429: "Too Many Requests",
        431: "Request Header Fields Too Large",
        500: "Internal Server Error",
        501: "Not Implemented",
        503: "Service Unavailable",
    }
)

_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])")
_HEADER_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]")
_LENGTH = re.compile(r"[0-9]{1,12}")


class BadRequest(Exception):
    """The bytes are not a request that this server accepts; nothing more can be read from the connection."""

    def __init__(self, status: int, problem: str) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status}: {problem}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case, `at_ns` is when the chunk with its first byte arrived."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at_ns: int
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP response, before it is known whether the connection stays open."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self, *, keep_alive: bool) -> bytes:
        """Encode the reply as bytes for the wire."""
        lines = [
            f"HTTP/1.1 {self.status} {REASONS[self.status]}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
            "\r\n",
        ]
        return "\r\n".join(lines).encode("latin-1") + self.body


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    keep_alive: bool
    length: int
    at_ns: int


class RequestReader:
    """Turns the chunks of one connection into requests, in order; one chunk may hold several."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # of the buffer's first byte in the whole connection
        self._chunks: deque[tuple[int, int]] = deque()  # (end position of the chunk, when it arrived)
        self._searched = 0
        self._head: _Head | None = None

    def feed(self, data: bytes, at_ns: int) -> None:
        """Add a chunk that arrived at `at_ns`."""
        self._buffer += data
        self._chunks.append((self._position + len(self._buffer), at_ns))

    def next_request(self) -> Request | None:
        """Return the next complete request, None until there is one; raises `BadRequest`."""
        if self._head is None:
            self._head = self._next_head()
        head = self._head
        if head is None or len(self._buffer) < head.length:
            return None
        body = bytes(self._buffer[: head.length])
        self._drop(head.length)
        self._head = None
        return Request(head.method, head.path, head.query, head.headers, body, head.at_ns, head.keep_alive)

    def _next_head(self) -> _Head | None:
        while self._buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request are skipped
            self._drop(2)
        if self._buffer and not (self._buffer[:1].isalpha() or self._buffer == b"\r"):
            raise BadRequest(400, "a request must start with its method")
        end = self._buffer.find(b"\r\n\r\n", self._searched)
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._buffer) > MAX_HEAD_BYTES):
            raise BadRequest(431, f"the head is longer than {MAX_HEAD_BYTES} bytes")
        if end < 0:
            self._searched = max(0, len(self._buffer) - 3)
            return None
        head = _parse_head(bytes(self._buffer[:end]), self._arrival_ns())
        self._drop(end + 4)
        return head

    def _arrival_ns(self) -> int:
        while self._chunks[0][0] <= self._position:
            self._chunks.popleft()
        return self._chunks[0][1]

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._position += size
        self._searched = 0


def _parse_head(raw: bytes, at_ns: int) -> _Head:
    first, *lines = raw.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise BadRequest(400, "the request line is not HTTP/1.1")
    method, target, minor = match.groups()
    headers: dict[str, str] = {}
    for line in lines:
        name, value = _parse_header(line)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "transfer-encoding" in headers:
        raise BadRequest(501, "a body needs Content-Length")
    connection = {token.strip() for token in headers.get("connection", "").lower().split(",")}
    path, _, query = target.decode("ascii").partition("?")
    keep_alive = "close" not in connection if minor == b"1" else "keep-alive" in connection
    return _Head(method.decode("ascii"), path, query, headers, keep_alive, _body_length(headers), at_ns)


def _parse_header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    if not colon or _HEADER_NAME.fullmatch(name) is None or _FORBIDDEN_IN_VALUE.search(value):
        raise BadRequest(400, "a header line is malformed")
    return name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")


def _body_length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "0")
    if _LENGTH.fullmatch(text) is None:
        raise BadRequest(400, "Content-Length is not a number")
    length = int(text)
    if length > MAX_BODY_BYTES:
        raise BadRequest(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    return length
