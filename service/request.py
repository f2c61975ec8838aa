"""One HTTP request, from its head to the end of its response, and the memory and places that all requests share."""

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.types import Scope

from photoz.errors import TooLarge
from photoz.io.cutouts import Reading
from service.errors import RequestError

# Request ids that a client may choose: nothing that could break a line of the log or a header.
REQUEST_ID = re.compile("[A-Za-z0-9._~:+/=-]{1,128}")

# Paths that are labels of the metrics as they are. All others are folded, since clients can make up any number of them.
PREDICT, SKY, EVALUATE, INFER = "/predict", "/sky", "/evaluate", "/v2/infer"
PATHS = frozenset(
    {
        *("/", "/ui", "/docs.json", "/metrics", "/livez", "/healthz", "/readyz", "/model"),
        *(PREDICT, "/predict_file", "/cutouts", "/table", SKY, EVALUATE),
    }
)
INFER_PATH = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
OTHER = "other"

# Chunks of a body below this size are joined with the next one: each object takes memory of its own.
SMALL_CHUNK = 4096

# Where a request is in its ASGI scope.
SCOPE_KEY = "photoz.request"

# The last quarter of the budget serves only requests that hold at most a quarter: 200 cutouts with the smallest budget.
# Half of it stays out of reach of a client whose requests hold all the rest.
SMALL_SHARE = 4


class MemoryBudget:
    """The bytes that all requests hold: bodies (`limits`), what they decode into and convert to (`decoding`)."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.used_bytes = 0
        self._small_bytes = total_bytes // SMALL_SHARE
        self._of_client = Counter[str]()
        self._lock = threading.Lock()  # bodies are decoded in threads

    def reserve(self, request: "Request", size: int) -> None:
        """Reserve `size` bytes more; raises `TooLarge`, or `RequestError` (429) if other requests hold too much."""
        held, client = request.held_bytes, request.client
        with self._lock:
            if held + size > self.total_bytes:
                raise TooLarge(
                    f"the request and what it decodes into take {held + size:,} bytes of memory, at most "
                    f"{self.total_bytes:,} are available: send it in parts"
                )
            if held == self.used_bytes:  # no other request holds any
                limit = self.total_bytes
            elif held + size <= self._small_bytes:
                of_others = self.used_bytes - self._of_client[client]
                limit = min(self.total_bytes, self.total_bytes - self._small_bytes // 2 + of_others)
            else:
                limit = self.total_bytes - self._small_bytes
            if self.used_bytes + size > limit:
                raise RequestError(
                    HTTPStatus.TOO_MANY_REQUESTS, "other requests hold all memory; try again in a second"
                )
            self.used_bytes += size
            self._of_client[client] += size
            request.held_bytes += size

    def release(self, request: "Request") -> None:
        """Take back what a request holds, and drop its body."""
        request.chunks = []
        with self._lock:
            self.used_bytes -= request.held_bytes
            self._of_client[request.client] -= request.held_bytes
            if not self._of_client[request.client]:
                del self._of_client[request.client]
            request.held_bytes = 0


class ConcurrencyLimit:
    """Limits how many things run or wait at once, in total and per client; `what` names them in errors."""

    def __init__(self, what: str, in_all: int, of_client: int) -> None:
        self._what, self._in_all, self._of_client = what, in_all, of_client
        self._counts = Counter[str]()
        self.total = 0

    def check(self, client: str) -> None:
        """Raise `RequestError` (429) if a limit is reached."""
        if self.total >= self._in_all:
            raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, f"{self.total} {self._what} already; try again later")
        if (n := self._counts[client]) >= self._of_client:
            raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, f"{n} of your {self._what} already; try again later")

    @contextmanager
    def enter(self, client: str) -> Iterator[None]:
        """Count one more within the context; raises as `check`."""
        self.check(client)
        self.total += 1
        self._counts[client] += 1
        try:
            yield
        finally:
            self.total -= 1
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]


class Request:
    """One request, the memory that it holds, and what the log and the metrics say about it."""

    def __init__(self, scope: Scope, memory: MemoryBudget) -> None:
        self.begin = time.perf_counter()
        self.memory = memory
        self.method, self.path = scope["method"], scope["path"]
        self.route = self.path if self.path in PATHS else fold(self.path)
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}
        given = self.headers.get("x-request-id", "")
        self.id = given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(64):016x}"
        self.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self.media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = self.headers.get("content-encoding", "").strip().lower()
        self.content_encoding = "" if encoding == "identity" else encoding
        self.accept = self.headers.get("accept", "*/*")
        self.client, self.api_key = scope["client"][0] if scope["client"] else "", ""
        chunked = "transfer-encoding" in self.headers
        self.content_length = None if chunked else int(self.headers.get("content-length", "0"))
        self.has_arrived = self.content_length == 0  # or the connection has ended
        self.chunks: list[bytes | bytearray] = []
        self.received_bytes = self.held_bytes = self.rows = self.status = 0
        self.reading = Reading()

    def add_chunk(self, chunk: bytes) -> None:
        """Add what has arrived of the body."""
        self.received_bytes += len(chunk)
        last = self.chunks[-1] if self.chunks else None
        if isinstance(last, bytearray) and len(last) < SMALL_CHUNK:
            last += chunk
        else:
            self.chunks.append(chunk if len(chunk) >= SMALL_CHUNK else bytearray(chunk))

    @property
    def body(self) -> bytes:
        """The body in one piece."""
        if len(self.chunks) != 1 or isinstance(self.chunks[0], bytearray):
            # Replaced, so that it is not in memory twice. Joining a bytearray would block the interpreter.
            self.chunks = [b"".join(map(bytes, self.chunks))]
        return bytes(self.chunks[0])

    def first_bytes(self, n: int) -> bytes:
        """Return the first `n` bytes of the body, which is joined only if that is all of it."""
        if n >= self.received_bytes:
            return self.body
        parts = []
        for chunk in self.chunks:
            if n <= 0:
                break
            parts.append(chunk[:n])
            n -= len(chunk)
        return b"".join(parts)


# The request that the current code works on, for the log and the traces; threads inherit it.
CURRENT_REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


def fold(path: str) -> str:
    """Fold a path that is not in `PATHS` into a bounded set of labels."""
    if INFER_PATH.fullmatch(path):
        return INFER
    return "/v2" if path == "/v2" or path.startswith("/v2/") else OTHER
