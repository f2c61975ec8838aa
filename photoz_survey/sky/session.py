"""Requests to archives and catalogues, with limits on what they may answer and on how long they may take."""

import re
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from photoz import __version__
from photoz.errors import PhotozError, reason

BUSY = (429, 502, 503, 504)  # statuses of a host that does nothing else either

TIMEOUT = (3.0, 8.0)  # seconds to connect, and to wait for more of the response
PROBE = (3.0, 3.0)  # the same, when a host is asked for something else

# The most bytes of a response, and the fewest bytes/s at which it may come, on average after a grace period in seconds.
MAX_BYTES, SLOWEST, GRACE = 2**26, 10_000, 10.0

MAX_REDIRECTS, MAX_RETRY_AFTER = 5, 5  # the second in seconds

USER_AGENT = f"photoz/{__version__}"


class ArchiveError(PhotozError):
    """An archive's answer cannot be used."""


class Missing(ArchiveError):
    """An archive does not have a file: its answer is 404."""


class Unreachable(PhotozError):
    """A host does not answer, or is too busy: nothing else can be had from it either."""


class Session(requests.Session):
    """Repeats requests that fail for a moment, and follows redirects on the same host only."""

    def __init__(self, timeout: tuple[float, float] = TIMEOUT, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        self.max_redirects, self._timeout = MAX_REDIRECTS, timeout
        self.last = b""  # the content of the last response
        retry = Retry(
            connect=1,
            read=0,  # after a timeout, so that a host that is silent is reported soon
            status=2,
            backoff_factor=2.0,
            status_forcelist=(500, *BUSY),
            retry_after_max=MAX_RETRY_AFTER,
            allowed_methods=None,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, _WholeAnswers(max_bytes, retry))

    def request(self, method: Any, url: Any, *_: Any, **options: Any) -> requests.Response:
        """Return the response to a request.

        Raises `Unreachable` if the host fails at anything else too, and `ArchiveError` if it fails at this alone.
        """
        options["timeout"] = self._timeout
        for _trial in range(2):
            try:
                response = super().request(method, url, **options)
            except requests.TooManyRedirects as error:
                raise ArchiveError(f"{url}: it redirects more than {MAX_REDIRECTS} times") from error
            except (requests.RequestException, HTTPError, _Slow) as error:
                failure = _explain(error)
            else:
                self.last = response.content
                if response.status_code not in BUSY:
                    return response
                failure = status(response)
            if not self._is_alive(url):
                raise Unreachable(f"{urlsplit(url).netloc} cannot be reached: {failure}")
        raise ArchiveError(f"{url}: {failure}")

    def _is_alive(self, url: str) -> bool:
        """Whether a host answers if it is asked for the folder of a URL."""
        try:
            response = super().request("GET", urljoin(url, "."), timeout=PROBE, allow_redirects=False)
        except (requests.RequestException, HTTPError, _Slow, ArchiveError):
            return False
        return response.status_code not in BUSY

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a response redirects to; the method of the request stays the same."""
        target = super().get_redirect_target(resp)
        if target and self.should_strip_auth(resp.url, urljoin(resp.url, target)):
            raise ArchiveError(f"{resp.url}: it redirects to another host, {target!r}: give that as the address")
        resp.status_code = {301: 308, 302: 307}.get(resp.status_code, resp.status_code)
        return target


class _Slow(Exception):
    """A response takes too long."""


class _WholeAnswers(HTTPAdapter):
    """Receives whole responses within limits."""

    def __init__(self, max_bytes: int, retry: Retry) -> None:
        super().__init__(max_retries=retry)
        self._max_bytes = max_bytes

    def send(self, request: Any, *_: Any, **options: Any) -> requests.Response:
        response = super().send(request, **options | {"stream": True})
        content, start = bytearray(), time.monotonic()
        with response:
            while piece := response.raw.read1(2**18):
                content += piece
                if len(content) > self._max_bytes:
                    raise ArchiveError(f"{request.url}: the answer has more than {self._max_bytes:,} bytes")
                if len(content) < SLOWEST * (time.monotonic() - start - GRACE):
                    raise _Slow(f"it came at less than {SLOWEST:,} bytes/s")
        response._content, response._content_consumed = bytes(content), True
        return response


def quoted(content: bytes) -> str:
    """Return the beginning of an answer, without the tags of a page and with control characters escaped."""
    return repr(" ".join(re.sub(r"<[^>]*>", " ", content[:4000].decode("utf-8", "replace")).split())[:300])


def status(response: requests.Response) -> str:
    """Return the status of a response that is an error, and what it says."""
    asked = response.headers.get("Retry-After")
    wait = f", which asks to wait for {asked!r} s" if asked else ""
    return f"{response.status_code} {response.reason!r}{wait}: {quoted(response.content)}"


def _explain(error: Exception) -> str:
    """Return why a request failed, without the addresses that requests and urllib3 repeat."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)  # of urllib3's MaxRetryError
    return reason(error) if cause is None else str(cause).partition("): ")[2] or reason(cause)
