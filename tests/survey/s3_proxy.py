"""A proxy in front of an S3 server that injects faults."""

import http.client
import random
import socket
import struct
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "photoz"  # the access key that the proxy accepts
ERROR = "<Error><Code>{}</Code><Message>{}</Message></Error>"


class Proxy(ThreadingHTTPServer):
    """Forwards requests to an S3 server; `faults` has the probability of each fault, in requests for which `where`."""

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.random = upstream, random.Random(1)
        self.heal()

    def heal(self):
        self.faults, self.where, self.injected = {}, lambda request: True, Counter()

    def choose(self, request):
        draw = self.random.random()
        for fault, probability in self.faults.items() if self.where(request) else ():
            draw -= probability
            if draw < 0:
                self.injected[fault] += 1
                return fault
        return ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if f"Credential={KEY}/" not in self.headers.get("Authorization", ""):
            return self.answer(403, {}, ERROR.format("InvalidAccessKeyId", "The access key does not exist.").encode())
        fault = self.server.choose(self)
        if fault in ("500", "503"):
            return self.answer(int(fault), {}, ERROR.format("InternalError", "We encountered an error.").encode())
        if fault == "slow":
            time.sleep(0.2)
        if fault == "reset":
            return self.reset()
        status, headers, content = self.forward(body)
        if fault == "lost":  # it is done, but the client does not get to know
            return self.reset()
        self.answer(status, headers, content, len(content) // 2 if fault in ("cut", "short") else None)
        if fault == "cut":
            self.reset()

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET

    def forward(self, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, content

    def answer(self, status, headers, content, n_sent=None):
        self.send_response_only(status)
        for name, value in ({"content-length": len(content)} | headers).items():
            if name not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:n_sent])
        self.close_connection = n_sent is not None

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
