"""The API key: where it comes from, where it is sent, and that it is shown nowhere."""

import logging
import traceback

import httpx
import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import AsyncPhotozClient, NotAuthorised, PhotozClient, PhotozError, Retries
from tests.client.answers import error, model_index, numbered_cutouts, prediction
from tests.client.server import CLOSE, CLOSE_MID_ANSWER, TIMEOUT, serve

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
        for environment, api_key in (("", None), ("of-the-environment", None), ("of-the-environment", KEY)):
            monkeypatch.setenv("PHOTOZ_API_KEY", environment)
            predict(server.url, CUTOUTS, api_key=api_key)
        # Two requests each: for the name of the model, and with the cutouts.
        assert server.authorizations == [None] * 2 + ["Bearer of-the-environment"] * 2 + [SIGNED] * 2


@pytest.mark.parametrize(
    ("credentials", "sent"),
    [({"headers": {"authorization": "Bearer user"}}, "Bearer user"), ({"auth": ("me", "you")}, "Basic bWU6eW91")],
)
def test_credentials_of_a_given_client_override_the_environment_only(credentials, sent, monkeypatch):
    with serve(lambda request: httpx.Response(200)) as server, httpx.Client(**credentials) as http:
        for environment, api_key in (("", None), ("environment", None), ("environment", KEY)):
            monkeypatch.setenv("PHOTOZ_API_KEY", environment)
            PhotozClient(server.url, api_key=api_key, http=http).wait_until_ready(TIMEOUT)
        http.get(server.url)  # the given client does not keep the key
        assert server.authorizations == [sent, sent, SIGNED, sent]


def test_a_missing_or_wrong_key_is_reported_without_a_retry(predict):
    missing = "no API key was sent: set PHOTOZ_API_KEY, api_key or --api-key-file"
    with serve(_refuse_key) as server:
        server.index = _refuse_key
        wrong = f"{server.url}/v2/repository/index does not accept the API key that was sent"
        for api_key, hint in ((None, missing), (KEY, wrong)):
            with pytest.raises(NotAuthorised) as caught:
                predict(server.url, CUTOUTS, api_key=api_key)
            assert (caught.value.status, str(caught.value)) == (401, f"expected a key ({hint})")
        assert len(server.authorizations) == 2


def test_the_key_appears_in_no_error_traceback_or_log(caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with serve(prediction) as server, PhotozClient(server.url, api_key=KEY, retries=ONCE) as client:
        texts = [repr(client), str(client), repr(client._connection.__dict__)]
        failures = [_refuse_key(), *(error(status) for status in (400, 403, 500, 503, 504))]
        failures += [_redirect(f"{server.url}/elsewhere"), model_index("x"), httpx.Response(200, content=b"?")]
        failures += [CLOSE_MID_ANSWER, CLOSE]
        for failure in failures:
            server.behave = lambda request, failure=failure: failure
            texts += _texts_of_failure(client)
        assert server.authorizations == [SIGNED] * len(failures)
    texts += _texts_of_failure(PhotozClient(server.url, api_key=KEY, retries=ONCE))  # the server is gone
    assert len(caplog.records) > 50  # httpx and httpcore log every step
    assert not [text for text in (*texts, caplog.text, *capfd.readouterr()) if KEY in text]


def _texts_of_failure(client):
    """All texts of an error, including the local variables of our functions, shown by some error reports."""
    with pytest.raises(PhotozError) as caught:
        client.model()
    frames = [frame for frame, _ in traceback.walk_tb(caught.tb) if "photoz_client" in frame.f_code.co_filename]
    texts = str(caught.value), repr(caught.value), *traceback.format_exception(caught.value)
    return [*texts, *(repr(frame.f_locals) for frame in frames)]


def test_redirects_are_not_followed_unless_a_given_client_does_and_then_without_the_key():
    with serve(_refuse_key) as other, serve(lambda request: _redirect(other.url + request.url.path)) as server:
        with PhotozClient(server.url, api_key=KEY) as client, pytest.raises(PhotozError, match="answered 307"):
            client.model()
        assert other.authorizations == []
        with httpx.Client(follow_redirects=True) as http, pytest.raises(NotAuthorised, match="no API key was sent"):
            PhotozClient(server.url, api_key=KEY, http=http).model()
        assert (server.authorizations, other.authorizations) == ([SIGNED] * 2, [None])


def test_an_invalid_key_is_refused_and_not_shown():
    PhotozClient("http://service", api_key="k" * 4096).close()
    for key in ("", "two words", "line\r\nX-Evil: 1", "end\n", "schlüssel", "zero\0", "k" * 4097):
        for client in (PhotozClient, AsyncPhotozClient):
            with pytest.raises(InvalidInput, match="expected an API key of printable ASCII characters") as caught:
                client("http://service", api_key=key)
            assert not key or key not in "".join(traceback.format_exception(caught.value))


def test_the_command_takes_the_key_from_a_file_or_the_environment_only(photoz, tmp_path, monkeypatch):
    cutouts, key_file = tmp_path / "cutouts.npz", tmp_path / "key"
    np.savez(cutouts, images=CUTOUTS, z_spec=np.ones(3))
    key_file.write_text(f"{KEY}\n")
    monkeypatch.setenv("PHOTOZ_API_KEY", "of-the-environment")
    with serve(_refuse_key) as server:
        for command in (["predict", cutouts], ["evaluate", cutouts], ["model"]):
            for option in ([], ["--api-key-file", key_file]):
                status, _, err = photoz(*command, "--url", server.url, *option)
                assert (status, err.count("\n")) == (1, 1)
                assert "does not accept the API key that was sent" in err
            assert photoz(*command, "--api-key", KEY)[0] == 2
        assert server.authorizations == ["Bearer of-the-environment", SIGNED] * 3
    for content in (b"", b"\n", b"a key\n", b"one\ntwo\n", b"\x93NUMPY\x01\x00", b"k" * 100_000):
        key_file.write_bytes(content)
        status, _, err = photoz("model", "--api-key-file", key_file)
        assert (status, err.count("\n"), "kkk" in err, "two" in err) == (1, 1, False, False)
        assert err.startswith(f"Error: expected {key_file} to hold an API key of printable ASCII characters")


def test_secrets_in_headers_of_a_given_client_and_in_the_url_are_not_shown():
    with serve(lambda request: error(500)) as server:
        with httpx.Client(headers={"Authorization": "s3cret\nkey"}) as http:
            texts = _texts_of_failure(PhotozClient(server.url, http=http, retries=ONCE))
        check = f"the request to {server.url} cannot be sent: check the headers of the given httpx client"
        assert (texts[0], server.authorizations) == (check, [])
        url = server.url.replace("//", "//galileo:s3cret@")
        with PhotozClient(url, retries=ONCE) as client:
            texts += [repr(client), _texts_of_failure(client)[0]]
        assert texts[-2:] == [f"PhotozClient({server.url!r})", f"the service at {server.url}/model failed: the reason"]
        assert server.authorizations[0].startswith("Basic ")
    texts.append(_texts_of_failure(PhotozClient(url, retries=ONCE))[0])  # the server is gone
    assert not [text for text in texts if "s3cret" in text]
