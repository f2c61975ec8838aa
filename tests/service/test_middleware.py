"""The middleware without a server: timeouts, errors, request ids, clients and the limits on them."""

import asyncio
import logging
import re
from contextlib import ExitStack

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from photoz.errors import PhotozError
from service import limits as limits_module
from service import logs
from service.api_keys import ApiKeys
from service.app import application
from service.errors import EXCEPTION_HANDLERS, STATUS, RequestError
from service.limits import Limits, LimitsMiddleware
from service.metrics import Metrics
from service.request import SCOPE_KEY, ConcurrencyLimit
from service.settings import Settings
from tests.service.helpers import PATIENCE, check_error
from tests.service.requests import make_scope
from tests.toys import GRID_90, GRIZ, toy_card

OTHER_ADDRESS = "192.0.2.1"
OK = PlainTextResponse("")


async def never_respond(scope, receive, send):
    await asyncio.Event().wait()


def make_limits(**settings):
    return Limits(Settings(api_keys_file=None, **settings), Metrics(toy_card(GRIZ, GRID_90, False)))


@pytest.fixture
def limits():
    return make_limits()


def wrap(app, limits):
    return LimitsMiddleware(app, limits=lambda: limits)


def post(app, *chunks, last=None, method="POST", path="/predict_file", address="127.0.0.1", sent=None, **headers):
    """Send a body in these chunks; return the response and how many messages of the body were received.

    After the chunks comes the end of the body, or `last`; after that, nothing comes.
    """
    parts = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    left, sent = [*parts, last or {"type": "http.request", "body": b""}], [] if sent is None else sent

    async def receive():
        return left.pop(0) if left else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    async def run():
        async with asyncio.timeout(PATIENCE):
            await app(make_scope(method, path, **headers) | {"client": (address, 123)}, receive, send)

    asyncio.run(run())
    content = b"".join(part.get("body", b"") for part in sent[1:])
    response = httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)
    return response, len(chunks) + 1 - len(left)


def get(app, path="/", **options):
    return post(app, method="GET", path=path, **options)[0]


def recorded(limits, status):
    """Whether one request with this status was counted, and none is left in flight or in memory."""
    assert (limits.in_flight.total, limits.memory.used_bytes) == (0, 0)
    assert not limits.in_flight._counts | limits.memory._of_client  # clients are forgotten
    return f'status="{status}"}} 1.0' in limits.metrics.exposition().decode()


def test_all_errors_have_one_shape():
    def fail(request):
        raise HTTPException(503, "busy")

    check_error(get(application(), "/x"), 404, "no such path: /x; /docs.json lists the paths")
    refused = get(application(), "/predict")
    check_error(refused, 405, "/predict does not support GET")
    assert refused.headers["allow"] == "POST"
    check_error(get(Starlette(routes=[Route("/", fail)], exception_handlers=EXCEPTION_HANDLERS)), 503, "busy")
    known = (RequestError, *STATUS)
    ours = [kind for kind in PhotozError.__subclasses__() if kind.__module__.startswith(("photoz.", "service."))]
    assert {kind.__name__ for kind in ours if not issubclass(kind, known)} == {"InvalidBundle"}


def test_request_timeout():
    async def parts():
        yield b"x"
        await asyncio.Event().wait()

    limits = make_limits(request_timeout=0.05)
    response, _ = post(wrap(never_respond, limits), b"abc", b"def", content_length="6")
    check_error(response, 504, "this took longer than 0.05 s: send fewer galaxies at a time")
    assert recorded(limits, 504)
    assert post(wrap(StreamingResponse(parts()), limits))[0].text == "x"  # the rest is not sent in time
    assert recorded(limits, 499)


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_connection_that_ends_during_the_response_is_recorded(limits, error):
    class Broken(list):
        def append(self, message):
            raise error

    with pytest.raises(IndexError):
        post(wrap(OK, limits), sent=Broken())
    assert recorded(limits, 499)


def test_response_that_is_not_http_is_an_error_of_the_service(limits):
    class Granian(list):
        def append(self, message):
            if any(b"\n" in value for _, value in message.get("headers", ())):
                raise RuntimeError("Unsupported ASGI message")
            super().append(message)

    check_error(post(wrap(PlainTextResponse(headers={"x": "a\nb"}), limits), sent=Granian())[0], 500, "internal error")
    assert recorded(limits, 500)


def test_large_responses_are_sent_in_parts(limits, monkeypatch):
    monkeypatch.setattr(limits_module, "SEND_BYTES", 4)
    for content, sizes in ((b"", [0]), (b"abcd", [4]), (b"abcde", [4, 1]), (b"abcdefgh", [4, 4])):
        sent = []
        response, _ = post(wrap(PlainTextResponse(content), limits), sent=sent)
        assert response.content == content
        assert [len(part["body"]) for part in sent[1:]] == sizes
        assert [part.get("more_body", False) for part in sent[1:]] == [True] * (len(sizes) - 1) + [False]


CHUNKS = [b"a" * 1000] * 10
DRAINED = {
    "declared": (CHUNKS[:3], {"content_length": "3000"}, {3, 4}),  # the last may or may not say that it is the last
    "chunked": (CHUNKS[:3], {"transfer_encoding": "chunked"}, {4}),
    "not sent yet": (CHUNKS[:3], {"content_length": "3000", "expect": "100-continue"}, {0}),
    "disconnects": (CHUNKS[:2], {"content_length": "4000", "last": {"type": "http.disconnect"}}, {3}),
    "largest": (CHUNKS, {"content_length": "5000"}, {5}),
    "too large": (CHUNKS, {"content_length": "5001"}, {0}),
}


@pytest.mark.parametrize(("chunks", "options", "received"), DRAINED.values(), ids=DRAINED)
def test_body_of_a_refused_request_is_drained_up_to_the_largest(chunks, options, received):
    limits = make_limits(max_body_bytes=5000, max_memory_bytes=5000)
    limits.in_flight = ConcurrencyLimit("requests are in flight", 0, 0)
    response, n_messages = post(wrap(OK, limits), *chunks, **options)
    check_error(response, 429, "0 requests are in flight already; try again later")
    assert response.headers["retry-after"] == "1"
    assert n_messages in received


def test_key_is_checked_before_the_limits_and_probes_need_neither(limits, tmp_path):
    (tmp_path / "keys").write_text("")
    limits.keys = ApiKeys(tmp_path / "keys")
    with ExitStack() as stack:
        for number in range(128):
            stack.enter_context(limits.in_flight.enter(str(number)))
        for path in ("/livez", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert get(wrap(OK, limits), path).status_code == 200
        for path in ("/model", "/metrics"):
            check_error(get(wrap(OK, limits), path), 401, "an API key is needed")
        limits.keys = None
        assert get(wrap(OK, limits), "/metrics").status_code == 200
        check_error(get(wrap(OK, limits)), 429, "128 requests are in flight already; try again later")
    assert get(wrap(OK, limits)).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"host": "[::1]:3000", "sec-fetch-site": "same-origin"}, 200, ""),
        ({"host": "LOCALHOST", "sec-fetch-site": "cross-site"}, 403, "a page of another site may not send requests"),
        ({"host": "[::1]", "authorization": "Bearer a", "Authorization": "Bearer b"}, 400, "one header Authorization"),
        ({"host": "evil.example:3000"}, 421, "expected the host localhost, [::1], got evil.example: "),
        ({"host": "localhost.evil:1"}, 421, "got localhost.evil: see PHOTOZ_ALLOWED_HOSTS"),
    ],
)
def test_heads_of_other_pages_and_hosts_are_refused(headers, status, words):
    app = wrap(OK, make_limits(allowed_hosts="localhost, [::1]"))
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    messages = {}

    async def send(message):
        messages.update(message)

    def request(method):
        scope = make_scope(method, content_length="0")
        asyncio.run(app(scope | {"headers": [*encoded, *scope["headers"][1:]]}, None, send))
        assert (b"x-content-type-options", b"nosniff") in messages["headers"]
        return messages["status"]

    assert request("POST") == status
    assert words in messages["body"].decode()
    assert request("GET") == (200 if status == 403 else status)  # a link on another page


def fill_share_of(limits, client):
    """Put as many requests of one client in flight as it may have, until the context is left."""
    stack = ExitStack()
    for _ in range(96):
        stack.enter_context(limits.in_flight.enter(client))
    return stack


FULL = "96 of your requests are in flight already; try again later"


def test_one_client_cannot_take_all_places(limits):
    with fill_share_of(limits, "127.0.0.1"):
        check_error(get(wrap(OK, limits)), 429, FULL)
        check_error(get(wrap(OK, limits), x_forwarded_for="192.0.2.7"), 429, FULL)  # no proxy is trusted by default
        assert get(wrap(OK, limits), address=OTHER_ADDRESS).status_code == 200
    assert get(wrap(OK, limits)).status_code == 200


def test_forwarded_address_of_a_trusted_proxy_alone_is_the_client():
    for trusted in ("127.0.0.1", "10.0.0.0/8, 127.0.0.0/8"):
        app = wrap(OK, limits := make_limits(trusted_proxies=trusted))
        with fill_share_of(limits, OTHER_ADDRESS):
            for forwarded in ("192.0.2.7", f"{OTHER_ADDRESS}, 192.0.2.7"):  # the first one is made up
                assert get(app, x_forwarded_for=forwarded).status_code == 200
            assert get(app, address="192.0.2.9", x_forwarded_for=OTHER_ADDRESS).status_code == 200
            for forwarded in (OTHER_ADDRESS, f"192.0.2.7, {OTHER_ADDRESS}", f"{OTHER_ADDRESS}, 127.0.0.1"):
                check_error(get(app, x_forwarded_for=forwarded), 429, FULL)


@pytest.mark.parametrize("error", [TimeoutError("of something else"), ValueError("secret")])
def test_unexpected_error_is_500_without_its_details(limits, error, monkeypatch, caplog):
    async def fail(scope, receive, send):
        raise error

    monkeypatch.setattr(limits_module.logger, "propagate", True)
    response = get(wrap(fail, limits), x_request_id="mine")
    check_error(response, 500, "internal error, not a fault of the request; the log has the details by x-request-id")
    assert response.headers["x-request-id"] == "mine"
    assert recorded(limits, 500)
    assert str(error) in caplog.text


def test_request_id_of_the_client_is_used_if_it_is_harmless(limits):
    def request_id(given):
        return get(wrap(OK, limits), x_request_id=given).headers["x-request-id"]

    assert request_id("run-7.galaxy:42") == "run-7.galaxy:42"
    for harmful in ("", "a b", "a\r\nb", 'a"b', "a" * 129, "\xff"):
        assert re.fullmatch("[0-9a-f]{16}", request_id(harmful))
    assert request_id("") != request_id("")


def test_memory_of_a_request_is_held_by_the_application_and_released_before_a_refusal():
    limits, seen = make_limits(max_body_bytes=1000, max_memory_bytes=10_000), []

    class Sent(list):
        def append(self, message):
            super().append(message)
            seen.append(limits.memory.used_bytes)

    async def respond(scope, receive, send):
        seen.append((scope[SCOPE_KEY].body, limits.memory.used_bytes, limits.in_flight.total))
        await OK(scope, receive, send)

    assert post(wrap(respond, limits), b"abc", b"def", content_length="6")[0].status_code == 200
    refused, _ = post(wrap(respond, limits), bytes(900), bytes(900), sent=Sent(), transfer_encoding="chunked")
    check_error(refused, 413, "expected a body of at most 1,000 bytes, got more: send it in parts")
    assert seen == [(b"abcdef", 6, 1), 0, 0]
    assert recorded(limits, 200)


def test_requests_are_logged_but_for_probes(monkeypatch):
    for access_log, expected in (("on", ["/model"]), ("off", [])):
        logged = []
        monkeypatch.setattr(logs, "log_request", lambda request, logged=logged: logged.append(request.path))
        for path in ("/model", "/livez", "/readyz"):
            get(wrap(OK, make_limits(access_log=access_log)), path)
        assert logged == expected


def test_service_that_drains_is_not_ready(limits, caplog, monkeypatch):
    monkeypatch.setattr(limits_module.logger, "propagate", True)
    caplog.set_level(logging.INFO, limits_module.logger.name)
    for _ in range(2):
        limits.start_draining()
    assert caplog.messages == ["shutting down: not ready, new connections for another 1 s"]
    for path in ("/readyz", "/v2/health/ready"):
        check_error(get(wrap(OK, limits), path), 503, "the service is shutting down and takes no new work")
    response = get(wrap(OK, limits), "/livez")
    assert (response.status_code, response.headers["connection"]) == (200, "close")
