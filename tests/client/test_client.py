"""What the client does with answers that the real service cannot be made to give."""

import httpx
import numpy as np
import pytest

from photoz.estimates import COLUMNS
from photoz_client import PhotozClient, TimedOut, UnexpectedResponse
from photoz_client._inputs import ROWS_PER_REQUEST
from tests.client import answers

MANY = np.ones((ROWS_PER_REQUEST + 1, 8, 8, 2), np.float32)


def _client(handler, **options):
    return PhotozClient("http://service/", http=httpx.Client(transport=httpx.MockTransport(handler)), **options)


def test_predict_returns_all_rows_in_order_with_writable_columns():
    prediction = _client(answers.service).predict(MANY, pdf=True)
    assert prediction.model == "photoz 1"
    assert prediction.object_id.tolist() == [str(i) for i in range(len(MANY))]
    assert prediction.pdf.shape == (len(MANY), 180)
    assert tuple(name for name, _ in prediction.columns()) == (*COLUMNS, "pdf")
    assert all(values.flags.writeable for _, values in prediction.columns())
    assert (prediction.z_mean.dtype, prediction.object_id.dtype.kind) == (np.float64, "U")


def test_evaluate_predicts_first_when_images_exceed_one_request():
    paths = []

    def service(request):
        paths.append(request.url.path)
        if request.url.path != "/evaluate":
            return answers.service(request)
        scores = {"bias": {"value": 0.0, "error": 0.0}}
        return httpx.Response(200, json={"model": "photoz 1", "n_galaxies": len(MANY), "scores": scores})

    assert _client(service).evaluate(np.full(len(MANY), 0.1), images=MANY).n_galaxies == len(MANY)
    assert paths == [answers.INDEX_PATH, answers.INFER_PATH, answers.INFER_PATH, "/evaluate"]


def test_wait_until_ready_returns_when_the_service_becomes_ready():
    responses = iter([answers.error(503), httpx.Response(502, html="<html>"), httpx.Response(200, text="\n")])
    _client(lambda request: next(responses)).wait_until_ready(timeout=30)
    assert next(responses, None) is None


def test_wait_until_ready_timeout_says_why_the_service_was_not_ready():
    with pytest.raises(TimedOut, match="not ready after 0.1 s: .*the model is loading"):
        _client(lambda request: answers.error(503, "the model is loading")).wait_until_ready(timeout=0.1)


def test_wait_until_ready_ends_at_once_when_it_is_no_photoz_service():
    with pytest.raises(UnexpectedResponse):
        _client(lambda request: httpx.Response(404, html="<h1>hello</h1>")).wait_until_ready(timeout=3600)


def test_close_leaves_a_given_http_client_open():
    with httpx.Client() as http:
        with PhotozClient("http://service", http=http):
            pass
        assert not http.is_closed
    with PhotozClient("http://service") as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.model()


def test_headers_of_a_given_http_client_are_sent():
    seen = []

    def service(request):
        seen.append(request.headers["x-from"])
        return answers.service(request)

    http = httpx.Client(transport=httpx.MockTransport(service), headers={"X-From": "proxy"})
    PhotozClient("http://service", http=http).predict(MANY[:1])
    assert seen == ["proxy"] * 2
