"""Which galaxies are trained, validated and tested on."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from photoz.datasets import TEST, TRAIN, VALIDATION, Cutouts
from photoz.errors import InvalidDataset
from photoz.grid import IntArray, RedshiftGrid

SPLIT_SEED = 0
VALIDATION_FRACTION = 0.1  # of the galaxies that are not tested on
TEST_FRACTION = 0.2


def split(n: int, n_test: int, seed: int = SPLIT_SEED) -> npt.NDArray[np.str_]:
    """Assign galaxies to train, validation and test at random.

    Parameters
    ----------
    n : int
        Number of galaxies.
    n_test : int
        The last ones of the permutation are tested on; of the others, the last tenth validates.
    seed : int
        Of the permutation.

    Returns
    -------
    (n,) str
        The split of each galaxy.
    """
    order = np.random.default_rng(seed).permutation(n)
    n_validation = round(VALIDATION_FRACTION * (n - n_test))
    labels = np.full(n, TRAIN, dtype=f"<U{len(VALIDATION)}")
    labels[order[n - n_test - n_validation : n - n_test]] = VALIDATION
    labels[order[n - n_test :]] = TEST
    return labels


def with_split(cutouts: Cutouts) -> Cutouts:
    """Return cutouts that have a split: their own, or a fifth to test on and a tenth of the rest to validate."""
    if "split" in cutouts.columns:
        return cutouts
    n = len(cutouts)
    return replace(cutouts, columns={**cutouts.columns, "split": split(n, round(TEST_FRACTION * n))})


def usable_rows(cutouts: Cutouts, grid: RedshiftGrid, split: str) -> IntArray:
    """Return the rows of a split whose redshift is known and on the grid.

    Parameters
    ----------
    cutouts : Cutouts
        With z_spec and split.
    grid : RedshiftGrid
        The grid.
    split : str
        "train", "validation" or "test".

    Returns
    -------
    (n,) int
        In increasing order.

    Raises
    ------
    InvalidDataset
        If there is none.
    """
    rows = cutouts.rows(split)
    usable = rows[grid.contains(cutouts.column("z_spec")[rows])]
    if not len(usable):
        raise InvalidDataset(f"no galaxy of split {split!r} has 0 <= z_spec <= {grid.z_max:g}")
    return usable
