"""Who comes when there is no place is told so before anything is made for them, and the connection stays in step."""

import pytest

from service.edge.connection import simple_post

SIMPLE = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Request-Id: Mine\r\n\r\n12345POST"


def test_a_simple_head_is_read():
    found = simple_post(SIMPLE)
    assert (found.url, found.length) == (b"/predict", 5)
    assert found.headers == {b"host": b"a", b"content-length": b"5", b"x-request-id": b"Mine"}
    assert SIMPLE[found.size :] == b"12345POST"


@pytest.mark.parametrize(
    "data",
    [
        SIMPLE.replace(b"POST ", b"GET ", 1),
        SIMPLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        SIMPLE.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        SIMPLE.replace(b"Host: a", b"Transfer-Encoding: chunked"),
        SIMPLE.replace(b"Host: a", b"content-length: 6"),
        SIMPLE.replace(b"Content-Length: 5", b"Content-Length: +5"),
        SIMPLE.replace(b"Content-Length: 5", b"Content-Length: " + b"9" * 30),
        SIMPLE.replace(b"Host: a", b"Expect: 100-continue"),
        SIMPLE.replace(b"Host: a", b"Connection: close"),
        SIMPLE.replace(b" HTTP/1.1", b""),
        SIMPLE.replace(b"\r\n\r\n", b"\r\n"),
        b"",
    ],
)
def test_all_else_goes_the_long_way(data):
    assert simple_post(data) is None
