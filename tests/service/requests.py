"""Requests for tests without a server."""

import asyncio
from contextlib import contextmanager

import httpx

from service.limits import receive_body
from service.request import MemoryBudget, Request
from service.settings import Settings
from service.state import State

MIB = 1024 * 1024


def make_scope(method="POST", path="/", **headers):
    """Return the ASGI scope of a request; `_` stands for the hyphens in the names of headers."""
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    path, _, query = path.partition("?")
    return {
        **{"type": "http", "http_version": "1.1", "method": method, "client": ("127.0.0.1", 1234)},
        **{"path": path, "raw_path": path.encode(), "query_string": query.encode()},
        "headers": [(b"host", b"service"), *encoded],
    }


def make_request(body, memory=None, **headers):
    """Return a request whose body has been received; by default there is memory for anything."""
    request = Request(make_scope(**headers), memory or MemoryBudget(2**60))
    request.add_chunk(body)
    return request


def receive(*chunks, path="/predict_file", ends=True, seconds=60.0, **headers):
    """Receive a body in these chunks and then its end, or nothing more, of at most 50 MiB; return its request."""
    left = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    left += [{"type": "http.request", "body": b""}] if ends else []

    async def receive_message():
        return left.pop(0) if left else await asyncio.Event().wait()

    settings = Settings(max_memory_bytes=100 * MIB, max_body_bytes=50 * MIB, transfer_timeout=seconds)
    scope = make_scope(path=path, **(headers or {"transfer_encoding": "chunked"}))
    request = Request(scope, MemoryBudget(settings.max_memory_bytes))
    asyncio.run(receive_body(request, receive_message, settings))
    return request


@contextmanager
def local_worker(**settings):
    """Return a function that posts a body to an endpoint in this process, which may take minutes."""
    state = State(Settings(**{"evaluation_timeout": 600, **settings}))
    with asyncio.Runner() as runner:

        def post(endpoint, body, path="/", **headers):
            response = runner.run(state.respond(endpoint, make_request(body, path=path, **headers)))
            return httpx.Response(response.status_code, headers=response.headers, content=response.body)

        yield post
