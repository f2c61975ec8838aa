"""Selection of galaxies and their split into training, validation and test sets."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidDataset
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.io.cutouts import TEST, TRAIN, VALIDATION, Column, Cutouts
from photoz.selection import find_selected

SPLIT_SEED = 0
VALIDATION_FRACTION = 0.1  # of the galaxies that are not for testing
TEST_FRACTION = 0.2

UNUSED = ""  # the split of a galaxy that is not selected

# Words for the splits, in lower case.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}


def random_split(n: int, n_test: int, n_validation: int | None = None) -> npt.NDArray[np.str_]:
    """Assign n galaxies to train, validation and test at random, always in the same way; (n,) str.

    By default a tenth of the galaxies that are not for testing are for validation.
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    n_validation = round(VALIDATION_FRACTION * (n - n_test)) if n_validation is None else n_validation
    labels = np.full(n, TRAIN, dtype=f"<U{len(VALIDATION)}")
    labels[order[n - n_test - n_validation : n - n_test]] = VALIDATION
    labels[order[n - n_test :]] = TEST
    return labels


def split_by_object(object_id: Column, shares: str = "") -> npt.NDArray[np.str_]:
    """Assign n rows to train, validation and test, (n,) str; rows with the same `object_id` are in the same set.

    If all are distinct, the split is that of `random_split`. Shares are those of the objects, as for `parse_shares`; by
    default a fifth is for testing, and a tenth of the rest for validation.
    """
    _, first, number = np.unique(object_id, return_index=True, return_inverse=True)
    n = len(first)
    if shares:
        train, validation, test = parse_shares(shares)
        scale = n / (train + validation + test)
        split = random_split(n, round(scale * test), round(scale * validation))
    else:
        split = random_split(n, round(TEST_FRACTION * n))
    in_order_of_appearance = np.argsort(np.argsort(first))
    return np.asarray(split[in_order_of_appearance[number]])


def as_split(values: Column, where: str) -> npt.NDArray[np.str_]:
    """Return the split of each row, (n,), given words for them such as "val"; "" stays.

    Raises `InvalidDataset` for other words; `where` is the column in the error.
    """
    words, rows = np.unique(values.astype(np.str_), return_inverse=True)
    if unknown := [str(word) for word in words if word and word.lower() not in SPLIT_WORDS]:
        raise InvalidDataset(
            f"{where} has {', '.join(map(repr, unknown[:3]))}; expected {', '.join(SPLIT_WORDS)}, or an empty field to "
            "leave out a row"
        )
    return np.array([SPLIT_WORDS.get(word.lower(), UNUSED) for word in words])[rows]


def with_split(cutouts: Cutouts, select: str = "", shares: str = "") -> Cutouts:
    """Return the cutouts with a column `split`.

    Galaxies that do not meet the conditions `select` are in no split. Without `shares`, the split is the existing one
    or else that of `split_by_object`. Raises `InvalidDataset` if a column is missing or no galaxy meets the conditions.
    """
    if not select and not shares and "split" in cutouts.columns:
        return with_labels(cutouts, as_split(cutouts.column("split"), "the column 'split'"))
    selected = find_selected(cutouts.column, len(cutouts), select)
    if "split" in cutouts.columns and not shares:
        labels = np.where(selected, as_split(cutouts.column("split"), "the column 'split'"), UNUSED)
    else:
        labels = np.full(len(cutouts), UNUSED, dtype=f"<U{len(VALIDATION)}")
        names = cutouts.columns.get("object_id", np.arange(len(cutouts)))
        labels[selected] = split_by_object(names[selected], shares)
    return with_labels(cutouts, labels)


def with_labels(cutouts: Cutouts, labels: Column) -> Cutouts:
    """Return the cutouts with these labels, (n,) str, as column `split`."""
    return replace(cutouts, columns={**cutouts.columns, "split": labels})


def without(cutouts: Cutouts, rows: IntArray) -> Cutouts:
    """Return the cutouts with some rows in no split."""
    labels = np.array(cutouts.column("split"))
    labels[rows] = UNUSED
    return with_labels(cutouts, labels)


def parse_shares(text: str) -> tuple[float, float, float]:
    """Parse shares of train, validation and test such as "393219,20000,103305" or "0.7,0.1,0.2"."""
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected three numbers such as 0.7,0.1,0.2, got {text!r}") from None
    if not min(train, validation, test) > 0:
        raise ValueError(f"expected three numbers above 0, got {text!r}")
    return train, validation, test


def group_by_galaxy(cutouts: Cutouts, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Find the cutouts among some rows, (n,) int in increasing order, that show the same galaxy, by `object_id`.

    Returns the first row of each of m galaxies, (m,) int, and the number of the galaxy in each row, (n,) int from 0 to
    m - 1. Without a column `object_id`, all cutouts show different galaxies.
    """
    names = cutouts.columns.get("object_id")
    _, first, galaxy = np.unique(rows if names is None else names[rows], return_index=True, return_inverse=True)
    return rows[first], galaxy


def numbers(cutouts: Cutouts, name: str, rows: IntArray) -> FloatArray:
    """Return a column of numbers of rows (n,) as float64, (n, ...); raises `InvalidDataset` if it is missing."""
    return np.asarray(cutouts.column(name)[rows], dtype=np.float64)


def usable_rows(cutouts: Cutouts, grid: RedshiftGrid, split: str) -> IntArray:
    """Return the rows of a split with z_spec on the grid, in increasing order; raises `InvalidDataset` for none."""
    rows = cutouts.rows(split)
    usable = rows[grid.contains(cutouts.column("z_spec")[rows])]
    if not len(usable):
        names, counts = np.unique(cutouts.column("split"), return_counts=True)
        sizes = ", ".join(f"{count} in {str(name)!r}" for name, count in zip(names, counts, strict=True))
        raise InvalidDataset(f"no galaxy of split {split!r} has 0 <= z_spec <= {grid.z_max:g}; the data have {sizes}")
    return usable
