"""Reference distributions of a model's predictions, to detect drift in the input of a service."""

import numpy as np
import numpy.typing as npt

from photoz import drift
from photoz.estimates import summaries
from photoz.grid import FloatArray, RedshiftGrid
from photoz.model.card import Histogram, ReferenceRecord


def reference_record(pdfs: FloatArray, ood_scores: FloatArray, grid: RedshiftGrid, source: str) -> ReferenceRecord:
    """Make histograms of the predictions for n test galaxies: recalibrated PDFs (n, n_bins), OOD scores (n,)."""
    columns = summaries(pdfs, grid, ("z_mean", "z_lo68", "z_hi68")) | {"ood_score": ood_scores}
    edges = drift.edges(grid)
    histograms = {
        name: Histogram(edges=edges[name], fractions=tuple(fractions(values, edges[name]).tolist()))
        for name, values in drift.quantities(columns).items()
    }
    return ReferenceRecord(data=f"test galaxies, not trained on: {source}", n_galaxies=len(pdfs), histograms=histograms)


def fractions(values: FloatArray, edges: npt.ArrayLike) -> FloatArray:
    """Return the fraction of values, (n,) without NaN, at or below each edge, (m,) increasing."""
    return np.searchsorted(np.sort(values), np.asarray(edges), side="right") / len(values)
