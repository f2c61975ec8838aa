"""Point estimates and intervals from PDFs: the table of estimates."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import pdf
from photoz.flags import flag_pdfs
from photoz.grid import FloatArray, IntArray, RedshiftGrid

Names = npt.NDArray[np.str_ | np.int64]


@dataclass(frozen=True)
class Estimates:
    """Estimates by column, one row per galaxy; the columns of the HTTP contract, the files and the client.

    Parameters
    ----------
    object_id : (n,) str or int64
        Names of the galaxies, of the type in which they were given; by default 0, 1, ...
    z_mean, z_median, z_mode, z_std : (n,) float
        Mean (over bin centres), median, mode and standard deviation of the PDF.
    z_lo68, z_hi68, z_lo95, z_hi95 : (n,) float
        Ends of the shortest intervals with 68 and 95 % of the probability.
    odds : (n,) float
        Probability within 0.03 (1 + z_mode) of the mode.
    ood_score : (n,) float
        How unlike the training images a cutout is (`photoz.ood`); NaN if the model has no such score.
    flags : (n,) int
        Bit mask of `photoz.flags.Flag`.
    pdf : (n, n_bins) float, or None
        Probability mass per bin, rows sum to 1; on request.
    """

    object_id: Names
    z_mean: FloatArray
    z_median: FloatArray
    z_mode: FloatArray
    z_std: FloatArray
    z_lo68: FloatArray
    z_hi68: FloatArray
    z_lo95: FloatArray
    z_hi95: FloatArray
    odds: FloatArray
    ood_score: FloatArray
    flags: IntArray
    pdf: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.z_mean)

    def columns(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        """Yield the name and the values of each column that is not None, in the order of the contract."""
        for field in fields(self):
            values = getattr(self, field.name)
            if values is not None:
                yield field.name, values


COLUMNS = tuple(field.name for field in fields(Estimates) if field.name != "pdf")
_INTERVALS = ("z_lo68", "z_hi68", "z_lo95", "z_hi95")


def as_names(values: npt.NDArray[Any]) -> Names:
    """Return names of galaxies, (n,): integers that fit into int64 as int64, anything else as text.

    Raises `ValueError` for bytes that are not ASCII.
    """
    is_integer = values.dtype.kind in "iu" and (values.size == 0 or int(values.max()) <= np.iinfo(np.int64).max)
    return values.astype(np.int64 if is_integer else np.str_)


def from_pdfs(
    pdfs: FloatArray,
    grid: RedshiftGrid,
    *,
    object_id: Names | None = None,
    include_pdf: bool = False,
) -> Estimates:
    """Summarise PDFs, (n, n_bins) with rows that sum to 1, without their images.

    So `ood_score` is NaN, and only flags of PDFs are raised. With `include_pdf` the PDFs are a column too. By default
    the galaxies are named 0, 1, ...
    """
    names = np.arange(len(pdfs)) if object_id is None else object_id
    columns = summaries(pdfs, grid, COLUMNS) | {"ood_score": np.full(len(pdfs), np.nan)}
    return Estimates(object_id=names, pdf=pdfs if include_pdf else None, **columns)


def summaries(pdfs: FloatArray, grid: RedshiftGrid, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Compute those of the wanted columns, (n,) each, that follow from PDFs, (n, n_bins), alone.

    Of the flags, it sets only those that `photoz.flags.flag_pdfs` sets.
    """
    if len(pdfs) > pdf.ROWS_AT_ONCE:
        blocks = range(0, len(pdfs), pdf.ROWS_AT_ONCE)
        parts = [summaries(pdfs[start : start + pdf.ROWS_AT_ONCE], grid, wanted) for start in blocks]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    cumulative = pdf.cdf(pdfs)
    columns: dict[str, npt.NDArray[Any]] = {
        "z_mean": pdf.mean(pdfs, grid),
        "z_median": pdf.quantile(pdfs, grid, 0.5, cumulative),
        "z_mode": pdf.mode(pdfs, grid),
        "z_std": pdf.std(pdfs, grid),
        "odds": pdf.odds(pdfs, grid, cumulative),
    }
    if not {*_INTERVALS, "flags"}.isdisjoint(wanted):
        ends = pdf.shortest_interval(pdfs, grid, [[0.68], [0.95]], cumulative)
        columns |= zip(_INTERVALS, ends.swapaxes(0, 1).reshape(4, -1), strict=True)
    if "flags" in wanted:
        columns["flags"] = flag_pdfs(pdfs, grid, columns["z_hi68"] - columns["z_lo68"])
    return {name: columns[name] for name in wanted if name in columns}
