"""Clients of the load generator: connections on one event loop, at half the processor time of a thread for each.

They send exactly the bytes they are given and never retry; see `http_client` for the errors.
"""

import asyncio
import socket
from typing import Self, cast

import httptools

from benchmarks.harness.http_client import (
    ANSWER_TIMEOUT,
    SEND_BUFFER,
    Lost,
    NotHttp,
    Refused,
    Reply,
    ResponseParser,
    now,
)

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
# A connection for each client, as with HTTP, and messages of any size.
GRPC_OPTIONS = {"use_local_subchannel_pool": 1, "max_send_message_length": -1, "max_receive_message_length": -1}


class HttpConnection(asyncio.Protocol):
    """One HTTP/1.1 connection to a server on this machine; one request at a time.

    `sent_at` is when the last byte of the last request had been sent, None before that; `is_over` is whether the server
    has closed the connection.
    """

    def __init__(self) -> None:
        self._parser = ResponseParser()
        self._reply: asyncio.Future[Reply] | None = None
        self.sent_at: float | None = None
        self.is_over = False

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Connect to a port; `Refused` if the server does not accept it."""
        try:
            _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        except OSError as error:
            raise Refused(type(error).__name__) from error
        return connection

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return the answer; `Lost` if there is none."""
        self.sent_at, self._reply = None, asyncio.get_running_loop().create_future()
        self._transport.write(request)
        if not self._transport.get_write_buffer_size():
            self.sent_at = now()
        return await self._reply

    def close(self) -> None:
        """Close it."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # so that `resume_writing` is called when all has been sent
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self.sent_at = now()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            self._parser.feed(data)
        except httptools.HttpParserError as error:
            self._fail(NotHttp(f"{error}: {data[:80]!r}"))
        if self._parser.replies and self._reply is not None and not self._reply.done():
            self._reply.set_result(self._parser.replies.popleft())

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.is_over = True
        end = f"{type(error).__name__} while waiting" if error else "end of connection"
        self._fail(Lost(end + " in the answer" * self._parser.has_begun))

    def _fail(self, error: Exception) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)


class GrpcConnection:
    """A connection of the grpc library, which is used as an `HttpConnection` is."""

    def __init__(self, port: int) -> None:
        import grpc.aio  # no other client needs it

        self._error, self.sent_at, self.is_over = grpc.aio.AioRpcError, 0.0, False
        options = [(f"grpc.{name}", value) for name, value in GRPC_OPTIONS.items()]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options)
        self._call = self._channel.unary_unary(GRPC_METHOD)

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Return a connection; it is made with the first call."""
        return cls(port)

    async def ask(self, message: bytes) -> Reply:
        """Call the server; `Lost` if the call fails."""
        self.sent_at = now()
        try:
            return Reply(200, {}, await self._call(message, timeout=ANSWER_TIMEOUT))
        except self._error as error:
            raise Lost(str(error)) from error

    def close(self) -> None:
        """Leave it to the garbage collector, which closes it."""
