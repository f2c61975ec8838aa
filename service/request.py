"""One HTTP request, from its head to the end of its response."""

import random
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl

from starlette.types import Scope

from service.middleware.memory_budget import Reservation, unlimited

# Request ids that a client may choose: nothing that could break a line of the log or a header.
REQUEST_ID = re.compile(rb"[A-Za-z0-9._~:+/=-]{1,128}")

# Paths that are labels of the metrics as they are. All others are folded, since there is no end of them.
PREDICT, EVALUATE, INFER = "/predict", "/evaluate", "/v2/infer"
ROUTES = frozenset(
    {
        "/",
        "/ui",
        PREDICT,
        "/predict_file",
        "/cutouts",
        "/sky",
        EVALUATE,
        "/model",
        "/docs.json",
        "/metrics",
        "/livez",
        "/healthz",
        "/readyz",
    }
)
INFER_PATH = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
OTHER = "other"

CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that closed the connection before the response

# Chunks of a body below this size are joined with the next one.
SMALL_CHUNK = 4096

# Where a request is in its ASGI scope.
KEY = "photoz.request"


@dataclass
class Request:
    """One request, its memory reservation, and what the log and the metrics say of it.

    Parameters
    ----------
    id : str
        Chosen by the client or made up.
    method, path, route : str
        Its target; `route` is one of a bounded set.
    headers : dict of bytes to bytes
        By name in lower case.
    query : dict of str to str
        The query string.
    address : str
        Where it came from.
    head_bytes : int
        Bytes of the request line and the headers.
    n_hosts : int
        How often it has the header Host; 1 if HTTP/1.0 has none, which is allowed.
    reservation : Reservation
        The memory that it holds.
    chunks : list of bytes-like
        Its body, as it arrived.
    begin : float
        `time.perf_counter` at its arrival.
    api_key : str
        Name of its API key, if one was needed.
    rows : int
        Galaxies in it, once they are counted.
    received_bytes : int
        Bytes of its body.
    status : int
        Of the response; 0 before that starts.
    assumptions : tuple of str
        What was assumed of a file in the body, in words.
    """

    id: str
    method: str
    path: str
    route: str
    headers: dict[bytes, bytes]
    query: dict[str, str]
    address: str = ""
    head_bytes: int = 0
    n_hosts: int = 1
    reservation: Reservation = field(default_factory=unlimited)
    chunks: list[bytes | bytearray] = field(default_factory=list)
    begin: float = field(default_factory=time.perf_counter)
    api_key: str = ""
    rows: int = 0
    received_bytes: int = 0
    status: int = 0
    assumptions: tuple[str, ...] = ()

    @classmethod
    def from_scope(cls, scope: Scope) -> Self:
        """Read the head of a request."""
        headers = dict(reversed(scope["headers"]))  # of repeated headers, the first counts
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode("ascii") if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        path = scope["path"]
        head_bytes = (
            len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"]) + len("   HTTP/1.1\r\n\r\n")
        )
        head_bytes += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        # granian adds an empty one where there is none.
        n_hosts = sum(name == b"host" and value != b"" for name, value in scope["headers"])
        n_hosts = n_hosts or int(scope["http_version"] != "1.1")
        address = scope["client"][0] if scope["client"] else ""
        return cls(request_id, scope["method"], path, fold(path), headers, query, address, head_bytes, n_hosts)

    @property
    def client(self) -> str:
        """Who sent it: the name of the API key, or the address."""
        return self.api_key or self.address

    def header(self, name: str, default: str = "") -> str:
        """Return a header by its name in lower case."""
        return self.headers.get(name.encode(), default.encode()).decode("latin-1")

    @property
    def media_type(self) -> str:
        """The Content-Type in lower case, without parameters; "" when none was given."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @property
    def accept(self) -> str:
        """The Accept header; "*/*" when none was given."""
        return self.header("accept", "*/*")

    @property
    def content_encoding(self) -> str:
        """The Content-Encoding in lower case; "" for none."""
        encoding = self.header("content-encoding").strip().lower()
        return "" if encoding == "identity" else encoding

    def add_chunk(self, chunk: bytes) -> None:
        """Add what has arrived of the body; small chunks are joined, since each object takes memory of its own."""
        self.received_bytes += len(chunk)
        last = self.chunks[-1] if self.chunks else None
        if isinstance(last, bytearray) and len(last) < SMALL_CHUNK:
            last += chunk
        else:
            self.chunks.append(chunk if len(chunk) >= SMALL_CHUNK else bytearray(chunk))

    @property
    def body(self) -> bytes:
        """The body in one piece."""
        body = self.chunks[0] if len(self.chunks) == 1 else b""
        if not body or isinstance(body, bytearray):
            body = b"".join(self.chunks)
            self.chunks = [body]  # replaced, so that it is not in memory twice
        return body

    def release(self) -> None:
        """Drop the body and give its memory back."""
        self.chunks = []
        self.reservation.release()

    @property
    def seconds(self) -> float:
        """Since its arrival."""
        return time.perf_counter() - self.begin


# The request that the current code works on, for the log and the traces; threads inherit it.
CURRENT_REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


def fold(path: str) -> str:
    """Fold paths into a bounded set of labels."""
    if path in ROUTES:
        return path
    if INFER_PATH.fullmatch(path):
        return INFER
    return "/v2" if path == "/v2" or path.startswith("/v2/") else OTHER
