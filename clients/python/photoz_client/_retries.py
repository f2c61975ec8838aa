"""When a request that failed is sent again, and after how long."""

import random
from dataclasses import dataclass

from photoz.errors import InvalidInput
from photoz_client._errors import ConnectionFailed, PhotozClientError, TimedOut, TryAgainLater

# Who has never answered most likely does not run: that should not take a minute to be told. It is still as long as a
# service needs to replace a worker that was killed.
PATIENCE_WITH_A_STRANGER = 4.0

# A service that is too slow still works on the request whose answer nobody waits for any more.
ATTEMPTS_AFTER_TIMEOUT = 2


@dataclass(frozen=True)
class Retries:
    """How patient the client is with a service that is busy, restarting or out of reach.

    Every request may be sent twice: none changes anything at the service. Pauses grow exponentially and are drawn at
    random from 0 to their length ("full jitter"), so that many clients do not come back at the same moment.

    Parameters
    ----------
    attempts : int
        How often one request is sent at most; 1 means once. A request that timed out is sent 2 times.
    base_delay : float
        Longest first pause in seconds; the next ones are twice as long each.
    longest_delay : float
        Where that ends.
    patience : float
        Seconds that the pauses of one request may take together. A service that asks for a longer one, by
        Retry-After, is not waited for. One that has not answered anything yet and cannot be reached gets 4 s.

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
            Which one that was, from 1.
        waited : float
            Seconds waited before.
        stranger : bool
            Whether nothing was ever answered.

        Returns
        -------
        float or None
            At least what the service asked for by Retry-After; None if there shall be no next attempt.
        """
        if attempt >= self._attempts(error):
            return None
        longest = min(self.longest_delay, self.base_delay * 2.0 ** min(attempt - 1, 60))
        asked_for = error.retry_after if isinstance(error, TryAgainLater) else None
        pause = (asked_for or 0.0) + random.uniform(0.0, longest)
        if stranger and isinstance(error, ConnectionFailed):
            return self._pause_at_a_stranger(pause, waited)
        return pause if waited + pause <= self.patience else None

    def _pause_at_a_stranger(self, pause: float, waited: float) -> float | None:
        """Cut the last pause short, so that all of the time is used and the last attempt comes at its end."""
        left = min(self.patience, PATIENCE_WITH_A_STRANGER) - waited
        return min(pause, left) if left > 0 else None

    def _attempts(self, error: PhotozClientError) -> int:
        match error:
            case TimedOut():
                return min(self.attempts, ATTEMPTS_AFTER_TIMEOUT)
            case ConnectionFailed() | TryAgainLater():
                return self.attempts
            case _:
                return 1


DEFAULT_RETRIES = Retries()
