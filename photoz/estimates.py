"""From PDFs to the table of estimates and quality flags that every door hands out."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

from photoz import pdf
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import LOW_SNR_LIMIT, EbvBatch, ImageBatch, signal_to_noise

# More than this much probability in the first and last bin: the redshift may lie beyond the grid.
EDGE_MASS_LIMIT = 0.05

# A 68 % interval wider than this, in units of 1 + z, calls one estimate in ten an outlier by itself: it spans two sigma
# of 0.03, and |dz| > 0.05 is 1.67 of those.
BROAD_LIMIT = 0.06


class Flag(IntFlag):
    """Quality flags, a bit mask; 0 is a clean estimate.

    Attributes
    ----------
    EBV_ASSUMED
        No E(B-V) was given: the model's usual value was taken.
    MASKED_PIXELS
        Some pixels were not finite and were taken as empty sky.
    BAND_MISSING
        A band has no signal at all.
    LOW_SNR
        The central light is below 5 sigma in every band.
    EDGE_MASS
        More than 5 % of the probability lies in the first and last bin: the redshift may lie beyond the grid.
    BROAD_PDF
        The 68 % interval is wider than 0.06 (1 + z): one such estimate in ten is an outlier by its own PDF.
    MULTIMODAL
        The PDF has a second peak that stands clear of the first.
    OUT_OF_DISTRIBUTION
        The image is unlike those that the model was trained on: `ood_score` is above the threshold of its card.
    """

    EBV_ASSUMED = 1
    MASKED_PIXELS = 2
    BAND_MISSING = 4
    LOW_SNR = 8
    EDGE_MASS = 16
    BROAD_PDF = 32
    MULTIMODAL = 64
    OUT_OF_DISTRIBUTION = 128


@dataclass(frozen=True)
class Estimates:
    """One row a galaxy; the fields are the columns of the HTTP contract, the files and the SDK.

    Parameters
    ----------
    object_id : (n,) str
        The caller's names of the galaxies, or "0", "1", ... where none were given.
    z_mean, z_median, z_mode, z_std : (n,) float
        Mean (over bin centres), median, mode and standard deviation of the PDF.
    z_lo68, z_hi68, z_lo95, z_hi95 : (n,) float
        Ends of the shortest intervals that hold 68 and 95 % of the probability.
    odds : (n,) float
        Probability within 0.03 (1 + z_mode) of the mode.
    ood_score : (n,) float
        How unlike the training images a cutout is (`photoz.ood`); NaN when the model cannot tell.
    flags : (n,) int
        Bit mask of `Flag`.
    pdf : (n, n_bins) float, or None
        Probability mass per bin, rows sum to 1; only when asked for.
    """

    object_id: npt.NDArray[np.str_]
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
        """Yield the name and the values of each column that is there, in the order of the contract."""
        for field in fields(self):
            values = getattr(self, field.name)
            if values is not None:
                yield field.name, values


COLUMNS = tuple(field.name for field in fields(Estimates) if field.name != "pdf")


def from_pdfs(
    pdfs: FloatArray,
    grid: RedshiftGrid,
    *,
    object_id: npt.NDArray[np.str_] | None = None,
    input_flags: IntArray | int = 0,
    ood_score: FloatArray | None = None,
    ood_threshold: float = np.inf,
    include_pdf: bool = False,
) -> Estimates:
    """Summarise PDFs.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin, rows sum to 1.
    grid : RedshiftGrid
        The grid.
    object_id : (n,) str, optional
        Names of the galaxies.
    input_flags : (n,) int, optional
        Flags that the input raised, from `flag_inputs`; those of the PDF are added.
    ood_score : (n,) float, optional
        From the model; NaN without.
    ood_threshold : float
        Above which score an image counts as unlike those of the training.
    include_pdf : bool
        Keep the PDFs as a column.

    Returns
    -------
    Estimates
        n rows.
    """
    n = len(pdfs)
    ood_score = np.full(n, np.nan) if ood_score is None else ood_score
    found = summaries(pdfs, grid, COLUMNS)
    found["flags"] = found["flags"] | input_flags | flag_ood(ood_score, ood_threshold)
    return Estimates(
        object_id=np.arange(n).astype(str) if object_id is None else object_id,
        ood_score=ood_score,
        pdf=pdfs if include_pdf else None,
        **found,
    )


def summaries(pdfs: FloatArray, grid: RedshiftGrid, wanted: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    """Compute those columns that follow from the PDFs alone.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin, rows sum to 1.
    grid : RedshiftGrid
        The grid.
    wanted : collection of str
        Names of columns; those that do not follow from a PDF are passed over.

    Returns
    -------
    dict of str to (n,) ndarray
        The columns; `flags` are those of the PDF alone.
    """
    found: dict[str, npt.NDArray[Any]] = {name: _OF_PDF[name](pdfs, grid) for name in wanted if name in _OF_PDF}
    for percent in (68, 95):
        names = (f"z_lo{percent}", f"z_hi{percent}")
        if not set(names).isdisjoint(wanted) or (percent == 68 and "flags" in wanted):
            found |= zip(names, pdf.shortest_interval(pdfs, grid, percent / 100), strict=True)
    if "flags" in wanted:
        found["flags"] = _flag_pdfs(pdfs, grid, found["z_hi68"] - found["z_lo68"])
    return {name: found[name] for name in wanted if name in found}


_OF_PDF: Mapping[str, Callable[[FloatArray, RedshiftGrid], FloatArray]] = {
    "z_mean": pdf.mean,
    "z_median": pdf.median,
    "z_mode": pdf.mode,
    "z_std": pdf.std,
    "odds": pdf.odds,
}


def _flag_pdfs(pdfs: FloatArray, grid: RedshiftGrid, width: FloatArray) -> IntArray:
    return (
        _raise_where(Flag.EDGE_MASS, pdf.edge_mass(pdfs) > EDGE_MASS_LIMIT)
        | _raise_where(Flag.BROAD_PDF, width > BROAD_LIMIT * (1.0 + pdf.mean(pdfs, grid)))
        | _raise_where(Flag.MULTIMODAL, pdf.is_multimodal(pdfs))
    )


def flag_ood(ood_score: FloatArray, ood_threshold: float) -> IntArray:
    """Flag what is unlike the training images.

    Parameters
    ----------
    ood_score : (n,) float
        From the model; NaN raises nothing.
    ood_threshold : float
        Above which score it does.

    Returns
    -------
    (n,) int32
        Bit mask of `Flag`.
    """
    return _raise_where(Flag.OUT_OF_DISTRIBUTION, ood_score > ood_threshold)


def flag_inputs(batch: ImageBatch, ebv: EbvBatch) -> IntArray:
    """Flags that follow from the input alone.

    Parameters
    ----------
    batch : ImageBatch
        n cutouts.
    ebv : EbvBatch
        Their reddening.

    Returns
    -------
    (n,) int32
        Bit mask of `Flag`.
    """
    is_faint = np.asarray((signal_to_noise(batch.images, batch.noise) < LOW_SNR_LIMIT).all(axis=1))
    return (
        _raise_where(Flag.EBV_ASSUMED, ebv.assumed)
        | _raise_where(Flag.MASKED_PIXELS, batch.masked)
        | _raise_where(Flag.BAND_MISSING, batch.band_missing)
        | _raise_where(Flag.LOW_SNR, is_faint)
    )


def _raise_where(flag: Flag, condition: npt.NDArray[np.bool_]) -> IntArray:
    return np.where(condition, np.int32(flag), np.int32(0))
