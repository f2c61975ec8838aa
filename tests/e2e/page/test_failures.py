"""The page when the service requires a key, is busy, or goes away."""

import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np
import pytest

from tests.e2e.page.browser import MARKS, expect, open_file, open_sample, wait_for_redshifts

pytestmark = MARKS


def test_a_service_with_keys(open_page, start_service, bundle_path, tmp_path):
    (tmp_path / "keys").write_text(f"alice {hashlib.sha256(b'secret').hexdigest()}\n")
    with start_service(tmp_path, PHOTOZ_BUNDLE=bundle_path, PHOTOZ_API_KEYS_FILE=tmp_path / "keys") as running:
        page = open_page(running.url, allowed=[r"status of 401"])
        expect(page.locator("#error")).to_contain_text("key")
        page.fill("#key", "wrong")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_be_visible()
        page.fill("#key", "secret")
        page.get_by_role("button", name="Use").click()
        expect(page.locator("#error")).to_be_hidden()
        open_sample(page)
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
        page.reload()
        expect(page.locator("#key")).to_have_value("")


class Handler(BaseHTTPRequestHandler):
    """Forwards a request to the service behind its `Proxy`, which may refuse inferences."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.forward("GET", None)

    def do_POST(self):
        body, proxy = self.rfile.read(int(self.headers["Content-Length"])), self.server
        if self.path.endswith("/infer"):
            if proxy.closes_at is not None and len(proxy.rows) >= proxy.closes_at:
                self.close_connection = True
                return self.connection.shutdown(socket.SHUT_RDWR)
            if proxy.is_busy:
                return self.respond(429, {"Retry-After": "1"}, b'{"error": "it is full"}')
            length = int(self.headers["Inference-Header-Content-Length"])
            proxy.rows.append(json.loads(body[:length])["inputs"][0]["shape"][0])
        self.forward("POST", body)

    def forward(self, method, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        response = httpx.request(method, self.server.target + self.path, content=body, headers=headers)
        self.respond(response.status_code, response.headers, response.content)

    def respond(self, status, headers, content):
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Proxy(ThreadingHTTPServer):
    """Forwards to a service; refuses inferences while `is_busy`, or closes connections from number `closes_at` on."""

    is_busy, closes_at = False, None

    def __init__(self, target):
        super().__init__(("127.0.0.1", 0), Handler)
        self.target, self.url, self.rows = target, f"http://127.0.0.1:{self.server_port}", []


@pytest.fixture
def proxy(service_url):
    with Proxy(service_url) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_full_service_is_asked_again(open_page, proxy):
    page = open_page(proxy.url, allowed=["status of 429"])
    proxy.is_busy = True
    page.click("#sample")
    expect(page.locator("#status")).to_contain_text("The service is busy: trying again in 1 s.")
    proxy.is_busy = False
    wait_for_redshifts(page, 8)


def test_a_service_that_goes_away_in_the_middle(open_page, proxy, sample, tmp_path):
    images = np.tile(sample["images"], (100, 1, 1, 1))  # four requests
    np.save(tmp_path / "many.npy", images)
    page = open_page(proxy.url, allowed=["ERR_EMPTY_RESPONSE", "ERR_CONNECTION"])
    proxy.closes_at = 2
    open_file(page, tmp_path / "many.npy")
    expect(page.locator("#error")).to_contain_text("The service does not answer. Is it still running?")
    expect(page.locator("#count")).to_have_text("408 of 408")  # those that have arrived are kept
    proxy.closes_at = None
    page.click("#retry")
    wait_for_redshifts(page, 800)
    assert proxy.rows == [204, 204, 204, 188]
