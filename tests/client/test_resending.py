"""Which requests are sent again: both clients against real servers that are busy, slow, or go away."""

import threading
import time

import httpx
import numpy as np
import pytest

from photoz_client import ConnectionFailed, NotTried, PhotozClient, RequestRefused, Retries, TimedOut
from tests.client.answers import error, first_row, numbered_cutouts, prediction, raising
from tests.client.both_clients import ROWS, asynchronous, bins, blocking, incomplete
from tests.client.misbehaving_server import TIMEOUT, CloseMidAnswer, CloseWithoutAnswer, ResetConnection, serve
from tests.running import free_port

pytestmark = pytest.mark.usefixtures("small_requests")


TEMPORARY = {
    "429": lambda request: error(429),
    "503 of a service that shuts down": lambda request: error(503, Connection="close"),
    "connection closed mid-answer": raising(CloseMidAnswer),
    "connection closed without an answer": raising(CloseWithoutAnswer),
    "connection reset": raising(ResetConnection),
}


@pytest.mark.parametrize("failure", TEMPORARY.values(), ids=TEMPORARY)
def test_temporary_failures_are_retried_until_they_pass(predict, failure):
    attempts = []

    def twice(request):
        attempts.append(first_row(request))
        return failure(request) if attempts[-1] == ROWS and attempts.count(ROWS) <= 2 else prediction(request)

    with serve(twice) as server:
        result = predict(server.url, numbered_cutouts(3 * ROWS), pdf=True)
    assert sorted(attempts) == [0, ROWS, ROWS, ROWS, 2 * ROWS]
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


def test_retry_after_is_observed(predict):
    with serve(lambda request: prediction(request) if request.number else error(429, Retry_After="1")) as server:
        start = time.monotonic()
        predict(server.url, numbered_cutouts(ROWS))
        assert time.monotonic() - start >= 1.0


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


def test_connections_refused_for_three_seconds_at_the_start_lose_no_row():
    port, rows = free_port(), []
    cutouts, url = numbered_cutouts(3 * ROWS), f"http://127.0.0.1:{port}"
    caller = threading.Thread(target=lambda: rows.extend(bins(asynchronous(url, cutouts, pdf=True, retries=Retries()))))
    caller.start()
    time.sleep(3.0)
    with serve(prediction, port):
        caller.join(TIMEOUT)
    assert rows == list(range(3 * ROWS))


LARGE = np.ones((ROWS, 1000, 1000, 2), np.float32)  # 32 MB: more than the buffers of two sockets hold


# asyncio stops reading when it cannot write, so it does not see the answer of a service that closes at once.
@pytest.mark.parametrize(("send", "reads_rest"), [(blocking, True), (blocking, False), (asynchronous, True)])
@pytest.mark.parametrize(
    "answer", [*map(error, (401, 408, 413, 431)), httpx.Response(408), httpx.Response(431, content=b"headers")]
)
def test_a_body_refused_during_the_upload_is_not_sent_again(send, reads_rest, answer):
    with serve(prediction) as server:
        server.early_answer, server.reads_rest = answer, reads_rest
        with pytest.raises(RequestRefused) as caught:
            send(server.url, LARGE)
        assert len(server.authorizations) == 1 + 1  # for the name of the model, and with the cutouts
    assert caught.value.status == answer.status_code


def test_predictions_before_the_service_died_are_kept(predict):
    def dying(request):
        if first_row(request) >= 3 * ROWS:
            raise CloseWithoutAnswer
        return prediction(request)

    retries = Retries(attempts=3, base_delay=0.0)
    with serve(dying) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(100 * ROWS), pdf=True, in_flight=2, retries=retries)
        assert len(server.requests) <= 3 + 2 * 3
    assert caught.rows.tolist() == bins(caught.prediction) == list(range(3 * ROWS))
    assert caught.failed_rows.tolist() == list(range(3 * ROWS, 100 * ROWS))
    assert {type(failed) for _, failed in caught.failed} == {ConnectionFailed, NotTried}
    assert isinstance(caught.failed[-1].error, NotTried)
    assert str(caught).startswith("388 of 400 cutouts have no prediction; cutouts 12 to 15: the connection to http://")
