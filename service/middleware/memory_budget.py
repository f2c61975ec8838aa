"""The memory that request bodies may take: a limit for each request and one for all of them."""

import threading

from photoz.errors import TooLarge
from service.middleware.errors import TooManyRequests

EXHAUSTED = "other requests hold all memory for bodies; try again in a second"


class MemoryBudget:
    """The memory that all requests share: `total_bytes` for all of them, `request_bytes` for one."""

    def __init__(self, total_bytes: int, request_bytes: int) -> None:
        self.total_bytes, self.request_bytes = total_bytes, request_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()  # bodies are unpacked in threads

    def refuse_if_exhausted(self) -> None:
        """Raise `TooManyRequests` if another request of the largest size might not fit."""
        if self.used_bytes > self.total_bytes - self.request_bytes:
            raise TooManyRequests(EXHAUSTED)

    def add(self, size: int) -> None:
        """Take some of it, or give it back if `size` is negative; `TooManyRequests` if there is not enough."""
        with self._lock:
            if size > 0 and self.used_bytes + size > self.total_bytes:
                raise TooManyRequests(EXHAUSTED)
            self.used_bytes += size


class Reservation:
    """The part of the budget that one request holds."""

    __slots__ = ("_budget", "held_bytes")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def reserve(self, size: int, what: str) -> None:
        """Reserve `size` bytes more; `what` takes them, "a body of" say, for the error.

        Raises `TooLarge` if one request may not have as much, `TooManyRequests` if others hold too much at the moment.
        """
        self._reserve(size, what, self._budget.request_bytes)

    def reserve_unpacked(self, size: int, what: str) -> None:
        """Reserve what a body unpacks into, at most as much as a body, while the body stays; raises as `reserve`."""
        limit = self._budget.request_bytes
        if size > limit:
            raise TooLarge(f"expected {what} at most {limit:,} bytes, got {size:,}: send it in parts")
        self._reserve(size, f"the body and {what}", self._budget.total_bytes)

    def grow_to(self, size: int, what: str) -> None:
        """Reserve as much more as is missing for `size` bytes in all; raises as `reserve`."""
        if size > self.held_bytes:
            self.reserve(size - self.held_bytes, what)

    def _reserve(self, size: int, what: str, limit: int) -> None:
        if self.held_bytes + size > limit:
            raise TooLarge(f"expected {what} at most {limit:,} bytes, got more: send it in parts")
        self._budget.add(size)
        self.held_bytes += size

    def release(self) -> None:
        """Give all of it back."""
        self._budget.add(-self.held_bytes)
        self.held_bytes = 0


def unlimited() -> Reservation:
    """Return a reservation without limits."""
    return Reservation(MemoryBudget(2**63, 2**63))
