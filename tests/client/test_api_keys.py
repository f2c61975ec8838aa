"""The API key: where it comes from, where it is sent, and that it is shown nowhere."""

import asyncio
import logging
import traceback

import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import (
    AsyncPhotozClient,
    ConnectionFailed,
    NotAuthorised,
    PhotozClient,
    PhotozError,
    Retries,
    UnexpectedResponse,
)
from tests.client.answers import error, model_index, numbered_cutouts, prediction, raising
from tests.client.misbehaving_server import CloseMidAnswer, CloseWithoutAnswer, serve

KEY = "pz_s3cret.key-of~nobody+/=="
SIGNED = f"Bearer {KEY}"
ONCE = Retries(attempts=1)


def _blocking(url, **options):
    with PhotozClient(url, **options) as client:
        client.wait_until_ready(1.0)
        client.predict(numbered_cutouts(3))
        client.evaluate_report([0.1], pdfs=np.ones((1, 2)))


def _asynchronous(url, **options):
    async def run():
        async with AsyncPhotozClient(url, **options) as client:
            await client.wait_until_ready(1.0)
            await client.predict(numbered_cutouts(3))
            await client.evaluate_report([0.1], pdfs=np.ones((1, 2)))

    asyncio.run(run())


@pytest.fixture(params=[_blocking, _asynchronous], ids=["blocking", "async"])
def use(request):
    """Send the four kinds of request: readiness, model name, prediction and evaluation."""
    return request.param


def _service(request):
    if request.url.path == "/evaluate":
        return httpx.Response(200, html="<html></html>")
    return httpx.Response(200, content=b"") if request.url.path == "/readyz" else prediction(request)


def _refuse_key(*_):
    return error(401, "expected a key", WWW_Authenticate="Bearer")


def _redirect(url):
    return httpx.Response(307, headers={"Location": url})


def test_every_request_carries_the_key(use):
    with serve(_service) as server:
        use(server.url, api_key=KEY)
        assert server.authorizations == [SIGNED] * 4


def test_the_api_key_argument_overrides_the_environment(use, monkeypatch):
    with serve(_service) as server:
        use(server.url)
        monkeypatch.setenv("PHOTOZ_API_KEY", "")  # as if it were not set
        use(server.url)
        monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
        use(server.url)
        use(server.url, api_key=KEY)
        assert server.authorizations == [None] * 8 + ["Bearer of-the-environment"] * 4 + [SIGNED] * 4


def _own_auth(request):
    request.headers["Authorization"] = "Bearer own"
    return request


@pytest.mark.parametrize("own", [{"headers": {"authorization": "Bearer own"}}, {"auth": _own_auth}])
@pytest.mark.parametrize(
    ("api_key", "environment", "signed"),
    [(None, None, "Bearer own"), (None, "environment", "Bearer own"), (KEY, "environment", SIGNED)],
)
def test_credentials_of_a_given_client_override_the_environment_only(own, api_key, environment, signed, monkeypatch):
    if environment:
        monkeypatch.setenv("PHOTOZ_API_KEY", environment)
    with serve(_service) as server, httpx.Client(**own) as http:
        _blocking(server.url, api_key=api_key, http=http)
        assert server.authorizations == [signed] * 4
        assert "authorization" not in http.headers or http.headers["authorization"] == "Bearer own"


def test_a_given_client_does_not_keep_the_key():
    with serve(_service) as server, httpx.Client() as http:
        _blocking(server.url, api_key=KEY, http=http)
        http.get(server.url + "/readyz")
        assert server.authorizations == [SIGNED] * 4 + [None]


@pytest.mark.parametrize(
    ("api_key", "hint"),
    [
        (None, "no API key was sent: set PHOTOZ_API_KEY, api_key or --api-key-file"),
        (KEY, "http://.* does not accept the API key"),
    ],
)
def test_a_missing_or_wrong_key_is_reported_without_a_retry(use, api_key, hint):
    with serve(_refuse_key) as server:
        server.index = _refuse_key
        with pytest.raises(NotAuthorised, match=f"^expected a key .*{hint}") as caught:
            use(server.url, api_key=api_key)
        assert len(server.authorizations) == 1
    assert caught.value.status == 401


def test_the_key_appears_in_no_error_traceback_or_log(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    texts = []
    with serve(prediction) as server, PhotozClient(server.url, api_key=KEY, retries=ONCE) as client:
        texts += [repr(client), str(client), repr(client._connection.__dict__)]
        failures = [_refuse_key(), *(error(status) for status in (400, 403, 500, 503, 504))]
        failures += [_redirect(f"{server.url}/elsewhere"), model_index("x"), httpx.Response(200, content=b"?")]
        behaviours = [lambda request, answer=answer: answer for answer in failures]
        for server.behave in [*behaviours, raising(CloseMidAnswer), raising(CloseWithoutAnswer)]:
            with pytest.raises(PhotozError) as caught:
                client.model()
            texts += _all_texts(caught.value)
        assert server.authorizations == [SIGNED] * (len(behaviours) + 2)
    with pytest.raises(ConnectionFailed) as caught:  # the server is gone
        PhotozClient(server.url, api_key=KEY, retries=ONCE).model()
    texts += _all_texts(caught.value)
    assert len(caplog.records) > 50  # httpx and httpcore log every step
    assert not [text for text in (*texts, caplog.text, *capfd.readouterr()) if KEY in text]


def _all_texts(error):
    """All texts of an error, including the local variables of our functions, which some error reports show."""
    ours = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "photoz_client" in frame.f_code.co_filename]
    return [str(error), repr(error), *traceback.format_exception(error), *(repr(frame.f_locals) for frame in ours)]


def test_redirects_are_not_followed():
    with serve(prediction) as other, serve(lambda request: _redirect(other.url + request.url.path)) as server:
        with PhotozClient(server.url, api_key=KEY) as client, pytest.raises(UnexpectedResponse, match="answered 307"):
            client.model()
        assert other.authorizations == []


def test_a_given_client_that_follows_redirects_sends_no_key_to_another_host():
    with serve(_refuse_key) as other, serve(lambda request: _redirect(other.url + request.url.path)) as server:
        with httpx.Client(follow_redirects=True) as http, pytest.raises(NotAuthorised, match="no API key was sent"):
            PhotozClient(server.url, api_key=KEY, http=http).model()
        assert server.authorizations == [SIGNED]
        assert other.authorizations == [None]


def test_redirects_in_a_circle_end():
    with serve(lambda request: _redirect(request.url.path)) as server:
        with httpx.Client(follow_redirects=True, max_redirects=3) as http, pytest.raises(UnexpectedResponse) as caught:
            PhotozClient(server.url, http=http).model()
        assert len(server.requests) == 4
    assert "redirects in a circle" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", "none"),
        ("two words", "other characters"),
        ("line\r\nX-Evil: 1", "other characters"),
        ("end\n", "other characters"),
        ("schlüssel", "other characters"),
        ("zero\0", "other characters"),
        ("k" * 4097, "more than 4,096"),
    ],
)
@pytest.mark.parametrize("client", [PhotozClient, AsyncPhotozClient])
def test_an_invalid_key_is_refused_and_not_shown(client, key, found):
    with pytest.raises(InvalidInput, match="expected an API key of printable ASCII characters") as caught:
        client("http://service", api_key=key)
    assert str(caught.value).endswith(f"got {found}")
    assert not key or key not in "".join(traceback.format_exception(caught.value))


def test_an_invalid_key_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("PHOTOZ_API_KEY", "s3cret\nkey")
    with pytest.raises(InvalidInput, match="expected an API key"):
        PhotozClient("http://service")


def test_an_invalid_header_of_a_given_client_is_not_shown():
    with serve(prediction) as server, httpx.Client(headers={"Authorization": "Bearer s3cret\nkey"}) as http:
        client = PhotozClient(server.url, http=http, retries=ONCE)
        with pytest.raises(ConnectionFailed, match="check the headers of the given httpx client") as caught:
            client.model()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_in_the_url_is_sent_but_not_shown():
    with serve(lambda request: error(500)) as server:
        url = server.url.replace("http://", "http://galileo:s3cret@")
        with PhotozClient(url, retries=ONCE) as client, pytest.raises(PhotozError) as caught:
            client.model()
        assert server.authorizations[0].startswith("Basic ")
    with pytest.raises(ConnectionFailed) as refused:  # the server is gone
        PhotozClient(url, retries=ONCE).model()
    assert repr(client) == f"PhotozClient({server.url!r})"
    assert "s3cret" not in f"{caught.value} {refused.value}"
