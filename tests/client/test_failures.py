"""The error that each failed request raises; rows that fail do not affect the others."""

import gc
import math
import pickle
import tracemalloc

import httpx
import numpy as np
import pytest

import photoz_client
from photoz.errors import InvalidImages, InvalidInput, PhotozError
from photoz.io.formats import WRITTEN_SUFFIXES
from photoz_client import BadInput, PhotozClient, PhotozClientError, ServiceBusy, ServiceFailed, UnexpectedResponse
from photoz_client._prediction import FailedRows, PredictionIncomplete
from tests.client import answers
from tests.client.answers import bins, error, failing_at, mock_client, naming, numbered_cutouts, prediction
from tests.client.server import ROWS, TIMEOUT, incomplete, serve
from tests.running import ROOT

pytestmark = pytest.mark.usefixtures("small_requests")

ERRORS = {
    "BadInput": ((400, 422), "the reason"),
    "NotAuthorised": ((403,), "the reason"),
    "RequestRefused": ((404, 406, 415, 431), "the reason"),
    "TooSlowForService": ((408,), "the reason"),
    "TooLargeForService": ((413,), "the reason"),
    "ServiceBusy": ((429,), "the service at {url} is busy: the reason"),
    "ServiceFailed": ((500, 501, 599), "the service at {url} failed: the reason"),
    "ServiceUnavailable": ((502, 503), "the service at {url} is not available: the reason"),
    "TimedOut": ((504,), "the service at {url} timed out: the reason"),
}


def predict_one(client):
    return client.predict(np.ones((1, 8, 8, 2), np.float32))


# Which of the two requests of a prediction fails.
@pytest.mark.parametrize(
    ("named", "path"), [(lambda handler: handler, answers.INDEX_PATH), (naming, answers.INFER_PATH)]
)
def test_status_decides_the_error_and_the_message_is_that_of_the_service(named, path):
    for kind, (statuses, message) in ERRORS.items():
        for status in statuses:
            with pytest.raises(PhotozClientError) as caught:
                predict_one(mock_client(named(lambda request, status=status: error(status))))
            assert type(caught.value) is getattr(photoz_client, kind)
            assert str(caught.value) == message.format(url=f"http://service{path}")
            assert getattr(caught.value, "status", status) == status
    unexpected = dict.fromkeys((301, 400, 404), "UnexpectedResponse")  # of a proxy or another server
    others = {408: "TooSlowForService", 413: "TooLargeForService", 431: "RequestRefused", 502: "ServiceUnavailable"}
    for status, kind in {**unexpected, **others}.items():
        html = httpx.Response(status, html="<html>nginx</html>")
        with pytest.raises(PhotozClientError, match=str(status)) as caught:
            predict_one(mock_client(named(lambda request, html=html: html)))
        assert (type(caught.value), "<" in str(caught.value)) == (getattr(photoz_client, kind), False)
        if status in unexpected:
            assert str(caught.value).startswith(f"http://service{path} answered {status} ")
            assert str(caught.value).endswith("is the URL right?")


def test_answers_of_another_service_are_refused():
    def octets(content, **headers):
        return httpx.Response(200, content=content, headers={"content-type": answers.OCTETS, **headers})

    good = answers.prediction_columns({"z_mean": np.zeros(1), "flags": np.zeros(1, np.int32)})
    sign_in, numbers = httpx.Response(200, html="<h1>Sign in</h1>"), httpx.Response(200, json={"scores": 7})
    evaluate, plot = (lambda client: client.evaluate([0.1])), (lambda client: client.evaluate_plot([0.1]))
    infer, header_length = answers.INFER_PATH, answers.HEADER_LENGTH
    cases = [
        (infer, predict_one, sign_in, "answered with text/html, not application/octet-stream"),
        (infer, predict_one, octets(good.content[:-1], **{header_length: good.headers[header_length]}), "flags: "),
        (infer, predict_one, octets(good.content), "gave an answer that cannot be read: "),
        (infer, predict_one, octets(good.content, **{header_length: "9" * 5000}), f"be read: .*{header_length}"),
        (infer, predict_one, good, "answered without z_median, z_mode, .*ood_score$"),
        (infer, predict_one, httpx.Response(204), "answered 204 No Content"),
        ("/evaluate", plot, sign_in, "answered with text/html, not image/png"),
        ("/evaluate", evaluate, numbers, "gave an answer that this version of the client does not understand"),
        ("/model", PhotozClient.model, numbers, "gave an answer that this version of the client does not understand"),
    ]
    for path, call, answer, message in cases:
        with pytest.raises(UnexpectedResponse, match=f"^http://service{path} .*{message}"):
            call(mock_client(naming(lambda request, answer=answer: answer)))
    for models in ([], [{}], ["photoz"], {}, {"name": "photoz"}, 7, [{"name": "a"}, {"name": "b"}]):
        with pytest.raises(UnexpectedResponse, match=f"{answers.INDEX_PATH} answered without the name of one model"):
            predict_one(mock_client(lambda request, models=models: httpx.Response(200, json=models)))
    with pytest.raises(UnexpectedResponse, match="http://service redirects in a circle"):
        mock_client(answers.raising(httpx.TooManyRedirects("enough"))).model()
    with pytest.raises(UnexpectedResponse, match=r"answered 4 cutouts with z_mean as float64 of shape \(3,\)"):
        mock_client(naming(lambda request: prediction(request, n=3))).predict(numbered_cutouts(4))


def test_retry_after_is_read_as_seconds_or_date():
    for header, seconds in (
        ("7", 7.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 99 Oct 2026 07:27:00 GMT", None),
        ("soon", None),
    ):
        busy = error(429, Retry_After=header, Date="Wed, 21 Oct 2026 07:28:00 GMT")
        with pytest.raises(ServiceBusy) as caught:
            mock_client(lambda request, busy=busy: busy).model()
        assert caught.value.retry_after == seconds


def test_invalid_urls_and_options_are_refused_at_once():
    for url in ("127.0.0.1:3000", "localhost:3000", "ftp://host", "http://", "", "http://host:port"):
        with pytest.raises(photoz_client.InvalidUrl):
            PhotozClient(url)
    for call, message in (
        (lambda url: PhotozClient(url, in_flight=0), "in_flight of 1 or more, got 0"),
        (lambda url: PhotozClient(url, wire_dtype="float8"), "wire_dtype float32 or float16, got 'float8'"),
        (lambda url: PhotozClient(url).evaluate_plot([0.1], format="pdf"), "format png or svg, got 'pdf'"),
    ):
        with pytest.raises(InvalidInput, match=f"^expected {message}$"):
            call("http://service")


def _subclasses(kind):
    return [kind, *(below for child in kind.__subclasses__() for below in _subclasses(child))]


def test_every_error_is_exported_documented_and_derives_from_the_root():
    exported = [getattr(photoz_client, name) for name in photoz_client.__all__]
    errors = {thing for thing in exported if isinstance(thing, type) and issubclass(thing, Exception)}
    assert errors == {PhotozError, *_subclasses(PhotozClientError)}
    assert issubclass(BadInput, InvalidInput)
    guide = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    undocumented = {kind.__name__ for kind in errors if f"`{kind.__name__}`" not in guide}
    assert undocumented == {"PhotozClientError", "InvalidUrl"}
    assert [suffix for suffix in WRITTEN_SUFFIXES if f"`{suffix}`" not in guide] == []


def test_errors_can_be_pickled_and_an_incomplete_prediction_names_its_rows():
    files = FailedRows([0], OSError("bad"))
    failed = PredictionIncomplete(14, (FailedRows(range(2, 4), 1), files, FailedRows([5, 7, 8, 9, 11, 13], 7)))
    for original in (BadInput(422, "the reason"), ServiceBusy("the reason", 2.0), failed):
        copy = pickle.loads(pickle.dumps(original))
        assert (type(copy), str(copy), repr(vars(copy))) == (type(original), str(original), repr(vars(original)))
    assert failed.failed_rows.tolist() == [0, 2, 3, 5, 7, 8, 9, 11, 13]
    assert failed.rows.tolist() == [1, 4, 6, 10, 12]
    message = "9 of 14 cutouts have no prediction; cutouts 2 to 3: 1; cutout 0: bad; cutouts 5, 7, 8, 9, 11, ...: 7"
    assert str(failed) == message
    assert str(PredictionIncomplete(14, 4 * (files,))).endswith("; cutout 0: bad; cutout 0: bad; ...")


def test_a_failed_part_does_not_affect_the_others(predict):
    with serve(failing_at(ROWS, 2 * ROWS, 5 * ROWS, 7 * ROWS)) as server:  # not three in a row, which would stop it
        caught = incomplete(predict, server.url, numbered_cutouts(8 * ROWS), pdf=True)
        server.behave = failing_at(ROWS, answer=error(400, "cutout 3 is upside down"))
        refused = incomplete(predict, server.url, numbered_cutouts(3 * ROWS))
        server.requests.clear()
        server.behave = lambda request: error(400, "expected five bands")
        with pytest.raises(BadInput, match="^expected five bands$"):  # the first error, soon, if every part fails
            predict(server.url, numbered_cutouts(100 * ROWS), in_flight=2)
        assert len(server.requests) <= 5
    assert caught.failed_rows.tolist() == [*range(4, 12), *range(20, 24), *range(28, 32)]
    assert caught.rows.tolist() == bins(caught.prediction)
    assert [type(failed) for _, failed in caught.failed] == [ServiceFailed] * 4
    assert "cutouts 4 to 7: the service at" in str(caught)
    ((rows, failed),) = refused.failed
    assert (rows, str(failed)) == ([4, 5, 6, 7], "cutout 3 is upside down (counted from cutout 4 on)")


def test_a_cutout_without_a_finite_pixel_does_not_affect_the_others(predict):
    def strict(request):  # as the real service
        finite = np.isfinite(answers.decode(request).inputs["images"].array).any(axis=(1, 2, 3)).all()
        return prediction(request) if finite else error(400, "no finite pixel")

    cutouts = numbered_cutouts(10 * ROWS)
    empty = [1, 2, 7, *range(12, 36)]  # six whole parts in a row are empty, and do not stop the prediction
    cutouts[empty] = np.nan
    with serve(strict) as server:
        caught = incomplete(predict, server.url, cutouts, pdf=True)
        assert len(server.requests) == 10 + 2
    assert caught.failed_rows.tolist() == empty
    assert caught.rows.tolist() == bins(caught.prediction) == [row for row in range(40) if row not in empty]
    no_pixel = (InvalidImages, "no finite pixel; expected at least one in each cutout")
    assert {(type(failed), str(failed)) for _, failed in caught.failed} == {no_pixel}
    assert "cutouts 1 to 2: no finite pixel" in str(caught)


def _damaged_file(fails_at, *faults):
    """A file with a part whose reads end with these faults, one after the other."""
    left = iter(faults)

    class DamagedFile:
        shape = (5 * ROWS, 8, 8, 2)

        def __getitem__(self, rows):
            if rows.start == fails_at and (fault := next(left)):
                raise fault("bad sector")
            return numbered_cutouts(5 * ROWS)[rows]

    return DamagedFile()


def test_a_part_that_cannot_be_read_does_not_affect_the_others(predict):
    with serve(failing_at(ROWS, answer=error(400))) as server:
        # The part is sent and refused, and cannot be read again to find out why.
        caught = incomplete(predict, server.url, _damaged_file(ROWS, None, OSError), pdf=True)
        assert caught.failed_rows.tolist() == [4, 5, 6, 7]
        server.behave = prediction
        caught = incomplete(predict, server.url, _damaged_file(2 * ROWS, OSError), pdf=True)
        assert caught.failed_rows.tolist() == [8, 9, 10, 11]
        assert bins(caught.prediction) == caught.rows.tolist()
        assert "cutouts 8 to 11: bad sector" in str(caught)
        with pytest.raises(ZeroDivisionError):  # any other error of the source is raised
            predict(server.url, _damaged_file(2 * ROWS, ZeroDivisionError))


def test_failures_do_not_keep_requests_in_memory():
    class LargeFile:
        shape = (20 * ROWS, 128, 128, 2)

        def __getitem__(self, rows):
            return np.full((ROWS, *self.shape[1:]), rows.start, np.float32)

    every_other = failing_at(*range(ROWS, 20 * ROWS, 2 * ROWS))
    with serve(every_other) as server, PhotozClient(server.url, timeout=None) as client:
        tracemalloc.start()
        caught = incomplete(client.predict, LargeFile())
        server.requests.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(caught.failed) == 10
    assert held < 3 * 4 * ROWS * math.prod(LargeFile.shape[1:])


def test_each_client_requests_the_name_once_and_sends_no_cutouts_without_it(predict):
    with serve(prediction) as server:
        predict(server.url, numbered_cutouts(9 * ROWS), in_flight=3)
        assert (server.n_index_requests, {request.url.path for request in server.requests}) == (1, {answers.INFER_PATH})
        server.requests.clear()
        server.index = lambda: error(401)
        with pytest.raises(photoz_client.NotAuthorised):
            predict(server.url, numbered_cutouts(100 * ROWS), in_flight=2)
        assert (server.n_index_requests, len(server.requests)) == (2, 0)


def test_a_replaced_model_is_found_under_its_new_name():
    name = "old"

    def behave(request):
        if request.url.path != f"/v2/models/{name}/infer":
            return error(404, f"there is no such model here; expected model {name}")
        return prediction(request, f"{name} 1")

    with serve(behave) as server, PhotozClient(server.url, timeout=TIMEOUT) as client:
        server.index = lambda: answers.model_index(name)
        assert [client.predict(numbered_cutouts(1)).model for _ in range(2)] == ["old 1"] * 2
        assert server.n_index_requests == 1
        name = "new"
        result = client.predict(numbered_cutouts(3 * ROWS), pdf=True)
        assert (result.model, bins(result)) == ("new 1", list(range(3 * ROWS)))
        server.requests.clear()
        server.behave = lambda request: error(404, "no such model")
        with pytest.raises(photoz_client.RequestRefused, match="^no such model$") as caught:
            client.predict(numbered_cutouts(1))
        assert (caught.value.status, len(server.requests)) == (404, 2)


def test_rows_of_two_models_are_not_mixed(predict):
    def changing(request):
        return prediction(request, "photoz 1" if answers.first_row(request) < 2 * ROWS else "photoz 2")

    with serve(changing) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(20 * ROWS), in_flight=2, pdf=True)
    assert bins(caught.prediction) == list(range(2 * ROWS))
    assert isinstance(caught.failed[0].error, UnexpectedResponse)
    assert "changed its model between two requests, from photoz 1 to photoz 2" in str(caught)
