"""Requests that are sent again, or not: both clients against real servers that are busy, slow, or go away."""

import threading
import time

import numpy as np
import pytest
from predicting import ROWS, asynchronous, bins, blocking, incomplete
from unruly import TIMEOUT, Answer, HangUp, Killed, Reset, free_port, good, numbered, refusal, serving

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

pytestmark = pytest.mark.usefixtures("few_rows")


PASSING = [lambda: refusal(429), lambda: refusal(502), lambda: refusal(503), Reset, HangUp, Killed]


@pytest.mark.parametrize("failure", PASSING)
def test_what_may_pass_is_tried_again_until_it_has_passed(predict, failure):
    def twice(asked):
        tries = server.firsts.count(asked.first)
        if asked.first == ROWS and tries <= 2:
            failed = failure()
            if isinstance(failed, Exception):
                raise failed
            return failed
        return good(asked)

    with serving(twice) as server:
        prediction = predict(server.url, numbered(3 * ROWS), pdf=True)
        assert server.firsts.count(ROWS) == 3
        assert len(server.asked) == 5
    assert bins(prediction) == list(range(3 * ROWS))


def test_a_kept_connection_that_breaks_when_it_is_used_again_is_replaced(predict):
    def hangs_up_once(asked):
        if asked.number == 1:
            raise HangUp
        return good(asked)

    with serving(hangs_up_once) as server:
        prediction = predict(server.url, numbered(3 * ROWS), in_flight=1, pdf=True)
        first, second, *others = [asked.port for asked in server.asked]
    assert second == first  # it was used again
    assert len(others) == 3 - 1
    assert first not in others
    assert bins(prediction) == list(range(3 * ROWS))


@pytest.mark.parametrize(
    ("status", "kind", "n_tries"),
    [
        (429, ServiceBusy, 5),
        (503, ServiceUnavailable, 5),
        (504, TimedOut, 2),
        (500, ServiceFailed, 1),
        (401, NotAuthorised, 1),
    ],
)
def test_attempts_are_counted_and_end(predict, status, kind, n_tries):
    with serving(lambda asked: refusal(status)) as server:
        with pytest.raises(kind, match="the reason"):
            predict(server.url, numbered(ROWS), retries=Retries(attempts=5, base_delay=0.0))
        assert len(server.asked) == n_tries


def test_an_evaluation_and_a_card_are_asked_for_again_too(predict):
    with serving(lambda asked: refusal(503)) as server:
        with PhotozClient(server.url, retries=Retries(attempts=2, base_delay=0.0)) as client:
            with pytest.raises(ServiceUnavailable):
                client.model()
            with pytest.raises(ServiceUnavailable):
                client.evaluate([0.1], pdfs=np.ones((1, 2)))
        assert len(server.asked) == 4


def test_retry_after_is_waited_for(predict):
    with serving(lambda asked: good(asked) if asked.number else refusal(429, Retry_After="1")) as server:
        start = time.monotonic()
        predict(server.url, numbered(ROWS))
        assert time.monotonic() - start >= 1.0


def test_a_service_that_asks_for_more_patience_than_there_is_is_not_waited_for(predict):
    with serving(lambda asked: refusal(503, Retry_After="3600")) as server:
        with pytest.raises(ServiceUnavailable) as caught:
            predict(server.url, numbered(ROWS), retries=Retries(patience=60.0))
        assert len(server.asked) == 1
    assert caught.value.retry_after == 3600.0


def test_a_timed_out_request_is_sent_twice(predict):
    done = threading.Event()

    def silent(asked):
        done.wait(TIMEOUT)
        return good(asked)

    with serving(silent) as server:
        with pytest.raises(TimedOut, match="no answer within 0.2 s"):
            predict(server.url, numbered(ROWS), timeout=0.2)
        done.set()
        assert len(server.asked) == 2


def test_a_service_that_was_never_there_is_given_up_soon_and_one_that_answered_is_waited_for():
    always = Retries(attempts=6, base_delay=0.0)
    with serving(good) as server, PhotozClient(server.url, retries=always) as client:
        client.predict(numbered(1))
        server.behave = _raising(HangUp)
        with pytest.raises(ConnectionFailed):
            client.predict(numbered(1))
        assert len(server.asked) == 1 + 6
        server.tell_names = _raising(HangUp)
        start = time.monotonic()
        stubborn = Retries(attempts=1000, longest_delay=0.5)
        with PhotozClient(server.url, retries=stubborn) as stranger, pytest.raises(ConnectionFailed):
            stranger.predict(numbered(1))
        assert 4.0 <= time.monotonic() - start < TIMEOUT
        assert len(server.asked) == 1 + 6


OUTAGE = 3.0  # seconds


def test_connections_that_are_reset_for_three_seconds_cost_no_row_and_double_none():
    ends = time.monotonic() + TIMEOUT

    def killed(asked):
        nonlocal ends
        if asked.number == 1:
            ends = time.monotonic() + OUTAGE
        if asked.number >= 1 and time.monotonic() < ends:
            raise Killed
        return good(asked)

    with serving(killed) as server:
        prediction = blocking(server.url, numbered(5 * ROWS), pdf=True, in_flight=2, retries=Retries())
        assert len(server.asked) > 5
    assert bins(prediction) == list(range(5 * ROWS))


def test_connections_that_are_refused_for_three_seconds_cost_no_row_even_at_the_very_start():
    port, rows = free_port(), []
    url = f"http://127.0.0.1:{port}"
    caller = threading.Thread(
        target=lambda: rows.extend(bins(asynchronous(url, numbered(3 * ROWS), pdf=True, retries=Retries())))
    )
    caller.start()
    time.sleep(OUTAGE)
    with serving(good, port):
        caller.join(TIMEOUT)
    assert rows == list(range(3 * ROWS))


LARGE = np.ones((ROWS, 1000, 1000, 2), np.float32)  # 32 MB: more than lies between two sockets

# asyncio gives up reading when it cannot write: there, a service that closes at once is not heard.
each_client_is_heard = pytest.mark.parametrize(
    ("send", "lingers"), [(blocking, True), (blocking, False), (asynchronous, True)]
)


@each_client_is_heard
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(401), NotAuthorised),
        (refusal(408), TooSlowForService),
        (refusal(413), TooLargeForService),
        (refusal(431), RequestRefused),
        (Answer(408, b""), TooSlowForService),
        (Answer(431, b"headers"), RequestRefused),
    ],
)
def test_a_body_that_is_refused_while_it_is_sent_is_not_sent_again(send, lingers, answer, kind):
    with serving(good) as server:
        server.answer_unread, server.lingers = answer, lingers
        with pytest.raises(RequestRefused) as caught:
            send(server.url, LARGE)
        assert len(server.authorizations) == 1 + 1  # the name of the model, and the cutouts
    assert type(caught.value) is kind
    assert caught.value.status == answer.status


def test_a_service_that_is_full_is_given_the_body_again(predict):
    answers = iter([refusal(429, Retry_After="0"), refusal(503)])

    def full(asked):
        return next(answers, None) or good(asked)

    with serving(full) as server:
        predict(server.url, LARGE[:, :100])
        assert len(server.asked) == 3


def _raising(error):
    def behave(*_):
        raise error

    return behave


def test_a_service_that_dies_is_not_hammered_and_what_it_gave_is_kept(predict):
    def dying(asked):
        if asked.first >= 3 * ROWS:
            raise HangUp
        return good(asked)

    with serving(dying) as server:
        error = incomplete(
            predict,
            server.url,
            numbered(100 * ROWS),
            pdf=True,
            in_flight=2,
            retries=Retries(attempts=3, base_delay=0.0),
        )
        assert len(server.asked) <= 3 + 2 * 3
    assert error.rows.tolist() == bins(error.prediction) == list(range(3 * ROWS))
    assert error.failed_rows.tolist() == list(range(3 * ROWS, 100 * ROWS))
    assert {type(failed) for _, failed in error.failed} == {ConnectionFailed, NotTried}
    assert isinstance(error.failed[-1].error, NotTried)
    assert str(error).startswith(
        f"388 of 400 cutouts have no prediction; cutouts 12 to 15: the connection to {server.url}"
    )
