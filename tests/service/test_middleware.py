"""The middleware without a server: timeouts, errors, request ids and the memory budget."""

import asyncio
import os
import re
from contextlib import ExitStack

import httpx
import pytest
from service.middleware.body import ClientWaits, receive_body
from service.middleware.json_memory import MAX_JSON_BYTES
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from photoz.errors import PhotozError, TooLarge
from service.api_keys import ApiKeys
from service.errors import STATUS, TooManyRequests, error_middleware
from service.limits import AdmissionControl, AdmissionMiddleware
from service.metrics import Metrics
from service.request import MemoryBudget, Request, Reservation, fold
from service.settings import Settings
from tests.service.helpers import check_error
from tests.toys import GRID_90, GRIZ, toy_card

ADDRESS = "127.0.0.1"


def get(app, path="/", address=ADDRESS, **headers):
    async def request():
        transport = httpx.ASGITransport(app, client=(address, 123))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(request())


@pytest.fixture
def admission(monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEYS_FILE", raising=False)
    return AdmissionControl(Settings(request_timeout=0.1), Metrics(toy_card(GRIZ, GRID_90, False)))


@pytest.fixture
def wrap(admission):
    return lambda app: AdmissionMiddleware(app, admission=lambda: admission)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (Response(b'{"error": "ours"}', 400), "ours"),
        (Response(b'[{"error": "of BentoML"}]', 400), "of BentoML"),
        (StreamingResponse(iter([b"in ", b"parts"]), 503), "Service Unavailable"),
        (Response(b"", 404, {"allow": "GET"}), "no such path: /x; /docs.json lists the paths"),
        (Response(b"", 405), "/x does not support GET"),
    ],
)
def test_all_errors_have_one_shape(response, message):
    found = get(error_middleware(response), "/x")
    check_error(found, response.status_code, message)
    assert found.headers.get("allow") == response.headers.get("allow")


def test_each_error_of_a_request_has_a_status():
    known = tuple(kind for kind, _ in STATUS)
    ours = [kind for kind in PhotozError.__subclasses__() if kind.__module__.startswith(("photoz.", "service."))]
    assert {kind.__name__ for kind in ours if not issubclass(kind, known)} == {"InvalidBundle"}


def test_request_timeout(wrap, admission):
    async def sleep(scope, receive, send):
        await asyncio.sleep(10)

    async def parts():
        for _ in range(4):
            await asyncio.sleep(0.05)
            yield b"x"

    check_error(get(wrap(sleep)), 504, "this took longer than 0.1 s: send fewer galaxies at a time")
    assert get(wrap(StreamingResponse(parts()))).text == "xxxx"  # a response that has started has no timeout
    assert not admission.in_flight


def test_key_is_checked_before_the_limits(wrap, admission, tmp_path):
    (tmp_path / "keys").write_text("")
    admission.keys = ApiKeys(tmp_path / "keys")
    with ExitStack() as stack:
        for number in range(admission.settings.max_in_flight):
            stack.enter_context(admission.in_flight.count(str(number)))
        check_error(get(wrap(PlainTextResponse("")), "/model"), 401, "an API key is needed")
        admission.keys = None
        check_error(get(wrap(PlainTextResponse(""))), 429, "128 requests are in flight already; try again later")


def test_one_client_cannot_take_all_places(wrap, admission):
    app = wrap(PlainTextResponse(""))
    with ExitStack() as stack:
        for _ in range(96):
            stack.enter_context(admission.in_flight.count(ADDRESS))
        check_error(get(app), 429, "96 of your requests are in flight already; try again later")
        assert get(app, address="192.0.2.1").status_code == 200


@pytest.mark.parametrize("error", [TimeoutError("of something else"), ValueError("secret")])
def test_unexpected_error_is_500_without_its_details(wrap, admission, error):
    async def fail(scope, receive, send):
        raise error

    response = get(wrap(fail), **{"x-request-id": "mine"})
    check_error(response, 500, "internal error, not a fault of the request; the log has the details by x-request-id")
    assert response.headers["x-request-id"] == "mine"
    assert not admission.in_flight


def test_request_id_of_the_client_is_used_if_it_is_harmless(wrap):
    def request_id(given):
        return get(wrap(PlainTextResponse("")), **{"x-request-id": given}).headers["x-request-id"]

    assert request_id(b"run-7.galaxy:42") == "run-7.galaxy:42"
    for harmful in (b"", b"a b", b"a\r\nb", b'a"b', b"a" * 129, b"\xff"):
        assert re.fullmatch("[0-9a-f]{16}", request_id(harmful))
    assert request_id(b"") != request_id(b"")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_unused_middleware_of_bentoml_is_removed(monkeypatch):
    from bentoml._internal.server.http.traffic import TimeoutMiddleware
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from service.app import Photoz, application

    monkeypatch.setattr(os, "setpgid", lambda *_: None)  # this process keeps its group
    unchanged, changed = ({one.cls for one in app.user_middleware} for app in (Photoz.to_asgi(), application()))
    assert unchanged - changed == {TimeoutMiddleware, OpenTelemetryMiddleware}
    assert AdmissionMiddleware in changed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector")
    assert OpenTelemetryMiddleware in {one.cls for one in application().user_middleware}


def test_chunks_of_a_body_take_no_more_memory_than_their_bytes():
    request = Request("id", "POST", "/", "/", {}, {})
    for _ in range(20_000):
        request.add_chunk(b"x")
    assert len(request.chunks) == 5
    request.add_chunk(bytes(9000))
    assert request.body == b"x" * 20_000 + bytes(9000)
    assert request.body is request.body


def test_memory_budget():
    shortages = []
    budget = MemoryBudget(total_bytes=100, request_bytes=60, on_shortage=lambda: shortages.append(1))
    first, second, third = Reservation(budget), Reservation(budget), Reservation(budget, "another client")
    first.reserve(60, "a body of")
    with pytest.raises(TooLarge, match="a body of at most 60 bytes"):
        first.reserve(1, "a body of")
    with pytest.raises(TooManyRequests):
        second.reserve(26, "a body of")  # the last quarter is kept
    assert shortages == [1]
    second.grow_to(25, "a body of")
    second.grow_to(20, "a body of")  # it has as much
    third.reserve(15, "a body of")  # for those that need no more than that
    assert budget.used_bytes == 100
    third.release()
    first.release()
    with pytest.raises(TooLarge, match="a file of at most 60 bytes, got 61"):
        second.reserve_unpacked(61, "a file of")
    second.reserve_unpacked(60, "a file of")  # as much as a body, while the body stays
    second.reserve_work(15, "cutouts of")  # no other request holds memory
    assert budget.used_bytes == 100
    with pytest.raises(TooLarge, match="the body and a file of at most 100 bytes"):
        second.reserve_unpacked(1, "a file of")
    second.release()
    assert budget.used_bytes == 0


def receive_chunks(*chunks, path="/v2/models/toy/infer", **headers):
    """Receive a body in these chunks; return its request."""
    messages = iter([{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks])

    async def receive():
        return next(messages, {"type": "http.request", "body": b"", "more_body": False})

    encoded = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = Request("id", "POST", path, fold(path), {b"transfer-encoding": b"chunked"} | encoded, {})

    async def run():
        await receive_body(request, receive, max_bytes=2**40, wait=ClientWaits().start(60.0))

    asyncio.run(run())
    return request


INFER = "/v2/models/toy/infer"


@pytest.mark.parametrize(
    ("path", "header", "chunks", "reserved"),
    [
        ("/predict_file", b"", [b"\x93NUMPY", b"{{{{"], 10),
        ("/evaluate", b"", [b"P", b"K\x03\x04", b"{{{{"], 8),
        ("/evaluate", b"", [b"\n" * 70, b"[]"], 72 + 192),
        ("/predict", b"0", [b" " * 64, b'{"a": [1, 2]}'], 77 + 512 + 192 + 64),
        (INFER, b"", [b' {"a":', b" [1, 2]}"], 14 + 512 + 192 + 64),
        (INFER, b"4", [b"{}", b"  [[[[[[[["], 12 + 512),
        (INFER, b"-4", [b"{}"], 2 + 512),
    ],
)
def test_body_reserves_memory_for_the_json_in_it(path, header, chunks, reserved):
    request = receive_chunks(*chunks, path=path, inference_header_content_length=header)
    assert request.body == b"".join(chunks)
    assert (request.received_bytes, request.reservation.held_bytes) == (len(request.body), reserved)


def test_json_is_limited_whatever_the_memory():
    with pytest.raises(TooLarge, match="at most 16,777,216 bytes of JSON"):
        receive_chunks(b"[" + bytes(MAX_JSON_BYTES - 1), b" ")
    receive_chunks(b"[" + bytes(MAX_JSON_BYTES - 1))
    receive_chunks(b"{}" + bytes(MAX_JSON_BYTES), inference_header_content_length=b"2")


def test_a_client_may_be_ended_while_its_time_is_up():
    async def stall():
        async with ClientWaits().start(0.01) as wait:
            try:
                await asyncio.sleep(5.0)
            finally:  # others need its memory, and it sends once more
                wait.end()
                wait.advance(1)

    with pytest.raises(TimeoutError):
        asyncio.run(stall())


def test_heads_leave_the_memory_of_small_requests():
    budget = MemoryBudget(total_bytes=100, request_bytes=60)
    budget.heads_bytes = 40
    large, other, small = Reservation(budget), Reservation(budget), Reservation(budget, "another client")
    other.reserve(1, "a body of")
    large.reserve(34, "a body of")
    with pytest.raises(TooManyRequests):
        large.reserve(1, "a body of")
    small.reserve(25, "a body of")


def test_small_requests_of_one_client_leave_memory_to_others():
    budget = MemoryBudget(total_bytes=80, request_bytes=40)
    of_one = [Reservation(budget, "one") for _ in range(4)]
    for small in of_one[:3]:
        small.reserve(20, "a body of")
    of_one[3].reserve(10, "a body of")
    with pytest.raises(TooManyRequests):
        of_one[3].reserve(1, "a body of")
    other = Reservation(budget, "other")
    other.reserve(10, "a body of")
    of_one[0].release()
    of_one[3].reserve(10, "a body of")
    assert budget.used_bytes == 70
