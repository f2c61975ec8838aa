"""The connection of `connection`, for gRPC: as much of HTTP/2 as one call at a time needs."""

import selectors
import struct

from benchmarks.connection import BadReply, Connection

# Frames, their flags and settings: RFC 9113.
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 5  # settings
WINDOW, FRAME = 65_535, 16_384  # until the server says otherwise
LARGEST_WINDOW = 2**31 - 1  # what the server may send: more than it ever will


class GrpcConnection(Connection):
    """gRPC, one call at a time. The grpc package would take eight times the processor time, from the server's cores.

    Parameters
    ----------
    path : str
        Of the method, such as "/inference.GRPCInferenceService/ModelInfer".
    message : bytes
        The request, in protobuf.
    """

    def __init__(self, port: int, selector: selectors.BaseSelector, path: str, message: bytes) -> None:
        super().__init__(port, selector)
        self._headers = _header_block(path)
        self._message = memoryview(b"\0" + struct.pack(">I", len(message)) + message)
        self._stream = -1
        self._start = LARGEST_WINDOW  # of the message, that has not been sent: none
        self._window, self._stream_window, self._initial_window, self._frame = WINDOW, WINDOW, WINDOW, FRAME
        self._received, self._body = b"", b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
        self._outgoing += [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            _frame(SETTINGS, 0, 0, settings),
            _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", LARGEST_WINDOW - WINDOW)),
        ]

    def send(self) -> None:
        """See `Connection.send`."""
        self._stream += 2
        self._start, self._body, self._stream_window = 0, b"", self._initial_window
        self._outgoing.append(_frame(HEADERS, END_HEADERS, self._stream, self._headers))
        self._fill()

    def reply(self) -> tuple[bytes, bytes]:
        """See `Connection.reply`; there is no head."""
        return b"", self._body[5:]

    def _fill(self) -> None:
        """Send as much of the message as the server has room for."""
        while self._start < len(self._message):
            size = min(len(self._message) - self._start, self._frame, self._window, self._stream_window)
            if size <= 0:
                break
            stop = self._start + size
            flags = END_STREAM if stop == len(self._message) else 0
            self._outgoing += [_frame_head(size, DATA, flags, self._stream), self._message[self._start : stop]]
            self._start, self._window, self._stream_window = stop, self._window - size, self._stream_window - size
        self._push()

    def _take(self, received: bytes) -> bool:
        self._received += received
        at, complete = 0, False
        while len(self._received) >= at + 9:
            size = int.from_bytes(self._received[at : at + 3], "big")
            if len(self._received) < at + 9 + size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self._received, at + 3)
            complete |= self._take_frame(kind, flags, stream, self._received[at + 9 : at + 9 + size])
            at += 9 + size
        self._received = self._received[at:]
        self._fill()
        return complete

    def _take_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> bool:
        if kind == DATA:
            self._body += payload
        elif kind in (RST_STREAM, GOAWAY):
            raise BadReply(f"the server ended the call: {payload!r}")
        elif kind == PING and not flags & ACK:
            self._outgoing.append(_frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            self._take_settings(payload)
        elif kind == WINDOW_UPDATE and stream in (0, self._stream):
            (more,) = struct.unpack(">I", payload)
            if stream:
                self._stream_window += more
            else:
                self._window += more
        if kind not in (DATA, HEADERS) or not flags & END_STREAM:
            return False
        if not self._body:  # a failed call has a status and no message
            raise BadReply(f"the call failed: {payload!r}")
        return True

    def _take_settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW_SIZE:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif name == MAX_FRAME_SIZE:
                self._frame = value
        self._outgoing.append(_frame(SETTINGS, ACK, 0, b""))


def _frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    return size.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _frame_head(len(payload), kind, flags, stream) + payload


def _header_block(path: str) -> bytes:
    """Write the headers of a call as HPACK literals (RFC 7541, section 6.2.2), which leave no state behind."""
    names = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "127.0.0.1"}
    names |= {"content-type": "application/grpc", "te": "trailers"}
    block = bytearray()
    for pair in names.items():
        block.append(0)
        for text in pair:
            block.append(len(text))  # below 127: one byte
            block += text.encode()
    return bytes(block)
