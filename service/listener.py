"""Stop accepting connections without losing one that has been made."""

import contextlib
import ctypes
import os
import socket
import struct
import sys

SO_ATTACH_FILTER = 26  # Linux; the module socket does not name it

# Seconds in which the connections that have been made are accepted, before the socket is closed.
ACCEPT_SECONDS = 0.1

# A BPF program (code, jumps if true and if false, operand): drop a TCP segment with the flag SYN, accept all others.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def drop_new_connections() -> None:
    """Drop the segments that would open a connection to any listening socket of this process.

    The kernel resets the connections that wait on a listening socket when that is closed. A dropped segment is sent
    again after a second: to another process that listens by then, or it is refused. Does nothing except on Linux.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _DROP_SYN))
    option = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as copy:  # not a socket, or closed
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                copy.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, option)
