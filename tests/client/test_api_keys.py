"""The API key: where it comes from, where it is sent, and that it is shown nowhere."""

import logging
import traceback

import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import AsyncPhotozClient, ConnectionFailed, NotAuthorised, PhotozClient, PhotozError, Retries
from tests.client.answers import error, model_index, numbered_cutouts, prediction, raising
from tests.client.misbehaving_server import CloseMidAnswer, CloseWithoutAnswer, serve

KEY = "pz_s3cret.key-of~nobody+/=="
SIGNED = f"Bearer {KEY}"
ONCE = Retries(attempts=1)
CUTOUTS = numbered_cutouts(3)


def _refuse_key(*_):
    return error(401, "expected a key", WWW_Authenticate="Bearer")


def _redirect(url):
    return httpx.Response(307, headers={"Location": url})


def test_the_api_key_argument_overrides_the_environment(predict, monkeypatch):
    with serve(prediction) as server:
        predict(server.url, CUTOUTS)
        monkeypatch.setenv("PHOTOZ_API_KEY", "")  # as if it were not set
        predict(server.url, CUTOUTS)
        monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
        predict(server.url, CUTOUTS)
        predict(server.url, CUTOUTS, api_key=KEY)
        # Two requests each: for the name of the model, and with the cutouts.
        assert server.authorizations == [None] * 4 + ["Bearer of-the-environment"] * 2 + [SIGNED] * 2


def _users_auth(request):
    request.headers["Authorization"] = "Bearer user"
    return request


@pytest.mark.parametrize("credentials", [{"headers": {"authorization": "Bearer user"}}, {"auth": _users_auth}])
@pytest.mark.parametrize(
    ("api_key", "environment", "signed"),
    [(None, None, "Bearer user"), (None, "environment", "Bearer user"), (KEY, "environment", SIGNED)],
)
def test_credentials_of_a_given_client_override_the_environment_only(
    credentials, api_key, environment, signed, monkeypatch
):
    if environment:
        monkeypatch.setenv("PHOTOZ_API_KEY", environment)
    with serve(lambda request: httpx.Response(200)) as server, httpx.Client(**credentials) as http:
        PhotozClient(server.url, api_key=api_key, http=http).wait_until_ready(1.0)
        http.get(server.url)
        assert server.authorizations == [signed, "Bearer user"]  # the given client does not keep the key


@pytest.mark.parametrize(
    ("api_key", "hint"),
    [
        (None, "no API key was sent: set PHOTOZ_API_KEY, api_key or --api-key-file"),
        (KEY, "http://.* does not accept the API key"),
    ],
)
def test_a_missing_or_wrong_key_is_reported_without_a_retry(predict, api_key, hint):
    with serve(_refuse_key) as server:
        server.index = _refuse_key
        with pytest.raises(NotAuthorised, match=f"^expected a key .*{hint}") as caught:
            predict(server.url, CUTOUTS, api_key=api_key)
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
    """All texts of an error, including the local variables of our functions, shown by some error reports."""
    ours = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "photoz_client" in frame.f_code.co_filename]
    return [str(error), repr(error), *traceback.format_exception(error), *(repr(frame.f_locals) for frame in ours)]


def test_redirects_are_not_followed_unless_a_given_client_does_and_then_without_the_key():
    with serve(_refuse_key) as other, serve(lambda request: _redirect(other.url + request.url.path)) as server:
        with PhotozClient(server.url, api_key=KEY) as client, pytest.raises(PhotozError, match="answered 307"):
            client.model()
        assert other.authorizations == []
        with httpx.Client(follow_redirects=True) as http, pytest.raises(NotAuthorised, match="no API key was sent"):
            PhotozClient(server.url, api_key=KEY, http=http).model()
        assert server.authorizations == [SIGNED] * 2
        assert other.authorizations == [None]


def test_redirects_in_a_circle_end():
    http = httpx.Client(follow_redirects=True, max_redirects=3)
    with serve(lambda request: _redirect(request.url.path)) as server, http:
        with pytest.raises(PhotozError, match="redirects in a circle"):
            PhotozClient(server.url, http=http).model()
        assert len(server.requests) == 4


@pytest.mark.parametrize("key", ["", "two words", "line\r\nX-Evil: 1", "end\n", "schlüssel", "zero\0", "k" * 4097])
@pytest.mark.parametrize("client", [PhotozClient, AsyncPhotozClient])
def test_an_invalid_key_is_refused_and_not_shown(client, key):
    with pytest.raises(InvalidInput, match="expected an API key of printable ASCII characters") as caught:
        client("http://service", api_key=key)
    assert not key or key not in "".join(traceback.format_exception(caught.value))


def test_the_command_takes_the_key_from_a_file_or_the_environment_only(photoz, tmp_path, monkeypatch):
    np.savez(tmp_path / "cutouts.npz", images=CUTOUTS, z_spec=np.ones(3))
    (tmp_path / "key").write_text(f"{KEY}\n")
    monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
    with serve(_refuse_key) as server:
        server.index = _refuse_key
        for command in (["predict", tmp_path / "cutouts.npz"], ["evaluate", tmp_path / "cutouts.npz"], ["model"]):
            for option in ([], ["--api-key-file", tmp_path / "key"]):
                status, _, err = photoz(*command, "--url", server.url, *option)
                assert (status, err.count("\n")) == (1, 1)
                assert "does not accept the API key that was sent" in err
            assert photoz(*command, "--api-key", KEY)[0] == 2
        assert server.authorizations == ["Bearer of-the-environment", SIGNED] * 3


@pytest.mark.parametrize("content", [b"", b"\n", b"a key\n", b"one\ntwo\n", b"\x93NUMPY\x01\x00", b"k" * 100_000])
def test_a_file_without_a_key_is_refused_and_not_shown(photoz, tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    status, _, err = photoz("model", "--api-key-file", tmp_path / "key")
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(f"Error: expected {tmp_path / 'key'} to hold an API key of printable ASCII characters")
    assert "kkk" not in err
    assert "two" not in err


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
