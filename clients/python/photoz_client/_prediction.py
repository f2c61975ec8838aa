"""The result of a prediction: the estimates as arrays, and the error that carries an incomplete result."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import BoolArray, IntArray
from photoz_client._errors import MissingExtra, PhotozClientError

if TYPE_CHECKING:
    from astropy.table import Table

DESCRIPTIONS = {
    "object_id": "name of the galaxy",
    "z_mean": "mean of the PDF",
    "z_median": "median of the PDF",
    "z_mode": "mode of the PDF",
    "z_std": "standard deviation of the PDF",
    "z_lo68": "lower end of the shortest interval that holds 68 % of the probability",
    "z_hi68": "upper end of the shortest interval that holds 68 % of the probability",
    "z_lo95": "lower end of the shortest interval that holds 95 % of the probability",
    "z_hi95": "upper end of the shortest interval that holds 95 % of the probability",
    "odds": "probability within 0.03 (1 + z_mode) of the mode",
    "ood_score": "how unlike the training images the cutout is",
    "flags": "bit mask: " + ", ".join(f"{flag.value} {flag.name}" for flag in Flag),
    "pdf": "probability per redshift bin",
}


@dataclass(frozen=True)
class Prediction(Estimates):
    """Estimates for n galaxies, one array per column, and the model that made them.

    Parameters
    ----------
    model : str
        Name and version of the model, as the service reports them. All other fields are those of
        `photoz.estimates.Estimates`.
    """

    model: str = ""

    def columns(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """Yield the name and the values of each column that is present, in the order of the HTTP contract."""
        return ((name, values) for name, values in super().columns() if name != "model")

    def has(self, flag: Flag) -> BoolArray:
        """Return where a flag, or any of several joined with `|`, is set, shape (n,)."""
        return np.asarray((self.flags & int(flag)) != 0)

    def to_table(self) -> "Table":
        """Return an astropy table of n rows, with a description per column; redshifts carry no unit.

        `table.meta["model"]` names the model. Raises `MissingExtra` if astropy is not installed.
        """
        try:
            from astropy.table import Table
        except ImportError as error:
            raise MissingExtra("to_table needs astropy: install it with pip install 'photoz[astropy]'") from error
        columns = dict(self.columns())
        descriptions = {name: DESCRIPTIONS[name] for name in columns}
        return Table(columns, descriptions=descriptions, meta={"model": self.model})


def join(predictions: Sequence[Prediction]) -> Prediction:
    """Concatenate predictions, at least one, with the same columns; `model` names every model that answered."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    names = [name for name, _ in first.columns()]
    columns = {name: np.concatenate([getattr(part, name) for part in predictions]) for name in names}
    return Prediction(**columns, model=", ".join(dict.fromkeys(part.model for part in predictions)))


class FailedRows(NamedTuple):
    """Rows without a prediction, and the reason."""

    rows: Sequence[int]  # row numbers, counted from 0
    error: Exception  # a `PhotozError`, or an `OSError` from reading a file


class PredictionIncomplete(PhotozClientError):
    """Some of n rows could not be predicted; the estimates of the others are kept.

    Parameters
    ----------
    n : int
        Number of all rows.
    failed : tuple of FailedRows
        Which rows failed, and why.
    prediction : Prediction or None
        Estimates of the other rows, in order; None if they were already yielded part by part.
    """

    def __init__(self, n: int, failed: tuple[FailedRows, ...], prediction: Prediction | None = None) -> None:
        super().__init__(n, failed, prediction)
        self.n = n
        self.failed = failed
        self.prediction = prediction

    def __str__(self) -> str:
        n_failed = sum(len(rows) for rows, _ in self.failed)
        reasons = [f"{_row_range(rows)}: {error}" for rows, error in self.failed[:3]]
        more = ["..."] if len(self.failed) > 3 else []
        return f"{n_failed:,} of {self.n:,} cutouts have no prediction; " + "; ".join(reasons + more)

    @property
    def failed_rows(self) -> IntArray:
        """Numbers of the rows without a prediction, shape (m,), in order."""
        return np.sort(np.concatenate([np.asarray(rows, dtype=np.int64) for rows, _ in self.failed]))

    @property
    def rows(self) -> IntArray:
        """Numbers of the rows with a prediction, shape (n - m,), in order: the rows of `prediction`."""
        return np.setdiff1d(np.arange(self.n), self.failed_rows, assume_unique=True)


def _row_range(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"cutout {rows[0]}"
    if rows[-1] - rows[0] == len(rows) - 1:
        return f"cutouts {rows[0]} to {rows[-1]}"
    return f"cutouts {', '.join(map(str, rows[:5]))}" + (", ..." if len(rows) > 5 else "")
