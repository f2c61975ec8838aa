"""Selection of galaxies by conditions on their columns."""

import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from photoz.errors import InvalidDataset
from photoz.grid import BoolArray
from photoz.io.cutouts import Column

OPERATORS: dict[str, Callable[[Any, float], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|==|<|>)\s*([-+\d.eE]+)\s*")

Condition = tuple[str, str, float]  # column, operator, number


def find_selected(column: Callable[[str], Column], n: int, select: str) -> BoolArray:
    """Return which of n galaxies meet all conditions, as `meets`; raises `InvalidDataset` if none does."""
    selected = meets(column, n, select)
    if not selected.any():
        raise InvalidDataset(f"none of {n} galaxies meets {select}")
    return selected


def meets(column: Callable[[str], Column], n: int, select: str) -> BoolArray:
    """Return whether each of n galaxies meets all conditions of a text for `parse_conditions`, (n,).

    `column` returns the column of a name, (n,), and raises `InvalidDataset` for an unknown name, as does a column that
    is not one number per galaxy.
    """
    selected = np.ones(n, dtype=bool)
    for name, comparison, number in parse_conditions(select):
        values = column(name)
        if values.ndim != 1 or values.dtype.kind not in "fiub":
            raise InvalidDataset(
                f"cannot select by {name!r}, of shape {values.shape} and type {values.dtype}: expected one number for "
                "each galaxy"
            )
        selected &= OPERATORS[comparison](values, number)  # a comparison with NaN is false
    return selected


def parse_conditions(text: str) -> list[Condition]:
    """Parse conditions such as "dered_petro_r<=17.8,z_spec<=0.4": a column, one of < <= == >= >, and a number."""
    matches = [CONDITION.fullmatch(part) for part in text.split(",") if part]
    if not all(matches):
        raise ValueError(f"expected conditions such as dered_petro_r<=17.8,z_spec<=0.4, got {text!r}")
    return [(match[1], match[2], float(match[3])) for match in matches if match]
