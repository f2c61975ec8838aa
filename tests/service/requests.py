"""Requests for tests without a server."""

from starlette.types import Scope

from service.request import MemoryBudget, Request


def make_scope(method: str = "POST", path: str = "/", **headers: str) -> Scope:
    """Return the ASGI scope of a request; `_` stands for the hyphens in the names of headers."""
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"service"), *encoded],
        "client": ("127.0.0.1", 1234),
    }


def make_request(body: bytes, memory: MemoryBudget | None = None, **headers: str) -> Request:
    """Return a request whose body has been received; by default there is memory for anything."""
    request = Request(make_scope(**headers), memory or MemoryBudget(2**60))
    request.add_chunk(body)
    return request
