"""The middleware without a server: timeouts, errors, request ids, clients and the limits on them."""

import asyncio
import gzip
import os
import re
from contextlib import ExitStack

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from photoz.errors import PhotozError
from service.api_keys import ApiKeys
from service.app import application
from service.errors import EXCEPTION_HANDLERS, STATUS, RequestError
from service.limits import CLIENT_CLOSED_REQUEST, ConcurrencyLimit, Limits, LimitsMiddleware
from service.metrics import Metrics
from service.request import SCOPE_KEY
from service.settings import Settings
from tests.service.helpers import check_error
from tests.service.requests import make_scope
from tests.toys import GRID_90, GRIZ, toy_card

ADDRESS, OTHER_ADDRESS = "127.0.0.1", "192.0.2.1"


def get(app, path="/", address=ADDRESS, **headers):
    async def request():
        transport = httpx.ASGITransport(app, client=(address, 123))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return asyncio.run(request())


def post(app, *chunks, ends=True, path="/predict_file", **headers):
    """Post a body in these chunks; return the response and how many chunks were received.

    After the chunks comes the end of the body, or of the connection; after that, nothing comes.
    """
    last = {"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"}
    left = [*({"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks), last]
    sent = []

    async def receive():
        return left.pop(0) if left else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    async def run():
        async with asyncio.timeout(5.0):
            await app(make_scope(path=path, **headers), receive, send)

    asyncio.run(run())
    start, *parts = sent
    content = b"".join(part.get("body", b"") for part in parts)
    return httpx.Response(start["status"], headers=start["headers"], content=content), len(chunks) + 1 - len(left)


def make_limits(**settings):
    return Limits(
        Settings(request_timeout=0.1, api_keys_file=None, **settings), Metrics(toy_card(GRIZ, GRID_90, False))
    )


@pytest.fixture
def limits():
    return make_limits()


@pytest.fixture
def wrap(limits):
    return lambda app: LimitsMiddleware(app, limits=lambda: limits)


def recorded(limits, status):
    return f'status="{status}"}} 1.0' in limits.metrics.exposition().decode()


def test_all_errors_have_one_shape():
    def fail(request):
        raise HTTPException(503, "busy")

    check_error(get(application(), "/x"), 404, "no such path: /x; /docs.json lists the paths")
    refused = get(application(), "/predict")
    check_error(refused, 405, "/predict does not support GET")
    assert refused.headers["allow"] == "POST"
    check_error(get(Starlette(routes=[Route("/", fail)], exception_handlers=EXCEPTION_HANDLERS)), 503, "busy")


def test_each_error_of_a_request_has_a_status():
    known = (RequestError, *STATUS)
    ours = [kind for kind in PhotozError.__subclasses__() if kind.__module__.startswith(("photoz.", "service."))]
    assert {kind.__name__ for kind in ours if not issubclass(kind, known)} == {"InvalidBundle"}


async def never_respond(scope, receive, send):
    await asyncio.Event().wait()


def test_request_timeout(wrap, limits):
    check_error(get(wrap(never_respond)), 504, "this took longer than 0.1 s: send fewer galaxies at a time")
    assert not limits.in_flight.total


def test_response_that_is_not_sent_in_time_is_broken_off(wrap, limits):
    async def parts():
        yield b"x"
        await asyncio.Event().wait()

    assert post(wrap(StreamingResponse(parts())))[0].text == "x"
    assert recorded(limits, CLIENT_CLOSED_REQUEST)


@pytest.mark.parametrize("headers", [{"content_length": "6"}, {"transfer_encoding": "chunked"}])
def test_refusal_of_a_request_whose_body_has_arrived_waits_for_nothing(wrap, headers):
    response, _ = post(wrap(never_respond), b"abc", b"def", **headers)
    check_error(response, 504, "this took longer than 0.1 s")


def test_refusal_of_a_compressed_body_waits_for_nothing(wrap):
    junk = {"content_encoding": "gzip", "transfer_encoding": "chunked", "path": "/v2/models/toy/infer"}
    for body in (b"junk", gzip.compress(b"{}")[:-4]):
        response, _ = post(wrap(PlainTextResponse("")), body, **junk)
        check_error(response, 400, "gzip")


BODY = [b"a" * 1000] * 10


@pytest.mark.parametrize(
    ("headers", "received"),
    [
        ({"content_length": "10000"}, 10),
        ({"transfer_encoding": "chunked"}, 11),
        ({"content_length": "10000", "expect": "100-continue"}, 0),
        ({"content_length": "999999999999"}, 0),
    ],
    ids=["declared", "chunked", "not sent yet", "over the limit"],
)
def test_body_of_a_refused_request_is_drained(wrap, limits, tmp_path, headers, received):
    (tmp_path / "keys").write_text("")
    limits.keys = ApiKeys(tmp_path / "keys")
    response, n_chunks = post(wrap(PlainTextResponse("")), *BODY, **headers)
    check_error(response, 401, "an API key is needed")
    assert received <= n_chunks <= received + 1  # the last chunk may or may not say that it is the last
    assert (received == 0) == (n_chunks == 0)


def test_drain_ends_with_the_connection(wrap, limits):
    limits.in_flight = ConcurrencyLimit("requests are in flight", 0, 0)
    response, n_chunks = post(wrap(PlainTextResponse("")), *BODY, ends=False, content_length="20000")
    check_error(response, 429, "0 requests are in flight already")
    assert n_chunks == 11


def test_key_is_checked_before_the_limits(wrap, limits, tmp_path):
    (tmp_path / "keys").write_text("")
    limits.keys = ApiKeys(tmp_path / "keys")
    with ExitStack() as stack:
        for number in range(limits.settings.max_in_flight):
            stack.enter_context(limits.in_flight.enter(str(number)))
        check_error(get(wrap(PlainTextResponse("")), "/model"), 401, "an API key is needed")
        limits.keys = None
        check_error(get(wrap(PlainTextResponse(""))), 429, "128 requests are in flight already; try again later")


def fill_share_of(limits, client):
    """Put as many requests of one client in flight as it may have, until the context is left."""
    stack = ExitStack()
    for _ in range(96):
        stack.enter_context(limits.in_flight.enter(client))
    return stack


def test_one_client_cannot_take_all_places(wrap, limits):
    app = wrap(PlainTextResponse(""))
    with fill_share_of(limits, ADDRESS):
        check_error(get(app), 429, "96 of your requests are in flight already; try again later")
        assert get(app, address=OTHER_ADDRESS).status_code == 200
    assert get(app).status_code == 200


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "10.0.0.1,127.0.0.1"])
def test_forwarded_address_of_a_trusted_proxy_is_the_client(trusted):
    limits = make_limits(trusted_proxies=trusted)
    app = LimitsMiddleware(PlainTextResponse(""), limits=lambda: limits)
    with fill_share_of(limits, OTHER_ADDRESS):
        assert get(app).status_code == get(app, x_forwarded_for="192.0.2.7").status_code == 200
        assert get(app, x_forwarded_for=f"{OTHER_ADDRESS}, 192.0.2.7").status_code == 200  # the first one is made up
        for forwarded in (OTHER_ADDRESS, f"192.0.2.7, {OTHER_ADDRESS}", f"{OTHER_ADDRESS}, 127.0.0.1"):
            check_error(get(app, x_forwarded_for=forwarded), 429, "96 of your requests are in flight already")


@pytest.mark.parametrize("trusted", ["", "10.0.0.0/8,192.0.2.0/24"])
def test_forwarded_address_is_ignored_from_others(trusted):
    limits = make_limits(trusted_proxies=trusted)
    app = LimitsMiddleware(PlainTextResponse(""), limits=lambda: limits)
    with fill_share_of(limits, ADDRESS):
        check_error(get(app, x_forwarded_for="192.0.2.7"), 429, "96 of your requests are in flight already")


@pytest.mark.parametrize("error", [TimeoutError("of something else"), ValueError("secret")])
def test_unexpected_error_is_500_without_its_details(wrap, limits, error):
    async def fail(scope, receive, send):
        raise error

    response = get(wrap(fail), x_request_id="mine")
    check_error(response, 500, "internal error, not a fault of the request; the log has the details by x-request-id")
    assert response.headers["x-request-id"] == "mine"
    assert not limits.in_flight.total


def test_request_id_of_the_client_is_used_if_it_is_harmless(wrap):
    def request_id(given):
        return get(wrap(PlainTextResponse("")), x_request_id=given).headers["x-request-id"]

    assert request_id(b"run-7.galaxy:42") == "run-7.galaxy:42"
    for harmful in (b"", b"a b", b"a\r\nb", b'a"b', b"a" * 129, b"\xff"):
        assert re.fullmatch("[0-9a-f]{16}", request_id(harmful))
    assert request_id(b"") != request_id(b"")


def test_application_gets_the_request_and_its_memory_is_released(wrap, limits):
    seen = []

    async def respond(scope, receive, send):
        seen.append((scope[SCOPE_KEY].body, limits.memory.used_bytes, limits.in_flight.total))
        await PlainTextResponse("")(scope, receive, send)

    post(wrap(respond), b"abc", b"def", content_length="6")
    assert seen == [(b"abcdef", 6, 1)]
    assert (limits.memory.used_bytes, limits.in_flight.total) == (0, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_unused_middleware_of_bentoml_is_removed(monkeypatch):
    from bentoml._internal.server.http.traffic import TimeoutMiddleware
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    from service.bento import Photoz, asgi

    monkeypatch.setattr(os, "setpgid", lambda *_: None)  # this process keeps its group
    unchanged, changed = ({one.cls for one in app.user_middleware} for app in (Photoz.to_asgi(), asgi()))
    assert unchanged - changed == {TimeoutMiddleware, OpenTelemetryMiddleware}
    assert LimitsMiddleware in changed
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector")
    assert OpenTelemetryMiddleware in {one.cls for one in asgi().user_middleware}
