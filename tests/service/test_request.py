"""One request without a server: its body, and the memory that it reserves."""

import asyncio

import numpy as np
import pytest

from photoz.errors import MalformedInput, TooLarge
from photoz.io.npz import npz_bytes
from service import files
from service.decoding import read_file, reserve_conversion, reserve_decoding
from service.errors import RequestError
from service.limits import MAX_JSON_BYTES, receive_body
from service.request import MemoryBudget, Request
from service.settings import Settings
from tests.service.requests import make_request, make_scope
from tests.toys import npy_bytes

MIB = 1024 * 1024


def receive(*chunks, path="/predict_file", ends=True, memory=100 * MIB, **headers):
    """Receive a body in these chunks and then its end, or nothing more; return its request."""
    left = [*({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks)]
    left += [{"type": "http.request", "body": b""}] if ends else []

    async def receive():
        return left.pop(0) if left else await asyncio.Event().wait()

    headers = headers or {"transfer_encoding": "chunked"}
    request = Request(make_scope(path=path, **headers), MemoryBudget(memory))
    settings = Settings(max_memory_bytes=memory, max_body_bytes=memory // 2, transfer_timeout=0.05)
    asyncio.run(receive_body(request, receive, settings))
    return request


def test_chunks_of_a_body_take_no_more_memory_than_their_bytes():
    request = receive(*[b"x"] * 20_000, bytes(9000))
    assert len(request.chunks) == 5
    assert request.body == b"x" * 20_000 + bytes(9000)
    assert request.body is request.body
    assert request.received_bytes == request.held_bytes == 29_000


def test_memory_of_a_declared_body_is_reserved_before_it_arrives():
    budget = MemoryBudget(100)
    budget.reserve(Request(make_scope(), budget), 70)
    request = Request(make_scope(path="/predict_file", content_length="40"), budget)
    with pytest.raises(RequestError, match="other requests hold all memory"):
        asyncio.run(receive_body(request, None, Settings(max_memory_bytes=100, max_body_bytes=100)))


def test_body_is_complete_when_its_declared_length_has_arrived():
    assert receive(b"abc", b"def", ends=False, content_length="6").body == b"abcdef"
    assert receive(ends=False, content_length="0").body == b""


@pytest.mark.parametrize("headers", [{"content_length": "6"}, {"transfer_encoding": "chunked"}])
def test_body_that_stops_is_refused(headers):
    with pytest.raises(RequestError, match=r"the body did not arrive in time: 3 bytes in 0\.05 s"):
        receive(b"abc", ends=False, **headers)


def test_body_whose_connection_ends_is_refused():
    async def disconnect():
        return {"type": "http.disconnect"}

    request = Request(make_scope(content_length="6"), MemoryBudget(100))
    with pytest.raises(MalformedInput, match="the body ended too early"):
        asyncio.run(receive_body(request, disconnect, Settings()))


@pytest.mark.parametrize(
    ("path", "limit", "shown"), [("/predict", 16 * MIB, "16,777,216"), ("/predict_file", 50 * MIB, "52,428,800")]
)
def test_limit_on_a_body(path, limit, shown):
    with pytest.raises(TooLarge, match=f"a body of at most {shown} bytes, got {limit + 1:,}: send it in parts"):
        receive(path=path, content_length=str(limit + 1))
    with pytest.raises(TooLarge, match=f"a body of at most {shown} bytes, got more: send it in parts"):
        receive(bytes(limit), b"x", path=path)
    assert receive(bytes(limit), path=path).received_bytes == limit


def reserved(body, n_json=0):
    """Return the bytes that decoding a body reserves."""
    request = make_request(body)
    asyncio.run(reserve_decoding(request, n_json=n_json))
    return request.held_bytes


@pytest.mark.parametrize(
    ("n_json", "body", "expected"),
    [
        (13, b'{"a": [1, 2]}', 512 + 192 + 64),
        (2, b"{}  [[[[[[[[", 512),
        (0, b"[[[[[[[[", 0),
        (0, npy_bytes(np.zeros(1000)), 0),
        (0, b"SIMPLE  =" + bytes(100), 2 * 109 + files.LEAST_BYTES),
        (0, b"\x89HDF\r\n\x1a\n" + bytes(10 * MIB - 8), (2 + files.FACTOR) * 10 * MIB),
    ],
    ids=["JSON", "JSON and tensors", "tensors", "npy", "FITS", "HDF5"],
)
def test_memory_that_decoding_reserves(n_json, body, expected):
    assert reserved(body, n_json) == expected


def test_archive_reserves_what_it_unpacks_into():
    request = make_request(npz_bytes({"a": np.zeros(1000), "b": np.zeros(10)}))
    asyncio.run(read_file(request, None, MIB))
    assert request.held_bytes == 8000 + 80 + 2 * 128


def test_archive_of_too_many_members_reserves_nothing():
    request = make_request(b"PK\x03\x04" + b"PK\x01\x02" * 65)
    with pytest.raises(MalformedInput, match="expected at most 64 arrays, got more"):
        asyncio.run(read_file(request, None, MIB))
    assert request.held_bytes == 0


def test_conversion_reserves_what_the_network_and_the_metrics_take():
    request = make_request(b"")
    reserve_conversion(request, {"images": np.zeros((2, 3), np.float32)}, 7)
    assert request.held_bytes == 7
    reserve_conversion(request, {"images": np.zeros((2, 3), np.int8), "pdfs": np.zeros((2, 5), np.float16)})
    assert request.held_bytes == 7 + 4 * 6 + 4 * 8 * 10


def test_json_is_limited_whatever_the_memory():
    assert reserved(b"", MAX_JSON_BYTES) == 0
    with pytest.raises(TooLarge, match="at most 16,777,216 bytes of JSON, got 16,777,217: send them as binary"):
        reserved(b"", MAX_JSON_BYTES + 1)


def requests_of(budget, *clients):
    requests = [Request(make_scope(), budget) for _ in clients]
    for request, client in zip(requests, clients, strict=True):
        request.client = client
    return requests


def test_memory_budget():
    budget = MemoryBudget(100)
    first, second, third = requests_of(budget, "one", "one", "another")
    first.memory.reserve(first, 60)
    with pytest.raises(RequestError, match="other requests hold all memory"):
        budget.reserve(second, 26)  # the last quarter is kept
    budget.reserve(second, 25)
    budget.reserve(third, 15)  # for those that need no more than that
    assert budget.used_bytes == 100
    with pytest.raises(RequestError, match="other requests hold all memory"):
        budget.reserve(third, 1)
    budget.release(third)
    budget.release(first)
    budget.reserve(second, 75)  # no other request holds memory
    assert budget.used_bytes == second.held_bytes == 100
    with pytest.raises(
        TooLarge, match="the request and what it decodes into take 101 bytes of memory, at most 100 are"
    ):
        budget.reserve(second, 1)
    budget.release(second)
    assert (budget.used_bytes, second.held_bytes, second.chunks) == (0, 0, [])


def test_small_requests_of_one_client_leave_memory_to_others():
    budget = MemoryBudget(80)
    *of_one, other = requests_of(budget, *["one"] * 4, "other")
    for small in of_one[:3]:
        budget.reserve(small, 20)
    budget.reserve(of_one[3], 10)
    with pytest.raises(RequestError, match="other requests hold all memory"):
        budget.reserve(of_one[3], 1)
    budget.reserve(other, 10)
    budget.release(of_one[0])
    budget.reserve(of_one[3], 10)
    assert budget.used_bytes == 70
