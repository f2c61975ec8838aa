"""Recalibration of PDFs: what turns a network's probabilities into honest ones, learned on galaxies held out for it.

Two steps, both identities at 1:

* a **temperature** T takes each PDF to the power 1 / T: above 1 it gets broader, below 1 narrower (Guo et al. 2017,
  PMLR 70, 1321);
* a **monotone map of the CDF**, G(F) = 1 - (1 - F^a)^b, bends what the probability integral transform shows of bias and
  skew (recalibration by the PIT: Bordoloi, Lilly and Amara 2010, MNRAS 406, 881). G is the CDF of Kumaraswamy 1980
  (J. Hydrol. 46, 79): nearly the beta distribution's, in closed form.
"""

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from photoz import pdf
from photoz.grid import FloatArray

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Calibration:
    """How PDFs are recalibrated; the default changes nothing.

    Parameters
    ----------
    temperature : float
        T.
    a, b : float
        Shape of the map of the CDF.
    """

    temperature: Positive = 1.0
    a: Positive = 1.0
    b: Positive = 1.0


def apply(pdfs: FloatArray, calibration: Calibration | None) -> FloatArray:
    """Recalibrate PDFs.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Probability mass per bin, rows sum to 1.
    calibration : Calibration, or None
        None leaves them as they are.

    Returns
    -------
    (n, n_bins) float64
        Probability mass per bin, rows sum to 1.
    """
    if calibration is None or calibration == Calibration():
        return pdfs
    # Relative to the highest bin: a power of small masses must not vanish as a whole.
    powered = (pdfs / pdfs.max(axis=1, keepdims=True)) ** (1.0 / calibration.temperature)
    bent = -np.expm1(calibration.b * _log1m(pdf.cdf(powered) ** calibration.a))
    mass = np.maximum(np.diff(bent, axis=1), 0.0)
    return np.asarray(mass / mass.sum(axis=1, keepdims=True))


def _log1m(x: FloatArray) -> FloatArray:
    """Return log(1 - x) for x in [0, 1], and a number for 1 too."""
    return np.asarray(np.log1p(-np.minimum(x, 1.0 - 1e-16)))
