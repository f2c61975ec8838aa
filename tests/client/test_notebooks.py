"""Predictions and evaluations in notebooks: their tables and plots, rows by index, and the progress bar."""

import dataclasses
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from photoz import estimates
from photoz.errors import InvalidPdfs, InvalidRedshifts
from photoz.flags import FLAG_MEANINGS, Flag
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.io.html_table import SHOWN
from photoz.metrics import Score
from photoz_client import EvaluateResponse, MissingExtra, Prediction
from tests.running import ROOT

TAGS = {"body", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "br", "svg", "polygon"}
ATTRIBUTES = {"style", "width", "height", "viewBox", "role", "aria-label", "points", "fill", "fill-opacity", "stroke"}

SCORES = {"bias": Score(0.0012, 0.0004), "sigma_mad": Score(0.0141, 0.0003)}


@pytest.fixture
def make_prediction(gaussian_pdfs):
    """Return a prediction of n galaxies, the first two with flags."""

    def make(n, model="photoz 1"):
        pdfs = gaussian_pdfs(np.linspace(0.1, 0.3, n), 0.02)
        flags = np.resize([Flag.EBV_ASSUMED | Flag.LOW_SNR, Flag.LOW_SNR, 0], n)
        rows = estimates.from_pdfs(pdfs, SDSS_GRID, include_pdf=True)
        return Prediction(**dict(rows.columns()) | {"flags": flags}, model=model)

    return make


def parse(html):
    """Parse our HTML, whose only entities are those of XML."""
    return ET.fromstring(f"<body>{html.replace('<br>', '<br/>')}</body>")


def cells(html):
    return [["\n".join(cell.itertext()) for cell in row] for row in parse(html).iter("tr")]


def test_rows_are_chosen_as_in_an_array(make_prediction):
    prediction = make_prediction(7)
    mask = prediction.z_mean > 0.2
    for rows in (
        slice(2),
        slice(None, None, -3),
        mask,
        mask.tolist(),
        [4, -1],
        np.array([], int),
        [],
        np.uint8([6, 0]),
    ):
        chosen = prediction[rows]
        expected = np.arange(7)[rows if len(np.atleast_1d(rows)) else slice(0)]
        assert chosen.model == "photoz 1"
        for name, values in prediction.columns():
            np.testing.assert_array_equal(getattr(chosen, name), values[expected], err_msg=name)
    assert prediction[3].object_id.tolist() == prediction[np.int64(-4)].object_id.tolist() == ["3"]
    assert [len(row) for row in prediction] == [1] * 7
    assert dataclasses.replace(prediction, pdf=None)[:2].pdf is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (7, "index 7 is out of bounds .* size 7"),
        (-8, "index -8 is out of bounds"),
        ([0, 9], "index 9 is out of bounds"),
        (np.array([True] * 6), r"expected a mask of 7 rows, got shape \(6,\)"),
        (True, r"expected a mask of 7 rows, got shape \(\)"),
        ("z_mean", "expected row numbers, a slice or a mask, got 'z_mean'"),
        (1.0, "expected row numbers, a slice or a mask, got 1.0"),
        ([[0, 1]], "expected row numbers, a slice or a mask"),
    ],
)
def test_rows_that_do_not_exist_are_refused(make_prediction, rows, message):
    with pytest.raises(IndexError, match=message):
        make_prediction(7)[rows]


def test_repr_is_one_short_line(make_prediction):
    prediction = make_prediction(4)
    assert repr(prediction) == "<Prediction of 4 galaxies by photoz 1, PDFs of 180 bins, 3 flagged>"
    unnamed = dataclasses.replace(prediction[2], pdf=None, model="")
    assert repr(unnamed) == "<Prediction of 1 galaxy by an unnamed model, without PDFs, 0 flagged>"
    evaluation = EvaluateResponse(model="photoz 1", n_galaxies=1986, scores=SCORES, dropped=["a"])
    assert repr(evaluation) == (
        "<EvaluateResponse of 1,986 galaxies by photoz 1, 1 left out: bias 0.0012 ± 0.0004, sigma_mad 0.0141 ± 0.0003>"
    )


def test_table_shows_the_estimates_and_explains_the_flags(make_prediction):
    prediction = make_prediction(3)
    html = prediction._repr_html_()
    head, *rows = cells(html)
    assert head == ["object_id", "z_mean", "68 %", "odds", "flags", "p(z)"]
    low, high = prediction.z_lo68[0], prediction.z_hi68[0]
    expected = ["0", f"{prediction.z_mean[0]:.4f}", f"{low:.4f} to {high:.4f}", f"{prediction.odds[0]:.3f}"]
    assert rows[0][:4] == expected
    assert [row[4] for row in rows] == ["EBV_ASSUMED\nLOW_SNR", "LOW_SNR", "-"]
    assert f"LOW_SNR (2): {FLAG_MEANINGS[Flag.LOW_SNR]}" in html
    assert f"EBV_ASSUMED (1): {FLAG_MEANINGS[Flag.EBV_ASSUMED]}" in html
    assert "BAND_MISSING" not in html
    assert "<p " not in prediction[2]._repr_html_()


def test_every_flag_has_a_meaning():
    assert list(FLAG_MEANINGS) == list(Flag)


@pytest.mark.parametrize(("n", "names"), [(SHOWN, "0123456789"), (23, [*"01234", "…", "18", "19", "20", "21", "22"])])
def test_a_long_table_shows_its_ends(make_prediction, n, names):
    html = make_prediction(n)._repr_html_()
    assert [row[0] for row in cells(html)[1:]] == list(names)
    assert len(html) < 40_000


def test_a_table_of_no_rows_is_shown(make_prediction):
    assert len(cells(make_prediction(3)[:0]._repr_html_())) == 1


def test_pdfs_are_drawn_on_their_grid(make_prediction):
    prediction = make_prediction(3)
    drawings = list(parse(prediction._repr_html_()).iter("svg"))
    assert len(drawings) == 3
    for drawing, row in zip(drawings, prediction.pdf, strict=True):
        points = [[float(number) for number in point.split(",")] for point in drawing[0].get("points").split()]
        assert len(points) == 182
        x, y = min(points, key=lambda point: point[1])
        assert x == pytest.approx((np.argmax(row) + 0.5) / 180 * float(drawing.get("width")), abs=0.1)
        assert y == 0.0
    assert "<svg" not in dataclasses.replace(prediction, pdf=None)._repr_html_()


def test_a_fine_grid_is_drawn_with_fewer_points(gaussian_pdfs):
    grid = RedshiftGrid(3.0, 1501)
    rows = estimates.from_pdfs(gaussian_pdfs([1.5], 0.1, grid), grid, include_pdf=True)
    (drawing,) = parse(Prediction(**dict(rows.columns()))._repr_html_()).iter("svg")
    assert 100 < len(drawing[0].get("points").split()) <= 202


def test_texts_are_escaped_and_nothing_is_executed_or_fetched(make_prediction):
    hostile = '<script>alert("x")</script><img src=x onerror="alert(1)">&'
    prediction = dataclasses.replace(make_prediction(2, model=hostile), object_id=np.array([hostile, "b" * 256]))
    evaluation = EvaluateResponse(model=hostile, n_galaxies=2, scores={hostile: Score(1.0, 0.1)})
    for html in (prediction._repr_html_(), evaluation._repr_html_()):
        elements = list(parse(html).iter())
        assert any(hostile in (element.text or "") for element in elements)
        assert {element.tag for element in elements} <= TAGS
        assert {name for element in elements for name in element.attrib} <= ATTRIBUTES
        styles = " ".join(element.get("style", "") for element in elements)
        assert "url" not in styles
        assert set(re.findall(r"(?:color|background)[^; ]*", styles)) == {"color:inherit"}  # light or dark, as the page
        assert {element.get("fill", "currentColor") for element in elements} == {"currentColor"}


def test_evaluation_shows_metrics_with_errors():
    evaluation = EvaluateResponse(model="photoz 1", n_galaxies=8, scores=SCORES)
    assert cells(evaluation._repr_html_()) == [
        ["metric", "value", "error"],
        ["bias", "0.0012", "± 0.0004"],
        ["sigma_mad", "0.0141", "± 0.0003"],
    ]


def test_plot_marks_the_intervals_and_the_true_redshift(make_prediction):
    prediction = make_prediction(12)
    figure = prediction.plot(SDSS_GRID, z_spec=[0.15, *[np.nan] * 11])
    assert len(figure.axes) == 9
    axes = figure.axes[0]
    assert axes.get_title() == "0"
    density, *shaded = axes.patches
    np.testing.assert_allclose(density.get_data().values, prediction.pdf[0] / SDSS_GRID.width)
    for patch, name in zip(shaded, ("95", "68"), strict=True):
        _, edges, _ = patch.get_data()
        ends = getattr(prediction, f"z_lo{name}")[0], getattr(prediction, f"z_hi{name}")[0]
        assert (edges[0], edges[-1]) == pytest.approx(ends)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.15]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["p(z)", "95 %", "68 %", "true"]
    assert not figure.axes[1].lines


def test_plot_of_one_galaxy_takes_one_redshift(make_prediction):
    figure = make_prediction(4)[1].plot(SDSS_GRID, z_spec=0.2)
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [0.2]
    content, shown = figure._repr_png_()
    assert content.startswith(b"\x89PNG")
    assert shown["width"] == 350


def test_plot_refuses_what_it_cannot_draw(make_prediction, monkeypatch):
    prediction = make_prediction(3)
    with pytest.raises(InvalidPdfs, match="predict with pdf=True"):
        dataclasses.replace(prediction, pdf=None).plot(SDSS_GRID)
    with pytest.raises(InvalidPdfs, match=r"shape \(n, 4\)"):
        prediction.plot(RedshiftGrid(1.0, 4))
    with pytest.raises(InvalidPdfs, match="at least one galaxy"):
        prediction[:0].plot(SDSS_GRID)
    with pytest.raises(InvalidRedshifts, match=r"expected 3 true redshifts, one for each galaxy, got shape \(2,\)"):
        prediction.plot(SDSS_GRID, z_spec=[0.1, 0.2])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"plot needs matplotlib: install it with pip install 'photoz\[plots\]'"):
        prediction.plot(SDSS_GRID)


CELLS = (
    """
import os
import numpy as np
from photoz_client import PhotozClient
with np.load("examples/cutouts.npz") as file:
    images, ebv, z_spec = file["images"], file["ebv"], file["z_spec"]
with PhotozClient(os.environ["PHOTOZ_URL"]) as client:
    grid = client.model().grid
    prediction = client.predict(images, ebv=ebv, pdf=True, progress=True)
    evaluation = client.evaluate(z_spec, images=images, ebv=ebv)
prediction
""",
    "evaluation",
    "prediction[prediction.z_mean > 0][:2].plot(grid, z_spec=z_spec[:2])",
)


@pytest.mark.e2e
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of nbclient and what it needs
def test_a_notebook_shows_them(service_url, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PHOTOZ_URL", service_url)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'clients' / 'python'}")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": ROOT}}).execute()
    first, second, third = ([output["data"] for output in cell.outputs] for cell in notebook.cells)
    assert first[0]["text/html"] == '<progress max="8" value="8"></progress> 8 of 8 cutouts'
    assert len(cells(first[1]["text/html"])) == 9
    assert cells(second[0]["text/html"])[2][0] == "sigma_mad"
    assert third[0]["image/png"].startswith("iVBOR")
