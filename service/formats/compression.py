"""Compressed bodies, requests and responses: gzip and deflate, as HTTP means them (RFC 9110, sec. 8.4.1)."""

import gzip
import zlib
from collections.abc import Callable, Mapping

from photoz.errors import MalformedInput, TooLarge, UnsupportedType

# Content-Encoding -> zlib's window bits. deflate is a zlib stream, whatever its name says.
WINDOW_BITS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# Numbers hardly compress, and not more at higher levels.
LEVEL = 1
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, LEVEL),
}

CHUNK = 4 * 1024 * 1024  # bytes to unpack before more memory is reserved


def decompress(body: bytes, encoding: str, limit: int, grow: Callable[[int], None] = lambda size: None) -> memoryview:
    """Decompress a body of a Content-Encoding to at most `limit` bytes.

    `grow` is called with each size that is reached on the way; what it raises ends the decompression. Raises
    `UnsupportedType`, `TooLarge` or `MalformedInput`.
    """
    if encoding not in WINDOW_BITS:
        raise UnsupportedType(f"cannot read Content-Encoding {encoding}: expected {' or '.join(WINDOW_BITS)}")
    stream, unpacked = zlib.decompressobj(WINDOW_BITS[encoding]), bytearray()
    try:
        while chunk := stream.decompress(body, CHUNK):
            unpacked += chunk
            if len(unpacked) > limit:
                raise TooLarge(f"expected a body of at most {limit:,} bytes unpacked, got more")
            grow(len(unpacked))
            body = stream.unconsumed_tail
    except zlib.error as error:
        raise MalformedInput(f"expected a body compressed with {encoding}, got other bytes: {error}") from error
    if not stream.eof:
        raise MalformedInput(f"the body ends before its {encoding} stream does")
    if stream.unused_data:
        raise MalformedInput(f"expected one {encoding} stream as the body, got {len(stream.unused_data):,} bytes more")
    return memoryview(unpacked)


def chosen_encoding(accept_encoding: str) -> str | None:
    """Return how to compress a response: gzip or deflate where Accept-Encoding names nothing else.

    Triton's clients send that on request. Lists, which browsers and HTTP libraries send with every request, get no
    compression: it would cost more than it saves.
    """
    encoding = accept_encoding.strip().lower()
    return encoding if encoding in COMPRESSORS else None
