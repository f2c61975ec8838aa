"""One request without a server: its body, and the memory that it reserves."""

import asyncio
import gc
import weakref

import numpy as np
import pytest
from starlette.responses import PlainTextResponse

from photoz.errors import MalformedInput, TooLarge
from photoz.io.npz import npz_bytes
from service import files
from service.decoding import read_file, reserve_conversion, reserve_decoding
from service.errors import RequestError
from service.limits import MAX_JSON_BYTES, Limits, LimitsMiddleware, receive_body
from service.metrics import Metrics
from service.request import MemoryBudget, Request
from service.settings import Settings
from tests.service.requests import make_request, make_scope, receive
from tests.toys import GRID_90, GRIZ, npy_bytes, toy_card

MIB = 1024 * 1024


def test_chunks_of_a_body_take_no_more_memory_than_their_bytes():
    request = receive(*[b"x"] * 20_000, bytes(9000))
    assert request.first_bytes(4098) == b"x" * 4098
    assert len(request.chunks) == 5
    assert request.body == b"x" * 20_000 + bytes(9000)
    assert request.body is request.body
    assert request.received_bytes == request.held_bytes == 29_000


def test_body_is_complete_when_its_declared_length_has_arrived_and_refused_if_it_stops():
    assert receive(b"abc", b"def", ends=False, content_length="6").body == b"abcdef"
    assert receive(ends=False, content_length="0").body == b""
    for headers in ({"content_length": "6"}, {"transfer_encoding": "chunked"}):
        with pytest.raises(RequestError, match=r"^the body did not arrive in time: 3 bytes in 0\.05 s$") as refused:
            receive(b"abc", ends=False, seconds=0.05, **headers)
        assert refused.value.status == 408

    async def disconnect():
        return {"type": "http.disconnect"}

    budget = MemoryBudget(100)
    scope = make_scope(path="/predict_file", content_length="40")
    declared = Request(scope, budget)
    settings = Settings(max_memory_bytes=100, max_body_bytes=100)
    with pytest.raises(MalformedInput, match="the body ended too early"):
        asyncio.run(receive_body(declared, disconnect, settings))
    budget.release(declared)
    budget.reserve(Request(make_scope(), budget), 70)
    with pytest.raises(RequestError, match="other requests hold all memory"):  # before it arrives
        asyncio.run(receive_body(Request(scope, budget), None, settings))


def test_limit_on_a_body():
    for path, limit, shown in (("/predict", 16 * MIB, "16,777,216"), ("/predict_file", 50 * MIB, "52,428,800")):
        with pytest.raises(TooLarge, match=f"a body of at most {shown} bytes, got {limit + 1:,}: send it in parts"):
            receive(path=path, content_length=str(limit + 1))
        with pytest.raises(TooLarge, match=f"a body of at most {shown} bytes, got more: send it in parts"):
            receive(bytes(limit), b"x", path=path)
        assert receive(bytes(limit), path=path).received_bytes == limit


def reserved(body, n_json=0):
    request = make_request(body)
    asyncio.run(reserve_decoding(request, n_json=n_json))
    return request.held_bytes


def test_memory_that_decoding_and_conversion_reserve():
    assert reserved(b'{"a": [1, 2]}', 13) == 512 + 2 * 192 + 64
    assert reserved(b"{}  [[[[[[[[", 2) == 512  # JSON, and tensors after it
    assert reserved(b"[[[[[[[[", 0) == 0
    assert reserved(npy_bytes(np.zeros(1000))) == 0
    assert reserved(b"SIMPLE  =" + bytes(100)) == (2 + files.FACTOR) * 109
    assert reserved(b"\x89HDF\r\n\x1a\n" + bytes(10 * MIB - 8)) == (2 + files.FACTOR) * 10 * MIB
    assert reserved(b"", MAX_JSON_BYTES) == 0
    with pytest.raises(TooLarge, match="at most 16,777,216 bytes of JSON, got 16,777,217: send them as binary"):
        reserved(b"", MAX_JSON_BYTES + 1)
    request = make_request(b"")
    reserve_conversion(request, {"images": np.zeros((2, 3), np.float32)}, 7)
    assert request.held_bytes == 7
    reserve_conversion(request, {"images": np.zeros((2, 3), np.int8), "pdfs": np.zeros((2, 5), np.float16)})
    assert request.held_bytes == 7 + 4 * 6 + 4 * 8 * 10


def test_archive_reserves_what_it_unpacks_into_unless_it_has_too_many_members():
    request = make_request(npz_bytes({"a": np.zeros(1000), "b": np.zeros(10)}))
    asyncio.run(read_file(request, None, MIB))
    assert request.held_bytes == 8000 + 80 + 2 * 128
    for n, message in ((65, "expected at most 64 arrays, got more"), (64, "of plain arrays")):
        request = make_request(b"PK\x03\x04" + b"PK\x01\x02" * n)
        with pytest.raises(MalformedInput, match=message):
            asyncio.run(read_file(request, None, MIB))
        assert request.held_bytes == 0


def request_of(budget, client):
    request = Request(make_scope(), budget)
    request.client = client
    return request


def refuse(budget, request, n_bytes):
    with pytest.raises(RequestError, match="^other requests hold all memory; try again in a second$") as refused:
        budget.reserve(request, n_bytes)
    assert refused.value.status == 429


def test_memory_budget():
    budget = MemoryBudget(100)
    first, second, third = (request_of(budget, client) for client in ("one", "one", "another"))
    budget.reserve(first, 60)
    refuse(budget, second, 26)  # the last quarter is kept
    budget.reserve(second, 25)
    budget.reserve(third, 15)  # for those that need no more than that
    assert budget.used_bytes == 100
    refuse(budget, third, 1)
    budget.release(third)
    budget.release(first)
    budget.reserve(second, 75)  # no other request holds memory
    assert budget.used_bytes == second.held_bytes == 100
    message = "the request and what it decodes into take 101 bytes of memory, at most 100 are available: send it in"
    with pytest.raises(TooLarge, match=message):
        budget.reserve(second, 1)
    budget.release(second)
    assert (budget.used_bytes, second.held_bytes, second.chunks) == (0, 0, [])
    budget = MemoryBudget(80)  # small requests of one client leave memory to others
    *of_one, other = (request_of(budget, client) for client in (*["one"] * 4, "other"))
    for small in of_one[:3]:
        budget.reserve(small, 20)
    budget.reserve(of_one[3], 10)
    refuse(budget, of_one[3], 1)
    budget.reserve(other, 10)
    budget.release(of_one[0])
    budget.reserve(of_one[3], 10)
    assert budget.used_bytes == 70


@pytest.mark.parametrize(("agent", "status"), [("short", 200), ("long" * 300, 431)])
def test_request_is_freed_at_its_end(monkeypatch, agent, status):
    """The garbage collector runs rarely in the service, and requests may hold megabytes."""
    limits = Limits(Settings(api_keys_file=None, max_header_bytes=1024), Metrics(toy_card(GRIZ, GRID_90, False)))
    ended, freed = [], []

    def record(request):
        ended.append(request.status)
        weakref.finalize(request, freed.append, request.status)

    async def send(message):
        pass

    monkeypatch.setattr(limits.metrics, "record_request", record)
    gc.disable()
    try:
        app = LimitsMiddleware(PlainTextResponse(""), limits=lambda: limits)
        asyncio.run(app(make_scope("GET", user_agent=agent), None, send))
        assert ended == freed == [status]
    finally:
        gc.enable()
