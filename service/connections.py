"""The connections of this worker: what they sent of a request's head, and those that take places without a request.

The HTTP server holds the head of a request until it is complete, out of reach of the middleware. The kernel knows what
each connection has received, and the middleware what of that were requests: the rest is held by the server.
"""

import asyncio
import contextlib
import itertools
import os
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from service.listener import listening_sockets, network_sockets
from service.middleware.memory_budget import MemoryBudget
from service.request import Request

LOOK_EVERY = 0.1  # seconds
WATCH_EVERY = 10  # times that

# Bytes that granian reads from a connection at a time, and holds at most. A smaller buffer makes large uploads slower;
# it also bounds the head of a request, so that the exact limit is checked in the middleware.
BUFFER_BYTES = 256 * 1024

# Bytes of a request that the middleware does not know: its method and version, and spaces around the headers.
SLACK_BYTES = 256

# Files that are not connections, and connections, whatever the number of files.
SPARE_FILES, MAX_CONNECTIONS = 128, 8192

# Of the places for connections, those that may be taken before connections without a request are closed.
CROWDED = 0.75

# Where Linux's `struct tcp_info` has the bytes that a connection has received, as 64 bits.
TCP_INFO_BYTES, RECEIVED_OFFSET = 136, 128
ESTABLISHED = 1  # its first byte, the state

# An address and a port, as granian gives them.
Peer = tuple[str, str]


class Connections:
    """The connections of this worker, `max_connections` at most.

    What they have sent of heads takes part in the memory budget. Where that is more than the part that is kept for
    small requests, or most places are taken, connections without a request are closed, beginning with those of the
    address that has most. Only on Linux.
    """

    def __init__(self, memory: MemoryBudget, max_connections: int) -> None:
        self._memory, self._max_connections = memory, max_connections
        self._requests: dict[Peer, Request] = {}  # in flight
        self._ended_bytes: Counter[Peer] = Counter()  # of requests that have ended
        self._watched: dict[Peer, Callable[[], object]] = {}
        self._ports = set[int]()  # that this process listens on, until it ends
        self._loop: asyncio.AbstractEventLoop | None = None
        self.n_closed = 0

    def add(self, peer: Peer, request: Request) -> None:
        """Note that the head of a request has arrived."""
        self._requests[peer] = request

    def remove(self, peer: Peer, request: Request) -> None:
        """Note that a request has ended."""
        self._ended_bytes[peer] += _sent_bytes(request)
        if self._requests.get(peer) is request:  # else the next one has begun
            del self._requests[peer]

    def watch(self, peer: Peer, on_disconnect: Callable[[], object]) -> None:
        """Call `on_disconnect` if the client closes its connection.

        The HTTP server does not notice this while the connection has bytes behind the request.
        """
        if self._loop is not None:
            self._watched[peer] = on_disconnect

    def unwatch(self, peer: Peer) -> None:
        """Do not call it."""
        self._watched.pop(peer, None)

    def keep_looking(self) -> None:
        """Look at the connections from now on, in a thread."""

        def look_again() -> None:
            for n in itertools.count(1):
                time.sleep(LOOK_EVERY)
                self._ports = self._ports or {listener.getsockname()[1] for listener in listening_sockets()}
                self.look()
                if n % WATCH_EVERY == 0 and self._watched:
                    self.look_for_absent()

        if sys.platform == "linux":
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=look_again, name="connections", daemon=True).start()

    def look(self) -> None:
        """Count what connections hold of heads, and close some if that is too much, or if they are too many."""
        may_be_much = len(os.listdir("/proc/self/fd")) * BUFFER_BYTES > self._memory.kept_bytes
        if not (may_be_much or self._memory.heads_bytes or len(self._ended_bytes) > self._max_connections):
            return
        with self._accepted() as found:
            held = {peer: self._held_by(peer, one.received_bytes) for peer, one in found.items()}
            self._close_some(found, held)
        self._memory.heads_bytes = sum(held.values())
        for peer in self._ended_bytes.keys() - found.keys():
            del self._ended_bytes[peer]

    def look_for_absent(self) -> None:
        """Call what `watch` was given for the clients that have closed their connections."""
        watched = list(self._watched)
        with self._accepted() as found:
            absent = [peer for peer in watched if peer not in found or not found[peer].is_open]
        if self._loop is not None:
            for peer in absent:
                self._loop.call_soon_threadsafe(self._call, peer)

    def _call(self, peer: Peer) -> None:
        if on_disconnect := self._watched.pop(peer, None):  # else the answer has started
            on_disconnect()

    @contextlib.contextmanager
    def _accepted(self) -> "Iterator[dict[Peer, _Connection]]":
        """Find the connections that this process has accepted."""
        found = dict[Peer, _Connection]()
        with contextlib.ExitStack() as stack:
            for one in network_sockets():
                stack.enter_context(one)
                with contextlib.suppress(OSError, struct.error):  # it listens or has ended; a kernel without the number
                    if one.getsockname()[1] in self._ports:
                        address, port, *_ = one.getpeername()
                        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
                        (received_bytes,) = struct.unpack_from("=Q", info, RECEIVED_OFFSET)
                        found[address, str(port)] = _Connection(one, info[0] == ESTABLISHED, received_bytes)
            yield found

    def _held_by(self, peer: Peer, received_bytes: int) -> int:
        """Return the bytes that are no part of a request yet."""
        held = received_bytes - self._ended_bytes[peer]
        if request := self._requests.get(peer):
            held -= _sent_bytes(request)
        return min(max(held, 0), BUFFER_BYTES)

    def _close_some(self, found: "dict[Peer, _Connection]", held: dict[Peer, int]) -> None:
        """Close as many as are too many, and take what they hold from `held`."""
        of_address = Counter(address for address, _ in found)
        too_many = len(found) - round(CROWDED * self._max_connections)
        too_large = sum(held.values()) - self._memory.kept_bytes
        for peer in sorted(found, key=lambda peer: (of_address[peer[0]], held[peer]), reverse=True):
            if peer in self._requests or not (too_many > 0 or (too_large > 0 and held[peer])):
                continue
            with contextlib.suppress(OSError):  # it has just ended
                found[peer].socket.shutdown(socket.SHUT_RDWR)
            too_many, too_large = too_many - 1, too_large - held.pop(peer)
            self.n_closed += 1


def _sent_bytes(request: Request) -> int:
    """Return how many bytes a request was at most, unless its chunks are tiny."""
    framed = b"transfer-encoding" in request.headers
    return request.head_bytes + SLACK_BYTES + request.received_bytes * (2 if framed else 1)


class _Connection(NamedTuple):
    socket: socket.socket
    is_open: bool  # in both directions
    received_bytes: int


def max_connections() -> int:
    """Allow this process and its workers as many files as the system does; return how many may be connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else min(max(hard - SPARE_FILES, 1), MAX_CONNECTIONS)
