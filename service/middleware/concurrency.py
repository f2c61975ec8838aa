"""Limits on what runs or waits at a time, in all and of one client."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from service.middleware.errors import TooManyRequests


class ConcurrencyLimit:
    """Counts by client. `what`, such as "requests are in flight", is for the message to those that are refused."""

    def __init__(self, what: str, in_all: int, of_client: int) -> None:
        self._what, self._in_all, self._of_client = what, in_all, of_client
        self._counts = Counter[str]()

    def __len__(self) -> int:
        return self._counts.total()

    def check(self, client: str) -> None:
        """Raise `TooManyRequests` if there is no place for another one of a client."""
        if (n := len(self)) >= self._in_all:
            raise TooManyRequests(f"{n} {self._what} already; try again later")
        if (n := self._counts[client]) >= self._of_client:
            raise TooManyRequests(f"{n} of your {self._what} already; try again later")

    @contextlib.contextmanager
    def count(self, client: str) -> Iterator[None]:
        """Count one more of a client, as long as the context lasts."""
        self._counts[client] += 1
        try:
            yield
        finally:
            self._counts[client] -= 1
            self._counts += Counter()  # drops clients without any
