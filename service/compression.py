"""Compressed bodies, in both directions: gzip and deflate, as HTTP means them (RFC 9110, sec. 8.4.1)."""

import gzip
import zlib
from collections.abc import Callable, Mapping

from photoz.errors import MalformedInput, TooLarge, UnsupportedType

# Content-Encoding -> what zlib calls its window. deflate is a zlib stream, whatever its name says.
WINDOWS: Mapping[str, int] = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

# Bytes of numbers hardly shrink, and not more for more work.
LEVEL = 1
COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, LEVEL),
}


# Bytes that are unpacked before anybody is asked whether there is room for more.
PIECE = 4 * 1024 * 1024


def decompress(body: bytes, encoding: str, limit: int, grow: Callable[[int], None] = lambda size: None) -> memoryview:
    """Unpack a body, and never more of it than is allowed.

    Parameters
    ----------
    body : bytes
        As it came.
    encoding : str
        Its Content-Encoding.
    limit : int
        Bytes allowed when unpacked.
    grow : callable
        Told of each size that is reached on the way; what it raises ends it.

    Returns
    -------
    memoryview
        Unpacked.

    Raises
    ------
    UnsupportedType, TooLarge, MalformedInput
        By what is wrong.
    """
    if encoding not in WINDOWS:
        raise UnsupportedType(f"cannot read Content-Encoding {encoding}: expected {' or '.join(WINDOWS)}")
    stream, unpacked = zlib.decompressobj(WINDOWS[encoding]), bytearray()
    try:
        while piece := stream.decompress(body, PIECE):
            unpacked += piece
            if len(unpacked) > limit:
                raise TooLarge(f"expected a body of at most {limit:,} bytes unpacked, got more")
            grow(len(unpacked))
            body = stream.unconsumed_tail
    except zlib.error as error:
        raise MalformedInput(f"expected a body packed with {encoding}, got other bytes: {error}") from error
    if not stream.eof:
        raise MalformedInput(f"the body ends before its {encoding} stream does")
    if stream.unused_data:
        raise MalformedInput(f"expected one {encoding} stream as the body, got {len(stream.unused_data):,} bytes more")
    return memoryview(unpacked)


def chosen_encoding(accept_encoding: str) -> str | None:
    """Choose how to pack an answer.

    Parameters
    ----------
    accept_encoding : str
        The Accept-Encoding header.

    Returns
    -------
    str or None
        gzip or deflate where the header asks for that alone, as Triton's clients do on request. Lists, which browsers
        and HTTP libraries send with everything, are answered as it is: packing would cost more than it saves.
    """
    encoding = accept_encoding.strip().lower()
    return encoding if encoding in COMPRESSORS else None
