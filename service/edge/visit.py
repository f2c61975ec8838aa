"""One request on its way through: who it is, where it goes, and what became of it."""

import re
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.types import Scope

# What a caller may choose as the name of a request: nothing that could break a line of a log or a header.
ID = re.compile(rb"[A-Za-z0-9._~:+/=-]{1,128}")

# Paths that are labels in the metrics as they are. All else is folded: paths are endless.
ROUTES = frozenset(
    {
        "/",
        "/predict",
        "/predict_file",
        "/evaluate",
        "/model",
        "/docs.json",
        "/metrics",
        "/livez",
        "/healthz",
        "/readyz",
    }
)
INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")
OTHER = "other"

CLIENT_GONE = 499  # nginx's number for a caller that did not wait


@dataclass
class Visit:
    """One request.

    Parameters
    ----------
    id : str
        Its name, chosen by the caller or by us.
    method, path, route : str
        What it asks for; `route` is one of a bounded set.
    begin : float
        `time.perf_counter` at its arrival.
    key : str
        The name of its key, if it needs one.
    rows : int
        Galaxies in it, once they are counted.
    received : int
        Bytes of its body.
    status : int
        Of the answer; 0 before it begins.
    """

    id: str
    method: str
    path: str
    route: str
    begin: float = field(default_factory=time.perf_counter)
    key: str = ""
    rows: int = 0
    received: int = 0
    status: int = 0

    @classmethod
    def of(cls, scope: Scope, headers: dict[bytes, bytes]) -> "Visit":
        """Begin one."""
        given = headers.get(b"x-request-id", b"")
        name = given.decode("ascii") if ID.fullmatch(given) else secrets.token_hex(8)
        return cls(name, scope["method"], scope["path"], route(scope["path"]))

    @property
    def seconds(self) -> float:
        """Since its arrival."""
        return time.perf_counter() - self.begin


# The request that the code at hand works for, for the log. It follows into threads.
CURRENT: ContextVar[Visit | None] = ContextVar("visit", default=None)


def route(path: str) -> str:
    """Fold the paths into a bounded set of labels."""
    if path in ROUTES:
        return path
    if INFER.fullmatch(path):
        return "/v2/infer"
    return "/v2" if path == "/v2" or path.startswith("/v2/") else OTHER


def note_rows(n: int) -> None:
    """Note how many galaxies the request at hand brings."""
    if visit := CURRENT.get():
        visit.rows += n
