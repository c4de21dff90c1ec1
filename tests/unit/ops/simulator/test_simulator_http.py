from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.http import MAX_BODY_BYTES, MAX_HEAD_BYTES, BadRequest, Reply, Request, RequestReader

POST = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
GET = b"GET /_requests?after=3 HTTP/1.1\r\nHost: x\r\nAccept: a\r\naccept:\tb \r\n\r\n"


def read_all(reader: RequestReader) -> list[Request]:
    found = []
    while (request := reader.next_request()) is not None:
        found.append(request)
    return found


def read(raw: bytes) -> Request:
    reader = RequestReader()
    reader.feed(raw, 1)
    (request,) = read_all(reader)
    return request


def refusal(raw: bytes) -> int:
    reader = RequestReader()
    reader.feed(raw, 1)
    with pytest.raises(BadRequest) as caught:
        read_all(reader)
    return caught.value.status


def test_a_request_is_read_with_its_parts() -> None:
    request = read(GET)
    assert (request.method, request.path, request.query) == ("GET", "/_requests", "after=3")
    assert request.headers == {"host": "x", "accept": "a, b"}
    assert (request.body, request.at_ns, request.keep_alive) == (b"", 1, True)
    assert read(POST).body == b"body"


@given(st.lists(st.sampled_from([GET, POST, b"\r\n" + POST]), max_size=5), st.data())
def test_any_cut_into_chunks_gives_the_same_requests_each_with_the_time_of_its_first_byte(
    requests: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(requests)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=12)))
    edges = [0, *[cut for cut in cuts if cut < len(stream)], len(stream)]
    reader, found = RequestReader(), list[Request]()
    for start, end in pairwise(edges):
        reader.feed(stream[start:end], start)  # a chunk's time is its place in the stream
        found += read_all(reader)
    assert [request.body for request in found] == [b"body" if b"POST" in raw else b"" for raw in requests]
    place = 0
    for raw, request in zip(requests, found, strict=True):
        first_byte = place + (2 if raw.startswith(b"\r\n") else 0)
        assert request.at_ns == max(edge for edge in edges[:-1] if edge <= first_byte)
        place += len(raw)


@pytest.mark.parametrize(
    ("raw", "keeps"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nConnection: x, close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_the_connection_stays_as_http_says(raw: bytes, *, keeps: bool) -> None:
    assert read(raw).keep_alive is keeps


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01",  # a TLS greeting, before any line has ended
        b"get / HTTP/1.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET x HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nspace : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: x\ny\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
def test_malformed_requests_are_bad(raw: bytes) -> None:
    assert refusal(raw) == 400


def test_a_chunked_body_is_not_implemented() -> None:
    assert refusal(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n") == 501


def test_a_body_of_one_mebibyte_is_taken_and_one_byte_more_is_not() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n"
    assert len(read(head % MAX_BODY_BYTES + bytes(MAX_BODY_BYTES)).body) == MAX_BODY_BYTES
    assert refusal(head % (MAX_BODY_BYTES + 1)) == 413


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"])
def test_a_head_without_end_is_refused(ending: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES + ending) == 431


def test_what_stands_before_the_fault_is_still_read() -> None:
    reader = RequestReader()
    reader.feed(POST + b"nonsense\r\n\r\n", 1)
    request = reader.next_request()
    assert request is not None
    assert request.body == b"body"
    with pytest.raises(BadRequest):
        reader.next_request()


def test_a_reply_is_written_whole() -> None:
    reply = Reply(429, b"{}", headers={"Retry-After": "2"})
    assert reply.encode(keep_alive=True) == (
        b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Connection: keep-alive\r\nRetry-After: 2\r\n\r\n{}"
    )
    assert b"Connection: close\r\n" in reply.encode(keep_alive=False)
