"""What a model answers for galaxies that it was not trained on: what the answers of a service are compared with."""

import numpy as np

from photoz import drift
from photoz.estimates import summaries
from photoz.grid import FloatArray, RedshiftGrid
from photoz.model.card import Histogram, ReferenceRecord


def reference_record(
    pdfs: FloatArray, ood_scores: FloatArray | None, grid: RedshiftGrid, source: str
) -> ReferenceRecord:
    """Count a model's answers for its test galaxies.

    Parameters
    ----------
    pdfs : (n, n_bins) float
        Of those galaxies, recalibrated as they are served.
    ood_scores : (n,) float, or None
        Theirs, where the model can tell.
    grid : RedshiftGrid
        The bins.
    source : str
        Where the galaxies come from, in words.

    Returns
    -------
    ReferenceRecord
        For the card.
    """
    columns = summaries(pdfs, grid, ("z_mean", "z_lo68", "z_hi68"))
    found = drift.quantities(columns | {"ood_score": np.array([]) if ood_scores is None else ood_scores})
    edges = drift.edges(grid)
    histograms = {
        name: Histogram(edges=edges[name], fractions=tuple(drift.fractions(values, edges[name]).tolist()))
        for name, values in found.items()
        if len(values)
    }
    return ReferenceRecord(data=f"test galaxies, not trained on: {source}", n_galaxies=len(pdfs), histograms=histograms)
