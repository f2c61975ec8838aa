"""The page when the service requires a key, is busy, or goes away."""

import hashlib
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import numpy as np

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


@contextmanager
def proxy(target):
    """Forward requests; refuse inferences with `state["status"]`, or close connections from number `closes_at` on."""
    state = {"status": None, "closes_at": None, "rows": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.forward("GET", None)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/infer"):
                if state["closes_at"] is not None and len(state["rows"]) >= state["closes_at"]:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                if state["status"] is not None:
                    return self.refuse(state["status"])
                length = int(self.headers["Inference-Header-Content-Length"])
                state["rows"].append(json.loads(body[:length])["inputs"][0]["shape"][0])
            self.forward("POST", body)

        def refuse(self, status):
            self.send_response(status)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "23")
            self.end_headers()
            self.wfile.write(b'{"error": "it is full"}')

        def forward(self, method, body):
            sent = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            response = httpx.request(method, target + self.path, content=body, headers=sent)
            self.send_response(response.status_code)
            for name, value in response.headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", state
        server.shutdown()


def test_a_full_service_is_asked_again(open_page, service_url):
    with proxy(service_url) as (url, state):
        page = open_page(url, allowed=["status of 429"])
        state["status"] = 429
        page.click("#sample")
        expect(page.locator("#status")).to_contain_text("The service is busy: trying again in 1 s.")
        state["status"] = None
        wait_for_redshifts(page, 8)


def test_a_service_that_goes_away_in_the_middle(open_page, service_url, sample, tmp_path):
    images = np.tile(sample["images"], (100, 1, 1, 1))  # four requests
    np.save(tmp_path / "many.npy", images)
    with proxy(service_url) as (url, state):
        page = open_page(url, allowed=["ERR_EMPTY_RESPONSE", "ERR_CONNECTION"])
        state["closes_at"] = 2
        open_file(page, tmp_path / "many.npy")
        expect(page.locator("#error")).to_contain_text("The service does not answer. Is it still running?")
        expect(page.locator("#count")).to_have_text("408 of 408")  # those that have arrived are kept
        state["closes_at"] = None
        page.click("#retry")
        wait_for_redshifts(page, 800)
        assert state["rows"] == [204, 204, 204, 188]
