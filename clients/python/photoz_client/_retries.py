"""When a failed request is sent again, and after how long."""

import random
from dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz_client._errors import ConnectionFailed, PhotozClientError, TimedOut, TryAgainLater

# Seconds for retries at an address that has never answered: most likely no service runs there, and the user should not
# wait a minute to find out. The service needs less than this to start, and to replace a worker that was killed.
FIRST_CONTACT_BUDGET = 4.0

# A service that is too slow still works on a request whose answer the client no longer waits for.
ATTEMPTS_AFTER_TIMEOUT = 2


@dataclass(frozen=True)
class Retries:
    """How long the client keeps trying a service that is busy, restarting or out of reach.

    Every request is safe to repeat: none changes anything at the service. Pauses grow exponentially and are drawn at
    random from 0 to their length ("full jitter"), so that many clients do not come back at the same moment.

    Parameters
    ----------
    attempts : int
        How often one request is sent at most; 1 disables retries. A request that timed out is sent at most twice.
    base_delay : float
        Longest first pause in seconds; each following one is twice as long.
    longest_delay : float
        Upper limit of that growth, in seconds.
    patience : float
        Seconds that the pauses of one request may take together. If the service asks for more with Retry-After, the
        client gives up. An address that has never answered gets 4 s without a working connection.

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
        self, error: PhotozClientError, attempt: int, waited: float, *, stranger: bool = False
    ) -> float | None:
        """Return the seconds to wait before the next attempt.

        Parameters
        ----------
        error : PhotozClientError
            How the last attempt failed.
        attempt : int
            Number of that attempt, from 1.
        waited : float
            Seconds waited so far.
        stranger : bool
            Whether the address has never answered.

        Returns
        -------
        float or None
            At least what the service asked for with Retry-After; None if the request is not to be sent again.
        """
        if attempt >= self._max_attempts(error):
            return None
        longest = min(self.longest_delay, self.base_delay * 2.0 ** min(attempt - 1, 60))
        retry_after = error.retry_after if isinstance(error, TryAgainLater) else None
        pause = (retry_after or 0.0) + random.uniform(0.0, longest)
        if stranger and isinstance(error, ConnectionFailed):
            # The last pause is cut short, so that the last attempt comes exactly when the budget ends.
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
