"""The connections of this worker: those that hold memory or places without a request are closed where these are scarce.

The HTTP server holds the head of a request, out of reach of the middleware, until it is complete. The kernel knows what
each connection has received, and the middleware what of that were requests: the rest is held by the server. All of this
runs on the event loop. Only on Linux.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from errno import ENOTCONN
from typing import NamedTuple

from service.listener import borrowed_socket, listening_sockets
from service.middleware.memory_budget import MemoryBudget
from service.request import Request

logger = logging.getLogger("bentoml.photoz")

CHECK_EVERY, WATCH_EVERY = 0.1, 1.0  # seconds
CHECK_SHARE = 0.3  # of the time, at most

# Bytes that granian reads from a connection at a time, and holds at most. A smaller buffer makes large uploads slower;
# it also bounds the head of a request, so that the exact limit is checked in the middleware.
BUFFER_BYTES = 1024 * 1024

# Bytes of a request that the middleware does not see: spaces around the headers, and of each byte of a body in chunks.
SLACK_BYTES, CHUNK_FACTOR = 64, 2

# What all connections may hold at any time: ordinary heads, and small requests that wait for their turn.
SMALL_BYTES = 16 * 1024

# Files that are not connections, and connections, whatever the number of files.
SPARE_FILES, MAX_CONNECTIONS = 128, 8192

# Of the places for connections, those that may be taken before connections without a request are closed.
CROWDED = 0.75

# Linux's `struct tcp_info`: the state; packets without an acknowledgement; bytes received, and not sent yet.
TCP_INFO = struct.Struct("=B23xI100xQ8xI")
ESTABLISHED = 1

# An address and a port, as granian gives them.
Peer = tuple[str, str]


class _Connection(NamedTuple):
    file: int
    is_open: bool  # in both directions
    is_read: bool  # all that was sent
    received_bytes: int


class Connections:
    """The connections of this worker; nothing happens before `start`.

    What they have sent of heads takes part in the memory budget. Where that is more than the part that is kept for
    small requests, connections that hold some are closed, those that have served no request and the oldest first; where
    most places are taken, those that hold nothing, the address that has most first.
    """

    def __init__(self, memory: MemoryBudget) -> None:
        self._memory = memory
        self._requests: dict[Peer, Request] = {}  # in flight
        self._known_bytes = Counter[Peer]()  # of requests that have ended
        self._since: dict[Peer, float] = {}  # when connections were first seen to hold more than that
        self._watched: dict[Peer, Callable[[], None]] = {}
        self._watch_at = 0.0
        self._ports = set[int]()  # of the listening sockets, which are closed before the connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._max_connections = MAX_CONNECTIONS
        self.n_closed = 0

    def start(self) -> None:
        """Check the connections from now on; called on the event loop."""
        if sys.platform != "linux":
            return
        self._max_connections = max_connections()
        self._loop = asyncio.get_running_loop()
        self._loop.call_later(CHECK_EVERY, self._check_again, self._loop)

    def add(self, peer: Peer, request: Request) -> None:
        """Note that the head of a request has arrived."""
        if self._loop is not None:
            self._requests[peer] = request

    def remove(self, peer: Peer, request: Request) -> None:
        """Note that a request has ended."""
        if self._loop is None:
            return
        self._known_bytes[peer] += _sent_bytes(request)
        if self._requests.get(peer) is request:  # else the next one has begun
            del self._requests[peer]

    def watch(self, peer: Peer, on_disconnect: Callable[[], None]) -> None:
        """Call `on_disconnect` if the client closes its connection.

        The HTTP server does not notice this while the connection has bytes behind the request.
        """
        if self._loop is not None:
            self._watched[peer] = on_disconnect

    def unwatch(self, peer: Peer, on_disconnect: Callable[[], None]) -> None:
        """Do not call it."""
        if self._watched.get(peer) == on_disconnect:
            del self._watched[peer]

    def _check_again(self, loop: asyncio.AbstractEventLoop) -> None:
        begin = time.monotonic()
        try:
            self._check(begin)
        except Exception:
            self._memory.heads_bytes = 0
            logger.exception("the connections could not be checked")
        loop.call_later(max(CHECK_EVERY, (time.monotonic() - begin) / CHECK_SHARE), self._check_again, loop)

    def _check(self, now: float) -> None:
        self._ports = self._ports or {listener.getsockname()[1] for listener in listening_sockets()}
        n_files = len(os.listdir("/proc/self/fd"))
        may_be_much = n_files * BUFFER_BYTES > self._memory.kept_bytes or self._memory.heads_bytes > 0
        may_be_many = n_files > CROWDED * self._max_connections or len(self._known_bytes) > self._max_connections
        must_watch = bool(self._watched) and now >= self._watch_at
        if not (may_be_much or may_be_many or must_watch):
            return
        found, n_reset = self._accepted()
        if must_watch:
            self._watch_at = now + WATCH_EVERY
            self._end_watched(found, n_reset)
        self._close_some(found, self._count(found, now), now)

    def _end_watched(self, found: dict[Peer, _Connection], n_reset: int) -> None:
        """Call what `watch` was given for the clients that have closed their connections."""
        absent = [peer for peer in self._watched if peer in found and not found[peer].is_open]
        missing = [peer for peer in self._watched if peer not in found]
        if len(missing) <= n_reset:  # a connection that was reset does not say whose it is
            absent += missing
        for peer in absent:
            self._watched.pop(peer)()

    def _count(self, found: dict[Peer, _Connection], now: float) -> dict[Peer, int]:
        """Return the bytes that each connection without a request holds, and count them."""
        held = {}
        for peer, connection in found.items():
            if peer not in self._requests and connection.is_open:
                known = self._known_bytes[peer] = min(self._known_bytes[peer], connection.received_bytes)
                held[peer] = min(connection.received_bytes - known, BUFFER_BYTES)
        for peer in self._known_bytes.keys() - found.keys():
            del self._known_bytes[peer]
        self._since = {peer: self._since.get(peer, now) for peer, size in held.items() if size > SMALL_BYTES}
        self._memory.heads_bytes = sum(held.values())
        return held

    def _close_some(self, found: dict[Peer, _Connection], held: dict[Peer, int], now: float) -> None:
        too_large = self._memory.heads_bytes - self._memory.kept_bytes
        too_many = len(found) - round(CROWDED * self._max_connections)
        # The oldest first, and last those that have served a request: these, and what has just come, may hold a whole
        # request that waits for its turn.
        oldest = sorted((self._known_bytes[peer] > 0, since, peer) for peer, since in self._since.items())
        for _, since, peer in oldest if too_large > 0 else ():
            if too_large > 0 and since <= now - CHECK_EVERY / 2:
                self._close(peer, found[peer])
                too_large, too_many = too_large - held[peer], too_many - 1
        if too_many > 0:
            of_address = Counter(address for address, _ in found)
            idle = [peer for peer, size in held.items() if not size and found[peer].is_read]
            for peer in sorted(idle, key=lambda peer: of_address[peer[0]], reverse=True)[:too_many]:
                self._close(peer, found[peer])

    def _close(self, peer: Peer, connection: _Connection) -> None:
        with contextlib.suppress(OSError), borrowed_socket(connection.file) as found:  # it has just ended
            if _peer(found) == peer:
                found.shutdown(socket.SHUT_RDWR)
                self.n_closed += 1

    def _accepted(self) -> tuple[dict[Peer, _Connection], int]:
        """Return the connections that this process has accepted, and the number of those that were reset."""
        found, n_reset = dict[Peer, _Connection](), 0
        for name in os.listdir("/proc/self/fd"):
            try:
                with borrowed_socket(int(name)) as connection:
                    if connection.family == socket.AF_UNIX or connection.getsockname()[1] not in self._ports:
                        continue
                    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        continue
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
                    state, n_unread, received_bytes, n_unsent = TCP_INFO.unpack(info)
                    is_read = not (n_unread or n_unsent)
                    found[_peer(connection)] = _Connection(int(name), state == ESTABLISHED, is_read, received_bytes)
            except OSError as error:  # no socket, or it has just ended
                n_reset += error.errno == ENOTCONN
            except struct.error:  # a kernel without these numbers
                pass
        return found, n_reset


def max_connections() -> int:
    """Allow this process and its workers as many files as the system does; return how many may be connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(max(hard - SPARE_FILES, 1), MAX_CONNECTIONS)


def _sent_bytes(request: Request) -> int:
    """Return how many bytes a request was at most, unless its chunks are tiny."""
    factor = CHUNK_FACTOR if b"transfer-encoding" in request.headers else 1
    return request.head_bytes + SLACK_BYTES + factor * request.received_bytes


def _peer(connection: socket.socket) -> Peer:
    address, port, *_ = connection.getpeername()
    return address, str(port)
