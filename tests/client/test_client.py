"""What the client does with the answers, where the real service cannot be made to give them."""

import httpx
import numpy as np
import pytest
from v2_answers import INFER_PATH, NAMES_PATH

from photoz.estimates import COLUMNS
from photoz.protocol.contract import JSON
from photoz_client import PhotozClient, TimedOut, UnexpectedResponse
from photoz_client._galaxies import ROWS_PER_REQUEST

MANY = np.ones((ROWS_PER_REQUEST + 1, 8, 8, 2), np.float32)


def _client(handler, **options):
    return PhotozClient("http://service/", http=httpx.Client(transport=httpx.MockTransport(handler)), **options)


def test_the_rows_of_all_parts_come_back_in_order_with_their_names(answer):
    prediction = _client(answer).predict(MANY, pdf=True)
    assert len(prediction) == len(MANY)
    assert prediction.model == "photoz 1"
    assert prediction.object_id.tolist() == [str(i) for i in range(len(MANY))]
    assert prediction.pdf.shape == (len(MANY), 180)
    assert tuple(name for name, _ in prediction.columns()) == (*COLUMNS, "pdf")


def test_the_columns_have_the_number_types_of_the_answer_and_can_be_written_into(answer):
    prediction = _client(answer).predict(MANY[:1], pdf=True, object_id=["a"])
    assert all(values.flags.writeable for _, values in prediction.columns())
    assert prediction.z_mean.dtype == np.float64
    assert prediction.object_id.dtype.kind == "U"


def test_too_many_cutouts_for_one_evaluation_are_predicted_first_and_scored_by_their_pdfs(answer):
    paths = []

    def service(request):
        paths.append(request.url.path)
        if request.url.path != "/evaluate":
            return answer(request)
        scores = {"bias": {"value": 0.0, "error": 0.0}}
        return httpx.Response(200, json={"model": "photoz 1", "n_galaxies": len(MANY), "scores": scores})

    assert _client(service).evaluate(np.full(len(MANY), 0.1), images=MANY).n_galaxies == len(MANY)
    assert paths == [NAMES_PATH, INFER_PATH, INFER_PATH, "/evaluate"]


def test_waiting_ends_when_the_service_turns_ready(refusal):
    answers = iter([refusal(503), httpx.Response(502, html="<html>"), httpx.Response(200, text="\n")])
    _client(lambda request: next(answers)).wait_until_ready(timeout=30)
    assert next(answers, None) is None


def test_waiting_in_vain_says_what_was_there_instead(refusal):
    with pytest.raises(TimedOut, match="waited 0.1 s in vain: .*the model is loading"):
        _client(lambda request: refusal(503, "the model is loading")).wait_until_ready(timeout=0.1)


def test_waiting_for_something_that_is_no_photoz_service_ends_at_once():
    with pytest.raises(UnexpectedResponse):
        _client(lambda request: httpx.Response(404, html="<h1>hello</h1>")).wait_until_ready(timeout=3600)


def test_a_client_that_was_given_stays_open_and_an_own_one_is_closed():
    with httpx.Client() as http:
        with PhotozClient("http://service", http=http):
            pass
        assert not http.is_closed
    with PhotozClient("http://service") as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.model()


def test_headers_of_a_given_client_go_with_every_request(answer):
    seen = []

    def service(request):
        seen.append(request.headers)
        return answer(request)

    http = httpx.Client(transport=httpx.MockTransport(service), headers={"Authorization": "Bearer key"})
    PhotozClient("http://service", http=http).predict(MANY[:1])
    assert [headers["authorization"] for headers in seen] == ["Bearer key"] * 2
    assert seen[-1]["accept"] != JSON
