"""The error that each failed request raises."""

import pickle

import httpx
import numpy as np
import pytest

import photoz_client
from photoz.errors import InvalidInput, PhotozError
from photoz_client import BadInput, PhotozClient, PhotozClientError, ServiceBusy, UnexpectedResponse
from tests.client import answers
from tests.client.answers import HEADER_LENGTH, INDEX_PATH, INFER_PATH, OCTETS, mock_client, mock_client_of_model

IMAGES = np.ones((1, 8, 8, 2), np.float32)


# Which of the two requests of a prediction fails.
both_requests = pytest.mark.parametrize(
    ("client", "path"), [(mock_client, INDEX_PATH), (mock_client_of_model, INFER_PATH)]
)


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        ("BadInput", [400, 422]),
        ("NotAuthorised", [401, 403]),
        ("RequestRefused", [404, 406, 415]),
        ("TooSlowForService", [408]),
        ("TooLargeForService", [413]),
        ("ServiceBusy", [429]),
        ("ServiceFailed", [500]),
        ("ServiceUnavailable", [502, 503]),
        ("TimedOut", [504]),
    ],
)
@both_requests
def test_status_decides_the_error_and_the_message_is_that_of_the_service(kind, statuses, client, path):
    for status in statuses:
        with pytest.raises(PhotozClientError, match="the reason") as caught:
            client(lambda request, status=status: answers.error(status)).predict(IMAGES)
        assert type(caught.value) is getattr(photoz_client, kind)
        assert getattr(caught.value, "status", status) == status


@pytest.mark.parametrize("status", [301, 400, 404, 413, 502])
@both_requests
def test_html_of_a_proxy_or_another_server_is_not_shown(status, client, path):
    with pytest.raises(PhotozClientError, match=str(status)) as caught:
        client(lambda request: httpx.Response(status, html="<html>nginx</html>")).predict(IMAGES)
    assert "<" not in str(caught.value)
    if status < 413:
        assert type(caught.value) is UnexpectedResponse
        assert str(caught.value).startswith(f"http://service{path} answered {status} ")
        assert str(caught.value).endswith("is the URL right?")


def _octets(content, **headers):
    return httpx.Response(200, content=content, headers={"content-type": OCTETS, **headers})


GOOD = answers.prediction_columns({"z_mean": np.zeros(1), "flags": np.zeros(1, np.int32)})


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (httpx.Response(200, html="<h1>Sign in</h1>"), "answered with text/html, not application/octet-stream"),
        (httpx.Response(200, json={"redshift": 7}), "answered with application/json, not application/octet-stream"),
        (_octets(GOOD.content[:-1], **{HEADER_LENGTH: GOOD.headers[HEADER_LENGTH]}), "cannot be read: flags: "),
        (_octets(GOOD.content), "cannot be read: "),
        (_octets(GOOD.content, **{HEADER_LENGTH: "9" * 5000}), f"cannot be read: .*{HEADER_LENGTH}"),
        (GOOD, "answered without z_median, z_mode, .*ood_score$"),
        (httpx.Response(204), "answered 204 No Content"),
    ],
)
def test_an_invalid_prediction_is_refused(response, message):
    with pytest.raises(UnexpectedResponse, match=f"http://service{INFER_PATH} .*{message}"):
        mock_client_of_model(lambda request: response).predict(IMAGES)


def test_a_prediction_with_too_few_rows_is_refused():
    client = mock_client_of_model(lambda request: answers.prediction(request, n=3))
    with pytest.raises(UnexpectedResponse, match=r"answered 4 cutouts with columns of \(3,\) rows"):
        client.predict(answers.numbered_cutouts(4))


@pytest.mark.parametrize("models", [[], [{}], ["photoz"], {}, {"name": "photoz"}, 7, [{"name": "a"}, {"name": "b"}]])
def test_a_model_index_without_exactly_one_name_is_refused(models):
    with pytest.raises(UnexpectedResponse, match=f"http://service{INDEX_PATH} answered without the name of one model"):
        mock_client(lambda request: httpx.Response(200, json=models)).predict(IMAGES)


def test_answers_of_another_media_type_or_contract_are_refused():
    client = mock_client(lambda request: httpx.Response(200, html="<h1>Sign in</h1>"))
    with pytest.raises(UnexpectedResponse, match="http://service/evaluate answered with text/html, not image/png"):
        client.evaluate_plot([0.1], images=IMAGES)
    client = mock_client(lambda request: httpx.Response(200, json={"scores": "good"}))
    with pytest.raises(UnexpectedResponse, match="does not understand"):
        client.model()
    with pytest.raises(UnexpectedResponse, match="does not understand"):
        client.evaluate([0.1], images=IMAGES)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 99 Oct 2026 07:27:00 GMT", None),
        ("soon", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header, seconds):
    response = answers.error(429, Retry_After=header, Date="Wed, 21 Oct 2026 07:28:00 GMT")
    with pytest.raises(ServiceBusy) as caught:
        mock_client(lambda request: response).predict(IMAGES)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "localhost:3000", "ftp://host", "http://", "", "http://host:port"])
def test_an_invalid_url_is_refused_at_once(url):
    with pytest.raises(photoz_client.InvalidUrl):
        PhotozClient(url)


def test_invalid_options_are_refused_at_once():
    with pytest.raises(InvalidInput, match="expected in_flight of 1 or more"):
        PhotozClient("http://service", in_flight=0)
    with pytest.raises(InvalidInput, match="expected format png or svg, got 'pdf'"):
        PhotozClient("http://service").evaluate_plot([0.1], images=IMAGES, format="pdf")


def test_every_error_is_exported_and_derives_from_the_root():
    exported = [getattr(photoz_client, name) for name in photoz_client.__all__]
    errors = [thing for thing in exported if isinstance(thing, type) and issubclass(thing, Exception)]
    assert {error for error in errors if not issubclass(error, PhotozClientError)} == {PhotozError}
    assert set(_subclasses(PhotozClientError)) <= set(errors)
    assert issubclass(BadInput, InvalidInput)


def _subclasses(kind):
    return [kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))]


@pytest.mark.parametrize("error", [BadInput(422, "the reason"), ServiceBusy("the reason", 2.0)])
def test_errors_can_be_pickled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), vars(copy)) == (str(error), vars(error))
