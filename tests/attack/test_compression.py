"""Compressed bodies: bombs, truncated streams, trailing data."""

import asyncio
from functools import partial

import pytest

from photoz.errors import TooLarge
from service.compression import COMPRESSORS
from service.limits import receive_body
from service.request import MemoryBudget, Request
from service.settings import Settings
from tests.attack.corpus import IMAGES, MB
from tests.attack.refusals import assert_refused
from tests.service.requests import make_scope

pytestmark = pytest.mark.parametrize(("encoding", "compress"), COMPRESSORS.items(), ids=COMPRESSORS)


def unpack(body, encoding, limit):
    """Receive a compressed body in parts, as the middleware does; return it unpacked."""
    parts = [body[start : start + 128 * 1024] for start in range(0, len(body), 128 * 1024)]

    async def receive():
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    scope = make_scope(path="/v2/models/toy/infer", content_encoding=encoding, content_length=str(len(body)))
    request = Request(scope, MemoryBudget(10 * limit))
    asyncio.run(receive_body(request, receive, Settings(max_body_bytes=limit, max_memory_bytes=10 * limit)))
    return request.body


def test_a_bomb_is_unpacked_up_to_the_limit(encoding, compress):
    body, limit = compress(bytes(100 * MB)), 10 * MB
    assert len(body) < MB
    decode = partial(unpack, encoding=encoding, limit=limit)
    assert_refused(decode, body, "at most 10,485,760", TooLarge, max_memory=2.5 * limit)


def test_truncated_streams_and_trailing_data_are_refused(encoding, compress):
    body, decode = compress(IMAGES.tobytes()), partial(unpack, encoding=encoding, limit=MB)
    assert decode(body) == IMAGES.tobytes()
    for length in range(1, len(body), 7):
        assert_refused(decode, body[:length], "ends before|got other bytes")
    for extra in (body, b"\0", bytes(1000)):
        assert_refused(decode, body + extra, f"expected one {encoding} stream")
