"""Splits and selections of cutouts."""

import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.grid import SDSS_GRID
from photoz.io.cutouts import Cutouts
from training.splits import random_split, split_by_object, usable_rows, with_split

N = 200
NAMES = np.array([f"galaxy {row}" for row in range(N)])


def cutouts(**columns: np.ndarray) -> Cutouts:
    n = len(next(iter(columns.values())))
    return Cutouts(np.zeros((n, 8, 8, 1), np.float32), columns)


def test_distinct_objects_are_split_as_rows() -> None:
    assert np.array_equal(split_by_object(NAMES[::-1]), random_split(N, N // 5))


@pytest.mark.parametrize("shares", ["", "0.5,0.2,0.3"])
def test_cutouts_of_one_galaxy_are_in_one_split(shares: str) -> None:
    thrice = cutouts(object_id=np.tile(NAMES, 3), z_spec=np.full(3 * N, 0.1))
    split = with_split(thrice, "", shares).column("split").reshape(3, N)
    assert np.array_equal(split[0], split[1])
    assert np.array_equal(split[0], split[2])
    assert (split[0] == "test").sum() == (60 if shares else 40)


def test_columns_without_one_number_per_galaxy_cannot_select() -> None:
    galaxies = cutouts(magnitudes=np.full((N, 5), 18.0), object_id=NAMES)
    with pytest.raises(
        InvalidDataset, match=r"'magnitudes', of shape \(200, 5\) and type float64: expected one number"
    ):
        with_split(galaxies, "magnitudes<20")
    with pytest.raises(InvalidDataset, match="cannot select by 'object_id'"):
        with_split(galaxies, "object_id<20")


def test_empty_split_says_which_ones_there_are() -> None:
    galaxies = cutouts(split=np.full(N, "test"), z_spec=np.full(N, 0.1))
    with pytest.raises(InvalidDataset, match="no galaxy of split 'train' has .*; the data have 200 in 'test'"):
        usable_rows(galaxies, SDSS_GRID, "train")
