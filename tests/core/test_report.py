import re
from html.parser import HTMLParser

import numpy as np
import pytest

from photoz import metrics
from photoz.errors import InvalidInput, InvalidPdfs, InvalidRedshifts
from photoz.flags import Flag
from photoz.grid import SDSS_GRID
from photoz.metrics import Score
from photoz.report import make_report

BASELINES = {
    "trees": dict(bias=Score(-0.0008, 0.0003), sigma_mad=Score(0.0131, 0.0004), outlier_fraction=Score(0.0111, 0.002)),
    "<i>regression</i>": {"sigma_mad": Score(0.0132, 0.0004)},
}

CURVE = {"sigma_mad": Score(0.021, 0.0004), "crps": Score(0.011, 0.0002)}


def render_html(*arguments, **details):
    return make_report(*arguments, **details).html()


class Page(HTMLParser):
    """Tags and attributes, tables as lists of rows, and whether every tag is closed."""

    VOID = {"meta", "img", "br", "link", "input"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.rows, self.text = [], [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, start):
        (matching,) = [row for row in self.rows if row and row[0] == start]
        return matching


@pytest.fixture(scope="module")
def full(calibrated):
    """A report with everything in it, on 600 galaxies."""
    pdfs, z_spec = (values[:600] for values in calibrated)
    magnitudes = np.linspace(14.0, 17.77, 600)
    magnitudes[5] = np.nan
    flags = np.zeros(600, int)
    flags[:30] = Flag.BROAD_PDF
    flags[20:25] |= Flag.MULTIMODAL
    return render_html(
        pdfs,
        z_spec,
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
    )


@pytest.fixture(scope="module")
def page(full):
    return Page(full)


def test_page_is_well_formed_and_needs_no_other_file(full, page):
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or re.match(r"data:image/(png|svg\+xml);base64,", value)
    assert "url(" not in full
    assert "@import" not in full


def test_given_texts_are_escaped(full, page):
    texts = ("<script>alert('title')</script> & co", "<img src=x onerror=alert(1)>", "<i>regression</i>", "g <mag>")
    for text in (*texts, "g − <r>"):
        assert text not in full
        assert text in page.text


def test_all_figures_have_descriptions(page):
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 10
    assert all(attributes["alt"] for attributes in images)
    assert page.text.count("Residuals against") == 3


def test_table_shows_this_model_and_the_baselines(page, calibrated):
    scores = metrics.summarise(metrics.galaxy_scores(calibrated[0][:600], calibrated[1][:600], SDSS_GRID))
    own = page.row("this model")
    assert own[2] == f"{scores['sigma_mad'].value:.4f} ± {scores['sigma_mad'].error:.4f}"
    assert own[3] == f"{100 * scores['outlier_fraction'].value:.2f} ± {100 * scores['outlier_fraction'].error:.2f}"
    assert own[4] == f"{scores['crps'].value:.4f} ± {scores['crps'].error:.4f}"
    assert page.row("trees") == ["trees", "−0.0008 ± 0.0003", "0.0131 ± 0.0004", "1.11 ± 0.20", *"–––––"]
    assert page.row("<i>regression</i>") == ["<i>regression</i>", "–", "0.0132 ± 0.0004", *"––––––"]


def test_table_by_magnitude_counts_every_galaxy_with_one(page):
    assert [row for row in page.rows if re.fullmatch(r"0\.\d{3} – 0\.\d{3}", row[0])]
    bins = [row for row in page.rows if re.fullmatch(r"1\d\.\d\d – 1\d\.\d\d", row[0])]
    assert [row[0] for row in bins[:3]] == ["14.00 – 14.50", "14.50 – 15.00", "15.00 – 15.50"]
    assert sum(int(row[1].replace(",", "")) for row in bins) == 599
    assert page.row("0.00 – 0.25")  # of the colour
    assert page.row("7,200")[4] == "0.0110 ± 0.0002"  # of the learning curve


def test_table_of_flags_compares_clean_and_flagged_galaxies(page, calibrated):
    galaxies = metrics.galaxy_scores(calibrated[0][:600], calibrated[1][:600], SDSS_GRID)
    clean = galaxies.take(np.arange(30, 600))
    n_outliers = int((np.abs(galaxies.dz) > 0.05).sum())
    row = page.row("none")
    assert row[1:3] == ["570", "95.0"]
    assert row[3] == f"{int((np.abs(clean.dz) > 0.05).sum())} of {n_outliers}"
    assert row[5].startswith(f"{metrics.sigma_mad(clean.dz):.4f} ± ")
    assert page.row("BROAD_PDF")[1] == "30"
    assert "–" not in page.row("BROAD_PDF")
    assert page.row("MULTIMODAL")[1:3] + page.row("MULTIMODAL")[4:] == ["5", "0.8", *"––––"]
    assert page.row("EDGE_MASS")[1] == "0"
    assert page.row("any")[1] == "30"


def test_every_flag_is_explained(page):
    for flag in Flag:
        assert page.row(flag.name)
        assert f"{flag.name}: " in page.text


def test_variants_of_the_model_are_not_in_the_learning_curve(calibrated):
    pdfs, z_spec = (values[:50] for values in calibrated)
    others = {"this model, not recalibrated": CURVE, "trees": CURVE}
    report = make_report(pdfs, z_spec, SDSS_GRID, title="t", baselines=others, learning_curve={500: CURVE})
    labels = [text.get_text() for text in report.figures["learning_curve"].legends[0].texts]
    assert labels == ["trees", "this network"]


def test_sections_without_data_are_left_out(calibrated):
    page = Page(render_html(calibrated[0][:50], calibrated[1][:50], SDSS_GRID, title="plain"))
    assert "500 for the whole sample" in page.text
    for words in ("Flags", "flags", "Residuals against magnitude", "Residuals against colour", "training galaxies"):
        assert words not in page.text


def test_page_of_one_galaxy_is_reproducible(calibrated):
    pdfs, z_spec = (values[:1] for values in calibrated)
    html, again = (render_html(pdfs, z_spec, SDSS_GRID, title="few", magnitudes=[np.nan], seed=3) for _ in range(2))
    assert html == again
    page = Page(html)
    assert "No bin of true redshift holds the 20 galaxies" in page.text
    assert "Residuals against magnitude" not in page.text


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"magnitudes": [17.0]}, InvalidInput, "expected 2 magnitudes"),
        ({"colours": [[0.5, 0.6]]}, InvalidInput, "expected 2 colours"),
        ({"flags": [0, 1, 2]}, InvalidInput, "expected 2 whole-number flags"),
        ({"flags": [0.0, 1.0]}, InvalidInput, "expected 2 whole-number flags"),
        ({"object_id": ["a", "b", "c"]}, InvalidInput, "expected 2 object_id"),
        ({"z_spec": [0.1, 0.5]}, InvalidRedshifts, "not on the grid"),
        ({"pdfs": np.ones((2, 90))}, InvalidPdfs, "shape"),
        ({"pdfs": np.ones((0, 180)), "z_spec": []}, InvalidRedshifts, "at least one galaxy"),
    ],
)
def test_invalid_data_are_refused(changes, error, reason):
    given = {"pdfs": np.ones((2, 180)), "z_spec": [0.1, 0.2], "title": "no", **changes}
    with pytest.raises(error, match=reason):
        render_html(given.pop("pdfs"), given.pop("z_spec"), SDSS_GRID, **given)
