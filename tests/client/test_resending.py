"""Which requests are sent again: both clients against real servers that are busy, slow, or go away."""

import threading
import time

import httpx
import numpy as np
import pytest

from photoz_client import (
    ConnectionFailed,
    NotAuthorised,
    NotTried,
    PhotozClient,
    RequestRefused,
    Retries,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    TooSlowForService,
)
from tests.client.answers import error, first_row, numbered_cutouts, prediction, raising
from tests.client.both_clients import ROWS, asynchronous, bins, blocking, incomplete
from tests.client.misbehaving_server import (
    TIMEOUT,
    CloseMidAnswer,
    CloseWithoutAnswer,
    ResetConnection,
    serve,
)
from tests.running import free_port

pytestmark = pytest.mark.usefixtures("small_requests")


def _answer(answer):
    return lambda request: answer


TEMPORARY = {
    "429": _answer(error(429)),
    "502": _answer(error(502)),
    "503 of a service that shuts down": _answer(error(503, Connection="close")),
    "connection closed mid-answer": raising(CloseMidAnswer),
    "connection closed without an answer": raising(CloseWithoutAnswer),
    "connection reset": raising(ResetConnection),
}


@pytest.mark.parametrize("failure", TEMPORARY.values(), ids=TEMPORARY)
def test_temporary_failures_are_retried_until_they_pass(predict, failure):
    def twice(request):
        fails = first_row(request) == ROWS and server.first_rows.count(ROWS) <= 2
        return failure(request) if fails else prediction(request)

    with serve(twice) as server:
        result = predict(server.url, numbered_cutouts(3 * ROWS), pdf=True)
        assert server.first_rows.count(ROWS) == 3
        assert len(server.requests) == 5
    assert bins(result) == list(range(3 * ROWS))


def test_a_kept_connection_that_breaks_on_reuse_is_replaced(predict):
    def close_once(request):
        if request.number == 1:
            raise CloseWithoutAnswer
        return prediction(request)

    with serve(close_once) as server:
        result = predict(server.url, numbered_cutouts(3 * ROWS), in_flight=1, pdf=True)
        first, second, *others = [request.port for request in server.requests]
    assert second == first  # it was reused
    assert len(others) == 3 - 1
    assert first not in others
    assert bins(result) == list(range(3 * ROWS))


def test_answers_that_close_the_connection_cost_no_request(predict):
    def closing(request):
        answer = prediction(request)
        answer.headers["Connection"] = "close"
        return answer

    with serve(closing) as server:
        result = predict(server.url, numbered_cutouts(9 * ROWS), in_flight=2, pdf=True, retries=Retries(attempts=1))
        assert len(server.requests) == 9
    assert bins(result) == list(range(9 * ROWS))


@pytest.mark.parametrize(
    ("status", "kind", "n_attempts"),
    [
        (429, ServiceBusy, 5),
        (503, ServiceUnavailable, 5),
        (504, TimedOut, 2),
        (500, ServiceFailed, 1),
        (401, NotAuthorised, 1),
    ],
)
def test_attempts_are_limited(predict, status, kind, n_attempts):
    with serve(_answer(error(status))) as server:
        with pytest.raises(kind, match="the reason"):
            predict(server.url, numbered_cutouts(ROWS), retries=Retries(attempts=5, base_delay=0.0))
        assert len(server.requests) == n_attempts


def test_evaluate_and_model_are_retried():
    with serve(_answer(error(503))) as server:
        with PhotozClient(server.url, retries=Retries(attempts=2, base_delay=0.0)) as client:
            with pytest.raises(ServiceUnavailable):
                client.model()
            with pytest.raises(ServiceUnavailable):
                client.evaluate([0.1], pdfs=np.ones((1, 2)))
        assert len(server.requests) == 4


def test_retry_after_is_observed(predict):
    with serve(lambda request: prediction(request) if request.number else error(429, Retry_After="1")) as server:
        start = time.monotonic()
        predict(server.url, numbered_cutouts(ROWS))
        assert time.monotonic() - start >= 1.0


def test_retry_after_beyond_the_patience_ends_the_attempts(predict):
    with serve(_answer(error(503, Retry_After="3600"))) as server:
        with pytest.raises(ServiceUnavailable) as caught:
            predict(server.url, numbered_cutouts(ROWS), retries=Retries(patience=60.0))
        assert len(server.requests) == 1
    assert caught.value.retry_after == 3600.0


def test_a_request_that_timed_out_is_sent_twice(predict):
    done = threading.Event()

    def silent(request):
        done.wait(TIMEOUT)
        return prediction(request)

    with serve(silent) as server:
        with pytest.raises(TimedOut, match="no answer within 0.2 s"):
            predict(server.url, numbered_cutouts(ROWS), timeout=0.2)
        done.set()
        assert len(server.requests) == 2


def test_an_address_that_never_answered_is_given_up_sooner_than_a_service_that_did():
    with serve(prediction) as server, PhotozClient(server.url, retries=Retries(attempts=6, base_delay=0.0)) as client:
        client.predict(numbered_cutouts(1))
        server.behave = raising(CloseWithoutAnswer)
        with pytest.raises(ConnectionFailed):
            client.predict(numbered_cutouts(1))
        assert len(server.requests) == 1 + 6
        server.index = raising(CloseWithoutAnswer)
        start = time.monotonic()
        many = Retries(attempts=1000, longest_delay=0.5)
        with PhotozClient(server.url, retries=many) as stranger, pytest.raises(ConnectionFailed):
            stranger.predict(numbered_cutouts(1))
        assert 4.0 <= time.monotonic() - start < TIMEOUT


OUTAGE = 3.0  # seconds


def test_connections_reset_for_three_seconds_lose_and_double_no_row():
    end = time.monotonic() + TIMEOUT

    def killed(request):
        nonlocal end
        if request.number == 1:
            end = time.monotonic() + OUTAGE
        if request.number >= 1 and time.monotonic() < end:
            raise ResetConnection
        return prediction(request)

    with serve(killed) as server:
        result = blocking(server.url, numbered_cutouts(5 * ROWS), pdf=True, in_flight=2, retries=Retries())
        assert len(server.requests) > 5
    assert bins(result) == list(range(5 * ROWS))


def test_connections_refused_for_three_seconds_at_the_start_lose_no_row():
    port, rows = free_port(), []
    cutouts, url = numbered_cutouts(3 * ROWS), f"http://127.0.0.1:{port}"
    caller = threading.Thread(target=lambda: rows.extend(bins(asynchronous(url, cutouts, pdf=True, retries=Retries()))))
    caller.start()
    time.sleep(OUTAGE)
    with serve(prediction, port):
        caller.join(TIMEOUT)
    assert rows == list(range(3 * ROWS))


LARGE = np.ones((ROWS, 1000, 1000, 2), np.float32)  # 32 MB: more than the buffers of two sockets hold


# asyncio stops reading when it cannot write, so it does not see the answer of a service that closes at once.
@pytest.mark.parametrize(("send", "reads_rest"), [(blocking, True), (blocking, False), (asynchronous, True)])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(401), NotAuthorised),
        (error(408), TooSlowForService),
        (error(413), TooLargeForService),
        (error(431), RequestRefused),
        (httpx.Response(408), TooSlowForService),
        (httpx.Response(431, content=b"headers"), RequestRefused),
    ],
)
def test_a_body_refused_during_the_upload_is_not_sent_again(send, reads_rest, answer, kind):
    with serve(prediction) as server:
        server.early_answer, server.reads_rest = answer, reads_rest
        with pytest.raises(RequestRefused) as caught:
            send(server.url, LARGE)
        assert len(server.authorizations) == 1 + 1  # for the name of the model, and with the cutouts
    assert type(caught.value) is kind
    assert caught.value.status == answer.status_code


def test_a_large_body_is_sent_again_to_a_busy_service(predict):
    busy = iter([error(429, Retry_After="0"), error(503)])
    with serve(lambda request: next(busy, None) or prediction(request)) as server:
        predict(server.url, LARGE[:, :100])
        assert len(server.requests) == 3


def test_predictions_before_the_service_died_are_kept(predict):
    def dying(request):
        if first_row(request) >= 3 * ROWS:
            raise CloseWithoutAnswer
        return prediction(request)

    with serve(dying) as server:
        retries = Retries(attempts=3, base_delay=0.0)
        cutouts = numbered_cutouts(100 * ROWS)
        caught = incomplete(predict, server.url, cutouts, pdf=True, in_flight=2, retries=retries)
        assert len(server.requests) <= 3 + 2 * 3
    assert caught.rows.tolist() == bins(caught.prediction) == list(range(3 * ROWS))
    assert caught.failed_rows.tolist() == list(range(3 * ROWS, 100 * ROWS))
    assert {type(failed) for _, failed in caught.failed} == {ConnectionFailed, NotTried}
    assert isinstance(caught.failed[-1].error, NotTried)
    start = f"388 of 400 cutouts have no prediction; cutouts 12 to 15: the connection to {server.url}"
    assert str(caught).startswith(start)
