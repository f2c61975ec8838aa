"""When a request is sent again: the policy alone."""

import random

import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import (
    BadInput,
    ConnectionFailed,
    NotAuthorised,
    Retries,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
    TooLargeForService,
    TooSlowForService,
    UnexpectedResponse,
)

RETRIES = Retries(attempts=8, base_delay=0.5, longest_delay=10.0, patience=60.0)


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 10.0), (7, 10.0)]
)
def test_pauses_fill_the_whole_of_an_interval_that_doubles_up_to_a_limit(attempt, longest):
    pauses = np.array([RETRIES.pause_after(ConnectionFailed("gone"), attempt, 0.0) for _ in range(2000)])
    assert pauses.min() >= 0.0
    assert pauses.max() <= longest
    np.testing.assert_allclose(np.quantile(pauses, [0.25, 0.5, 0.75]) / longest, [0.25, 0.5, 0.75], atol=0.06)


def test_retry_after_is_the_least_and_jitter_comes_on_top():
    pauses = [RETRIES.pause_after(ServiceBusy("busy", 7.0), 2, 0.0) for _ in range(200)]
    assert min(pauses) >= 7.0
    assert max(pauses) <= 8.0
    assert len(set(pauses)) > 100


def test_patience_bounds_all_pauses_of_a_request_together():
    assert RETRIES.pause_after(ServiceUnavailable("starts", 50.0), 1, 0.0) is not None
    assert RETRIES.pause_after(ServiceUnavailable("starts", 50.0), 2, 20.0) is None
    assert RETRIES.pause_after(ServiceUnavailable("starts", 61.0), 1, 0.0) is None


@pytest.mark.parametrize(
    ("error", "stranger", "attempts"),
    [
        (ServiceBusy("x"), False, 8),
        (ServiceUnavailable("x"), True, 8),
        (ConnectionFailed("x"), False, 8),
        (ConnectionFailed("x"), True, 8),
        (TimedOut("x"), False, 2),
        (ServiceFailed("x"), False, 1),
        (UnexpectedResponse("x"), False, 1),
        (BadInput(422, "x"), False, 1),
        (NotAuthorised(401, "x"), False, 1),
        (TooSlowForService(408, "x"), False, 1),
        (TooLargeForService(413, "x"), False, 1),
    ],
)
def test_only_what_may_pass_is_tried_again_and_not_for_ever(error, stranger, attempts):
    pauses = [RETRIES.pause_after(error, attempt, 0.0, stranger=stranger) for attempt in range(1, 12)]
    assert [pause is None for pause in pauses] == [attempt >= attempts for attempt in range(1, 12)]
    assert Retries(attempts=1).pause_after(error, 1, 0.0, stranger=stranger) is None


def _waited(error, retries, stranger):
    """Add up the pauses of one request that fails each time."""
    waited = 0.0
    for attempt in range(1, 100):
        pause = retries.pause_after(error, attempt, waited, stranger=stranger)
        if pause is None:
            return waited
        waited += pause
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("stranger", "soonest", "latest"), [(True, 3.0, 4.0), (False, 3.0, 120.0)])
def test_by_default_an_outage_of_three_seconds_is_ridden_out(stranger, soonest, latest):
    random.seed(1)  # without it the 7 pauses stay below 3 s together about once in 50,000 times
    waited = [_waited(ConnectionFailed("x"), Retries(), stranger) for _ in range(1000)]
    assert min(waited) >= soonest
    assert max(waited) <= latest


def test_patience_of_less_than_four_seconds_holds_for_a_stranger_too():
    assert max(_waited(ConnectionFailed("x"), Retries(patience=1.0), True) for _ in range(100)) <= 1.0
    assert _waited(ConnectionFailed("x"), Retries(patience=0.0), True) == 0.0


def test_a_great_number_of_attempts_does_not_overflow():
    assert Retries(attempts=10**6, patience=1e9).pause_after(ServiceBusy("x"), 10**5, 0.0) <= 30.0


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"base_delay": -1.0}, {"longest_delay": -1.0}, {"patience": -0.1}]
)
def test_a_policy_that_makes_no_sense_is_refused(options):
    with pytest.raises(InvalidInput, match="at least 1 attempt"):
        Retries(**options)
