"""Scores of catalogue methods and of the model, also on real pixels, and reports."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.harness.environment import SHIPPED
from benchmarks.science.real_field import FOLDER, GALAXY, GALAXY_EBV, catalogue_method, predict, read_sources
from photoz import metrics, pdf
from photoz.flags import Flag
from photoz.grid import SDSS_GRID
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.inference.engines import AUTO
from photoz.io.cutouts import TEST, Cutouts
from photoz.io.reader import open_cutouts
from photoz.metrics import Score, galaxy_scores, summarise
from photoz.model.bundle import ModelBundle
from tests.toys import toy_card
from tests.training.small import GRID, SPEC, N
from training import baselines, evaluation
from training.baselines import METHODS, baseline_scores, colours_and_magnitude, gaussian_pdfs, local_linear_regression
from training.evaluation import MODEL, Evaluation, galaxies_digest, table, write_report
from training.sample import make_sample


def test_local_linear_regression_clips_outliers_and_errors_become_gaussians():
    rng = np.random.default_rng(0)
    features, test_features = rng.uniform(size=(500, 3)), rng.uniform(0.2, 0.8, (600, 3))  # more than a chunk
    slope = np.array([0.1, -0.05, 0.02])
    z_phot, sigma = local_linear_regression(features, 0.1 + features @ slope, test_features)
    np.testing.assert_allclose(z_phot, 0.1 + test_features @ slope, atol=1e-6)
    assert (sigma == 1e-3).all()
    z_spec = 0.2 + 0.01 * rng.standard_normal(2000)
    z_spec[:20] = 5.0
    z_phot, sigma = local_linear_regression(rng.uniform(size=(2000, 2)), z_spec, np.full((1, 2), 0.5))
    assert z_phot[0] == pytest.approx(0.2, abs=0.005)
    assert sigma[0] == pytest.approx(0.01, rel=0.25)
    pdfs = gaussian_pdfs(np.array([0.1, 0.2, -1.0]), np.array([0.02, 0.03, 0.01]), SDSS_GRID)
    np.testing.assert_allclose(pdf.mean(pdfs, SDSS_GRID)[:2], [0.1, 0.2], atol=1e-4)
    np.testing.assert_allclose(pdf.std(pdfs, SDSS_GRID)[:2], [0.02, 0.03], rtol=0.02)
    assert np.argmax(pdfs[2]) == 0  # clipped to the grid


@pytest.mark.acceptance
def test_baselines_reach_known_scores_on_the_catalogue(catalogue):
    """sigma_mad is 0.0132 for local linear regression and 0.0131 for boosted trees on the 1,986 test galaxies."""
    dereddened = catalogue.magnitudes - SDSS_IMAGES.extinction * catalogue.ebv[:, None]
    features, test = colours_and_magnitude(dereddened), catalogue.split == "test"
    for method, expected in zip(METHODS.values(), (0.0132, 0.0131), strict=True):
        z_phot, _ = method(features[~test], catalogue.z_spec[~test], features[test])
        dz = metrics.residuals(z_phot, catalogue.z_spec[test])
        assert metrics.sigma_mad(dz) == pytest.approx(expected, abs=2e-4)
        assert metrics.outlier_fraction(dz) < 0.013


def test_methods_are_scored_on_the_photometries_that_the_data_have(bundle, cutouts, monkeypatch):
    scores = bundle.card.test.scores
    crps = {method: scores[method]["crps"].value for method in scores if not method.startswith("this model")}
    expected = {
        "local linear regression, catalogue photometry": 0.0138448,
        "gradient-boosted trees, catalogue photometry": 0.0200103,
        "local linear regression, aperture fluxes of the cutouts": 0.0170612,
        "gradient-boosted trees, aperture fluxes of the cutouts": 0.0205801,
        "local linear regression, true-profile fluxes of the cutouts": 0.0143438,
        "gradient-boosted trees, true-profile fluxes of the cutouts": 0.0199865,
    }
    assert crps == pytest.approx(expected, rel=0.01)
    monkeypatch.setattr(baselines, "METHODS", {"mean": lambda x, z, y: (np.full(len(y), z.mean()), np.ones(len(y)))})

    def sources(**columns):
        scores = baseline_scores(replace(cutouts, columns=columns), SPEC, GRID, np.zeros(N))
        return {name.removeprefix("mean, ").removesuffix(" fluxes of the cutouts") for name in scores}

    magnitudes = np.array(cutouts.columns["magnitudes"])
    magnitudes[3, 2] = np.nan
    bare = {name: cutouts.columns[name] for name in ("z_spec", "split")}
    assert sources(**{**cutouts.columns, "magnitudes": magnitudes}) == {"aperture", "true-profile"}
    assert sources(**bare) == {"aperture"}
    few, one_more = (np.where(np.arange(N) < n, "train", "test") for n in (4, 5))
    assert sources(**{**bare, "split": few}) == set()
    assert sources(**{**bare, "split": one_more}) == {"aperture"}


def test_report_has_numbers_figures_and_the_learning_curve_of_the_same_model(cutouts, tmp_path, monkeypatch):
    assert evaluation.FORMATS == ("png", "svg", "pdf")
    monkeypatch.setattr(evaluation, "FORMATS", ("svg",))  # each takes a second
    rows, card = cutouts.rows(TEST), toy_card(SPEC, GRID, takes_ebv=True)
    z_spec, flags = cutouts.column("z_spec")[rows], np.zeros(len(rows), np.int32)
    flags[0] = Flag.LOW_SNR
    off = np.random.default_rng(0).normal(0.0, 0.01, len(rows))
    pdfs = pdf.as_pdfs(gaussian_pdfs(z_spec + off, np.full(len(rows), 0.01), GRID), GRID)
    summary = summarise(galaxy_scores(pdfs, z_spec, GRID))
    evaluated = Evaluation(pdfs, rows, {MODEL: summary, "trees": summary}, 0.01, flags, np.full(len(rows), np.nan))
    scores = {metric: asdict(score) for metric, score in summary.items()}

    def write_curve(architecture="toy", n_galaxies=None):
        digest = galaxies_digest(cutouts, rows[:n_galaxies])
        points = [{"n_train": n, "epochs": 1, "scores": scores} for n in (50, 100)]
        content = {"settings": {"architecture": architecture}, "test_galaxies": digest, "points": points}
        (tmp_path / "curve.json").write_text(json.dumps(content))
        return tmp_path / "curve.json"

    write_report(evaluated, cutouts, card, tmp_path, write_curve())
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert list(numbers.pop("bins")) == ["true redshift", "dereddened i [mag]", "dereddened g − r [mag]"]
    assert {row["flag"]: row["n_galaxies"] for row in numbers.pop("flags")}["LOW_SNR"] == 1
    assert numbers == {
        "model": "toy 1",
        "data": cutouts.provenance,
        "n_galaxies": len(rows),
        "crps_gaussian": 0.01,
        "scores": {MODEL: scores, "trees": scores},
        "learning_curve": {"50": scores, "100": scores},
    }
    names = ("scatter", "stacked", "panels", "pit", "qq", "coverage", "by_redshift", "by_magnitude", "by_colour")
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {f"{name}.svg" for name in (*names, "learning_curve")}
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img") == 10
    for text in ("LOW_SNR", f"{len(rows)} test galaxies; {cutouts.provenance}.", "trees"):
        assert text in page
    for other in ({"architecture": "inception"}, {"n_galaxies": 5}):
        assert evaluation._read_curve(write_curve(**other), card, evaluated, cutouts) == {}


def test_photometry_is_dereddened_if_possible_and_tables_have_a_line_for_each_method():
    def photometry(bands, **columns):
        card = toy_card(ImageSpec(size=8, bands=bands), GRID, takes_ebv=True)
        return evaluation._photometry(Cutouts(np.zeros((2, 8, 8, len(bands))), columns), np.arange(2), card)

    magnitudes, ebv = np.tile([20.0, 18.5], (2, 1)), np.array([0.1, np.nan])
    found = photometry(("r", "J"), magnitudes=magnitudes, ebv=ebv)
    assert (found["magnitude_label"], found["colour_label"]) == ("J [mag]", "r − J [mag]")
    assert [*found["magnitudes"], *found["colours"]] == pytest.approx([18.5, 18.5, 1.2249, 1.2249])
    found = photometry(("r",), magnitudes=magnitudes[:, :1], ebv=ebv)
    assert found.pop("magnitudes").tolist() == pytest.approx([20.0 - 2.751 * 0.1] * 2)
    assert found == {"magnitude_label": "dereddened r [mag]"}
    assert photometry(("r",), ebv=ebv) == {}
    header, first, second = table({"this model": {"sigma_mad": Score(0.0132, 0.0004)}, "trees": {}}).splitlines()
    assert header.split() == ["sigma_mad", "outlier_fraction", "bias", "crps", "pit_ks", "coverage_68", "coverage_95"]
    assert first == "this model" + f"{Score(0.0132, 0.0004)!s:>19}" + f"{'-':>19}" * 6
    assert second == "trees     " + f"{'-':>19}" * 7


@pytest.mark.acceptance
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_stars_are_out_of_distribution_and_an_elliptical_galaxy_is_not(catalogue, tmp_path):
    sources, shipped = read_sources(FOLDER), ModelBundle.load(SHIPPED)
    galaxy = sources.nearest(*GALAXY)
    for engine, n_missed in (("openvino-f32", 0), (AUTO, 1)):  # the int8 copy gives one star a score of 0.98
        flags = predict(shipped, sources.cutouts, engine=engine).flags
        assert len(flags) > 100
        unflagged = np.flatnonzero((flags & Flag.OUT_OF_DISTRIBUTION) == 0)
        assert galaxy in unflagged
        assert len(unflagged) <= 1 + n_missed
    make_sample(catalogue.head(3000), tmp_path / "sample.h5", SDSS_IMAGES)
    image, ebv = sources.cutouts[[galaxy]], np.array([GALAXY_EBV])
    estimates = predict(shipped, image, ebv)
    assert abs(estimates.z_mean[0] - 0.19) < 2 * estimates.z_std[0]
    with open_cutouts(tmp_path / "sample.h5") as sample:
        z, error = catalogue_method(image, ebv, sample)
    assert error[0] < 0.03
    assert abs(estimates.z_mean[0] - z[0]) < np.hypot(estimates.z_std[0], error[0])
