"""`Prediction`: rows by index, tables of other libraries, and what terminals and notebooks show."""

import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from photoz import estimates
from photoz.cli.text import text_table
from photoz.errors import InvalidPdfs, InvalidRedshifts, UnsupportedType
from photoz.estimates import COLUMNS
from photoz.flags import FLAG_MEANINGS, Flag, flag_names
from photoz.grid import SDSS_GRID, RedshiftGrid
from photoz.io.html_table import SHOWN
from photoz.metrics import Score
from photoz_client import EvaluateResponse, MissingExtra, Prediction
from photoz_client._prediction import join
from photoz_client._progress import progress_bar
from tests.pdfs import gaussian_pdfs

TAGS = {"body", "table", "caption", "thead", "tbody", "tr", "th", "td", "p", "br", "svg", "polygon"}
ATTRIBUTES = {"style", "width", "height", "viewBox", "role", "aria-label", "points", "fill", "fill-opacity", "stroke"}
SCORES = {"bias": Score(0.0012, 0.0004), "sigma_mad": Score(0.0141, 0.0003)}
EVALUATION = EvaluateResponse(model="photoz 1", n_galaxies=1986, scores=SCORES, dropped=["a"])


def make(n, model="photoz 1", grid=SDSS_GRID):
    """Return a prediction of n galaxies, two of three with flags."""
    rows = estimates.from_pdfs(gaussian_pdfs(np.linspace(0.1, 0.3, n), 0.02, grid), grid, include_pdf=True)
    flags = np.resize([Flag.EBV_ASSUMED | Flag.LOW_SNR, Flag.LOW_SNR, 0], n)
    return Prediction(**dict(rows.columns()) | {"flags": flags}, model=model)


PREDICTION = make(3)
WITHOUT_PDFS = replace(PREDICTION, pdf=None)


def parse(html):
    """Parse our HTML, whose only entities are those of XML."""
    return ET.fromstring(f"<body>{html.replace('<br>', '<br/>')}</body>")


def cells(html):
    return [["\n".join(cell.itertext()) for cell in row] for row in parse(html).iter("tr")]


def test_rows_are_chosen_as_in_an_array():
    prediction = make(7)
    masks = np.arange(7) > 4, [False, True] + 5 * [False]
    for rows in (slice(2), slice(None, None, -3), *masks, [4, -1], np.uint8([6, 0]), [], np.array([], int), 3):
        chosen, expected = prediction[rows], np.atleast_1d(np.arange(7)[rows])
        assert chosen.model == "photoz 1"
        for name, values in prediction.columns():
            np.testing.assert_array_equal(getattr(chosen, name), values[expected], err_msg=name)
    assert [len(row) for row in prediction] == [1] * 7
    assert WITHOUT_PDFS[:2].pdf is None
    for rows, message in (
        (7, "index 7 is out of bounds .* size 7"),
        (-8, "index -8 is out of bounds"),
        ([0, 9], "index 9 is out of bounds"),
        (np.array([True] * 6), r"expected a mask of 7 rows, got shape \(6,\)"),
        (True, r"expected a mask of 7 rows, got shape \(\)"),
        ("z_mean", "expected row numbers, a slice or a mask, got 'z_mean'"),
        (1.0, "expected row numbers, a slice or a mask, got 1.0"),
        ([[0, 1]], "expected row numbers, a slice or a mask"),
    ):
        with pytest.raises(IndexError, match=message):
            prediction[rows]


def test_columns_flags_and_models():
    assert PREDICTION.has(Flag.LOW_SNR).tolist() == [True, True, False]
    assert PREDICTION.has(Flag.EBV_ASSUMED | Flag.EDGE_MASS).tolist() == [True, False, False]
    joined = join([PREDICTION, replace(PREDICTION, model="photoz 2"), PREDICTION])
    assert (joined.model, list(joined.object_id)) == ("photoz 1, photoz 2", [*PREDICTION.object_id] * 3)
    assert join([PREDICTION, PREDICTION]).model == "photoz 1"


def test_tables_and_files_have_every_column(tmp_path):
    table = PREDICTION.to_table()
    assert (table.colnames, table.meta["model"]) == ([*COLUMNS, "pdf"], "photoz 1")
    assert table["z_std"].meta["ucd"] == "stat.error;src.redshift.phot"
    frame = PREDICTION.to_pandas()
    assert (frame.attrs["model"], frame["pdf_1"].tolist()) == ("photoz 1", PREDICTION.pdf[:, 1].tolist())
    PREDICTION.write(str(tmp_path / "z.csv"))
    read = pd.read_csv(tmp_path / "z.csv")
    pd.testing.assert_frame_equal(frame, read, check_dtype=False)
    PREDICTION.write(tmp_path / "z.csv", grid=SDSS_GRID, quantiles=[0.05])  # replaces the file
    assert pd.read_csv(tmp_path / "z.csv").columns.tolist() == [*COLUMNS, "z_q05"]
    ensemble = PREDICTION.to_qp(SDSS_GRID)
    assert list(ensemble.ancil) == list(COLUMNS)
    np.testing.assert_allclose(ensemble.mean().ravel(), PREDICTION.z_mean)
    with pytest.raises(InvalidPdfs, match="there are no PDFs"):
        WITHOUT_PDFS.to_qp(SDSS_GRID)
    for options in ({"quantiles": [0.5]}, {}):
        with pytest.raises(InvalidPdfs, match=r"pass grid=client\.model\(\)\.grid"):
            PREDICTION.write(tmp_path / "q.fits", **options)
    known = replace(PREDICTION, grid=SDSS_GRID)  # as clients return it
    known.write(tmp_path / "q.fits")
    assert fits.getheader(tmp_path / "q.fits", 1)["ZMAX"] == SDSS_GRID.z_max
    assert join([known, known])[:4].to_table().meta["z_edges"].tolist() == SDSS_GRID.edges.tolist()
    assert "z_edges" not in table.meta
    assert list(known.to_qp().ancil) == list(COLUMNS)
    assert known[0].plot().axes[0].get_title() == "0"
    with pytest.raises(UnsupportedType, match="z.xls should end in .csv"):
        PREDICTION.write(tmp_path / "z.xls")


def test_without_a_package_the_error_names_its_extra(monkeypatch):
    for what, call, package, extra in (
        ("to_table", Prediction.to_table, "astropy", "astropy"),
        ("to_pandas", Prediction.to_pandas, "pandas", "pandas"),
        ("to_qp", lambda prediction: prediction.to_qp(SDSS_GRID), "qp", "qp"),
        ("plot", lambda prediction: prediction.plot(SDSS_GRID), "matplotlib", "plots"),
        ("z.fits", lambda prediction: prediction.write("z.fits"), "astropy", "astropy"),
        ("z.parquet", lambda prediction: prediction.write("z.parquet"), "pyarrow", "parquet"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=f"^{what} needs {package}: .* pip install 'photoz\\[{extra}\\]'$"):
            call(PREDICTION)


def test_terminals_show_a_table_and_python_one_line():
    head, *lines = text_table(PREDICTION)
    assert head == "object_id  z_mean  z_lo68  z_hi68   odds  flags"
    z_mean, low, high, odds = (getattr(PREDICTION, name)[1] for name in ("z_mean", "z_lo68", "z_hi68", "odds"))
    assert lines[1] == f"1          {z_mean:.4f}  {low:.4f}  {high:.4f}  {odds:.3f}  LOW_SNR"
    assert [line.split()[-1] for line in lines] == ["EBV_ASSUMED|LOW_SNR", "LOW_SNR", "-"]
    assert flag_names(2**30 | Flag.LOW_SNR) == "LOW_SNR"  # a later service may set other flags
    assert repr(make(1004)) == "<Prediction of 1,004 galaxies by photoz 1, PDFs of 180 bins, 670 flagged>"
    unnamed = replace(WITHOUT_PDFS[2], model="")
    assert repr(unnamed) == "<Prediction of 1 galaxy by an unnamed model, without PDFs, 0 flagged>"
    assert repr(EVALUATION) == (
        "<EvaluateResponse of 1,986 galaxies by photoz 1, 1 left out: bias 0.0012 ± 0.0004, sigma_mad 0.0141 ± 0.0003>"
    )


def test_notebooks_show_a_table_and_explain_the_flags():
    html, low, high = PREDICTION._repr_html_(), PREDICTION.z_lo68[0], PREDICTION.z_hi68[0]
    head, first, *others = cells(html)
    assert head == ["object_id", "z_mean", "68 %", "odds", "flags", "p(z)"]
    numbers = f"{PREDICTION.z_mean[0]:.4f}", f"{low:.4f} to {high:.4f}", f"{PREDICTION.odds[0]:.3f}"
    assert first == ["0", *numbers, "EBV_ASSUMED\nLOW_SNR", ""]
    assert [row[4] for row in others] == ["LOW_SNR", "-"]
    (notes,) = parse(html).iter("p")
    counts = {Flag.EBV_ASSUMED: 1, Flag.LOW_SNR: 2}
    assert list(notes.itertext()) == [f"{flag.name} ({n}): {FLAG_MEANINGS[flag]}" for flag, n in counts.items()]
    assert "<p " not in PREDICTION[2]._repr_html_()
    assert list(FLAG_MEANINGS) == list(Flag)
    for n, names in ((0, ""), (SHOWN, "0123456789"), (SHOWN + 1, [*"01234", "…", *"6789", "10"])):
        assert [row[0] for row in cells(make(n)._repr_html_())[1:]] == list(names)  # a long table shows its ends
    scores = [["bias", "0.0012", "± 0.0004"], ["sigma_mad", "0.0141", "± 0.0003"]]
    assert cells(EVALUATION._repr_html_()) == [["metric", "value", "error"], *scores]


def test_notebooks_draw_pdfs_on_their_grid():
    drawings = list(parse(PREDICTION._repr_html_()).iter("svg"))
    for drawing, row in zip(drawings, PREDICTION.pdf, strict=True):
        points = [[float(number) for number in point.split(",")] for point in drawing[0].get("points").split()]
        assert (len(points), points[0], points[-1]) == (182, [0.0, 24.0], [160.0, 24.0])
        x, y = min(points, key=lambda point: point[1])
        assert (x, y) == (pytest.approx((np.argmax(row) + 0.5) / 180 * 160, abs=0.1), 0.0)
    assert "<svg" not in WITHOUT_PDFS._repr_html_()
    (fine,) = parse(make(1, grid=RedshiftGrid(3.0, 1501))._repr_html_()).iter("svg")
    assert len(fine[0].get("points").split()) == 188 + 2  # groups of 8 bins


def test_texts_are_escaped_and_nothing_is_executed_or_fetched():
    hostile = '<script>alert("x")</script><img src=x onerror="alert(1)">&'
    prediction = replace(make(2, model=hostile), object_id=np.array([hostile, "b" * 256]))
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


def test_plot_marks_the_intervals_and_the_true_redshift():
    prediction = make(12)
    figure = prediction.plot(SDSS_GRID, z_spec=[0.15, *[np.nan] * 11])
    assert len(figure.axes) == 9
    axes = figure.axes[0]
    assert axes.get_title() == "0"
    density, *shaded = axes.patches
    np.testing.assert_allclose(density.get_data().values, prediction.pdf[0] / SDSS_GRID.width)
    for patch, name in zip(shaded, ("95", "68"), strict=True):
        ends = getattr(prediction, f"z_lo{name}")[0], getattr(prediction, f"z_hi{name}")[0]
        assert tuple(patch.get_data().edges[[0, -1]]) == pytest.approx(ends)
    assert [line.get_xdata()[0] for line in axes.lines] == [0.15]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["p(z)", "95 %", "68 %", "true"]
    assert not figure.axes[1].lines
    figure = prediction[1].plot(SDSS_GRID, z_spec=0.2)  # one redshift for one galaxy
    assert [line.get_xdata()[0] for line in figure.axes[0].lines] == [0.2]
    content, shown = figure._repr_png_()
    assert (content[:4], shown["width"]) == (b"\x89PNG", 350)
    for undrawn, grid, message in (
        (WITHOUT_PDFS, SDSS_GRID, "predict with pdf=True"),
        (PREDICTION, RedshiftGrid(1.0, 4), r"shape \(n, 4\)"),
        (PREDICTION[:0], SDSS_GRID, "at least one galaxy"),
    ):
        with pytest.raises(InvalidPdfs, match=message):
            undrawn.plot(grid)
    with pytest.raises(InvalidRedshifts, match=r"expected 3 true redshifts, one for each galaxy, got shape \(2,\)"):
        PREDICTION.plot(SDSS_GRID, z_spec=[0.1, 0.2])


def test_a_notebook_shows_a_progress_bar(monkeypatch, capsys):
    shown = []
    handle = SimpleNamespace(update=shown.append)
    display = SimpleNamespace(HTML=str, display=lambda bar, display_id: shown.append(bar) or handle)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    for shell in (SimpleNamespace(kernel=7), None):  # a notebook, a terminal
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        with progress_bar(True, 1028) as update:
            update(1000)
            update(28)
    bars = [f'<progress max="1028" value="{n}"></progress> {n:,} of 1,028 cutouts' for n in (0, 1000, 1028)]
    assert (shown, capsys.readouterr()) == (bars, ("", ""))
