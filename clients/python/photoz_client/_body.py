"""The body of a response, of which no more is kept than what was asked for can need."""

import time

import httpx

from photoz.errors import counted
from photoz_client._errors import TimedOut, UnexpectedResponse
from photoz_client._requests import PreparedRequest, redact_url

MAX_ERROR = 2**20  # bytes of a response with another status than 200; proxies send pages


class Body:
    """Collects the body of a response to a request.

    It refuses an encoded body, which was not asked for and may be a million times larger when it is decoded.
    """

    def __init__(self, response: httpx.Response, request: PreparedRequest, timeout: float | None) -> None:
        self._response, self._content = response, bytearray()
        self._url = redact_url(response.url)
        self._most = request.max_answer if response.status_code == 200 else MAX_ERROR
        self._timeout, self._start = timeout, time.monotonic()
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise UnexpectedResponse(f"{self._url} answered with Content-Encoding {encoding[:40]}, not identity")

    def add(self, chunk: bytes) -> None:
        """Add a part; raises `UnexpectedResponse` if there are too many bytes, `TimedOut` if it took too long."""
        self._content += chunk
        if len(self._content) > self._most:
            raise UnexpectedResponse(f"{self._url} answered with more than {counted(self._most, 'byte')}")
        if self._timeout is not None and time.monotonic() - self._start > self._timeout:
            raise TimedOut(
                f"the answer of {self._url} was not complete after {self._timeout:g} s, the client's timeout"
            )

    def response(self) -> httpx.Response:
        """Return the response with its body."""
        response = self._response
        # Its stream refers back to it, and this cycle would keep the body of every request in memory until the garbage
        # collector runs, which a few large objects do not trigger.
        response.stream = httpx.ByteStream(b"")
        phrase = {name: response.extensions[name] for name in ("reason_phrase",) if name in response.extensions}
        whole = bytes(self._content)
        return httpx.Response(
            response.status_code, headers=response.headers, content=whole, request=response.request, extensions=phrase
        )
