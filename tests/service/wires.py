"""Speak to a service byte by byte, as no well-behaved client would."""

import json
import socket
import time
from contextlib import contextmanager
from urllib.parse import urlsplit


@contextmanager
def connection(url, timeout=20.0):
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as wire:
        yield wire


def answer(wire):
    """Read one answer: its status, headers and body; `None` if the connection ends before it begins."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = wire.recv(65536)
        if not chunk:
            return None
        received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(body) < int(headers.get("content-length", 0)):
        body += wire.recv(65536)
    return int(status.split()[1]), headers, body


def error(found):
    """Return the status and the message of an answer, which has to be an error in the one shape."""
    status, headers, body = found
    assert headers["content-type"] == "application/json"
    (message,) = json.loads(body).items()
    assert message[0] == "error"
    return status, message[1]


def has_ended(wire):
    """Whether the other side has closed it, or does within a second."""
    wire.settimeout(1.0)
    try:
        return wire.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def wait_for(condition, seconds=20.0):
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
