"""Drift of a deployed model: histograms of its estimates, in the service and in the model card.

The service counts its estimates in the bins of the model card's histograms (`ReferenceRecord`), which are those of
galaxies that the model was not trained on. If the two differ, the galaxies, the images or the sky have changed.
"""

from collections.abc import Mapping

import numpy as np

from photoz.grid import FloatArray, RedshiftGrid

Z_MEAN, Z_WIDTH68, OOD_SCORE = "z_mean", "z_width68", "ood_score"

N_REDSHIFTS = 20  # bins of z_mean over the grid

# Tenths of decades. Widths from a hundredth to half of the grid: that of a flat PDF is 0.68 of it. Scores from a fifth
# to ten: few training galaxies exceed 1.
WIDTHS = np.arange(-20, -2)
SCORES = np.arange(-7, 11)


def edges(grid: RedshiftGrid) -> dict[str, tuple[float, ...]]:
    """Return the bins of "z_mean", "z_width68" and "ood_score": their upper edges, increasing, of four digits.

    These are the `le` of a Prometheus histogram. The last bin, up to infinity, is not listed.
    """
    exact = {
        Z_MEAN: grid.z_max * np.arange(1, N_REDSHIFTS + 1) / N_REDSHIFTS,
        Z_WIDTH68: grid.z_max * 10.0 ** (WIDTHS / 10),
        OOD_SCORE: 10.0 ** (SCORES / 10),
    }
    return {name: tuple(float(f"{edge:.4g}") for edge in values) for name, values in exact.items()}


def quantities(columns: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the quantities, (n,) each, that can be computed from some columns of estimates, (n,) each."""
    values = {name: columns[name] for name in (Z_MEAN, OOD_SCORE) if name in columns}
    if "z_lo68" in columns and "z_hi68" in columns:
        values[Z_WIDTH68] = columns["z_hi68"] - columns["z_lo68"]
    return values
