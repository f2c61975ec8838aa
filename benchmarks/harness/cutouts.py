"""The cutouts that are sent: those of examples/ in all eight orientations."""

from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks.harness.environment import ROOT

EXAMPLES = ROOT / "examples" / "cutouts.npz"
DISTINCT = 64  # cutouts that differ

FloatArray = npt.NDArray[np.float32]


def cutouts(n: int, first: int = 0) -> tuple[FloatArray, FloatArray]:
    """Return n cutouts from number `first` on; after 64 they repeat.

    Returns
    -------
    images : (n, 64, 64, 5) float32
        Nanomaggies.
    ebv : (n,) float32
        Magnitudes.
    """
    images, ebv = _all_cutouts()
    chosen = (first + np.arange(n)) % DISTINCT
    return images[chosen], ebv[chosen % len(ebv)]


@cache
def _all_cutouts() -> tuple[FloatArray, FloatArray]:
    with np.load(EXAMPLES) as examples:
        images, ebv = examples["images"].astype(np.float32), examples["ebv"].astype(np.float32)
    mirrored = (images, images[:, ::-1])
    rotated = [np.rot90(cutouts, turns, axes=(1, 2)) for cutouts in mirrored for turns in range(4)]
    return np.concatenate(rotated), ebv
