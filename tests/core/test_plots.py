import hashlib
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import kstwobign

from photoz import metrics, pdf, plots
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.metrics import Score
from photoz.plots.pit_coverage import KS_68, KS_95


@pytest.fixture(autouse=True)
def _settings_are_unchanged():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before


@pytest.fixture
def sample(calibrated):
    """The first n galaxies: sample(n) -> pdfs, z_spec."""
    return lambda n: tuple(values[:n] for values in calibrated)


def every_figure(pdfs, z_spec):
    z_phot = pdf.mean(pdfs, SDSS_GRID)
    return {
        "scatter": plots.scatter(z_spec, z_phot),
        "panels": plots.pdf_panels(pdfs, SDSS_GRID, z_spec),
        "intervals": plots.interval_panels(pdfs[:9], SDSS_GRID, z_spec=z_spec[:9], object_id=np.arange(len(pdfs[:9]))),
        "pit": plots.pit_histogram(metrics.pit(pdfs, z_spec, SDSS_GRID)),
        "qq": plots.pit_qq(metrics.pit(pdfs, z_spec, SDSS_GRID)),
        "coverage": plots.coverage(pdfs, SDSS_GRID, z_spec),
        "residuals": plots.residuals(z_spec, metrics.residuals(z_phot, z_spec), xlabel="true redshift"),
        "stacked": plots.stacked(pdfs, SDSS_GRID, z_spec),
    }


def texts(axes):
    return "\n".join(text.get_text() for text in axes.texts)


def drawn_panels(figure):
    return [axes for axes in figure.axes if axes.axison]


def line(axes, label):
    (matching,) = [line for line in axes.lines if line.get_label() == label]
    return matching


def test_figures_look_as_recorded(sample):
    """Compare hashes, which a change of style changes: look at the figures, then record what this prints."""
    curve = [scores_of(0.03, 0.02), scores_of(0.02, 0.01)]
    baselines = {f"method {i}": scores_of(0.01 + 0.001 * i, 0.01) for i in range(7)}
    figures = every_figure(*sample(501)) | {
        "dots": plots.scatter(*(np.round(values, 3) for values in (sample(500)[1], sample(500)[1] + 0.01))),
        "small dots": plots.residuals(sample(51)[1], sample(51)[1] - 0.2, xlabel="x"),
        "large dots": plots.residuals(sample(50)[1], sample(50)[1] - 0.2, xlabel="x"),
        "outliers": plots.residuals(np.arange(999.0), 0.2 * (np.arange(999) % 7 < 2), xlabel="x"),
        "bins": plots.stacked(sample(2000)[0], SDSS_GRID, sample(2000)[1]),
        "points": plots.scatter(sample(2000)[1], sample(2000)[1] ** 2, scores=scores_of(0.01, 0.02)),
        "names": plots.pdf_panels(sample(5)[0], SDSS_GRID, sample(5)[1], object_id=list("abcde")),
        "learning curve": plots.learning_curve([500, 8000], curve, baselines),
    }
    hashes = {name: hashlib.sha256(plots.render(figure, "svg")).hexdigest()[:16] for name, figure in figures.items()}
    recorded = json.loads(Path(__file__).with_name("figure_hashes.json").read_text())
    if recorded.pop("matplotlib") != matplotlib.__version__:
        pytest.skip("recorded with another version of matplotlib")
    assert hashes == recorded, json.dumps({"matplotlib": matplotlib.__version__} | hashes, indent=2)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_figures_of_any_number_of_galaxies_are_drawn(sample, n):
    for figure in every_figure(*sample(n)).values():
        assert plots.render(figure, "svg").rstrip().endswith(b"</svg>")


@pytest.mark.parametrize(("format", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_same_figure_gives_same_bytes(sample, format, magic):
    first, second = (plots.render(plots.scatter(z, z), format) for z in (sample(600)[1], sample(600)[1]))
    assert first.startswith(magic)
    assert first == second
    assert format != "png" or int.from_bytes(first[16:20]) == 3.5 * 300  # pixels wide


def test_pdf_file_has_no_type_3_fonts(sample):
    content = plots.render(plots.scatter(sample(9)[1], sample(9)[1]), "pdf")
    assert b"/Type0" in content
    assert b"/Type3" not in content


def test_scatter_prints_the_metrics(sample):
    pdfs, z_spec = sample(600)
    scores = metrics.summarise(metrics.galaxy_scores(pdfs, z_spec, SDSS_GRID), n_resamples=2)
    shown = texts(plots.scatter(z_spec, pdf.mean(pdfs, SDSS_GRID), scores=scores).axes[0]).replace("−", "-")
    assert shown.splitlines() == [
        "n = 600",
        f"pred_bias = {scores['bias'].value:.3f}",
        f"MAD deviation = {scores['sigma_mad'].value:.3f}",
        f"fraction of outliers = {scores['outlier_fraction'].value:.3f}",
        f"average CRPS = {scores['crps'].value:.3f}",
    ]


def test_scatter_without_scores_prints_metrics_without_pdfs():
    z_spec = np.array([0.1, 0.2, 0.3])
    shown = texts(plots.scatter(z_spec, z_spec + [-0.0001, 0.0, 0.2]).axes[0])
    assert "pred_bias = 0.051" in shown
    assert "fraction of outliers = 0.333" in shown
    assert "CRPS" not in shown
    assert "pred_bias = 0.000" in texts(plots.scatter([0.1, 0.2], [0.0999, 0.2]).axes[0])  # not -0.000


def test_scatter_has_equal_scales_and_a_diagonal(sample):
    z_spec = sample(9)[1]
    axes = plots.scatter(z_spec, np.append(z_spec[:-1], 0.39)).axes[0]
    (diagonal,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist() == [0.0, 0.39]
    assert axes.get_aspect() == 1.0
    assert axes.get_xlim() == axes.get_ylim()


@pytest.mark.parametrize(
    ("num_images", "n", "shape"),
    [
        (9, 20, (3, 3)),
        (1, 20, (1, 1)),
        (2, 20, (1, 2)),
        (5, 20, (2, 3)),
        (9, 2, (1, 2)),
        (9, 1, (1, 1)),
        (16, 7, (3, 3)),
    ],
)
def test_panels_form_a_nearly_square_array(sample, num_images, n, shape):
    pdfs, z_spec = sample(n)
    figure = plots.pdf_panels(pdfs, SDSS_GRID, z_spec, num_images=num_images)
    assert len(drawn_panels(figure)) == min(num_images, n)
    assert figure.axes[0].get_gridspec().get_geometry() == shape


def test_panels_show_density_at_bin_centres(sample):
    pdfs, z_spec = sample(1)
    curve = line(plots.pdf_panels(pdfs, SDSS_GRID, z_spec).axes[0], "p(z)")
    np.testing.assert_array_equal(curve.get_xdata(), SDSS_GRID.centres)
    np.testing.assert_allclose(curve.get_ydata(), pdfs[0] * 450.0)


def test_panels_mark_and_print_the_predicted_and_the_true_redshift(sample):
    pdfs, z_spec = sample(1)
    axes = plots.pdf_panels(pdfs, SDSS_GRID, z_spec).axes[0]
    z_phot = pdf.mean(pdfs, SDSS_GRID)[0]
    predicted, true = line(axes, "predicted (mean)"), line(axes, "true")
    assert (predicted.get_xdata()[0], true.get_xdata()[0]) == (z_phot, z_spec[0])
    assert np.argmax(to_rgb(predicted.get_color())) == 0  # red
    assert np.argmax(to_rgb(true.get_color())) == 1  # green
    assert predicted.get_linestyle() != true.get_linestyle()
    gt, pt, difference = texts(axes).replace("−", "-").splitlines()
    assert (gt, pt) == (f"gt {z_spec[0]:.3f}", f"pt {z_phot:.3f}")
    assert float(difference.removeprefix("diff ")) == pytest.approx(round(z_phot, 3) - round(z_spec[0], 3))


@pytest.mark.parametrize(
    ("weight", "z_spec", "side"),
    [(0.6, 0.2, "right"), (0.4, 0.2, "left"), (0.49, 0.11, "right"), (0.49, 0.13, "left"), (0.51, 0.29, "left")],
)
def test_panel_text_is_on_the_emptier_side(gaussian_pdfs, weight, z_spec, side):
    pdfs = weight * gaussian_pdfs(0.08, 0.02) + (1 - weight) * gaussian_pdfs(0.32, 0.02)
    (text,) = plots.pdf_panels(pdfs, SDSS_GRID, [z_spec]).axes[0].texts
    assert text.get_horizontalalignment() == side


def test_seed_chooses_the_galaxies(sample):
    pdfs, z_spec = sample(600)
    names = np.arange(600).astype(str)

    def titles(seed):
        figure = plots.pdf_panels(pdfs, SDSS_GRID, z_spec, seed=seed, object_id=names)
        return [axes.get_title() for axes in drawn_panels(figure)]

    assert titles(1) == titles(1)
    assert titles(1) != titles(2)
    assert len(set(titles(1))) == 9


@pytest.mark.parametrize("name", ["$\\frac$", "a_b^c$", "<b>&", "line\nbr\0eak", "x" * 5000])
def test_any_name_can_be_a_title(sample, name):
    pdfs, z_spec = sample(1)
    figure = plots.pdf_panels(pdfs, SDSS_GRID, z_spec, object_id=[name])
    plots.render(figure, "svg")
    title = figure.axes[0].get_title()
    assert title.startswith(name[:4])
    assert len(title) == min(len(name), 24)


def test_pit_histogram_is_a_density_about_1(rng):
    (steps,) = [patch for patch in plots.pit_histogram(rng.random(4000)).axes[0].patches if hasattr(patch, "get_data")]
    values, edges, _ = steps.get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(1.0)
    assert values == pytest.approx(1.0, abs=4 * np.sqrt(19 / 4000))


def test_qq_plot_of_calibrated_pdfs_is_inside_its_bands(rng):
    def differences(pit):
        (curve,) = [line for line in plots.pit_qq(pit).axes[1].lines if line.get_linestyle() == "-"]
        return curve.get_ydata()

    reach = KS_95 / np.sqrt(4000)
    assert np.abs(differences(rng.random(4000))).max() < reach
    narrow = differences(rng.beta(0.5, 0.5, 4000))  # the truth in the tails
    assert narrow.min() < -reach
    assert narrow.max() > reach


def test_qq_plot_has_quantiles_on_both_axes():
    pit = np.array([0.9, 0.1, 0.3, 0.7])
    (curve,) = [line for line in plots.pit_qq(pit).axes[0].lines if line.get_linestyle() == "-"]
    np.testing.assert_array_equal(curve.get_xdata(), [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_array_equal(curve.get_ydata(), [0.1, 0.3, 0.7, 0.9])


def test_bands_of_the_qq_plot_are_those_of_kolmogorov():
    np.testing.assert_allclose([KS_68, KS_95], kstwobign.ppf([0.68, 0.95]), atol=1e-4)


def test_coverage_plot_shows_the_coverage(calibrated):
    pdfs, z_spec = calibrated
    figure = plots.coverage(pdfs, SDSS_GRID, z_spec)
    (curve,) = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    at_68 = curve.get_ydata()[curve.get_xdata() == 0.68]
    assert at_68 == metrics.covered(pdfs, z_spec, SDSS_GRID, 0.68).mean()


def scores_of(sigma_mad, crps):
    return {"sigma_mad": Score(sigma_mad, 0.001), "crps": Score(crps, 0.0005)}


def test_learning_curve_shows_scores_and_baselines():
    baselines = {"trees": scores_of(0.015, 0.011), "regression": {"sigma_mad": Score(0.014, 0.001)}}
    figure = plots.learning_curve([500, 8000], [scores_of(0.03, 0.02), scores_of(0.02, 0.01)], baselines)
    upper, lower = figure.axes
    (curve,) = [line for line in upper.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(curve.get_xdata(), [500, 8000])
    np.testing.assert_array_equal(curve.get_ydata(), [0.03, 0.02])
    (bars,) = upper.collections
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0.029, 0.031])
    assert [line(upper, name).get_ydata()[0] for name in baselines] == [0.015, 0.014]
    assert [line(lower, name).get_ydata()[0] for name in ("trees",)] == [0.011]
    assert len({line(upper, name).get_linestyle() for name in baselines}) == 2
    assert [text.get_text() for text in figure.legends[0].texts] == ["trees", "regression", "this network"]
    assert upper.get_xscale() == "log"


@pytest.mark.parametrize(
    "grid", [SDSS_GRID, RedshiftGrid(0.6, 92), RedshiftGrid(1.0, 97), RedshiftGrid(0.1, 2)], ids=str
)
@pytest.mark.parametrize("n", [1, 50, 3000])
def test_stack_plot_counts_every_galaxy_on_any_grid(rng, grid, n):
    pdfs, z_spec = pdf.as_pdfs(rng.random((n, grid.n_bins)), grid), rng.uniform(0, grid.z_max, n)
    axes = plots.stacked(pdfs, grid, z_spec).axes[0]
    values, edges, _ = axes.patches[0].get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(n)
    assert len(values) <= 45
    assert edges[-1] == grid.z_max
    stack = line(axes, "sum of the PDFs")
    assert stack.get_ydata().sum() * grid.width == pytest.approx(n)
