"""The memory that requests may take: their bodies, and what these become; a limit for each and one for all."""

import threading
from collections import Counter
from collections.abc import Callable

from photoz.errors import TooLarge
from service.middleware.errors import TooManyRequests

EXHAUSTED = "other requests hold all memory; try again in a second"


# One in so many bytes are kept for requests that hold no more than that: with the smallest budget, 200 cutouts. Of
# these, half are kept from a client whose requests hold all the rest.
KEPT_FOR_SMALL = 4


class MemoryBudget:
    """The memory that all requests share: `total_bytes` for all of them, `request_bytes` for one body.

    `heads_bytes` is what connections hold of heads, `kept_bytes` the part that is for small requests. `on_shortage` is
    called when there is not enough for a request, in any thread.
    """

    def __init__(self, total_bytes: int, request_bytes: int, on_shortage: Callable[[], None] = lambda: None) -> None:
        self.total_bytes, self.request_bytes = total_bytes, request_bytes
        self.used_bytes = self.heads_bytes = 0
        self.kept_bytes = total_bytes // KEPT_FOR_SMALL
        self._on_shortage = on_shortage
        self._of_client = Counter[str]()
        self._lock = threading.Lock()  # bodies are unpacked in threads

    def add(self, size: int, held: int, client: str) -> None:
        """Take some of it for a request that holds `held` bytes; raises `TooManyRequests` if there is not enough.

        The last quarter, and what heads take, are for requests that hold no more than that, and for one that has no
        others beside it. Half of this quarter is for clients whose requests do not hold all the rest.
        """
        with self._lock:
            if held == self.used_bytes:
                limit = self.total_bytes
            elif held + size <= self.kept_bytes:
                of_others = self.used_bytes - self._of_client[client]
                limit = min(self.total_bytes, self.total_bytes - self.kept_bytes // 2 + of_others)
            else:
                limit = self.total_bytes - self.kept_bytes - self.heads_bytes
            if self.used_bytes + size > limit:
                self._on_shortage()
                raise TooManyRequests(EXHAUSTED)
            self.used_bytes += size
            self._of_client[client] += size

    def give_back(self, size: int, client: str) -> None:
        """Give some of it back."""
        with self._lock:
            self.used_bytes -= size
            self._of_client[client] -= size
            if not self._of_client[client]:
                del self._of_client[client]


class Reservation:
    """The part of the budget that one request of a client holds."""

    __slots__ = ("_budget", "_client", "held_bytes")

    def __init__(self, budget: MemoryBudget, client: str = "") -> None:
        self._budget, self._client = budget, client
        self.held_bytes = 0

    def reserve(self, size: int, what: str) -> None:
        """Reserve `size` bytes more; `what` takes them, "a body of" say, for the error.

        Raises `TooLarge` if one body may not have as much, `TooManyRequests` if others hold too much at the moment.
        """
        self._reserve(size, what, self._budget.request_bytes)

    def reserve_unpacked(self, size: int, what: str) -> None:
        """Reserve what a body unpacks into, at most as much as a body, while the body stays; raises as `reserve`."""
        limit = self._budget.request_bytes
        if size > limit:
            raise TooLarge(f"expected {what} at most {limit:,} bytes, got {size:,}: send it in parts")
        self.reserve_work(size, f"the body and {what}")

    def reserve_work(self, size: int, what: str) -> None:
        """Reserve what the arrays of a request become; together with them, one may take all; raises as `reserve`."""
        self._reserve(size, what, self._budget.total_bytes)

    def grow_to(self, size: int, what: str) -> None:
        """Reserve as much more as is missing for `size` bytes in all; raises as `reserve`."""
        if size > self.held_bytes:
            self.reserve(size - self.held_bytes, what)

    def _reserve(self, size: int, what: str, limit: int) -> None:
        if self.held_bytes + size > limit:
            raise TooLarge(f"expected {what} at most {limit:,} bytes, got more: send it in parts")
        self._budget.add(size, self.held_bytes, self._client)
        self.held_bytes += size

    def release(self) -> None:
        """Give all of it back."""
        self._budget.give_back(self.held_bytes, self._client)
        self.held_bytes = 0


_UNLIMITED = MemoryBudget(2**63, 2**63)


def unlimited() -> Reservation:
    """Return a reservation without limits."""
    return Reservation(_UNLIMITED)
