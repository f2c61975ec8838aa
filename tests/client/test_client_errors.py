"""Every way in which a call can fail, and the error that it becomes."""

import pickle
import socket
import threading
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import v2_answers
from v2_answers import HEADER_LENGTH, INFER_PATH, NAMES_PATH, OCTETS

import photoz_client
from photoz.errors import InvalidInput, PhotozError
from photoz_client import (
    BadInput,
    ConnectionFailed,
    InvalidUrl,
    NotAuthorised,
    PhotozClient,
    PhotozClientError,
    RequestRefused,
    Retries,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    UnexpectedResponse,
)

IMAGES = np.ones((1, 8, 8, 2), np.float32)


ONCE = Retries(attempts=1)


def _client(handler):
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return PhotozClient("http://service", http=http, retries=ONCE)


def _told(handler):
    """Tell the name of the model, and leave the rest to the handler."""

    def handle(request):
        is_first = request.url.path == NAMES_PATH
        return httpx.Response(200, json=v2_answers.names()) if is_first else handler(request)

    return _client(handle)


# At which of its two requests a prediction fails.
both_requests = pytest.mark.parametrize(("client", "path"), [(_client, NAMES_PATH), (_told, INFER_PATH)])


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadInput),
        (401, NotAuthorised),
        (403, NotAuthorised),
        (404, RequestRefused),
        (406, RequestRefused),
        (413, TooLargeForService),
        (415, RequestRefused),
        (422, BadInput),
        (429, ServiceBusy),
        (500, ServiceFailed),
        (502, ServiceUnavailable),
        (503, ServiceUnavailable),
        (504, TimedOut),
    ],
)
@both_requests
def test_each_status_becomes_its_error_with_the_sentence_of_the_service(status, kind, client, path, refusal):
    with pytest.raises(PhotozClientError, match="the reason") as caught:
        client(lambda request: refusal(status)).predict(IMAGES)
    assert type(caught.value) is kind
    assert getattr(caught.value, "status", status) == status


PROXY = [(413, TooLargeForService), (502, ServiceUnavailable), (500, ServiceFailed)]


@pytest.mark.parametrize(("status", "kind"), PROXY)
@both_requests
def test_what_a_proxy_says_in_html_means_the_same_and_stays_out_of_the_message(status, kind, client, path):
    with pytest.raises(kind) as caught:
        client(lambda request: httpx.Response(status, html="<html>nginx</html>")).predict(IMAGES)
    assert "<" not in str(caught.value)
    assert str(status) in str(caught.value)


@pytest.mark.parametrize("status", [301, 400, 404, 405])
@both_requests
def test_an_address_where_something_else_answers_is_named_as_such(status, client, path):
    with pytest.raises(UnexpectedResponse, match=f"http://service{path} answered {status} .*is the URL right"):
        client(lambda request: httpx.Response(status, html="<h1>hello</h1>")).predict(IMAGES)


def _octets(content, header_length=None):
    headers = {"content-type": OCTETS} | ({} if header_length is None else {HEADER_LENGTH: header_length})
    return httpx.Response(200, content=content, headers=headers)


GOOD, HEADERS = v2_answers.message({"z_mean": np.zeros(1), "flags": np.zeros(1, np.int32)})


@pytest.mark.parametrize(
    ("response", "complaint"),
    [
        (httpx.Response(200, html="<h1>Sign in</h1>"), "answered with text/html, not application/octet-stream"),
        (httpx.Response(200, json={"redshift": 7}), "answered with application/json, not application/octet-stream"),
        (_octets(GOOD[:-1], HEADERS[HEADER_LENGTH]), "cannot be read: flags: expected 4 bytes behind the JSON, got 3"),
        (_octets(GOOD), "cannot be read: the first .* bytes of the body are not JSON"),
        (_octets(GOOD, "soon"), f"cannot be read: expected {HEADER_LENGTH} as a number of bytes, got 'soon'"),
        (_octets(GOOD, "9" * 5000), f"cannot be read: expected {HEADER_LENGTH} as a number of bytes"),
        (httpx.Response(200, content=GOOD, headers=HEADERS), "answered without z_median, z_mode, .*ood_score$"),
        (httpx.Response(204), "answered 204 No Content"),
    ],
)
def test_an_answer_that_is_not_a_prediction_is_refused(response, complaint):
    with pytest.raises(UnexpectedResponse, match=f"http://service{INFER_PATH} .*{complaint}"):
        _told(lambda request: response).predict(IMAGES)


@pytest.mark.parametrize(
    "models", [[], [{}], ["photoz"], {}, {"name": "photoz"}, 7, v2_answers.names() + v2_answers.names("other")]
)
def test_an_answer_that_does_not_name_one_model_is_refused(models):
    with pytest.raises(UnexpectedResponse, match=f"http://service{NAMES_PATH} answered without the name of one model"):
        _client(lambda request: httpx.Response(200, json=models)).predict(IMAGES)


def test_an_answer_of_another_media_type_is_refused():
    client = _client(lambda request: httpx.Response(200, html="<h1>Sign in</h1>"))
    with pytest.raises(UnexpectedResponse, match="http://service/evaluate answered with text/html, not image/png"):
        client.evaluate_plot([0.1], images=IMAGES)


def test_answers_that_do_not_follow_the_contract_are_refused():
    client = _client(lambda request: httpx.Response(200, json={"scores": "good"}))
    with pytest.raises(UnexpectedResponse, match="does not know"):
        client.model()
    with pytest.raises(UnexpectedResponse, match="does not know"):
        client.evaluate([0.1], images=IMAGES)


RETRY_AFTER = [
    ("7", 7.0),
    ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
    ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
    ("Wed, 99 Oct 2026 07:27:00 GMT", None),
    ("-1", None),
    ("soon", None),
    ("", None),
]


@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
def test_the_seconds_until_retry_after_are_passed_on(header, seconds, refusal):
    headers = {"Retry-After": header, "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    with pytest.raises(ServiceBusy) as caught:
        _client(lambda request: refusal(429, headers=headers)).predict(IMAGES)
    assert caught.value.retry_after == seconds


def test_bad_input_is_caught_as_the_cores_own_error(refusal):
    with pytest.raises(InvalidInput, match="expected a galaxy"):
        _told(lambda request: refusal(400, "expected a galaxy")).predict(IMAGES)


def test_nobody_at_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConnectionFailed) as caught:
            PhotozClient(url, retries=ONCE).model()
    assert str(caught.value) == f"no photoz service answers at {url}: connection refused; is it running?"


def test_a_service_that_does_not_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = PhotozClient(url, timeout=0.1, retries=ONCE)
        with client, pytest.raises(TimedOut, match="gave no answer within 0.1 s"):
            client.model()


@contextmanager
def _hangs_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_a_service_that_hangs_up():
    with _hangs_up() as url, PhotozClient(url, retries=ONCE) as client, pytest.raises(ConnectionFailed, match="broke"):
        client.model()


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "localhost:3000", "ftp://host", "http://", "", "http://host:port"])
def test_a_url_that_is_none_is_refused_at_once(url):
    with pytest.raises(InvalidUrl):
        PhotozClient(url)


@pytest.mark.parametrize("options", [{"in_flight": 0}, {"in_flight": -1}])
def test_a_client_that_could_send_nothing_is_refused_at_once(options):
    with pytest.raises(InvalidInput, match="expected in_flight of 1 or more"):
        PhotozClient("http://service", **options)


def test_a_plot_in_a_format_that_is_none_is_refused_at_once():
    with pytest.raises(InvalidInput, match="expected format png or svg, got 'pdf'"):
        PhotozClient("http://service").evaluate_plot([0.1], images=IMAGES, format="pdf")


def test_every_error_of_the_client_is_exported_and_hangs_on_the_tree():
    exported = [getattr(photoz_client, name) for name in photoz_client.__all__]
    errors = [thing for thing in exported if isinstance(thing, type) and issubclass(thing, Exception)]
    assert {error for error in errors if not issubclass(error, PhotozClientError)} == {PhotozError}
    assert set(_subclasses(PhotozClientError)) <= set(errors)


def _subclasses(kind):
    return [kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))]


@pytest.mark.parametrize("error", [BadInput(422, "the reason"), ServiceBusy("the reason", 2.0)])
def test_errors_survive_the_way_from_another_process(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
