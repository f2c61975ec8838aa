"""Recalibration of PDFs, with parameters fitted to galaxies that the network was not trained on.

Two steps, each the identity at 1:

* a **temperature** T takes each PDF to the power 1 / T: above 1 it gets broader, below 1 narrower (Guo et al. 2017,
  PMLR 70, 1321);
* a **monotone map of the CDF**, G(F) = 1 - (1 - F^a)^b, corrects the bias and skew that the probability integral
  transform shows (Bordoloi, Lilly and Amara 2010, MNRAS 406, 881). G is the CDF of Kumaraswamy 1980 (J. Hydrol. 46,
  79): nearly that of the beta distribution, in closed form.
"""

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.grid import FloatArray

Scale = Annotated[float, Field(ge=0.01, le=100, allow_inf_nan=False)]


@dataclass(frozen=True)
class Calibration:
    """Temperature T, and shape a, b of the map of the CDF; each from 0.01 to 100; the default changes nothing."""

    temperature: Scale = 1.0
    a: Scale = 1.0
    b: Scale = 1.0


def apply(pdfs: FloatArray, calibration: Calibration | None) -> FloatArray:
    """Recalibrate PDFs, (n, n_bins) probability mass per bin with rows that sum to 1; None leaves them as they are."""
    if calibration is None or calibration == Calibration():
        return pdfs
    # Relative to the highest bin, so that a high power does not underflow to an empty PDF.
    powered = (pdfs / pdfs.max(axis=1, keepdims=True)) ** (1.0 / calibration.temperature)
    below = np.minimum(pdf.cdf(powered) ** calibration.a, 1.0 - 1e-16)  # so that its logarithm is finite
    mapped = -np.expm1(calibration.b * np.log1p(-below))
    mass = np.maximum(mapped[:, 1:] - mapped[:, :-1], 0.0)
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))
