"""One request, as the endpoints see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from service.edge.room import Reservation, reservation_of, unlimited


@dataclass(frozen=True)
class Call:
    """One request, not decoded yet.

    Parameters
    ----------
    body : bytes
        What was sent.
    media_type : str
        Its Content-Type in lower case, without parameters; "" when none was given.
    accept : str
        The Accept header; "*/*" when none was given.
    query : mapping of str to str
        The query string.
    reservation : Reservation
        The memory that it has.
    """

    body: bytes
    media_type: str
    accept: str
    query: Mapping[str, str]
    reservation: Reservation = field(default_factory=unlimited)

    @classmethod
    async def receive(cls, request: Request) -> "Call":
        """Take in a request to its last byte."""
        return cls(
            body=await request.body(),
            media_type=request.headers.get("content-type", "").partition(";")[0].strip().lower(),
            accept=request.headers.get("accept", "*/*"),
            query=dict(request.query_params),
            reservation=reservation_of(request.scope),
        )
