"""Metrics by hand and by other methods, and the report that shows them."""

import re
import tracemalloc
from collections import Counter
from html import unescape

import numpy as np
import pytest
from scipy.stats import kstest

from photoz import metrics, pdf
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.flags import FLAG_MEANINGS, Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.metrics import FlagScores, GalaxyScores, Score, outlier_fraction, sigma_mad, summarise, summarise_flags
from photoz.report import make_report
from tests.pdfs import calibrated_pdfs

# PDFs that can be calculated by hand.
FOUR, RISING = RedshiftGrid(0.8, 4), np.array([0.1, 0.2, 0.3, 0.4])
PDFS, Z_SPEC = np.array([RISING, RISING[::-1], [0, 1, 0, 0]]), np.array([0.5, 0.3, 0.8])


def test_scores_of_each_galaxy_by_hand_and_crps_by_integration(monkeypatch, rng):
    expected = {
        "dz": np.array([0.0, 0.0, (0.3 - 0.8) / 1.8]),
        # integrals of (a^2 + ab + b^2) / 3 over whole bins, and over both halves of that with the true redshift
        "crps": np.array([0.057, 0.057, 0.2 / 3 + 0.4]),
        "pit": np.array([0.45, 0.55, 1.0]),
        "cde_loss": np.array([(0.3 - 0.6) / 0.2, (0.3 - 0.6) / 0.2, 1 / 0.2]),
        "in_68": np.array([True, True, False]),
        "in_95": np.array([True, True, False]),
    }
    for rows in (4096, 2):
        monkeypatch.setattr(pdf, "ROWS_AT_ONCE", rows)
        scores = metrics.galaxy_scores(PDFS, Z_SPEC, FOUR)
        assert len(scores) == 3
        assert vars(scores).keys() == expected.keys()
        for name, values in vars(scores).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-12, atol=1e-15)
    pdfs, z_spec = rng.dirichlet(np.full(30, 0.2), 40), rng.uniform(0, 0.4, 40)
    z_spec[:3] = 0.0, 0.4, 0.16
    grid, z = RedshiftGrid(0.4, 30), (np.arange(300_000) + 0.5) * 0.4 / 300_000
    for p, truth, score in zip(pdfs, z_spec, metrics.crps(pdfs, z_spec, grid), strict=True):
        cdf = np.interp(z, grid.edges, np.append(0, np.cumsum(p)))
        assert score == pytest.approx(0.4 * np.mean((cdf - (z >= truth)) ** 2), abs=1e-6)
    for scored in (metrics.crps, metrics.pit, metrics.cde_loss, metrics.galaxy_scores):
        for z_spec in ([0.1, np.nan], [0.1, 0.41], [-0.001, 0.1], [0.1], [[0.1, 0.2]], 0.1):
            with pytest.raises(InvalidRedshifts, match=r"expected 0 <= z <= 0\.4|expected 2 true redshifts, one for"):
                scored(np.full((2, 180), 1 / 180), z_spec, SDSS_GRID)


def test_calibrated_pdfs_cover_what_they_should_and_a_summary_has_every_metric():
    scores = metrics.galaxy_scores(*calibrated_pdfs(), SDSS_GRID)
    assert metrics.uniform_ks(scores.pit) < 1.63 / np.sqrt(2000)  # the 1 % point of Kolmogorov's distribution
    for mass, inside in ((0.68, scores.in_68), (0.95, scores.in_95)):
        assert inside.mean() == pytest.approx(mass, abs=3 * np.sqrt(mass * (1 - mass) / 2000))
    assert {name: score.value for name, score in summarise(scores, 2).items()} == {
        "bias": scores.dz.mean(),
        "sigma_mad": sigma_mad(scores.dz),
        "outlier_fraction": outlier_fraction(scores.dz),
        "crps": scores.crps.mean(),
        "pit_ks": metrics.uniform_ks(scores.pit),
        "cde_loss": scores.cde_loss.mean(),
        "coverage_68": scores.in_68.mean(),
        "coverage_95": scores.in_95.mean(),
    }


def test_coverage_of_many_wide_pdfs_takes_no_more_memory():
    z_spec, peaks = np.linspace(0.0, 0.4, 3 * pdf.ROWS_AT_ONCE), []
    for n in (pdf.ROWS_AT_ONCE, 3 * pdf.ROWS_AT_ONCE):
        tracemalloc.start()
        found = metrics.covered(np.full((n, 180), 1 / 180), z_spec[:n], SDSS_GRID, 0.1)
        peaks.append(tracemalloc.get_traced_memory()[1] - 8 * 180 * n)
        tracemalloc.stop()
        assert found.shape == (n,)
    assert peaks[1] < 1.2 * peaks[0]


def test_metrics_of_residuals_and_pit_follow_their_definitions(rng):
    dz = metrics.residuals([0.11, 0.2, 0.4, 0.1475], [0.1, 0.2, 0.25, 0.05])
    np.testing.assert_allclose(dz, [0.01 / 1.1, 0.0, 0.12, 0.0975 / 1.05], rtol=1e-12)
    assert metrics.bias(dz) == pytest.approx((0.01 / 1.1 + 0.12 + 0.0975 / 1.05) / 4, rel=1e-12)
    assert metrics.sigma_mad(dz[:3]) == pytest.approx(1.4826 * 0.01 / 1.1, rel=1e-12)
    assert metrics.outlier_fraction(np.array([0.05, -0.05, 0.0501, -0.0501, 0.0])) == 0.4
    for values in (rng.random(50), rng.random(1), rng.beta(2, 5, 300), rng.beta(5, 2, 300)):
        assert metrics.uniform_ks(values) == pytest.approx(kstest(values, "uniform").statistic, abs=1e-12)


def test_bootstrap_resamples_with_the_seed(rng):
    galaxies = GalaxyScores(rng.normal(0, 0.05, 30))
    draws = np.random.default_rng(3)
    resampled = [galaxies.dz[draws.integers(0, 30, 30)] for _ in range(7)]
    functions = {"bias": np.mean, "sigma_mad": sigma_mad, "outlier_fraction": outlier_fraction}
    values = metrics.bootstrap(galaxies, 7, seed=3)
    scores = summarise(galaxies, 7, seed=3)
    assert list(values) == list(scores) == list(functions)
    for name, function in functions.items():
        expected = [function(dz) for dz in resampled]
        assert values[name][0] == scores[name].value == function(galaxies.dz)
        np.testing.assert_array_equal(values[name][1], expected)
        assert scores[name].error == np.std(expected)
    assert summarise(galaxies) == summarise(galaxies, 500, 0) != summarise(galaxies, 500, 1)
    assert str(Score(0.01379, 0.00041)) == "0.0138 ± 0.0004"
    with pytest.raises(InvalidRedshifts, match="^expected at least one galaxy to score, got none$"):
        summarise(GalaxyScores(np.array([])))


def test_each_flag_and_each_bin_is_scored_on_its_galaxies(rng):
    dz = rng.normal(0.0, 0.01, 100)
    dz[:20], dz[20] = 0.2, 0.05
    flags = np.zeros(100, np.int32)
    flags[:30] = Flag.LOW_SNR
    flags[25:40] |= Flag.EDGE_MASS
    flags[40:49] |= Flag.BROAD_PDF
    flags[90:] |= Flag.MULTIMODAL
    groups = {"none": np.r_[49:90], "LOW_SNR": np.r_[:30], "EDGE_MASS": np.r_[25:40], "BROAD_PDF": np.r_[40:49]}
    groups |= {"MULTIMODAL": np.r_[90:100], "any": np.r_[:49, 90:100]}
    outliers = {"LOW_SNR": 20, "any": 20}
    expected = []
    for name in ("none", *(flag.name for flag in Flag), "any"):
        group = dz[groups.get(name, [])]
        scores = summarise(GalaxyScores(group), 200) if len(group) >= 10 else {}
        expected.append(FlagScores(name, len(group), outliers.get(name, 0), scores))
    assert summarise_flags(GalaxyScores(dz), flags) == expected
    assert summarise_flags(GalaxyScores(np.zeros(2)), np.array([0, 1], np.uint16))[0].n_galaxies == 1
    for odd in ([0], [0, 1, 2], [0.0, 1.0], [[0, 1]], ["a", "b"]):
        with pytest.raises(InvalidInput, match="^expected 2 whole-number flags, one for each galaxy, got "):
            summarise_flags(GalaxyScores(np.zeros(2)), odd)
    values = np.r_[np.full(19, 0.0), np.full(20, 1.0), np.full(20, 2.0), np.full(5, 3.0)]
    dz = np.arange(64.0)
    bins = metrics.summarise_by(GalaxyScores(dz), values, [0, 1, 2, 3])
    groups = [(1.0, 2.0, dz[19:39]), (2.0, 3.0, dz[39:])]
    assert bins == [metrics.Bin(*ends, len(g), summarise(GalaxyScores(g), 200)) for *ends, g in groups]


BASELINES = {
    "trees": dict(bias=Score(-0.0008, 0.0003), sigma_mad=Score(0.0131, 0.0004), outlier_fraction=Score(0.0111, 0.002)),
    "<i>regression</i>": {"sigma_mad": Score(0.0132, 0.0004)},
    "this model, not recalibrated": {"sigma_mad": Score(0.0132, 0.0004)},
}
SAMPLE_PDFS, SAMPLE_Z = (values[:600] for values in calibrated_pdfs())
CURVE = {"sigma_mad": Score(0.021, 0.0004), "crps": Score(0.011, 0.0002)}


def text_of(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


class Page:
    """A page, its text, and the cells of the rows of its tables."""

    def __init__(self, html):
        self.html, self.text = html, text_of(html)
        rows = re.findall(r"<tr.*?>(.*?)</tr>", html, re.DOTALL)
        self.rows = [[text_of(cell) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL)] for row in rows]

    def row(self, start):
        (matching,) = [row for row in self.rows if row[0] == start]
        return matching


@pytest.fixture(scope="module")
def full():
    """A report with everything in it, on 600 galaxies, and its page."""
    magnitudes = np.linspace(14.0, 17.77, 600)
    magnitudes[5] = np.nan
    flags = np.zeros(600, int)
    flags[:30] = Flag.BROAD_PDF
    flags[20:25] |= Flag.MULTIMODAL
    report = make_report(
        SAMPLE_PDFS,
        SAMPLE_Z,
        SDSS_GRID,
        title="<script>alert('title')</script> & co",
        description="first line\n<img src=x onerror=alert(1)>",
        magnitudes=magnitudes,
        magnitude_label="g <mag>",
        colours=np.linspace(0.0, 2.0, 600),
        colour_label="g − <r>",
        flags=flags,
        learning_curve={500: CURVE | {"crps": Score(0.02, 0.001)}, 7200: CURVE},
        baselines=BASELINES,
        object_id=np.array([f"<b>{row}</b>" for row in range(600)]),
        seed=3,
    )
    return report, Page(report.html())


def test_page_is_well_formed_and_needs_no_other_file(full):
    page = full[1]
    tags = re.findall(r"<(\w+)([^>]*)>", page.html)
    names = Counter(name for name, _ in tags)
    assert not names.keys() & {"script", "link", "iframe", "object", "embed"}
    assert Counter(re.findall(r"</(\w+)>", page.html)) == Counter(
        {name: names[name] for name in {*names} - {"meta", "img"}}
    )
    assert not [attributes for _, attributes in tags if re.search(r"\bon\w+=", attributes)]
    images = [
        re.search(r'src="data:image/(png|svg\+xml);base64,', attributes)[1]
        for name, attributes in tags
        if name == "img"
    ]
    assert sorted(images) == ["png"] * 4 + ["svg+xml"] * 6
    assert all(re.search(r'alt="[^"]', attributes) for name, attributes in tags if name == "img")
    assert not [words for words in ("url(", "@import") if words in page.html]
    texts = ("<script>alert('title')</script> & co", "<img src=x onerror=alert(1)>", "<i>regression</i>", "g <mag>")
    for text in (*texts, "g − <r>"):
        assert text not in page.html
        assert text in page.text


def test_tables_of_methods_and_sizes_and_by_redshift_magnitude_and_colour(full):
    report, page = full
    galaxies = metrics.galaxy_scores(pdf.as_pdfs(SAMPLE_PDFS, SDSS_GRID), SAMPLE_Z, SDSS_GRID)
    scores = summarise(galaxies, 500, seed=3)
    assert report.methods == {"this model": scores, **BASELINES}
    in_percent = "{:.2f} ± {:.2f}".format(*(100 * value for value in vars(scores["outlier_fraction"]).values()))
    assert page.row("this model")[2:5] == [str(scores["sigma_mad"]), in_percent, str(scores["crps"])]
    assert page.row("trees") == ["trees", "−0.0008 ± 0.0003", "0.0131 ± 0.0004", "1.11 ± 0.20", *"–––––"]
    assert page.row("<i>regression</i>") == ["<i>regression</i>", "–", "0.0132 ± 0.0004", *"––––––"]
    assert page.row("7,200")[4] == "0.0110 ± 0.0002"
    labels = [text.get_text() for text in report.figures["learning_curve"].legends[0].texts]
    assert labels == ["trees", "<i>regression</i>", "this network"]
    assert {axes.get_title()[:3] for axes in report.figures["panels"].axes} == {"<b>"}
    report, page = full
    tables = [(table.quantity, table.decimals) for table in report.tables]
    assert tables == [("true redshift", 3), ("g <mag>", 2), ("g − <r>", 2)]
    assert [(row.low, row.high) for row in report.tables[2].bins[:2]] == [(0.0, 0.25), (0.25, 0.5)]
    assert sum(row.n_galaxies for row in report.tables[1].bins) == 599
    assert [name for name in report.figures if name.startswith("by_")] == ["by_redshift", "by_magnitude", "by_colour"]
    assert [row for row in page.rows if re.fullmatch(r"0\.\d{3} – 0\.\d{3}", row[0])]
    bins = [row for row in page.rows if re.fullmatch(r"1\d\.\d\d – 1\d\.\d\d", row[0])]
    assert [row[0] for row in bins[:3]] == ["14.00 – 14.50", "14.50 – 15.00", "15.00 – 15.50"]


def test_table_of_flags_compares_clean_and_flagged_galaxies(full):
    page, galaxies = full[1], metrics.galaxy_scores(SAMPLE_PDFS, SAMPLE_Z, SDSS_GRID)
    clean = galaxies.take(np.arange(30, 600))
    outliers = [int((np.abs(some.dz) > 0.05).sum()) for some in (clean, galaxies)]
    row = page.row("none")
    assert row[1:4] == ["570", "95.0", f"{outliers[0]} of {outliers[1]}"]
    assert row[5].startswith(f"{sigma_mad(clean.dz):.4f} ± ")
    assert "–" not in page.row("BROAD_PDF")
    assert page.row("MULTIMODAL")[1:3] + page.row("MULTIMODAL")[4:] == ["5", "0.8", *"––––"]
    assert [page.row(name)[1] for name in ("BROAD_PDF", "EDGE_MASS", "any")] == ["30", "0", "30"]
    for flag, meaning in FLAG_MEANINGS.items():
        assert f"{flag.name}: {meaning}" in " ".join(page.text.split())


def test_sections_without_data_are_left_out_and_invalid_data_refused():
    page = Page(make_report(SAMPLE_PDFS[:1], SAMPLE_Z[:1], SDSS_GRID, title="few", magnitudes=[np.nan]).html())
    assert "No bin of true redshift holds the 20 galaxies" in page.text
    assert "500 for the whole sample" in page.text
    for words in ("Flags", "flags", "Residuals against magnitude", "Residuals against colour", "training galaxies"):
        assert words not in page.text
    for name, values, error, reason in (
        ("magnitudes", [17.0], InvalidInput, r"^expected 2 magnitudes, one for each galaxy, got shape \(1,\)$"),
        ("colours", [[0.5, 0.6]], InvalidInput, "^expected 2 colours, one for each galaxy"),
        ("flags", [0.0, 1.0], InvalidInput, "^expected 2 whole-number flags"),
        ("object_id", ["a", "b", "c"], InvalidInput, "^expected 2 object_id"),
        ("z_spec", [0.1, 0.5], InvalidRedshifts, "not on the grid"),
        ("pdfs", np.ones((2, 90)), InvalidPdfs, "shape"),
    ):
        given = {"pdfs": np.ones((2, 180)), "z_spec": [0.1, 0.2], "grid": SDSS_GRID, "title": "no", name: values}
        with pytest.raises(error, match=reason):
            make_report(**given)
