"""Whether what is asked of a model has drifted: histograms of its answers, here and where it was tested.

The service counts its estimates in the same bins as the model card counts those of galaxies that the model was not
trained on (`ReferenceRecord`). Where the two differ, the galaxies, the images or the sky have changed.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from photoz.grid import FloatArray, RedshiftGrid

Z_MEAN, Z_WIDTH68, OOD_SCORE = "z_mean", "z_width68", "ood_score"

N_REDSHIFTS = 20  # bins of z_mean over the grid

# Tenths of decades. Widths from a hundredth of the grid to half of it: that of a flat PDF is 0.68 of it. Scores from a
# fifth to ten: about 1 is as far out as the training galaxies go.
WIDTHS = np.arange(-20, -2)
SCORES = np.arange(-7, 11)


def edges(grid: RedshiftGrid) -> dict[str, tuple[float, ...]]:
    """Choose the bins of each quantity.

    Parameters
    ----------
    grid : RedshiftGrid
        Of the model.

    Returns
    -------
    dict of str to tuple of float
        For "z_mean", "z_width68" and "ood_score" the upper edges of the bins, increasing, of four digits: the `le` of a
        Prometheus histogram, whose last bin, up to infinity, is not named.
    """
    chosen = {
        Z_MEAN: grid.z_max * np.arange(1, N_REDSHIFTS + 1) / N_REDSHIFTS,
        Z_WIDTH68: grid.z_max * 10.0 ** (WIDTHS / 10),
        OOD_SCORE: 10.0 ** (SCORES / 10),
    }
    return {name: tuple(float(f"{edge:.4g}") for edge in found) for name, found in chosen.items()}


def quantities(columns: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Take from a table of estimates what is counted.

    Parameters
    ----------
    columns : mapping of str to (n,) float
        With any of z_mean, z_lo68, z_hi68 and ood_score, as in `photoz.estimates.Estimates`.

    Returns
    -------
    dict of str to (n,) float
        "z_mean", "z_width68" (z_hi68 - z_lo68) and "ood_score", as far as they follow.
    """
    found = {name: columns[name] for name in (Z_MEAN, OOD_SCORE) if name in columns}
    if "z_lo68" in columns and "z_hi68" in columns:
        found[Z_WIDTH68] = columns["z_hi68"] - columns["z_lo68"]
    return found


def fractions(values: FloatArray, edges: npt.ArrayLike) -> FloatArray:
    """Tell which part of some values lies at or below each edge.

    Parameters
    ----------
    values : (n,) float
        At least one; none of them NaN.
    edges : (m,) array_like of float
        Increasing.

    Returns
    -------
    (m,) float64
        From 0 to 1, never falling; less than 1 at the last edge if values lie beyond it.
    """
    return np.searchsorted(np.sort(values), np.asarray(edges), side="right") / len(values)
