"""Figures, compared with recorded ones, and what they must show."""

import hashlib
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from scipy.stats import binomtest, kstwobign

from photoz import metrics, pdf, plots
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.metrics import Score
from photoz.plots.dependence import wilson_interval
from photoz.plots.pit_coverage import KS_68, KS_95
from tests.pdfs import calibrated_pdfs, gaussian_pdfs


def scores_of(sigma_mad, crps):
    return {"sigma_mad": Score(sigma_mad, 0.001), "crps": Score(crps, 0.0005)}


CURVE = [scores_of(0.03, 0.02), scores_of(0.02, 0.01)]
BASELINES = {f"method {i}": scores_of(0.01 + 0.001 * i, 0.01) for i in range(7)} | {"bias": {"bias": Score(0.1, 0.1)}}
N_OF_Z = np.array([[1.0, 4.0, 2.0], [0.5, 2.0, 5.0]])

# Of PDFs (n, n_bins), true redshifts z and predicted ones.
FIGURES = {
    "scatter": (501, lambda pdfs, z, mean: plots.scatter(z, mean)),
    "panels": (501, lambda pdfs, z, mean: plots.pdf_panels(pdfs, SDSS_GRID, z)),
    "intervals": (9, lambda pdfs, z, mean: plots.interval_panels(pdfs, SDSS_GRID, z_spec=z, object_id=np.arange(9))),
    "pit": (501, lambda pdfs, z, mean: plots.pit_histogram(metrics.pit(pdfs, z, SDSS_GRID))),
    "qq": (501, lambda pdfs, z, mean: plots.pit_qq(metrics.pit(pdfs, z, SDSS_GRID))),
    "coverage": (501, lambda pdfs, z, mean: plots.coverage(pdfs, SDSS_GRID, z)),
    "residuals": (501, lambda pdfs, z, mean: plots.residuals(z, metrics.residuals(mean, z), xlabel="true redshift")),
    "stacked": (501, lambda pdfs, z, mean: plots.stacked(pdfs, SDSS_GRID, z)),
    "dots": (500, lambda pdfs, z, mean: plots.scatter(np.round(z, 3), np.round(z + 0.01, 3))),
    "small dots": (51, lambda pdfs, z, mean: plots.residuals(z, z - 0.2, xlabel="x")),
    "large dots": (50, lambda pdfs, z, mean: plots.residuals(z, z - 0.2, xlabel="x")),
    "outliers": (1, lambda *_: plots.residuals(np.arange(999.0), 0.2 * (np.arange(999) % 7 < 2), xlabel="x")),
    "bins": (2000, lambda pdfs, z, mean: plots.stacked(pdfs, SDSS_GRID, z)),
    "points": (2000, lambda pdfs, z, mean: plots.scatter(z, z**2, scores=scores_of(0.01, 0.02))),
    "names": (5, lambda pdfs, z, mean: plots.pdf_panels(pdfs, SDSS_GRID, z, object_id=list("abcde"))),
    "learning curve": (1, lambda *_: plots.learning_curve([500, 8000], CURVE, BASELINES)),
    "tomographic": (1, lambda *_: plots.tomographic(["1", "2"], N_OF_Z, 0.1 * N_OF_Z, RedshiftGrid(0.6, 3))),
    "few on a coarse grid": (3, lambda pdfs, z, mean: plots.stacked(np.full((3, 46), 1 / 46), RedshiftGrid(1, 46), z)),
    "a prime grid": (900, lambda pdfs, z, mean: plots.stacked(np.full((900, 97), 1 / 97), RedshiftGrid(1, 97), z)),
    "another seed": (20, lambda pdfs, z, mean: plots.pdf_panels(pdfs, SDSS_GRID, z, num_images=5, seed=1)),
    "unknown redshifts": (7, lambda pdfs, z, mean: plots.interval_panels(pdfs, SDSS_GRID)),
    "one": (1, lambda pdfs, z, mean: plots.pdf_panels(pdfs, SDSS_GRID, z, object_id=["$\\frac_<b>&\nbr\0" + 50 * "x"])),
    "one residual": (1, lambda pdfs, z, mean: plots.residuals(z, mean - z, xlabel="x")),
    "one PIT": (1, lambda pdfs, z, mean: plots.pit_histogram(mean)),
    "many": (201, lambda pdfs, z, mean: plots.coverage(np.tile(pdfs, (100, 1)), SDSS_GRID, np.tile(z, 100))),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_recorded(name):
    """Compare hashes, which a change of style changes: look at the figure, then record its hash."""
    before, (n, draw) = dict(matplotlib.rcParams), FIGURES[name]
    pdfs, z_spec = (values[:n] for values in calibrated_pdfs())
    svg = plots.render(draw(pdfs, z_spec, pdf.mean(pdfs, SDSS_GRID)), "svg")
    assert svg.rstrip().endswith(b"</svg>")
    assert dict(matplotlib.rcParams) == before
    recorded = json.loads(Path(__file__).with_name("figure_hashes.json").read_text())
    if recorded["matplotlib"] != matplotlib.__version__:
        pytest.skip(f"recorded with another version: pip install matplotlib=={recorded['matplotlib']}")
    assert hashlib.sha256(svg).hexdigest()[:16] == recorded[name]


def test_same_figure_gives_same_bytes():
    png, pdf_file = (
        {plots.render(plots.scatter([0.1, 0.2], [0.1, 0.2]), format) for _ in range(2)} for format in ("png", "pdf")
    )
    (content,) = png
    assert (content[:4], int.from_bytes(content[16:20])) == (b"\x89PNG", 3.5 * 300)  # pixels wide
    assert plots.scatter([0.1], [0.1])._repr_png_()[1] == {"width": 350}
    (content,) = pdf_file
    assert content.startswith(b"%PDF")
    assert b"/Type0" in content
    assert b"/Type3" not in content  # which journals refuse


def texts(axes):
    return "\n".join(text.get_text() for text in axes.texts).replace("−", "-")


def test_scatter_prints_the_metrics_and_a_panel_the_redshifts_on_the_emptier_side():
    z_spec = np.array([0.1, 0.2, 0.3])
    axes = plots.scatter(z_spec, z_spec + [-0.0001, 0.0, 0.2]).axes[0]
    expected = ["n = 3", "pred_bias = 0.051", "MAD deviation = 0.000", "fraction of outliers = 0.333"]
    assert texts(axes).splitlines() == expected
    assert "pred_bias = 0.000" in texts(plots.scatter([0.1, 0.2], [0.0999, 0.2]).axes[0])  # not -0.000
    for weight, z_spec, side in ((0.6, 0.2, "right"), (0.4, 0.2, "left"), (0.49, 0.11, "right"), (0.51, 0.29, "left")):
        pdfs = weight * gaussian_pdfs(0.08, 0.02) + (1 - weight) * gaussian_pdfs(0.32, 0.02)
        axes = plots.pdf_panels(pdfs, SDSS_GRID, [z_spec]).axes[0]
        assert axes.texts[0].get_horizontalalignment() == side
        z_phot = 0.32 - 0.24 * weight
        assert texts(axes) == f"gt {z_spec:.3f}\npt {z_phot:.3f}\ndiff {z_phot - z_spec:.3f}"


def test_errors_are_those_of_wilson_and_kolmogorov():
    k = np.array([0, 3, 50])
    expected = [binomtest(int(hits), 50).proportion_ci(0.6826894921, "wilson") for hits in k]
    below, above = wilson_interval(k / 50, np.full(3, 50))
    np.testing.assert_allclose([below, above], np.transpose([(ends.low, ends.high) for ends in expected]), atol=1e-9)
    assert ((below <= k / 50) & (k / 50 <= above)).all()
    np.testing.assert_allclose([KS_68, KS_95], kstwobign.ppf([0.68, 0.95]), atol=1e-4)


def test_extreme_values_do_not_stretch_the_axis():
    colours = np.append(np.linspace(0.5, 1.1, 2001), [9.0, -40.0])
    low, high = np.percentile(colours, (0.5, 99.5))
    expected = low - 0.25 * (high - low), high + 0.25 * (high - low)
    assert plots.shown_range(colours) == pytest.approx(expected, abs=1e-9)
    assert plots.shown_range(np.linspace(14.0, 17.0, 100)) == (14.0, 17.0)
    axes, *_, outliers = plots.residuals(colours, np.where(np.abs(colours) > 5, 1.0, 0.0), xlabel="g - r").axes
    assert not outliers.lines[0].get_ydata().any()
    margin = 0.02 * (expected[1] - expected[0])
    assert axes.get_xlim() == pytest.approx((expected[0] - margin, expected[1] + margin), abs=1e-9)
    assert texts(axes) == "2 beyond the axes"
    axes = plots.residuals(np.arange(502), np.append(np.zeros(500), [0.2, -0.3]), xlabel="row").axes[0]
    assert (texts(axes), axes.get_ylim()) == ("2 beyond the axes", pytest.approx((-0.075, 0.075)))
