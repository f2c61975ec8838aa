"""The key of a service: whose it is, where it goes, and that it is seen nowhere else."""

import asyncio
import logging
import traceback

import httpx
import numpy as np
import pytest
from unruly import Answer, HangUp, Reset, good, names, numbered, refusal, serving

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

KEY = "pz_s3cret.key-of~nobody+/=="
SIGNED = f"Bearer {KEY}"
ONCE = Retries(attempts=1)


def _blocking(url, **options):
    with PhotozClient(url, **options) as client:
        client.wait_until_ready(1.0)
        client.predict(numbered(3))
        client.evaluate_report([0.1], pdfs=np.ones((1, 2)))


def _asynchronous(url, **options):
    async def run():
        async with AsyncPhotozClient(url, **options) as client:
            await client.wait_until_ready(1.0)
            await client.predict(numbered(3))
            await client.evaluate_report([0.1], pdfs=np.ones((1, 2)))

    asyncio.run(run())


@pytest.fixture(params=[_blocking, _asynchronous], ids=["blocking", "async"])
def use(request):
    """Make the four requests that a client makes: is it ready, its model's name, a prediction, an evaluation."""
    return request.param


def _keyed(asked):
    if asked.path == "/evaluate":
        return Answer(200, b"<html></html>", {"Content-Type": "text/html"})
    return Answer(200, b"") if asked.path == "/readyz" else good(asked)


def _wants_key(asked):
    return refusal(401, "expected a key", WWW_Authenticate="Bearer")


def test_every_request_is_signed(use):
    with serving(_keyed) as server:
        use(server.url, api_key=KEY)
        assert server.authorizations == [SIGNED] * 4


def test_the_environment_gives_the_key_unless_the_caller_does(use, monkeypatch):
    monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
    with serving(_keyed) as server:
        use(server.url)
        use(server.url, api_key=KEY)
        assert server.authorizations == ["Bearer of-the-environment"] * 4 + [SIGNED] * 4


def test_without_a_key_nothing_is_signed(use, monkeypatch):
    with serving(_keyed) as server:
        use(server.url)
        monkeypatch.setenv("PHOTOZ_API_KEY", "")  # as good as not set
        use(server.url)
        assert server.authorizations == [None] * 8


@pytest.mark.parametrize("own", [{"headers": {"authorization": "Bearer own"}}, {"auth": lambda request: _own(request)}])
@pytest.mark.parametrize(
    ("api_key", "environment", "signed"),
    [(None, None, "Bearer own"), (None, "environment", "Bearer own"), (KEY, "environment", SIGNED)],
)
def test_the_key_of_a_given_client_goes_before_the_environment_and_behind_the_callers(
    own, api_key, environment, signed, monkeypatch
):
    if environment:
        monkeypatch.setenv("PHOTOZ_API_KEY", environment)
    with serving(_keyed) as server, httpx.Client(**own) as http:
        _blocking(server.url, api_key=api_key, http=http)
        assert server.authorizations == [signed] * 4
        assert "authorization" not in http.headers or http.headers["authorization"] == "Bearer own"


def _own(request):
    request.headers["Authorization"] = "Bearer own"
    return request


def test_a_given_client_without_a_key_is_lent_one_for_these_requests_alone(use):
    with serving(_keyed) as server, httpx.Client() as http:
        _blocking(server.url, api_key=KEY, http=http)
        http.get(server.url + "/readyz")
        assert server.authorizations == [SIGNED] * 4 + [None]


@pytest.mark.parametrize(
    ("api_key", "hint"),
    [(None, "no key was sent: give one by PHOTOZ_API_KEY, api_key or --api-key-file"), (KEY, "does not open http://")],
)
def test_a_missing_or_wrong_key_is_said_plainly_and_not_tried_again(use, api_key, hint):
    with serving(_wants_key) as server:
        server.tell_names = lambda: _wants_key(None)
        with pytest.raises(NotAuthorised, match=f"^expected a key .*{hint}") as caught:
            use(server.url, api_key=api_key)
        assert len(server.authorizations) == 1
    assert caught.value.status == 401


def _unable(server):
    """Let a service do all that makes a client raise, one after another."""
    moved = Answer(307, b"", {"Location": server.url + "/elsewhere"})
    refusals = [_wants_key(None), *(refusal(status) for status in (400, 403, 500, 503, 504))]
    return [*refusals, moved, names("x"), Answer(200, b"?"), Reset, HangUp]


def test_the_key_stands_in_no_error_nor_its_traceback_nor_any_log(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    texts = []
    with serving(good) as server, PhotozClient(server.url, api_key=KEY, retries=ONCE) as client:
        texts += [repr(client), str(client), repr(client._service.__dict__)]
        for behaviour in _unable(server):
            server.behave = lambda asked, behaviour=behaviour: _do(behaviour)
            with pytest.raises(PhotozError) as caught:
                client.model()
            texts += _all_of(caught.value)
    with pytest.raises(ConnectionFailed) as caught:  # nobody there any more
        PhotozClient(server.url, api_key=KEY, retries=ONCE).model()
    texts += _all_of(caught.value)
    assert server.authorizations == [SIGNED] * len(_unable(server))
    assert len(caplog.records) > 50  # httpx and httpcore tell all that they do
    assert not [text for text in (*texts, caplog.text, *capfd.readouterr()) if KEY in text]


def _do(behaviour):
    if isinstance(behaviour, type):
        raise behaviour
    return behaviour


def _all_of(error):
    """All that is told of an error; the variables of our own functions too, which some reports of errors show."""
    ours = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "photoz_client" in frame.f_code.co_filename]
    return [str(error), repr(error), *traceback.format_exception(error), *(repr(frame.f_locals) for frame in ours)]


def test_a_client_follows_no_redirect_by_itself():
    with serving(good) as other, serving(lambda asked: None) as server:
        server.behave = lambda asked: Answer(307, b"", {"Location": other.url + asked.path})
        with PhotozClient(server.url, api_key=KEY) as client, pytest.raises(UnexpectedResponse, match="answered 307"):
            client.model()
        assert other.authorizations == []


def test_a_given_client_that_follows_redirects_takes_no_key_to_another_host():
    with serving(_wants_key) as other, serving(lambda asked: None) as server:
        server.behave = lambda asked: Answer(307, b"", {"Location": other.url + asked.path})
        with httpx.Client(follow_redirects=True) as http, pytest.raises(NotAuthorised, match="no key was sent"):
            PhotozClient(server.url, api_key=KEY, http=http).model()
        assert server.authorizations == [SIGNED]
        assert other.authorizations == [None]


def test_a_circle_of_redirects_is_no_service():
    with serving(lambda asked: Answer(307, b"", {"Location": asked.path})) as server:
        with httpx.Client(follow_redirects=True, max_redirects=3) as http, pytest.raises(UnexpectedResponse) as caught:
            PhotozClient(server.url, http=http).model()
        assert len(server.asked) == 4
    assert "leads round in a circle" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("", "none"),
        ("two words", "others among them"),
        ("line\r\nX-Evil: 1", "others among them"),
        ("end\n", "others among them"),
        ("schlüssel", "others among them"),
        ("zero\0", "others among them"),
        ("k" * 4097, "more than 4,096"),
    ],
)
@pytest.mark.parametrize("client", [PhotozClient, AsyncPhotozClient])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_being_shown(client, key, found):
    with pytest.raises(InvalidInput, match="expected an API key of printable ASCII characters") as caught:
        client("http://service", api_key=key)
    assert str(caught.value).endswith(f"got {found}")
    assert not key or key not in "".join(traceback.format_exception(caught.value))


def test_a_key_of_the_environment_that_cannot_stand_in_a_header_is_refused_too(monkeypatch):
    monkeypatch.setenv("PHOTOZ_API_KEY", "s3cret\nkey")
    with pytest.raises(InvalidInput, match="expected an API key"):
        PhotozClient("http://service")


def test_a_bad_header_of_a_given_client_is_not_quoted():
    with serving(good) as server, httpx.Client(headers={"Authorization": "Bearer s3cret\nkey"}) as http:
        client = PhotozClient(server.url, http=http, retries=ONCE)
        with pytest.raises(ConnectionFailed, match="are the headers of the given client good ones") as caught:
            client.model()
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_in_the_url_is_sent_and_not_shown():
    with serving(lambda asked: refusal(500)) as server:
        url = server.url.replace("http://", "http://galileo:s3cret@")
        with PhotozClient(url, retries=ONCE) as client, pytest.raises(PhotozError) as caught:
            client.model()
        assert server.authorizations[0].startswith("Basic ")
    with pytest.raises(ConnectionFailed) as refused:  # nobody there any more
        PhotozClient(url, retries=ONCE).model()
    assert repr(client) == f"PhotozClient({server.url!r})"
    assert "s3cret" not in f"{caught.value} {refused.value}"
