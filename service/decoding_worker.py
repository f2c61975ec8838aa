"""Child process that decodes one file: reads a job from stdin and writes arrays, or an error, to stdout."""

import io
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from photoz.errors import InvalidDataset, PhotozError, reason
from photoz.images import ImageSpec
from photoz.io.cutouts import Cutouts
from photoz.io.fits import load_astropy, open_fits
from photoz.io.hdf5 import open_hdf5
from photoz.io.layout import Assumptions, conform
from service.child import Array, start_child, write_arrays

# What a file may hold beside the images.
COLUMNS = ("ebv", "object_id", "z_spec", "magnitudes", "ra", "dec")

OPENERS: dict[str, Callable[[Path, BinaryIO], AbstractContextManager[Cutouts]]] = {
    "fits": open_fits,
    "hdf5": open_hdf5,
}
NAMES = {"fits": "the FITS file", "hdf5": "the HDF5 file"}


def decode(content: bytes, format: str, spec: ImageSpec) -> tuple[dict[str, Array], Assumptions]:
    """Return the arrays of a file, the images in the layout of a model, and what was assumed.

    Raises a `PhotozError` if the file is unusable, `MemoryError` if it takes too much.
    """
    name = NAMES[format]
    try:
        with OPENERS[format](Path(name), io.BytesIO(content)) as cutouts:
            found, assumptions = conform(cutouts, spec)
            columns = {column: found.columns[column] for column in COLUMNS if column in found.columns}
            return {"images": np.asarray(found.images[:]), **columns}, assumptions
    except (PhotozError, MemoryError):
        raise
    except Exception as error:  # a library that fails on a damaged file raises anything
        raise InvalidDataset(f"{name} cannot be read: {reason(error)}") from error


def limit_resources(allowed_bytes: int, seconds: int) -> None:
    """Allow so many bytes more, some seconds of processor time, and no file to be written."""
    for line in Path("/proc/self/status").read_text().splitlines() if sys.platform == "linux" else ():
        if line.startswith("VmData:"):
            limit = 1024 * int(line.split()[1]) + allowed_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))  # first SIGXCPU, which tells why
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main() -> None:
    """Run the job on stdin."""
    job, arrays = start_child()
    head: dict[str, object] = {}
    found: dict[str, Array] = {}
    try:
        if job["format"] == "fits":
            load_astropy()
        limit_resources(job["allowed_bytes"], job["seconds"])
        found, head["assumptions"] = decode(arrays["content"].tobytes(), job["format"], ImageSpec(**job["spec"]))
    except PhotozError as error:
        head |= {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"reading the file takes more than {job['allowed_bytes']:,} bytes: send it in parts"
        head |= {"error": "TooLarge", "message": message}
    write_arrays(sys.stdout.buffer, head, found)


if __name__ == "__main__":
    main()
