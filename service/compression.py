"""Compressed bodies, requests and responses: gzip and deflate, as HTTP means them (RFC 9110, sec. 8.4.1)."""

import gzip
import zlib
from collections.abc import Callable, Mapping

from starlette.types import Message, Receive

from photoz.errors import MalformedInput, UnsupportedType
from service.request import Request
from service.steps import run_step

# Content-Encoding -> zlib's window bits. deflate is a zlib stream, whatever its name says.
WINDOW_BITS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# Numbers hardly compress, and not more at higher levels.
LEVEL = 1

# Content-Encoding -> compression, where Accept-Encoding names nothing else. Triton's clients send that on request.
# Lists, which browsers and HTTP libraries send with every request, get none: it would cost more than it saves.
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, LEVEL),
}

UNPACK_BYTES = 4 * 1024 * 1024  # at a time


def decompressed(request: Request, receive: Receive) -> Receive:
    """Return a channel of the decompressed body, which may raise `MalformedInput`; raises `UnsupportedType`."""
    if (encoding := request.content_encoding) not in WINDOW_BITS:
        raise UnsupportedType(f"cannot read Content-Encoding {encoding}: expected {' or '.join(WINDOW_BITS)}")
    stream, more, pending = zlib.decompressobj(WINDOW_BITS[encoding]), True, False

    async def receive_decompressed() -> Message:
        nonlocal more, pending
        packed = stream.unconsumed_tail
        if not pending:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            packed, more = message.get("body", b""), message.get("more_body", False)
            request.has_arrived = not more
        try:
            part = await run_step("decompress", UNPACK_BYTES, stream.decompress, packed, UNPACK_BYTES)
        except zlib.error as error:
            raise MalformedInput(f"expected a body compressed with {encoding}, got other bytes: {error}") from error
        if stream.unused_data:
            raise MalformedInput(f"expected one {encoding} stream as the body, got more bytes behind it")
        pending = len(part) == UNPACK_BYTES  # there may be more
        if not (more or pending or stream.eof):
            raise MalformedInput(f"the body ends before its {encoding} stream does")
        return {"type": "http.request", "body": part, "more_body": more or pending}

    return receive_decompressed
