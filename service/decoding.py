"""Files that libraries parse, FITS and HDF5, as request bodies: decoded in a child process with limits.

These libraries trust their files: a header of 80 bytes makes astropy take all memory, and HDF5 is parsed in C. A child
(`service.decoding_worker`) is started for each file, one at a time. It has the memory that its request has reserved,
and processor time by its size, and it can write no file.
"""

import asyncio
import logging
from dataclasses import asdict

import numpy as np

from photoz.errors import InvalidDataset, MalformedInput, TooLarge, UnsupportedType
from photoz.images import ImageSpec
from photoz.protocol import contract
from service.child import Array, split_arrays
from service.children import ChildFailed, run_child
from service.formats import negotiation, npz
from service.middleware.concurrency import ConcurrencyLimit
from service.middleware.errors import RequestTimeout
from service.offload import offload, offload_if_large
from service.request import Request

logger = logging.getLogger("bentoml.photoz")

MAGICS = {b"SIMPLE  =": "fits", b"\x89HDF\r\n\x1a\n": "hdf5"}

# Memory of a child beside the libraries: what the file becomes while it is read and converted.
FACTOR, LEAST_BYTES = 4, 16 * 1024 * 1024

# Processor time: of the imports and any file, and a second for so many bytes; packed FITS takes 0.7 for them. It ends
# the loops of HDF5 on some damaged files.
SECONDS, BYTES_A_SECOND = 6, 2 * 1024 * 1024
WALL_SECONDS = 60

# Files that are decoded or wait, in all and of one client.
MAX_QUEUED, MAX_OF_CLIENT = 12, 8

# What a child may report.
ERRORS = {error.__name__: error for error in (InvalidDataset, MalformedInput, TooLarge, UnsupportedType)}

MAX_ASSUMED = 1000  # characters of the header that says what was assumed


class Decoder:
    """Reads bodies that are files, for a model that takes `spec`; `.npz` files unpack into at most `max_bytes`."""

    def __init__(self, spec: ImageSpec, max_bytes: int) -> None:
        self._spec, self._max_bytes = spec, max_bytes
        self._lock = asyncio.Lock()
        self._queued = ConcurrencyLimit("files are decoded or wait", MAX_QUEUED, MAX_OF_CLIENT)

    async def read_file(self, request: Request, ebv: float | None) -> dict[str, Array]:
        """Return the arrays of a `.npy`, `.npz`, FITS or HDF5 file by name, with `ebv` where the file has none.

        The images of the last two are brought into the layout of the model; what was assumed becomes `assumptions` of
        the request. Raises `UnsupportedType`, `MalformedInput`, `InvalidDataset`, `TooLarge`, `TooManyRequests` or
        `RequestTimeout`.
        """
        if format_of(request.body):
            arrays = await self.read_in_child(request, request.body)
        else:
            work = negotiation.decoding_work(request)
            arrays = await offload_if_large(work, npz.decode, request, self._max_bytes)
        return arrays if ebv is None else {"ebv": np.array(ebv)} | arrays

    async def read_evaluation(self, request: Request) -> dict[str, Array]:
        """Return the arrays of a request of `/evaluate`, JSON or a file; raises as `read_file`, or `InvalidInput`."""
        negotiation.check_evaluation_type(request)
        if format_of(request.body):
            return await self.read_in_child(request, request.body)
        return await offload(negotiation.decode_evaluation, request, self._max_bytes)

    async def read_in_child(self, request: Request, body: bytes) -> dict[str, Array]:
        """Return the arrays of a FITS or HDF5 file; raises as `read_file`."""
        self._queued.check(request.client)
        with self._queued.count(request.client):
            async with self._lock:
                return await self._read(request, body)

    async def _read(self, request: Request, body: bytes) -> dict[str, Array]:
        content = np.frombuffer(body, np.uint8)
        allowed = max(FACTOR * content.nbytes, LEAST_BYTES)
        request.reservation.reserve_work(allowed + content.nbytes, "a file and what it becomes,")  # and its copy there
        job = {
            "format": format_of(body),
            "spec": asdict(self._spec),
            "allowed_bytes": allowed,
            "seconds": SECONDS + content.nbytes // BYTES_A_SECOND,
        }
        try:
            async with asyncio.timeout(WALL_SECONDS):
                found, arrays = split_arrays(await run_child("service.decoding_worker", job, {"content": content}))
        except TimeoutError as error:
            raise RequestTimeout(f"reading the file took longer than {WALL_SECONDS} s: send fewer cutouts") from error
        except ChildFailed as error:
            logger.warning("a file of %d bytes could not be decoded: %s", content.nbytes, str(error).splitlines()[-1])
            raise MalformedInput("the file cannot be read: its reader failed, or took too long") from error
        if "error" in found:
            raise ERRORS[found["error"]](found["message"])
        request.assumptions = tuple(found["assumptions"])
        return arrays


def format_of(body: bytes) -> str | None:
    """Return the name of the format of a file, None if it is another."""
    return next((name for magic, name in MAGICS.items() if body.startswith(magic)), None)


def assumed_header(request: Request) -> dict[str, str]:
    """Return the header that says what was assumed of a file, if anything was."""
    text = "; ".join(request.assumptions).encode("ascii", "replace").decode("ascii")
    return {contract.ASSUMED_HEADER: text[:MAX_ASSUMED]} if text else {}
