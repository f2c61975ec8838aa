"""Fit the recalibration of a network's PDFs to galaxies that it was neither trained nor tested on."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from photoz.calibration import Calibration, apply
from photoz.grid import FloatArray, RedshiftGrid
from photoz.metrics import galaxy_scores, summarise
from photoz.model.card import CalibrationRecord

# Width of the Cauchy prior on the logarithms of the parameters, chosen by cross-validation: a few hundred galaxies must
# not change PDFs by chance, but may if the evidence is clear.
PRIOR_WIDTH = 0.05

STEP = 0.1  # initial step of the search, in the logarithms


def fit_calibration(
    pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, start: Calibration | None = None
) -> CalibrationRecord:
    """Fit the recalibration as `fit_parameters`; the record has the scores of these galaxies before and after."""
    parameters = fit_parameters(pdfs, z_spec, grid, start)
    scores = {
        "before": summarise(galaxy_scores(pdfs, z_spec, grid)),
        "after": summarise(galaxy_scores(apply(pdfs, parameters), z_spec, grid)),
    }
    return CalibrationRecord(parameters=parameters, n_galaxies=len(pdfs), scores=scores)


def fit_parameters(
    pdfs: FloatArray, z_spec: FloatArray, grid: RedshiftGrid, start: Calibration | None = None
) -> Calibration:
    """Fit the recalibration that maximises the likelihood of the true redshifts.

    The likelihood is a proper score like the CRPS, but far more sensitive to the widths of the PDFs. Parameters that do
    not improve Akaike's information criterion (1974, IEEE Trans. Autom. Control 19, 716) are left out.

    Takes raw PDFs (n, n_bins) of galaxies that the networks were not trained on, and their redshifts (n,) on the grid.
    `start` is the calibration of a model that is adapted, which stays as it is unless these galaxies contradict it.
    """
    truth = (np.arange(len(pdfs)), grid.bin_index(z_spec))
    offset = np.zeros(3) if start is None else np.log([start.temperature, start.a, start.b])

    def loss(logarithms: FloatArray) -> float:
        mass = apply(pdfs, _calibration(offset + logarithms))[truth]
        prior = np.log1p((logarithms / PRIOR_WIDTH) ** 2).sum()
        return float(prior - np.log(np.maximum(mass, 1e-12)).sum())

    return _calibration(offset + _fit(loss))


def _fit(loss: Callable[[FloatArray], float]) -> FloatArray:
    """Choose between no change, a temperature, and a temperature with a map of the CDF, by Akaike's criterion."""
    temperature = minimize_scalar(lambda x: loss(np.array([x, 0.0, 0.0])), bounds=(-2.0, 2.0), method="bounded").x
    candidates = [np.zeros(3), np.array([temperature, 0.0, 0.0])]
    # Start from both, since a and b can nearly replace a temperature.
    mapped = min((_search(loss, start) for start in candidates), key=loss)
    return min([*candidates, mapped], key=lambda logarithms: loss(logarithms) + np.count_nonzero(logarithms))


def _search(loss: Callable[[FloatArray], float], start: FloatArray) -> FloatArray:
    options = {"initial_simplex": start + STEP * np.eye(4, 3, k=-1), "xatol": 1e-3, "fatol": 1e-3}
    return np.asarray(minimize(loss, start, method="Nelder-Mead", options=options).x)


def _calibration(logarithms: FloatArray) -> Calibration:
    temperature, a, b = np.exp(np.clip(logarithms, -3.0, 3.0))
    return Calibration(float(temperature), float(a), float(b))
