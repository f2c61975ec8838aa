"""Connections that exchange a request for its answer at as little processor time as Python allows."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.harness.cutouts import cutouts
from benchmarks.harness.http_client import ANSWER_TIMEOUT, CHUNK, Lost, Refused, now, open_socket
from benchmarks.harness.messages import Form

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# A connection for each client, as with HTTP, and messages of any size.
GRPC_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class BadReply(Exception):
    """A server answered otherwise than it should, or not at all."""


class Answer(NamedTuple):
    """An answer, of whose head no more is parsed than is asked for."""

    status: int
    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, by their names in lower case."""
        pairs = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip() for name, _, value in pairs}

    @property
    def closes(self) -> bool:
        """Whether the server accepts nothing more on this connection."""
        return b"connection: close" in self.head.lower()


class HttpExchanger:
    """Exchanges requests for answers over HTTP/1.1, and expects of an answer that it states its length.

    A parser of HTTP such as h11 would take as much processor time as all of the rest, from the server's cores.

    Attributes
    ----------
    sent_at : float
        When the last byte of the last request had been sent; seconds.
    """

    def __init__(self, port: int) -> None:
        self._socket, self.sent_at = open_socket(port), 0.0
        self._socket.settimeout(ANSWER_TIMEOUT)

    def exchange(self, content: bytes) -> Answer:
        """Send a request and return the answer; `Lost` if there is none."""
        failure = None
        try:
            self._socket.sendall(content)
        except OSError as error:
            failure = error  # the server may have refused the request before all was sent
        self.sent_at = now()
        try:
            received = self._socket.recv(CHUNK)
            while (end := received.find(b"\r\n\r\n")) < 0 and (more := self._socket.recv(CHUNK)):
                received += more
            needed = end + 4 + body_length(received[:end])
            while len(received) < needed and (more := self._socket.recv(CHUNK)):
                received += more
        except OSError as error:
            raise Lost(f"{type(failure or error).__name__}", sent=failure is None) from error
        if end < 0 or len(received) < needed:
            raise Lost("end of connection", sent=failure is None)
        return Answer(int(received[9:12]), received[:end], received[end + 4 :])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def body_length(head: bytes) -> int:
    """Read the length of an answer's body from its head; `BadReply` if it is not there."""
    found = _LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 ") or not found:
        raise BadReply(f"expected HTTP/1.1 and a Content-Length, got {head[:300]!r}")
    return int(found[1])


class GrpcExchanger:
    """Exchanges messages over gRPC, with the library's own client."""

    sent_at = 0.0

    def __init__(self, port: int) -> None:
        import grpc  # no other form needs it

        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", GRPC_OPTIONS)
        self._call: Callable[..., Any] = self._channel.unary_unary(GRPC_METHOD)

    def exchange(self, content: bytes) -> Answer:
        """Call the server; `BadReply` if the call fails."""
        try:
            return Answer(200, b"", self._call(content, timeout=ANSWER_TIMEOUT))
        except self._error as error:
            raise BadReply(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


Exchanger = HttpExchanger | GrpcExchanger


def connect(form: Form, port: int) -> Exchanger:
    """Connect to a server of this machine."""
    return GrpcExchanger(port) if form.over_grpc else HttpExchanger(port)


def read_pdfs(form: Form, reply: Answer, n: int) -> np.ndarray:
    """Read the PDFs of n cutouts, (n, n_bins), in an answer; `BadReply` if they are not there."""
    if reply.status != 200:
        raise BadReply(f"expected status 200, got {reply.status}: {reply.body[:300]!r}")
    try:
        return form.decode(reply.headers, reply.body, n)
    except (LookupError, ValueError) as error:
        raise BadReply(f"cannot read the answer: {error!r}") from error


def ask_once(form: Form, port: int, path: str, n: int) -> np.ndarray:
    """Ask a server once for the PDFs of n cutouts, (n, n_bins); `BadReply` if it does not give them."""
    try:
        connection = connect(form, port)
        try:
            return read_pdfs(form, connection.exchange(form.encode(path, *cutouts(n))), n)
        finally:
            connection.close()
    except (Lost, Refused) as error:
        raise BadReply(str(error)) from error
