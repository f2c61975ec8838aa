"""The result of a prediction: the estimates as arrays, and the error with an incomplete result."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from photoz.errors import InvalidPdfs, counted, printable
from photoz.estimates import Estimates
from photoz.flags import Flag
from photoz.grid import BoolArray, IntArray, RedshiftGrid
from photoz.io.astropy_table import to_astropy
from photoz.io.formats import written_format
from photoz.io.html_table import estimates_html
from photoz.io.provenance import Provenance, now
from photoz.io.qp_ensemble import to_qp
from photoz.io.tables import ResultTable, check_pdfs, flat_columns, result_table
from photoz.io.writer import write_table
from photoz.metrics import as_redshifts
from photoz_client._errors import MissingExtra, PhotozClientError

if TYPE_CHECKING:
    import pandas
    import qp
    from astropy.table import Table
    from matplotlib.figure import Figure

PANELS = 9  # of a plot


@dataclass(frozen=True)
class Prediction(Estimates):
    """Estimates for n galaxies, one array per column, and the model that predicted them.

    Indexing selects rows as in an array and returns a `Prediction`: by number, `prediction[3]`; by a slice; by a mask,
    `prediction[prediction.odds > 0.9]`; or by an array of numbers. A number out of range, or a mask that is not (n,),
    raises `IndexError`.

    Parameters
    ----------
    model : str
        Name and version of the model, as the service reports them. All other fields are those of
        `photoz.estimates.Estimates`.
    grid : RedshiftGrid, optional
        The redshift grid of the PDFs, if it is known.
    """

    model: str = ""
    grid: RedshiftGrid | None = None

    def __getitem__(self, rows: int | slice | npt.ArrayLike) -> "Prediction":
        chosen = rows if isinstance(rows, slice) else _row_numbers(rows, len(self))
        columns: dict[str, Any] = {name: values[chosen] for name, values in self.columns()}
        return replace(self, **columns)

    def __repr__(self) -> str:
        return f"<Prediction of {printable(self._summary())}>"

    def _repr_html_(self) -> str:
        return estimates_html(self, self._summary())

    def _summary(self) -> str:
        galaxies = counted(len(self), "galaxy")
        pdfs = "without PDFs" if self.pdf is None else f"PDFs of {self.pdf.shape[1]} bins"
        return f"{galaxies} by {self.model or 'an unnamed model'}, {pdfs}, {np.count_nonzero(self.flags):,} flagged"

    def columns(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """Yield the name and the values of each column that is present, in the order of the HTTP contract."""
        return ((name, values) for name, values in super().columns() if name not in ("model", "grid"))

    def has(self, flag: Flag) -> BoolArray:
        """Return where a flag, or any of several flags joined with `|`, is set, shape (n,)."""
        return np.asarray((self.flags & int(flag)) != 0)

    def to_table(self) -> "Table":
        """Return an astropy table of n rows, with a description and a UCD per column; no column has a unit.

        `table["z_mean"].meta["ucd"]` is a UCD, and `table.meta["model"]` names the model. With PDFs,
        `table.meta["z_edges"]` has the edges of their bins. Raises `MissingExtra` if astropy is not installed.
        """
        require("to_table", "astropy", "astropy")
        return to_astropy(self._table())

    def to_pandas(self) -> "pandas.DataFrame":
        """Return a pandas data frame of n rows; PDFs are one column per bin, pdf_0, pdf_1, ...

        `frame.attrs["model"]` names the model. Raises `MissingExtra` if pandas is not installed.
        """
        require("to_pandas", "pandas", "pandas")
        import pandas

        frame = pandas.DataFrame(dict(flat_columns(self)))
        frame.attrs["model"] = self.model
        return frame

    def to_qp(self, grid: RedshiftGrid | None = None) -> "qp.Ensemble":
        """Return the PDFs as a qp ensemble with all other columns in `ancil`; by default on the grid of the prediction.

        Raises `InvalidPdfs` if there are no PDFs or no grid, or they do not fit each other, and `MissingExtra` if qp is
        not installed.
        """
        require("to_qp", "qp", "qp")
        return to_qp(self._table(grid))

    def _table(self, grid: RedshiftGrid | None = None, quantiles: Sequence[float] = ()) -> ResultTable:
        return result_table(self, Provenance(self.model, date=now()), grid or self.grid, quantiles)

    def plot(self, grid: RedshiftGrid | None = None, *, z_spec: npt.ArrayLike | None = None) -> "Figure":
        """Draw the PDFs of the first nine galaxies, with their 68 and 95 % intervals.

        Select other galaxies by indexing: `prediction[prediction.odds < 0.5].plot()`.

        Parameters
        ----------
        grid : RedshiftGrid, optional
            The model's grid, by default that of the prediction.
        z_spec : float or (n,) array_like of float, optional
            True redshifts to mark; NaN where unknown.

        Returns
        -------
        matplotlib.figure.Figure
            Shown by notebooks; `figure.savefig("pdfs.png")` writes it to a file.

        Raises
        ------
        InvalidPdfs
            If there are no galaxies, no PDFs or no grid, or the PDFs do not fit the grid.
        InvalidRedshifts
            If `z_spec` is not (n,).
        MissingExtra
            If matplotlib is not installed.
        """
        require("plot", "matplotlib", "plots")
        from photoz.plots import interval_panels

        if not len(self):
            raise InvalidPdfs("expected at least one galaxy to plot, got none")
        pdfs, grid = check_pdfs(self.pdf, grid or self.grid)
        true = np.full(len(self), np.nan) if z_spec is None else as_redshifts(np.atleast_1d(z_spec), len(self))
        return interval_panels(pdfs[:PANELS], grid, z_spec=true[:PANELS], object_id=self.object_id[:PANELS])

    def write(
        self, path: str | os.PathLike[str], *, grid: RedshiftGrid | None = None, quantiles: Sequence[float] = ()
    ) -> None:
        """Write all columns to a file; an existing file is replaced.

        Parameters
        ----------
        path : path
            Its suffix selects the format: .csv, .json, .npz, .jsonl (JSON lines), .parquet, .fits, .fit, .vot
            (VOTable), .hdf5, .h5 or .qp.hdf5 (qp ensemble).
        grid : RedshiftGrid, optional
            The model's grid, by default that of the prediction. Files with PDFs hold its edges.
        quantiles : sequence of float
            Probabilities in (0, 1). These quantiles of the PDFs, such as z_q05 for 0.05, replace the PDFs in the file.

        Raises
        ------
        UnsupportedType
            If the suffix is another one.
        InvalidPdfs
            If PDFs or the grid are needed and missing, or do not fit each other.
        MissingExtra
            If the package that writes the format is not installed.
        """
        path = Path(path)
        check_format(path)
        write_table(self._table(grid, quantiles), path)


def _row_numbers(rows: npt.ArrayLike, n: int) -> IntArray:
    """Return the numbers (m,) of the rows that a row number, several row numbers or a mask select from n rows."""
    chosen = np.asarray(rows)
    if chosen.dtype == bool:
        if chosen.shape != (n,):
            raise IndexError(f"expected a mask of {n} rows, got shape {chosen.shape}")
        return np.flatnonzero(chosen)
    if chosen.ndim > 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise IndexError(f"expected row numbers, a slice or a mask, got {rows!r}")
    return np.atleast_1d(chosen.astype(np.int64))


def check_format(path: Path) -> None:
    """Raise `UnsupportedType` for an unknown suffix, `MissingExtra` if the format's package is not installed."""
    format = written_format(path)
    if format.package:
        require(path.name, format.package, format.extra)


def require(what: str, package: str, extra: str) -> None:
    """Raise `MissingExtra` if a package cannot be imported; `what` needs it."""
    try:
        import_module(package)
    except ImportError as error:
        message = f"{what} needs {package}: install it with pip install 'photoz[{extra}]'"
        raise MissingExtra(message) from error


def join(predictions: Sequence[Prediction]) -> Prediction:
    """Concatenate one or more predictions with the same columns; `model` names all their models."""
    first = predictions[0]
    if len(predictions) == 1:
        return first
    names = [name for name, _ in first.columns()]
    columns: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in predictions]) for name in names}
    return replace(first, **columns, model=", ".join(dict.fromkeys(part.model for part in predictions)))


class FailedRows(NamedTuple):
    """Rows without a prediction, and the error."""

    rows: Sequence[int]  # row numbers, counted from 0
    error: Exception  # a `PhotozError`, or an `OSError` from reading a file


class PredictionIncomplete(PhotozClientError):
    """Some of n rows could not be predicted; this error holds the estimates of the others.

    Parameters
    ----------
    n : int
        Number of all rows.
    failed : tuple of FailedRows
        The rows that failed, with their errors.
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
        return printable(f"{n_failed:,} of {self.n:,} cutouts have no prediction; " + "; ".join(reasons + more))

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
