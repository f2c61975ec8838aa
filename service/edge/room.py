"""Room in memory for what comes over the wire: so much for one request, so much for all of them."""

import threading

from starlette.types import Scope

from photoz.errors import TooLarge
from service.errors import Full

# Where the reservation of a request stands in its scope: what unpacks into more than it came as takes more.
KEY = "photoz.reservation"


class Room:
    """The memory that all requests share.

    Parameters
    ----------
    total : int
        Bytes for all of them.
    share : int
        Bytes for one.
    """

    def __init__(self, total: int, share: int) -> None:
        self.total, self.share = total, share
        self.used = 0
        self._lock = threading.Lock()  # bodies are unpacked in threads

    def reserve(self) -> "Reservation":
        """Begin the reservation of one request, of nothing yet."""
        return Reservation(self)

    def add(self, size: int) -> None:
        """Take some of it, or give it back if that is negative; `Full` if there is not enough."""
        with self._lock:
            if size > 0 and self.used + size > self.total:
                raise Full("the service holds as many requests as it can; try again in a second")
            self.used += size


class Reservation:
    """What one request has of it.

    Parameters
    ----------
    room : Room
        That it comes from.
    """

    __slots__ = ("_room", "held")

    def __init__(self, room: Room) -> None:
        self._room = room
        self.held = 0

    def take(self, size: int, what: str) -> None:
        """Reserve some more.

        Parameters
        ----------
        size : int
            Bytes.
        what : str
            That is, for the error: "a body of", say.

        Raises
        ------
        TooLarge
            If that is more than one request may have.
        Full
            If others have too much at the moment.
        """
        self._take(size, what, self._room.share)

    def take_beside(self, size: int, what: str) -> None:
        """Reserve room for what a body unpacks into, which may be as much as a body, while the body stays.

        Raises as `take`.
        """
        if size > self._room.share:
            raise TooLarge(f"expected {what} at most {self._room.share:,} bytes, got {size:,}: send it in parts")
        self._take(size, f"the body and {what}", self._room.total)

    def cover(self, size: int, what: str) -> None:
        """Reserve as much more as is needed for `size` bytes in all; raises as `take`."""
        if size > self.held:
            self.take(size - self.held, what)

    def _take(self, size: int, what: str, limit: int) -> None:
        if self.held + size > limit:
            raise TooLarge(f"expected {what} at most {limit:,} bytes, got more: send it in parts")
        self._room.add(size)
        self.held += size

    def release(self) -> None:
        """Give all of it back."""
        self._room.add(-self.held)
        self.held = 0


def unlimited() -> Reservation:
    """Return a reservation without limits, for what does not come over the wire."""
    return Room(2**63, 2**63).reserve()


def reservation_of(scope: Scope) -> Reservation:
    """Return the reservation of a request."""
    found: Reservation = scope.get(KEY) or unlimited()
    return found
