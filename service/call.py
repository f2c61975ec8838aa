"""One request, as the endpoints see it."""

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request


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
    """

    body: bytes
    media_type: str
    accept: str
    query: Mapping[str, str]

    @classmethod
    async def receive(cls, request: Request) -> "Call":
        """Take in a request to its last byte."""
        return cls(
            body=await request.body(),
            media_type=request.headers.get("content-type", "").partition(";")[0].strip().lower(),
            accept=request.headers.get("accept", "*/*"),
            query=dict(request.query_params),
        )
