"""Files that libraries parse, FITS and HDF5, as request bodies: read in a child process with limits.

These libraries trust their files: a header of 80 bytes makes astropy take all memory, and HDF5 is parsed in C.
"""

import io
import logging
import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from pebble import ProcessExpired

from photoz.errors import InvalidDataset, MalformedInput, PhotozError, TooLarge, reason
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts, Reading
from photoz.io.fits import load_astropy, open_fits
from photoz.io.hdf5 import open_hdf5
from photoz.io.layout import conform
from photoz.io.options import NO_OPTIONS, ReadOptions
from photoz.processes import limit_process
from photoz.validation import Arrays
from service.jobs import JobQueue
from service.request import Request

logger = logging.getLogger("bentoml.photoz")

# What files may hold beside the images.
INPUT_COLUMNS = ("ebv", "object_id", "z_spec", "magnitudes", "ra", "dec")

Opener = Callable[[Path, ReadOptions, BinaryIO], AbstractContextManager[Cutouts]]

# First bytes of a file -> its name in errors, and its reader.
READERS: dict[bytes, tuple[str, Opener]] = {
    b"SIMPLE  =": ("the FITS file", open_fits),
    b"\x89HDF\r\n\x1a\n": ("the HDF5 file", open_hdf5),
}
MAGICS = tuple(READERS)

# Memory of a child beside the libraries: what the file becomes while it is read, converted and sent back.
FACTOR, LEAST_BYTES = 5, 16 * 1024 * 1024

# Processor time: 1.5 s for any file, plus 1 s for each 2 MiB (packed FITS needs 0.7 s). It ends the loops of HDF5 on
# some damaged files. The next files of such a client are refused for a while.
CPU_SECONDS, BYTES_PER_CPU_SECOND = 1.5, 2 * 1024 * 1024
PENALTY_SECONDS = 10.0
TIMEOUT = 60  # seconds

MAX_AXES = 999  # of an image, by the FITS standard, 4.4.1.1

# Files that are read or wait, in all and of one client.
MAX_QUEUED, MAX_OF_CLIENT = 12, 8


class FileReader:
    """Reads FITS and HDF5 files into the layout of a model that takes `spec`."""

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec
        self._jobs = JobQueue("files are decoded or wait", MAX_QUEUED, MAX_OF_CLIENT, penalty=PENALTY_SECONDS)

    async def read(self, request: Request) -> Arrays:
        """Return the arrays of the file in a body by name; what was done becomes `reading` of the request."""
        body = request.body
        _check_axes(body)
        seconds = CPU_SECONDS + len(body) / BYTES_PER_CPU_SECOND
        job = (body, self.spec, allowed_bytes(len(body)), seconds)
        try:
            arrays, request.reading = await self._jobs.run(request.client, TIMEOUT, parse_file, *job)
        except ProcessExpired as error:
            logger.warning("a file of %d bytes could not be read: the child ended with %s", len(body), error.exitcode)
            raise MalformedInput("the file cannot be read: its reader failed, or took too long") from error
        return arrays


def _check_axes(body: bytes) -> None:
    """Refuse FITS headers with more axes than the standard allows: astropy would look for the length of each."""
    for keyword in (b"NAXIS   =", b"ZNAXIS  ="):
        start = body.find(keyword)
        while start >= 0:
            value = body[start + 9 : start + 80].partition(b"/")[0].strip(b" +")
            if start % 80 == 0 and value.isdigit() and int(value) > MAX_AXES:
                raise MalformedInput(
                    f"the FITS file has {keyword[:-1].decode().strip()} = {value.decode()}: expected at most {MAX_AXES}"
                )
            start = body.find(keyword, start + 1)


def allowed_bytes(size: int) -> int:
    """Return the memory that reading a file of `size` bytes may take in a child."""
    return max(FACTOR * size, LEAST_BYTES)


def parse_file(content: bytes, spec: ImageSpec, allowed: int, seconds: float) -> tuple[Arrays, Reading]:
    """Return the arrays of a file, the images in the layout of a model, and what was done; runs in a child."""
    if content.startswith(b"SIMPLE"):
        load_astropy()  # its memory and time are not the file's
    while h5py.h5pl.size():  # no plugins, which are shared libraries
        h5py.h5pl.remove(0)
    limit_resources(allowed, seconds)
    name, open_file = next(reader for magic, reader in READERS.items() if content.startswith(magic))
    try:
        with open_file(Path(name), NO_OPTIONS, io.BytesIO(content)) as cutouts:
            return conformed_arrays(cutouts, spec)
    except PhotozError:
        raise
    except MemoryError:
        raise TooLarge(f"reading the file takes more than {allowed:,} bytes: send it in parts") from None
    except Exception as error:  # a library that fails on a damaged file raises anything
        raise InvalidDataset(f"{name} cannot be read: {reason(error)}") from None


def conformed_arrays(cutouts: Cutouts, spec: ImageSpec) -> tuple[Arrays, Reading]:
    """Return images in the layout of a model and columns, by name, and what was done."""
    conformed, reading = conform(cutouts, spec)
    columns = {name: np.asarray(conformed.columns[name]) for name in INPUT_COLUMNS if name in conformed.columns}
    arrays = {"images": np.asarray(conformed.images[:]), **columns}
    for name, values in arrays.items():
        if values.dtype.hasobject:  # such as references of HDF5, which a child cannot return
            raise InvalidDataset(f"expected {name} as numbers or text, got dtype {values.dtype}")
    return arrays, reading


def limit_resources(allowed: int, seconds: float) -> None:
    """Allow this process `allowed` bytes more and some seconds more of processor time, and to write no file."""
    limit_process(allowed, seconds)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a warning to a log that is a file would be refused
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
