"""When a failed request is sent again, and after how long."""

import random
from dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz_client._errors import ConnectionFailed, PhotozClientError, TimedOut, TryAgainLater

# Seconds for retries at an address that has never answered. Most likely no service runs there, and the user should not
# wait a minute to find out. The service needs less time than this to start, or to replace a worker that was killed.
FIRST_CONTACT_BUDGET = 4.0

# A slow service still works on a request after the client has stopped waiting for the response.
ATTEMPTS_AFTER_TIMEOUT = 2


@dataclass(frozen=True)
class Retries:
    """How long the client keeps trying a service that is busy, restarting or out of reach.

    Every request is safe to repeat: none changes anything at the service. The longest pause grows exponentially; each
    pause is drawn at random from 0 to it ("full jitter"), so that clients do not all return at the same moment.

    Parameters
    ----------
    attempts : int
        Maximum number of times that one request is sent; 1 disables retries. After a timeout the maximum is 2.
    base_delay : float
        Longest first pause in seconds; it doubles after each attempt.
    longest_delay : float
        Upper limit of that growth, in seconds.
    patience : float
        Seconds that the pauses of one request may take in total. If the service asks for more with Retry-After, the
        client gives up. It gives up an address that has never answered after 4 s without a working connection.

    Raises
    ------
    InvalidInput
        If `attempts` is below 1, or a time below 0.
    """

    attempts: int = 8
    base_delay: float = 0.5
    longest_delay: float = 30.0
    patience: float = 120.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.base_delay, self.longest_delay, self.patience) < 0:
            raise InvalidInput(f"expected at least 1 attempt and no time below 0 s, got {self}")

    def pause_after(
        self, error: PhotozClientError, attempt: int, waited: float, *, never_answered: bool = False
    ) -> float | None:
        """Return the seconds to wait after a failed attempt, numbered from 1; None if no other attempt should follow.

        `waited` is the sum of the pauses so far, in seconds; with `never_answered`, the address has not answered yet.
        """
        if attempt >= self._max_attempts(error):
            return None
        longest = min(self.longest_delay, self.base_delay * 2.0 ** min(attempt - 1, 60))
        retry_after = error.retry_after if isinstance(error, TryAgainLater) else None
        pause = (retry_after or 0.0) + random.uniform(0.0, longest)
        if never_answered and isinstance(error, ConnectionFailed):
            # Shorten the last pause, so that the last attempt comes exactly when the budget ends.
            left = min(self.patience, FIRST_CONTACT_BUDGET) - waited
            return min(pause, left) if left > 0 else None
        return pause if waited + pause <= self.patience else None

    def _max_attempts(self, error: PhotozClientError) -> int:
        match error:
            case TimedOut():
                return min(self.attempts, ATTEMPTS_AFTER_TIMEOUT)
            case ConnectionFailed() | TryAgainLater():
                return self.attempts
            case _:
                return 1


DEFAULT_RETRIES = Retries()
