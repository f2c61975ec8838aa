"""Quality flags of estimates: a bit mask for each galaxy."""

from collections.abc import Mapping
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from photoz import pdf
from photoz.grid import FloatArray, IntArray, RedshiftGrid
from photoz.images import LOW_SNR_LIMIT, EbvBatch, ImageBatch, signal_to_noise

# More than this much probability in the first and last bin: the redshift may lie beyond the grid.
EDGE_MASS_LIMIT = 0.05

# In units of 1 + z. The 68 % interval spans two sigma: if it is wider than this, sigma exceeds 0.03, and the outlier
# cut, |dz| > 0.05, is within 1.67 sigma. So one such estimate in ten is an outlier by its own PDF.
BROAD_LIMIT = 0.06


# More than this much probability at redshifts without training galaxies: the 95 % interval reaches about as far.
RANGE_MASS_LIMIT = 0.025


class Flag(IntFlag):
    """Quality flags, a bit mask; 0 is a clean estimate. `FLAG_MEANINGS` says what each means."""

    EBV_ASSUMED = 1
    MASKED_PIXELS = 2
    BAND_MISSING = 4
    LOW_SNR = 8
    EDGE_MASS = 16
    BROAD_PDF = 32
    MULTIMODAL = 64
    OUT_OF_DISTRIBUTION = 128
    BEYOND_TRAINING = 256


FLAG_MEANINGS: Mapping[Flag, str] = {
    Flag.EBV_ASSUMED: "no E(B-V) was given: the PDF allows for any, or the usual value of the card was used",
    Flag.MASKED_PIXELS: "some pixels were not finite and were treated as empty sky",
    Flag.BAND_MISSING: "a band has no signal",
    Flag.LOW_SNR: "the central light is below 5 sigma in every band",
    Flag.EDGE_MASS: "more than 5 % of the probability lies in the first and last bin: "
    "the redshift may lie beyond the grid",
    Flag.BROAD_PDF: "the 68 % interval is wider than 0.06 (1 + z)",
    Flag.MULTIMODAL: "the PDF has a second peak, clearly separated from the first",
    Flag.OUT_OF_DISTRIBUTION: "the image is unlike those that the model was trained on",
    Flag.BEYOND_TRAINING: "more than 2.5 % of the probability lies where no training galaxy had its redshift",
}


def flag_names(flags: int) -> str:
    """Return the names of the flags that are set, joined by |; a dash for none. Unknown bits are ignored."""
    return "|".join(str(flag.name) for flag in Flag(flags)) or "-"


def flag_pdfs(pdfs: FloatArray, grid: RedshiftGrid, width: FloatArray) -> IntArray:
    """Return the flags, (n,) int32, of PDFs, (n, n_bins), whose 68 % intervals have these widths, (n,)."""
    return (
        _raise_where(Flag.EDGE_MASS, pdf.edge_mass(pdfs) > EDGE_MASS_LIMIT)
        | _raise_where(Flag.BROAD_PDF, width > BROAD_LIMIT * (1.0 + pdf.mean(pdfs, grid)))
        | _raise_where(Flag.MULTIMODAL, pdf.is_multimodal(pdfs))
    )


def flag_ood(ood_score: FloatArray, ood_threshold: float) -> IntArray:
    """Flag scores, (n,) float, above a threshold as OUT_OF_DISTRIBUTION, (n,) int32; NaN raises no flag."""
    return _raise_where(Flag.OUT_OF_DISTRIBUTION, ood_score > ood_threshold)


def flag_range(pdfs: FloatArray, grid: RedshiftGrid, z_range: tuple[float, float]) -> IntArray:
    """Flag PDFs, (n, n_bins), that reach beyond the range of the training redshifts as BEYOND_TRAINING, (n,) int32."""
    below, above = (pdf.cdf_at(pdfs, grid, np.full(len(pdfs), z)) for z in z_range)
    return _raise_where(Flag.BEYOND_TRAINING, below + 1.0 - above > RANGE_MASS_LIMIT)


def flag_inputs(batch: ImageBatch, ebv: EbvBatch) -> IntArray:
    """Return the flags, (n,) int32, that follow from the input alone."""
    is_faint = np.asarray((signal_to_noise(batch.images, batch.border.noise) < LOW_SNR_LIMIT).all(axis=1))
    return (
        _raise_where(Flag.EBV_ASSUMED, ebv.assumed)
        | _raise_where(Flag.MASKED_PIXELS, batch.masked)
        | _raise_where(Flag.BAND_MISSING, batch.band_missing)
        | _raise_where(Flag.LOW_SNR, is_faint)
    )


def _raise_where(flag: Flag, condition: npt.NDArray[np.bool_]) -> IntArray:
    return np.where(condition, np.int32(flag), np.int32(0))
