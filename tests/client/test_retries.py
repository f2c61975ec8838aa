"""Which requests are sent again, and after how long: `Retries`, and clients of servers that are busy, slow or gone."""

import asyncio
import random
import threading
import time

import httpx
import pytest

import photoz_client
from photoz.errors import InvalidInput
from photoz_client import ConnectionFailed, PhotozClient, Retries, ServiceBusy, ServiceUnavailable, TimedOut
from photoz_client._backends import AsyncBackend, BlockingBackend, run_blocking
from tests.client.answers import bins, error, first_row, mock_client, numbered_cutouts, prediction, raising
from tests.client.server import CLOSE, CLOSE_MID_ANSWER, RESET, ROWS, TIMEOUT, blocking, incomplete, serve

pytestmark = pytest.mark.usefixtures("small_requests")

RETRIES = Retries(attempts=8, base_delay=0.5, longest_delay=10.0, patience=60.0)
GONE = ConnectionFailed("gone")


def test_pauses_are_drawn_from_0_to_a_limit_that_doubles(monkeypatch):
    limits = []
    monkeypatch.setattr(random, "uniform", lambda *limit: limits.append(limit) or 0.25)
    assert [RETRIES.pause_after(GONE, attempt, 0.0) for attempt in range(1, 9)] == [0.25] * 7 + [None]
    assert limits == [(0.0, longest) for longest in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0)]
    for never_answered in (False, True):  # Retry-After, and the random pause
        assert RETRIES.pause_after(ServiceBusy("busy", 7.0), 2, 0.0, never_answered=never_answered) == 7.25
    assert Retries(attempts=10**6).pause_after(GONE, 10**5, 0.0) == 0.25  # no overflow


def test_the_sum_of_the_pauses_is_limited(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    for retry_after, waited, pause in ((59.5, 0.0, 60.0), (59.5, 0.1, None), (61.0, 0.0, None)):
        assert RETRIES.pause_after(ServiceUnavailable("starts", retry_after), 1, waited) == pause
    for retries, never, expected in (
        (Retries(), True, [0.5, 1.0, 2.0, 0.5]),  # an address that never answered is given up after four seconds
        (Retries(patience=1.0), True, [0.5, 0.5]),
        (Retries(), False, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]),
    ):
        pauses = []
        while (pause := retries.pause_after(GONE, len(pauses) + 1, sum(pauses), never_answered=never)) is not None:
            pauses.append(pause)
        assert pauses == expected


def test_only_temporary_failures_are_retried():
    refused = [getattr(photoz_client, name)(400, "x") for name in ("NotAuthorised", "TooSlowForService", "BadInput")]
    for attempts, failures in (
        (8, [ServiceBusy("x"), ServiceUnavailable("x"), GONE]),
        (2, [TimedOut("x")]),
        (1, [photoz_client.ServiceFailed("x"), photoz_client.UnexpectedResponse("x"), *refused]),
    ):
        for failure, never in ((failure, never) for failure in failures for never in (False, True)):
            pauses = [RETRIES.pause_after(failure, i, 0.0, never_answered=never) for i in range(1, 12)]
            assert [pause is None for pause in pauses] == [attempt >= attempts for attempt in range(1, 12)]
            assert Retries(attempts=1).pause_after(failure, 1, 0.0, never_answered=never) is None
    assert Retries(base_delay=0.0, longest_delay=0.0, patience=0.0).attempts == 8
    for option in ({"attempts": 0}, {"base_delay": -1}, {"longest_delay": -1}, {"patience": -1}):
        with pytest.raises(InvalidInput, match="expected at least 1 attempt and no time below 0 s, got Retries"):
            Retries(**option)


@pytest.mark.parametrize("failure", [error(429), error(503, Connection="close"), CLOSE_MID_ANSWER, CLOSE, RESET])
def test_temporary_failures_are_retried_until_they_pass(predict, failure):
    attempts = []

    def twice(request):
        attempts.append(first_row(request))
        return failure if attempts[-1] == ROWS and attempts.count(ROWS) <= 2 else prediction(request)

    with serve(twice) as server:
        result = predict(server.url, numbered_cutouts(3 * ROWS), pdf=True)
    assert sorted(attempts) == [0, ROWS, ROWS, ROWS, 2 * ROWS]
    assert bins(result) == list(range(3 * ROWS))


def test_a_pause_takes_its_time():
    for run, backend in ((run_blocking, BlockingBackend), (asyncio.run, AsyncBackend)):
        start = time.monotonic()
        run(backend(None).sleep(0.1))
        assert time.monotonic() - start > 0.099


def test_the_end_of_a_prediction_interrupts_its_pauses(monkeypatch):
    paused, sleep = threading.Event(), BlockingBackend.sleep

    async def noted_sleep(*arguments):
        paused.set()
        await sleep(*arguments)

    def behave(request):
        if first_row(request) > 0:
            return error(429, Retry_After="3600")
        paused.wait(TIMEOUT)
        return error(401)

    monkeypatch.setattr(BlockingBackend, "sleep", noted_sleep)
    threads = {*threading.enumerate()}
    with serve(behave) as server:
        with pytest.raises(photoz_client.NotAuthorised):
            blocking(server.url, numbered_cutouts(2 * ROWS), retries=Retries(patience=1e9))
        for thread in {*threading.enumerate()} - threads:
            if thread.name == "photoz-client":
                thread.join(TIMEOUT)
                assert (thread.is_alive(), thread.daemon) == (False, True)  # an interrupted program waits for none
        assert len(server.requests) == 2


def test_retry_after_is_observed_and_a_request_that_timed_out_is_sent_twice(pauses, card):
    responses = iter([error(429, Retry_After="7"), httpx.Response(200, json=card.model_dump(mode="json"))])
    assert mock_client(lambda request: next(responses), retries=Retries(base_delay=0.0)).model() == card
    assert pauses == [7.0]
    message = "^the service at http://service gave no answer within 7.5 s, the client's timeout$"
    with pytest.raises(TimedOut, match=message):
        mock_client(raising(httpx.ReadTimeout("no answer")), retries=Retries(), timeout=7.5).model()
    assert len(pauses) == 1 + 1
    with pytest.raises(TimedOut, match=r"^no photoz service answers at http://service within 7.5 s$"):
        mock_client(raising(httpx.ConnectTimeout("gone")), timeout=7.5).model()


def test_waiting_ends_when_the_service_is_ready_or_the_time_is_over(pauses):
    responses = iter([error(503), httpx.Response(502, html="<html>"), httpx.Response(200, text="\n")])
    mock_client(lambda request: next(responses)).wait_until_ready(60.0)
    assert pauses == [0.2, 0.2]
    loading, silent = (lambda request: error(503, "the model is loading")), raising(httpx.ReadTimeout("slow"))
    for handler, reason in ((loading, "the model is loading"), (silent, "within 0.2 s, the client's timeout")):
        with pytest.raises(TimedOut, match=f"^the service was not ready after 0 s: .* {reason}$"):
            mock_client(handler).wait_until_ready(0)
    with pytest.raises(photoz_client.UnexpectedResponse):  # at once, because no photo-z service answers like this
        mock_client(lambda request: httpx.Response(404, html="<h1>hello</h1>")).wait_until_ready(3600)


def test_the_timeout_ends_the_wait_for_a_silent_service():
    done = threading.Event()
    with serve(lambda request: done.wait() and error(500)) as server:
        client = PhotozClient(server.url, timeout=0.2, retries=Retries(attempts=1))
        with client, pytest.raises(TimedOut, match=r"within 0\.2 s"):
            client.model()
        done.set()
    with pytest.raises(RuntimeError, match="closed"):
        client.model()
    with httpx.Client() as http:
        PhotozClient("http://service", http=http).close()
        assert not http.is_closed


def test_an_address_that_never_answered_is_given_up_sooner_than_a_service_that_did(pauses, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    with serve(prediction) as server, PhotozClient(server.url, retries=Retries(attempts=6)) as client:
        client.predict(numbered_cutouts(1))
        server.behave = server.index = lambda *_: CLOSE
        with pytest.raises(ConnectionFailed, match=f"^the connection to {server.url} broke: "):
            client.predict(numbered_cutouts(1))
        assert (len(server.requests), pauses) == (1 + 6, [0.5, 1.0, 2.0, 4.0, 8.0])
        pauses.clear()
        with PhotozClient(server.url, retries=Retries(attempts=6)) as stranger, pytest.raises(ConnectionFailed):
            stranger.predict(numbered_cutouts(1))
    assert pauses == [0.5, 1.0, 2.0, 0.5]


def test_predictions_before_the_service_died_are_kept(predict):
    retries = Retries(attempts=3, base_delay=0.0)
    with serve(lambda request: CLOSE if first_row(request) >= 3 * ROWS else prediction(request)) as server:
        caught = incomplete(predict, server.url, numbered_cutouts(100 * ROWS), pdf=True, in_flight=2, retries=retries)
        assert len(server.requests) <= 3 + 2 * 3
    assert caught.rows.tolist() == bins(caught.prediction) == list(range(3 * ROWS))
    assert caught.failed_rows.tolist() == list(range(3 * ROWS, 100 * ROWS))
    assert {type(failed) for _, failed in caught.failed} == {ConnectionFailed, photoz_client.NotTried}
    assert isinstance(caught.failed[-1].error, photoz_client.NotTried)
    assert str(caught).startswith("388 of 400 cutouts have no prediction; cutouts 12 to 15: the connection to http://")
