"""When a request is sent again: the policy alone."""

import numpy as np
import pytest

from photoz.errors import InvalidInput
from photoz_client import (
    BadInput,
    ConnectionFailed,
    Retries,
    ServiceBusy,
    ServiceFailed,
    ServiceUnavailable,
    TimedOut,
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
        (ConnectionFailed("x"), True, 3),
        (TimedOut("x"), False, 2),
        (ServiceFailed("x"), False, 1),
        (UnexpectedResponse("x"), False, 1),
        (BadInput(422, "x"), False, 1),
    ],
)
def test_only_what_may_pass_is_tried_again_and_not_for_ever(error, stranger, attempts):
    pauses = [RETRIES.pause_after(error, attempt, 0.0, stranger=stranger) for attempt in range(1, 12)]
    assert [pause is None for pause in pauses] == [attempt >= attempts for attempt in range(1, 12)]
    assert Retries(attempts=1).pause_after(error, 1, 0.0, stranger=stranger) is None


def test_a_great_number_of_attempts_does_not_overflow():
    assert Retries(attempts=10**6, patience=1e9).pause_after(ServiceBusy("x"), 10**5, 0.0) <= 30.0


@pytest.mark.parametrize(
    "options", [{"attempts": 0}, {"base_delay": -1.0}, {"longest_delay": -1.0}, {"patience": -0.1}]
)
def test_a_policy_that_makes_no_sense_is_refused(options):
    with pytest.raises(InvalidInput, match="at least 1 attempt"):
        Retries(**options)
