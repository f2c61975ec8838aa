"""Read cutouts in validated batches, for the `Predictor` or for a network alone."""

from collections.abc import Callable, Iterator

import numpy as np

from photoz.errors import InvalidInput, PhotozError, reason
from photoz.estimates import as_names
from photoz.grid import IntArray
from photoz.images import Batch, ImageSpec, as_reddening
from photoz.io.cutouts import Cutouts

# Cutouts that are read into memory at a time; engines run the network on fewer.
BATCH_ROWS = 128

Reject = Callable[[int, str], object]


def read_batch(cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_default: float) -> Batch:
    """Read and validate some cutouts, with their names if they have any.

    `rows` is (m,) int, in any order; the cutouts have the layout of `spec` (see `photoz.io.layout.conform`), and
    `ebv_default` replaces an unknown E(B-V), in mag. Raises as `photoz.images.Batch.of`.
    """
    ebv, names = cutouts.columns.get("ebv"), cutouts.columns.get("object_id")
    reddening = as_reddening(None if ebv is None else ebv[rows], len(rows))  # before the images are read
    first, last = int(rows[0]), int(rows[-1])
    is_slice = last - first == len(rows) - 1 and bool((np.diff(rows) == 1).all())  # much faster to read
    images = np.asarray(cutouts.images[first : last + 1]) if is_slice else cutouts.read_images(rows)
    return Batch.of(images, spec, reddening, ebv_default, None if names is None else as_names(names[rows]))


def read_batches(
    cutouts: Cutouts,
    spec: ImageSpec,
    ebv_default: float,
    rows: IntArray | None = None,
    *,
    reject: Reject | None = None,
) -> Iterator[tuple[IntArray, Batch]]:
    """Read cutouts in batches of at most `BATCH_ROWS`, in order: yields the rows (m,) of each batch, and the batch.

    Parameters
    ----------
    cutouts, spec, ebv_default
        As for `read_batch`.
    rows : (n,) int, optional
        The rows to read; by default all.
    reject : callable, optional
        Called with the row and the reason for each cutout that cannot be read or is invalid. By default the exception
        is raised.
    """
    rows = np.arange(len(cutouts)) if rows is None else rows
    for start in range(0, len(rows), BATCH_ROWS):
        some = rows[start : start + BATCH_ROWS]
        if reject is None:
            yield some, read_batch(cutouts, some, spec, ebv_default)
        else:
            yield from _read_valid(cutouts, some, spec, ebv_default, reject)


def _read_valid(
    cutouts: Cutouts, rows: IntArray, spec: ImageSpec, ebv_default: float, reject: Reject
) -> Iterator[tuple[IntArray, Batch]]:
    """Halve a batch that cannot be read until the bad rows are alone."""
    try:
        batch = read_batch(cutouts, rows, spec, ebv_default)
    except (PhotozError, OSError, ValueError, RuntimeError) as error:  # h5py raises any of them
        if len(rows) > 1:
            for half in np.array_split(rows, 2):
                yield from _read_valid(cutouts, half, spec, ebv_default, reject)
        elif isinstance(error, InvalidInput):
            reject(int(rows[0]), str(error).replace("cutout 0", "the cutout"))
        else:
            reject(int(rows[0]), f"it cannot be read: {reason(error)}")
    else:
        yield rows, batch
