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

# Files that are looked at before the event loop does something else, and the part of the time that this takes at most.
FILES_AT_A_TIME, CHECK_SHARE = 32, 0.3

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
ESTABLISHED, LISTENING = 1, 10

# An address and a port, as granian gives them.
Peer = tuple[str, str]


class _Connection(NamedTuple):
    file: int
    state: int
    is_read: bool  # all that was sent
    received_bytes: int

    @classmethod
    def of(cls, connection: socket.socket) -> "_Connection":
        """Ask the kernel; raises `struct.error` if it does not know all of this."""
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        state, n_unread, received_bytes, n_unsent = TCP_INFO.unpack(info)
        return cls(connection.fileno(), state, not (n_unread or n_unsent), received_bytes)


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
        self._checks: asyncio.Task[None] | None = None
        self._max_connections = MAX_CONNECTIONS
        self.n_closed = 0

    def start(self) -> None:
        """Check the connections from now on; called on the event loop."""
        if sys.platform != "linux":
            return
        self._max_connections = max_connections()
        self._checks = asyncio.create_task(self._keep_checking())

    def add(self, peer: Peer, request: Request) -> None:
        """Note that the head of a request has arrived."""
        if self._checks is not None:
            self._requests[peer] = request

    def remove(self, peer: Peer, request: Request) -> None:
        """Note that a request has ended."""
        if self._checks is None:
            return
        self._known_bytes[peer] += _sent_bytes(request)
        if self._requests.get(peer) is request:  # else the next one has begun
            del self._requests[peer]

    def watch(self, peer: Peer, on_disconnect: Callable[[], None]) -> None:
        """Call `on_disconnect` if the client closes its connection.

        The HTTP server does not notice this while the connection has bytes behind the request.
        """
        if self._checks is not None:
            self._watched[peer] = on_disconnect

    def unwatch(self, peer: Peer, on_disconnect: Callable[[], None]) -> None:
        """Do not call it."""
        if self._watched.get(peer) == on_disconnect:
            del self._watched[peer]

    async def _keep_checking(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            try:
                await self._check(time.monotonic())
            except Exception:
                self._memory.heads_bytes = 0
                logger.exception("the connections could not be checked")

    async def _check(self, now: float) -> None:
        self._ports = self._ports or {listener.getsockname()[1] for listener in listening_sockets()}
        files = os.listdir("/proc/self/fd")
        may_be_much = len(files) * BUFFER_BYTES > self._memory.kept_bytes or self._memory.heads_bytes > 0
        may_be_many = len(files) > CROWDED * self._max_connections or len(self._known_bytes) > self._max_connections
        watched = list(self._watched) if now >= self._watch_at else []
        if not (may_be_much or may_be_many or watched):
            return
        known = set(self._known_bytes)
        found, held = dict[Peer, _Connection](), dict[Peer, int]()
        n_reset = 0
        for start in range(0, len(files), FILES_AT_A_TIME):
            begin = time.monotonic()
            n_reset += self._look_at(files[start : start + FILES_AT_A_TIME], found, held)
            await asyncio.sleep((time.monotonic() - begin) * (1 / CHECK_SHARE - 1))
        for peer in known - found.keys():
            del self._known_bytes[peer]
        self._memory.heads_bytes = sum(held.values())
        self._since = {peer: self._since.get(peer, now) for peer, size in held.items() if size > SMALL_BYTES}
        if watched:
            self._watch_at = now + WATCH_EVERY
            self._end_watched(watched, found, n_reset)
        self._close_some(found, held, now)

    def _look_at(self, files: list[str], found: dict[Peer, _Connection], held: dict[Peer, int]) -> int:
        """Find the connections that this process has accepted, and what they hold; return how many have been reset."""
        n_reset = 0
        for name in files:
            try:
                with borrowed_socket(int(name)) as connection:
                    seen = _Connection.of(connection)
                    if seen.state == LISTENING or connection.getsockname()[1] not in self._ports:
                        continue
                    peer = _peer(connection)
                    found[peer] = seen
                    if (size := self._held(peer, seen)) is not None:
                        held[peer] = size
            except OSError as error:  # no TCP, or it has just ended
                n_reset += error.errno == ENOTCONN
            except struct.error:  # a kernel without these numbers
                pass
        return n_reset

    def _held(self, peer: Peer, connection: _Connection) -> int | None:
        """Return the bytes that a connection holds; None with a request or when it ends."""
        if peer in self._requests or connection.state != ESTABLISHED:
            return None
        known = self._known_bytes[peer] = min(self._known_bytes[peer], connection.received_bytes)
        return min(connection.received_bytes - known, BUFFER_BYTES)

    def _end_watched(self, watched: list[Peer], found: dict[Peer, _Connection], n_reset: int) -> None:
        """Call what `watch` was given for the clients that have closed their connections."""
        watched = [peer for peer in watched if peer in self._watched]
        absent = [peer for peer in watched if peer in found and found[peer].state != ESTABLISHED]
        missing = [peer for peer in watched if peer not in found]
        if len(missing) <= n_reset:  # a connection that was reset does not say whose it is
            absent += missing
        for peer in absent:
            self._watched.pop(peer)()

    def _close_some(self, found: dict[Peer, _Connection], held: dict[Peer, int], now: float) -> None:
        too_large = self._memory.heads_bytes - self._memory.kept_bytes
        too_many = len(found) - round(CROWDED * self._max_connections)
        # The oldest first, and last those that have served a request: these, and what has just come, may hold a whole
        # request that waits for its turn.
        oldest = sorted((self._known_bytes[peer] > 0, since, peer) for peer, since in self._since.items())
        for _, since, peer in oldest if too_large > 0 else ():
            if too_large > 0 and since <= now - CHECK_EVERY / 2 and self._close(peer, found[peer], is_idle=False):
                too_large, too_many = too_large - held[peer], too_many - 1
        if too_many > 0:
            of_address = Counter(address for address, _ in found)
            idle = [peer for peer, size in held.items() if not size and found[peer].is_read]
            for peer in sorted(idle, key=lambda peer: of_address[peer[0]], reverse=True)[:too_many]:
                self._close(peer, found[peer], is_idle=True)

    def _close(self, peer: Peer, seen: _Connection, *, is_idle: bool) -> bool:
        """Close a connection, unless it has changed since it was seen; return whether it was closed."""
        with contextlib.suppress(OSError), borrowed_socket(seen.file) as found:  # OSError: it has just ended
            size = self._held(peer, _Connection.of(found)) if _peer(found) == peer else None
            if size is not None and (size == 0 if is_idle else size > SMALL_BYTES):
                found.shutdown(socket.SHUT_RDWR)
                self.n_closed += 1
                return True
        return False


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
