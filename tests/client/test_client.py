import httpx
import pytest

from photoz_client import PhotozClient, TimedOut, UnexpectedResponse
from tests.client import answers


def test_wait_until_ready_returns_when_the_service_becomes_ready():
    responses = iter([answers.error(503), httpx.Response(502, html="<html>"), httpx.Response(200, text="\n")])
    answers.mock_client(lambda request: next(responses)).wait_until_ready(30)
    assert next(responses, None) is None


def test_wait_until_ready_says_why_the_service_is_not_ready():
    with pytest.raises(TimedOut, match="not ready after 0.1 s: .*the model is loading"):
        answers.mock_client(lambda request: answers.error(503, "the model is loading")).wait_until_ready(0.1)
    with pytest.raises(UnexpectedResponse):  # at once, because no photo-z service answers like this
        answers.mock_client(lambda request: httpx.Response(404, html="<h1>hello</h1>")).wait_until_ready(3600)


def test_close_leaves_a_given_http_client_open():
    with httpx.Client() as http:
        with PhotozClient("http://service", http=http):
            pass
        assert not http.is_closed
    with PhotozClient("http://service") as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.model()
