"""What the transport takes for granted of httpx: a request that is built with a stream is left as it is."""

import httpx
import pytest

URL = "https://provider.example/send?a=b"
HEADERS = {"user-agent": "x", "authorization": "Bearer y"}


@pytest.mark.parametrize("body", [b"", b"text"])
def test_a_request_with_a_stream_has_the_headers_that_it_was_given_and_no_other(body: bytes) -> None:
    request = httpx.Request("POST", URL, headers=HEADERS, stream=httpx.ByteStream(body))
    assert dict(request.headers) == HEADERS


def test_any_other_request_gets_headers_of_httpx() -> None:
    assert {"host", "content-length"} <= set(httpx.Request("POST", URL, headers=HEADERS, content=b"text").headers)


@pytest.mark.parametrize("body", [b"", b"text"])
def test_what_was_read_is_its_content(body: bytes) -> None:
    request = httpx.Request("POST", URL, headers=HEADERS, stream=httpx.ByteStream(body))
    request.read()
    assert request.content == body


def test_the_encoding_of_headers_may_be_told_and_changes_none() -> None:
    request = httpx.Request("POST", URL, headers=HEADERS, stream=httpx.ByteStream(b""))
    request.headers.encoding = "ascii"
    assert (request.headers.encoding, dict(request.headers)) == ("ascii", HEADERS)
