"""Attacks on memory and connections, each a function that gives what is sent on one connection, piece after piece.

Those of `WHOLE` send whole requests, and those of `HOLDING` hold connections, which is for a proxy to end.
"""

import io
import random
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import h5py
import numpy as np
from astropy.io import fits

from benchmarks.harness.http_client import request, request_head
from tests.attack.files import npy_bytes, npz_bytes
from tests.attack.messages import EVALUATE, INFER, PREDICT

MIB = 1024 * 1024


class Siege(NamedTuple):
    """What is sent, from the service's budget of memory; how many connections at once; whether answers are read."""

    pieces: Callable[[int], Iterable[bytes]]
    connections: int = 6
    reads: bool = True


def json_bomb(budget: int) -> Iterator[bytes]:
    """Send JSON of empty lists, each of which becomes an object."""
    line = random.choice(("X-A: b", "Inference-Header-Content-Length: 0"))
    body = b" " * 64 + b'{"images":[' + b"[]," * min(20 * MIB, budget // 7) + b"[]]}"
    yield request("POST", random.choice(("/predict", EVALUATE)), body, line)


def small_types(budget: int) -> Iterator[bytes]:
    """Send numbers of one byte, which deflate a thousandfold, and which are converted to larger ones."""
    yield random.choice(_small_types(min(4096, budget // 2 // 20_480)))


@cache
def _small_types(n: int) -> tuple[bytes, bytes]:
    np.savez_compressed(file := io.BytesIO(), pdfs=np.ones((102_400, 180), np.int8), z_spec=np.full(102_400, 0.1))
    shape = f'"shape":[{n},64,64,5],"parameters":{{"binary_data_size":{n * 20_480}}}'
    message = f'{{"inputs":[{{"name":"images","datatype":"INT8",{shape}}}]}}'.encode()
    lines = f"Inference-Header-Content-Length: {len(message)}", "Content-Encoding: deflate"
    infer = request("POST", INFER, zlib.compress(message + bytes(n * 20_480), 9), *lines)
    return request("POST", EVALUATE, file.getvalue()), infer


@cache
def small_archive(budget: int) -> tuple[bytes]:
    """Send a .npz file below 256 KiB that unpacks into 60 MB."""
    np.savez_compressed(file := io.BytesIO(), images=np.zeros((740, 64, 64, 5), np.float32))
    return (request("POST", PREDICT, file.getvalue()),)


@cache
def large(budget: int) -> tuple[bytes]:
    """Send as many cutouts as a body may have, of a type that has to be converted."""
    n = min(4096, budget // 2 // 40_960 - 1)
    return (request("POST", f"{PREDICT}?pdf=true", npy_bytes(np.ones((n, 64, 64, 5), np.float16))),)


def described(budget: int) -> Iterator[bytes]:
    """Send FITS and HDF5 files that describe far more than they have: packed images, and one of tera-pixels."""
    yield request("POST", PREDICT, random.choice(_described()))


@cache
def _described() -> tuple[bytes, bytes]:
    with h5py.File(file := io.BytesIO(), "w") as hdf5:
        hdf5.create_dataset("images", (4000, 64, 64, 5), "f8", compression="gzip", fillvalue=1.0)
    header = fits.PrimaryHDU(np.zeros((1, 5, 64, 64), np.float32)).header
    header["NAXIS4"] = 2**40
    return file.getvalue(), header.tostring().encode() + bytes(2880)


def upgrade(budget: int) -> Iterator[bytes]:
    inner = request_head("GET /model")
    lines = ("Connection: Upgrade", "Upgrade: h2c", f"Content-Length: {len(inner)}")
    yield request_head("POST /predict_file", *lines) + inner


def trailing_key(budget: int) -> Iterator[bytes]:
    """Send a header after the body that some servers join with those before it."""
    chunks = b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    yield request_head("POST /predict_file", "Transfer-Encoding: chunked") + chunks


def trailers(budget: int) -> Iterator[bytes]:
    """Send trailers without an end."""
    yield request_head("POST /predict_file", "Transfer-Encoding: chunked") + b"0\r\n"
    while True:
        yield (b"X-Trailer: " + b"a" * 4000 + b"\r\n") * 16


def pipelined(budget: int) -> Iterator[bytes]:
    """Send requests without an end, and read no answer."""
    while True:
        yield request_head("GET /") * 1000


def unread(budget: int) -> Iterator[bytes]:
    """Ask for megabytes, and do not read them."""
    yield random.choice((_large_request(), request_head("GET /model") * 420))


@cache
def _large_request() -> bytes:
    return request("POST", f"{PREDICT}?pdf=true", npz_bytes(images=np.ones((600, 64, 64, 5), np.float16)))


def stopped_upload(budget: int) -> Iterator[bytes]:
    """Send most of a body, and then nothing."""
    n = min(budget // 3, 60 * MIB)
    yield request_head("POST /predict_file", f"Content-Length: {n + MIB}") + bytes(n)


def slow_upload(budget: int) -> Iterator[bytes]:
    """Send a body that would take hours."""
    yield request_head("POST /predict_file", f"Content-Length: {20 * MIB}")
    while True:
        yield bytes(6400)
        time.sleep(0.1)


def half_head(budget: int) -> Iterator[bytes]:
    yield request_head("GET /model", "X-Junk: " + "a" * 32_000)[:-4]


def nothing(budget: int) -> tuple[bytes, ...]:
    """Connect, and send nothing."""
    return ()


WHOLE = {
    **{"json": Siege(json_bomb), "small-types": Siege(small_types), "small-archive": Siege(small_archive)},
    **{"large": Siege(large), "described": Siege(described), "upgrade": Siege(upgrade)},
    "trailing-key": Siege(trailing_key),
}
HOLDING = {
    **{"trailers": Siege(trailers, reads=False), "pipelined": Siege(pipelined, reads=False)},
    **{"unread": Siege(unread, 170, reads=False), "stopped": Siege(stopped_upload, 12, reads=False)},
    **{"slow": Siege(slow_upload, 40, reads=False), "half-heads": Siege(half_head, 2500, reads=False)},
    "idle": Siege(nothing, 2500, reads=False),
}
