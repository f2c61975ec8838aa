import numpy as np

from photoz import drift, pdf
from photoz.grid import RedshiftGrid
from training.baselines import gaussian_pdfs
from training.reference import reference_record

GRID = RedshiftGrid(0.6, 90)


def test_predictions_are_counted_in_the_bins_of_the_service() -> None:
    rng = np.random.default_rng(3)
    gaussians = gaussian_pdfs(rng.uniform(0.1, 0.5, 200), rng.uniform(0.01, 0.05, 200), GRID)
    pdfs = pdf.as_pdfs(gaussians, GRID)
    scores = np.linspace(0.1, 20.0, 200)
    record = reference_record(pdfs, scores, GRID, "made up")
    assert {name: histogram.edges for name, histogram in record.histograms.items()} == drift.edges(GRID)
    assert record.n_galaxies == 200
    assert record.data == "test galaxies, not trained on: made up"
    low, high = pdf.shortest_interval(pdfs, GRID, 0.68)
    for name, values in {"z_mean": pdf.mean(pdfs, GRID), "z_width68": high - low, "ood_score": scores}.items():
        counted = [np.mean(values <= edge) for edge in record.histograms[name].edges]
        np.testing.assert_allclose(record.histograms[name].fractions, counted, rtol=0, atol=1e-12)
