"""`Retries`: which failures are retried, and after how long."""

import random

import numpy as np
import pytest

import photoz_client
from photoz.errors import InvalidInput
from photoz_client import ConnectionFailed, Retries, ServiceBusy, ServiceUnavailable

RETRIES = Retries(attempts=8, base_delay=0.5, longest_delay=10.0, patience=60.0)


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (6, 10.0), (7, 10.0)])
def test_pauses_are_uniform_over_an_interval_that_doubles_up_to_a_limit(attempt, longest):
    pauses = np.array([RETRIES.pause_after(ConnectionFailed("gone"), attempt, 0.0) for _ in range(2000)])
    assert pauses.min() >= 0.0
    assert pauses.max() <= longest
    np.testing.assert_allclose(np.quantile(pauses, [0.25, 0.5, 0.75]) / longest, [0.25, 0.5, 0.75], atol=0.06)


def test_jitter_is_added_to_retry_after():
    pauses = [RETRIES.pause_after(ServiceBusy("busy", 7.0), 2, 0.0) for _ in range(200)]
    assert min(pauses) >= 7.0
    assert max(pauses) <= 8.0
    assert len(set(pauses)) > 100


def test_patience_limits_the_sum_of_the_pauses():
    assert RETRIES.pause_after(ServiceUnavailable("starts", 50.0), 1, 0.0) is not None
    assert RETRIES.pause_after(ServiceUnavailable("starts", 50.0), 2, 20.0) is None
    assert RETRIES.pause_after(ServiceUnavailable("starts", 61.0), 1, 0.0) is None
    assert Retries(attempts=10**6, patience=1e9).pause_after(ServiceBusy("x"), 10**5, 0.0) <= 30.0  # no overflow


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (ServiceBusy("x"), 8),
        (ServiceUnavailable("x"), 8),
        (ConnectionFailed("x"), 8),
        (photoz_client.TimedOut("x"), 2),
        (photoz_client.ServiceFailed("x"), 1),
        (photoz_client.UnexpectedResponse("x"), 1),
        (photoz_client.BadInput(422, "x"), 1),
        (photoz_client.NotAuthorised(401, "x"), 1),
        (photoz_client.TooSlowForService(408, "x"), 1),
        (photoz_client.TooLargeForService(413, "x"), 1),
    ],
)
@pytest.mark.parametrize("never_answered", [False, True])
def test_only_temporary_failures_are_retried(error, never_answered, attempts):
    pauses = [RETRIES.pause_after(error, attempt, 0.0, never_answered=never_answered) for attempt in range(1, 12)]
    assert [pause is None for pause in pauses] == [attempt >= attempts for attempt in range(1, 12)]
    assert Retries(attempts=1).pause_after(error, 1, 0.0, never_answered=never_answered) is None


def _total_pause(retries, never_answered):
    """Sum of the pauses of one request that can never connect."""
    waited = 0.0
    for attempt in range(1, 100):
        pause = retries.pause_after(ConnectionFailed("x"), attempt, waited, never_answered=never_answered)
        if pause is None:
            return waited
        waited += pause
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("never_answered", "soonest", "latest"), [(True, 3.0, 4.0), (False, 3.0, 120.0)])
def test_defaults_outlast_an_outage_of_three_seconds(never_answered, soonest, latest):
    random.seed(1)  # without it, the 7 pauses are shorter than 3 s in total about once in 50,000 times
    waited = [_total_pause(Retries(), never_answered) for _ in range(1000)]
    assert min(waited) >= soonest
    assert max(waited) <= latest
    assert max(_total_pause(Retries(patience=1.0), never_answered) for _ in range(100)) <= 1.0


@pytest.mark.parametrize("option", ["attempts", "base_delay", "longest_delay", "patience"])
def test_invalid_options_are_refused(option):
    with pytest.raises(InvalidInput, match="at least 1 attempt"):
        Retries(**{option: -1})
