"""The sockets of this process, and options that granian does not offer."""

import contextlib
import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator

SO_ATTACH_FILTER = 26  # Linux; the module socket does not name it

# Seconds in which the connections that have been made are accepted, before the socket is closed.
ACCEPT_SECONDS = 0.1

# A BPF program (code, jumps if true and if false, operand): drop a TCP segment with the flag SYN, accept all others.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


@contextlib.contextmanager
def borrowed_socket(file: int) -> Iterator[socket.socket]:
    """Use the socket of a file of this process, without a copy, for which no file may be left; OSError for others."""
    borrowed = socket.socket(fileno=file)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def listening_sockets() -> Iterator[socket.socket]:
    """Yield the listening sockets of this process; none except on Linux."""
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():
        with contextlib.suppress(OSError), borrowed_socket(int(name)) as found:
            if found.family != socket.AF_UNIX and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield found


def drop_new_connections() -> None:
    """Drop the segments that would open a connection, so that none is lost that has been made.

    The kernel resets the connections that wait on a listening socket when that is closed. A dropped segment is sent
    again after a second: to another process that listens by then, or it is refused.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _DROP_SYN))
    option = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
    for listener in listening_sockets():
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)


def limit_unread_answers(seconds: float) -> bool:
    """Let the kernel end each new connection whose client acknowledges nothing for so long; return whether one listens.

    hyper has no limit on the time that an answer may take to be read.
    """
    found = False
    for listener in listening_sockets():
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))
        found = True
    return found
