"""The slips of the document that this project started from: each property holds for ours and fails for its formula."""

import numpy as np
import properscoring
import pytest
from matplotlib.figure import Figure

from photoz import metrics, pdf, plots
from photoz.grid import SDSS_GRID

EDGES = np.linspace(0.0, 0.4, 181)


def documents_crps(pdfs, z_spec):
    """Scores the predictions against their own distribution."""
    z_phot = pdf.mean(pdfs, SDSS_GRID)
    return properscoring.crps_gaussian(z_phot, z_phot.mean(), z_phot.std()).mean()


def our_crps(pdfs, z_spec):
    return metrics.crps(pdfs, z_spec, SDSS_GRID).mean()


@pytest.mark.parametrize(("crps", "is_right"), [(our_crps, True), (documents_crps, False)])
def test_crps_prefers_predictions_that_follow_the_truth_to_constant_ones(gaussian_pdfs, rng, crps, is_right):
    z_spec = rng.uniform(0.05, 0.35, 500)
    good = gaussian_pdfs(z_spec + rng.normal(0, 0.014, 500), 0.014)
    constant = gaussian_pdfs(0.2 + rng.normal(0, 1e-4, 500), 0.014)
    assert (crps(good, z_spec) < crps(constant, z_spec)) == is_right


@pytest.mark.parametrize(("crps", "is_right"), [(our_crps, True), (documents_crps, False)])
def test_crps_sees_the_width_of_the_pdfs(gaussian_pdfs, rng, crps, is_right):
    z_spec = rng.uniform(0.15, 0.25, 500)
    z_phot = z_spec + rng.normal(0, 0.014, 500)
    honest, broad = gaussian_pdfs(z_phot, 0.014), gaussian_pdfs(z_phot, 0.03)
    assert (crps(honest, z_spec) < 0.95 * crps(broad, z_spec)) == is_right


def documents_bin_index(z):
    return (z // (0.4 / 180)).astype(int)


@pytest.mark.parametrize(("bin_index", "n_wrong"), [(SDSS_GRID.bin_index, 0), (documents_bin_index, 85)])
def test_every_lower_edge_lies_in_its_own_bin(bin_index, n_wrong):
    assert np.count_nonzero(bin_index(EDGES[:-1]) != np.arange(180)) == n_wrong


@pytest.mark.parametrize(("bin_index", "is_right"), [(SDSS_GRID.bin_index, True), (documents_bin_index, False)])
def test_the_largest_redshift_lies_in_a_bin_that_exists(bin_index, is_right):
    assert (bin_index(np.array([0.4])) < 180).all() == is_right


def documents_outlier_fraction(dz):
    return np.mean(np.abs(dz) > 5 * metrics.sigma_mad(dz))


@pytest.mark.parametrize(
    ("outlier_fraction", "is_right"), [(metrics.outlier_fraction, True), (documents_outlier_fraction, False)]
)
def test_a_model_five_times_worse_has_more_outliers(rng, outlier_fraction, is_right):
    dz = rng.normal(0, 0.012, 2000)
    assert (outlier_fraction(5 * dz) > outlier_fraction(dz)) == is_right


def documents_panels(n_galaxies, num_images=9):
    """Returns the panels; chooses galaxies without a seed and without looking how many there are."""
    chosen = np.random.default_rng().choice(n_galaxies, num_images, replace=False)
    columns = int(np.ceil(np.sqrt(num_images)))
    rows = int(np.ceil(num_images / columns))
    splts = Figure().subplots(rows, columns)
    return [splts[k // columns, k % columns] for k in range(len(chosen))]


def our_panels(n_galaxies, num_images=9):
    pdfs = np.full((n_galaxies, 180), 1 / 180)
    return plots.pdf_panels(pdfs, SDSS_GRID, np.full(n_galaxies, 0.1), num_images=num_images).axes


@pytest.mark.parametrize(("n_galaxies", "num_images", "expected"), [(20, 1, 1), (20, 2, 2), (4, 9, 4)])
def test_panels_can_be_one_or_two_and_are_never_more_than_the_galaxies(n_galaxies, num_images, expected):
    assert len(our_panels(n_galaxies, num_images)) == expected
    with pytest.raises((TypeError, IndexError, ValueError)):
        documents_panels(n_galaxies, num_images)
    assert len(documents_panels(20, 9)) == 9  # where it does work


def documents_choice():
    return np.random.choice(1000, 9, replace=False).tolist()


def our_choice():
    pdfs, names = np.full((1000, 180), 1 / 180), np.arange(1000)
    return [axes.get_title() for axes in plots.pdf_panels(pdfs, SDSS_GRID, np.full(1000, 0.1), object_id=names).axes]


@pytest.mark.parametrize(("choice", "is_right"), [(our_choice, True), (documents_choice, False)])
def test_the_same_call_shows_the_same_galaxies(choice, is_right):
    assert (choice() == choice()) == is_right


def documents_curve(masses):
    return EDGES[:-1], masses


def our_curve(masses):
    figure = plots.pdf_panels(masses[np.newaxis], SDSS_GRID, [0.1])
    return figure.axes[0].lines[0].get_data()


@pytest.mark.parametrize(("curve", "is_right"), [(our_curve, True), (documents_curve, False)])
def test_a_drawn_pdf_integrates_to_1_about_its_mean(gaussian_pdfs, curve, is_right):
    z, density = curve(gaussian_pdfs(0.2, 0.02)[0])
    assert (np.trapezoid(density, z) == pytest.approx(1.0, abs=1e-3)) == is_right
    mean = (z * density).sum() / density.sum()
    assert (mean == pytest.approx(0.2, abs=SDSS_GRID.width / 20)) == is_right


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_right"), [("crps", True), ("one-hot", False)])
def test_the_loss_knows_that_bins_are_ordered(name, is_right):
    """Mass ten bins from the truth costs less than mass a hundred bins from it; "one-hot" is the document's loss."""
    from training.objectives import objective

    chosen = objective(name, SDSS_GRID)
    z_spec = np.full(2, SDSS_GRID.centres[60])
    pdfs = np.full((2, 180), 0.1 / 180, dtype=np.float32)
    pdfs[:, 60] += 0.4
    pdfs[0, 70] += 0.5
    pdfs[1, 160] += 0.5
    near, far = np.asarray(chosen.loss(chosen.encode(z_spec), pdfs))
    assert (near < 0.5 * far) == is_right
    assert (near == pytest.approx(far)) != is_right
