"""Quality flags of estimates: a bit mask for each galaxy."""

from collections.abc import Mapping
from enum import IntFlag

import numpy as np

from photoz import pdf
from photoz.grid import BoolArray, FloatArray, IntArray, RedshiftGrid
from photoz.images import Batch, signal_to_noise


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
    RESAMPLED = 512


LOW_SNR_LIMIT = 5.0

# Probability in the first and last bin above which the redshift may lie beyond the grid.
EDGE_MASS_LIMIT = 0.05

# In units of 1 + z. The 68 % interval spans two sigma: if it is wider than this, sigma exceeds 0.03, and the outlier
# cut, |dz| > 0.05, is within 1.67 sigma. So one such estimate in ten is an outlier by its own PDF.
BROAD_LIMIT = 0.06

# A second peak counts if it rises above the valley between the two by this fraction of the highest peak.
SECOND_PEAK_LIMIT = 0.2

# Probability at redshifts without training galaxies above which the 95 % interval reaches about as far.
RANGE_MASS_LIMIT = 0.025

FLAG_MEANINGS: Mapping[Flag, str] = {
    Flag.EBV_ASSUMED: "no E(B-V) was given: the PDF allows for any value, or the default of the model was used",
    Flag.MASKED_PIXELS: "some pixels were not finite and were treated as empty sky",
    Flag.BAND_MISSING: "a band has no signal",
    Flag.LOW_SNR: f"the central light is below {LOW_SNR_LIMIT:g} sigma in every band",
    Flag.EDGE_MASS: f"more than {100 * EDGE_MASS_LIMIT:g} % of the probability lies in the first and last bin: "
    "the redshift may lie beyond the grid",
    Flag.BROAD_PDF: f"the 68 % interval is wider than {BROAD_LIMIT:g} (1 + z)",
    Flag.MULTIMODAL: "the PDF has a second peak, clearly separated from the first",
    Flag.OUT_OF_DISTRIBUTION: "the image is unlike those that the model was trained on",
    Flag.BEYOND_TRAINING: f"more than {100 * RANGE_MASS_LIMIT:g} % of the probability lies where no training galaxy "
    "had its redshift",
    Flag.RESAMPLED: "the cutout was resampled from pixels of another scale, which correlates their noise",
}


def flag_names(flags: int) -> str:
    """Return the names of the flags that are set, such as "LOW_SNR|EDGE_MASS", or "-"; unknown bits are ignored."""
    return "|".join(str(flag.name) for flag in Flag(flags)) or "-"


def flag_pdfs(pdfs: FloatArray, grid: RedshiftGrid, width: FloatArray) -> IntArray:
    """Return the flags, (n,) int32, of PDFs, (n, n_bins), whose 68 % intervals have these widths, (n,)."""
    return (
        _raise(Flag.EDGE_MASS, pdfs[:, 0] + pdfs[:, -1] > EDGE_MASS_LIMIT)
        | _raise(Flag.BROAD_PDF, width > BROAD_LIMIT * (1.0 + pdf.mean(pdfs, grid)))
        | _raise(Flag.MULTIMODAL, pdf.has_second_peak(pdfs, SECOND_PEAK_LIMIT))
    )


def _raise(flag: Flag, where: BoolArray) -> IntArray:
    return np.where(where, np.int32(flag), np.int32(0))


def flag_ood(ood_score: FloatArray, ood_threshold: float) -> IntArray:
    """Flag scores, (n,) float, above a threshold as OUT_OF_DISTRIBUTION, (n,) int32; NaN raises no flag."""
    return _raise(Flag.OUT_OF_DISTRIBUTION, ood_score > ood_threshold)


def flag_range(pdfs: FloatArray, grid: RedshiftGrid, z_range: tuple[float, float]) -> IntArray:
    """Flag PDFs, (n, n_bins), that reach beyond the range of the training redshifts as BEYOND_TRAINING, (n,) int32."""
    inside = np.diff(np.clip(grid.edges, *z_range)) / grid.width  # fraction of each bin
    return _raise(Flag.BEYOND_TRAINING, pdfs @ (1.0 - inside) > RANGE_MASS_LIMIT)


def flag_inputs(batch: Batch, *, takes_ebv: bool = True) -> IntArray:
    """Return the flags, (n,) int32, that follow from the input alone; `takes_ebv` says whether the network does."""
    faint = signal_to_noise(batch.images, batch.border.noise).max(axis=1) < LOW_SNR_LIMIT
    return (
        _raise(Flag.EBV_ASSUMED, batch.ebv_assumed & takes_ebv)
        | _raise(Flag.MASKED_PIXELS, batch.masked)
        | _raise(Flag.BAND_MISSING, batch.band_missing)
        | _raise(Flag.LOW_SNR, faint)
    )
