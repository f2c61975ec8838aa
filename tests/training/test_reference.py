"""What the card says of the answers for the test galaxies."""

import numpy as np
import pytest

from photoz import drift, pdf
from photoz.grid import RedshiftGrid
from training.baselines import gaussian_pdfs
from training.reference import reference_record

GRID = RedshiftGrid(0.6, 90)


@pytest.fixture
def pdfs() -> np.ndarray:
    rng = np.random.default_rng(3)
    return pdf.as_pdfs(gaussian_pdfs(rng.uniform(0.1, 0.5, 200), rng.uniform(0.01, 0.05, 200), GRID), GRID)


def test_answers_are_counted_in_the_bins_that_a_service_counts_in(pdfs: np.ndarray) -> None:
    scores = np.linspace(0.1, 20.0, 200)
    record = reference_record(pdfs, scores, GRID, "made up")
    assert {name: found.edges for name, found in record.histograms.items()} == drift.edges(GRID)
    assert record.n_galaxies == 200
    assert record.data == "test galaxies, not trained on: made up"
    low, high = pdf.shortest_interval(pdfs, GRID, 0.68)
    for name, values in {"z_mean": pdf.mean(pdfs, GRID), "z_width68": high - low, "ood_score": scores}.items():
        counted = [np.mean(values <= edge) for edge in record.histograms[name].edges]
        np.testing.assert_allclose(record.histograms[name].fractions, counted, rtol=0, atol=1e-12)


def test_a_model_that_cannot_tell_has_no_scores_to_count(pdfs: np.ndarray) -> None:
    assert set(reference_record(pdfs, None, GRID, "made up").histograms) == {"z_mean", "z_width68"}
