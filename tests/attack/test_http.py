"""HTTP/1.1 and request smuggling: where a body ends, and what is no request.

Each case is sent with a good request, the canary, after it. A request that is hidden in a body or in a header carries
an id of its own: it must never be answered. A malformed request ends its connection, so that the canary is not answered
either; after a well-formed one it is.
"""

import httpx
import pytest

from tests.attack.malformed_http import CASES, get, post
from tests.attack.malformed_inputs import HEADERS, METHODS, PATHS
from tests.service.raw_http import RawConnection

CANARY = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: canary\r\nConnection: close\r\n\r\n"


def answers(url, content):
    """Return the statuses and the ids of the answers to a request and to the canary after it."""
    found = []
    with RawConnection(url) as connection:
        connection.send(content + CANARY)
        while (answer := connection.read_response()) is not None:
            found.append(answer)
    return [answer.status_code for answer in found], [answer.headers.get("x-request-id") for answer in found]


@pytest.mark.parametrize(("content", "statuses", "ends"), CASES, ids=[repr(content)[-60:] for content, *_ in CASES])
def test_conformance(service_url, content, statuses, ends):
    found, ids = answers(service_url, content)
    assert (found[0] if found else None) in statuses
    assert "smuggled" not in ids
    if ends is not None:
        assert ids[1:] == ([] if ends else ["canary"])


ODD = (
    *(get(f"{method} /livez HTTP/1.1".encode()) for method in METHODS if method != "HEAD"),
    *(get(f"GET {path} HTTP/1.1".encode()) for path in PATHS),
    *(post(b"Content-Length: 3", header.encode(), body=b"abc") for header in HEADERS),
)


def test_an_error_does_not_repeat_the_request(service_url):
    for path, method, accept in (
        ("a" * 9000, "GET", "*/*"),
        ("livez", "M" * 9000, "*/*"),
        ("evaluate", "POST", "a/" * 9000),
    ):
        answer = httpx.request(method, f"{service_url}/{path}", headers={"Accept": accept})
        assert answer.is_client_error
        assert len(answer.json()["error"]) <= 1000


def test_odd_requests_get_no_server_error_and_do_no_harm(service):
    workers = service.workers
    for request in ODD:
        statuses, _ = answers(service.url, request)
        assert set(statuses) <= {*range(200, 500), 501, 505}, request[:200]
    assert service.workers == workers
