"""The cutouts that are sent: those of examples/, in all eight orientations: eight times as many."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

EXAMPLES = Path(__file__).parents[1] / "examples" / "cutouts.npz"

FloatArray = npt.NDArray[np.float32]


def cutouts(n: int, first: int = 0) -> tuple[FloatArray, FloatArray]:
    """Give n cutouts that differ, beginning with number `first`; after 64 they come again.

    Returns
    -------
    images : (n, 64, 64, 5) float32
        Nanomaggies.
    ebv : (n,) float32
        Magnitudes.
    """
    with np.load(EXAMPLES) as examples:
        images, ebv = examples["images"], examples["ebv"].astype(np.float32)
    turned = np.concatenate([_turned(images, turns, mirrored) for mirrored in (False, True) for turns in range(4)])
    chosen = (first + np.arange(n)) % len(turned)
    return np.ascontiguousarray(turned[chosen], np.float32), ebv[chosen % len(ebv)]


def _turned(images: FloatArray, turns: int, mirrored: bool) -> FloatArray:
    return np.rot90(images[:, ::-1] if mirrored else images, turns, axes=(1, 2))
