"""`/evaluate`: metrics, plots and reports, and the child process that makes them."""

import re
from typing import get_args

import numpy as np
import pytest

from photoz import evaluation, metrics, pdf
from photoz.errors import TooLarge
from photoz.images import ImageSpec
from photoz.io import formats
from photoz.io.npz import npz_bytes
from photoz.protocol import contract
from photoz.validation import as_labelled
from service.evaluate import evaluate
from tests.service.helpers import check_error
from tests.service.requests import local_worker
from tests.toys import GRID_90, GRIZ, galaxies, toy_card

N = 40


def bumps(grid):
    """Return PDFs around true redshifts, wider than their errors."""
    rng = np.random.default_rng(3)
    z_spec = rng.uniform(0.1, 0.9, N) * grid.z_max
    peak = z_spec + rng.normal(0.0, 0.03 * grid.z_max, N)
    return {"pdfs": np.exp(-0.5 * ((grid.centres - peak[:, None]) / (0.05 * grid.z_max)) ** 2), "z_spec": z_spec}


@pytest.fixture(scope="module")
def post(small_bundle):
    with local_worker(bundle=small_bundle.path) as post:
        yield lambda arrays, query="", **headers: post(evaluate, npz_bytes(arrays), f"/evaluate{query}", **headers)


def test_metrics_are_those_of_the_library_and_cutouts_are_predicted_first(client, post_npz, images, card):
    labelled = bumps(card.grid)
    response = post_npz("/evaluate", labelled)
    answer = contract.EvaluateResponse.model_validate_json(response.content)
    pdfs = pdf.as_pdfs(labelled["pdfs"], card.grid)
    expected = metrics.summarise(metrics.galaxy_scores(pdfs, labelled["z_spec"], card.grid))
    label = f"{card.name} {card.version}"
    assert answer == contract.EvaluateResponse(model=label, n_galaxies=N, scores=expected, dropped=[])
    assert response.headers[contract.MODEL_HEADER] == label
    message = {name: values.tolist() for name, values in labelled.items()} | {"magnitudes": [None] * N}
    assert client.post("/evaluate", json=message).json() == response.json()
    z_spec, ebv = np.linspace(0.1, 0.9, len(images)) * card.grid.z_max, np.full(len(images), 0.02)
    pdfs = client.post("/predict", json={"images": images.tolist(), "ebv": 0.02, "pdf": True}).json()["pdf"]
    by_images, by_pdfs = (
        {name: score["value"] for name, score in post_npz("/evaluate", arrays).json()["scores"].items()}
        for arrays in ({"images": images, "ebv": ebv, "z_spec": z_spec}, {"pdfs": np.array(pdfs), "z_spec": z_spec})
    )
    assert by_images == pytest.approx(by_pdfs, abs=1e-6)


def test_galaxies_off_the_grid_are_dropped(post):
    z_spec = np.array([0.3, np.nan, 0.3, 2.0 * GRID_90.z_max, 0.3, 0.3])
    cutouts = galaxies(GRIZ, 6)
    cutouts[3] = np.nan  # no error: the galaxy is dropped first
    columns = {"object_id": np.array([f"<g{i}>" for i in range(6)]), "magnitudes": np.linspace(15.0, 17.0, 6)}
    arrays = {"images": cutouts, "z_spec": z_spec, **columns}
    answer = post(arrays).json()
    assert (answer["dropped"], answer["n_galaxies"]) == (["<g1>", "<g3>"], 4)
    page = post(arrays, accept="text/html").text
    assert "4 galaxies, predicted by toy 1. 2 others were left out: their true redshift is not on the grid." in page


def test_unusable_evaluations(client, post_npz, card):
    for change, words in (
        ({"images": np.zeros((N, 4))}, "either images or pdfs"),
        ({"z_spec": None}, "expected the true redshifts as z_spec, got pdfs"),
        ({"z_spec": np.zeros(3)}, "got shape (3,)"),
        ({"z_spec": np.full(N, 9.0)}, "no z_spec lies on the grid: expected 0 <= z_spec <= "),
        ({"z_spec": np.array(["0.1"] * N)}, "z_spec as real numbers"),
        ({"pdfs": np.zeros((N, 7))}, "expected pdfs of shape"),
        ({"magnitudes": np.zeros((N, 2))}, "expected 40 magnitudes, one for each galaxy, got shape (40, 2)"),
        ({"magnitudes": np.full(N, -51.0)}, "expected magnitudes from -50 to 50, or NaN, got -51"),
        ({"object_id": np.array(["a"])}, "expected object_id as 40 names or integers"),
    ):
        arrays = {name: values for name, values in (bumps(card.grid) | change).items() if values is not None}
        check_error(post_npz("/evaluate", arrays), 422, words)
    check_error(client.post("/evaluate", content=b"x"), 400, "the body is not JSON")
    refused = client.post("/evaluate", content=b"x", headers={"content-type": formats.NPZ.media_type})
    check_error(refused, 400, "images or pdfs (.npz), got other bytes")
    pdfs, z_spec = np.ones((51, card.grid.n_bins)), np.full(51, 0.1)
    assert len(as_labelled({"pdfs": pdfs[:50], "z_spec": z_spec[:50]}, card, 2).z_spec) == 50
    magnitudes, izy = np.arange(150.0).reshape(50, 3) / 10, toy_card(ImageSpec(23, "izy"), card.grid, False)
    arrays = {"pdfs": pdfs[:50], "z_spec": z_spec[:50], "magnitudes": magnitudes}
    assert as_labelled(arrays, izy, 2).magnitudes.tolist() == magnitudes[:, 1].tolist()  # no r: the middle band
    with pytest.raises(TooLarge, match="expected at most 50 galaxies in one request, got 51: send them in parts"):
        as_labelled({"pdfs": pdfs, "z_spec": z_spec}, card, 2)
    with pytest.raises(TooLarge, match="expected at most 2 galaxies in one request, got 3: send them in parts"):
        as_labelled({"images": galaxies(card.image, 3), "z_spec": z_spec[:3]}, card, 2)


def draw(grid, format="svg", **options):
    labelled = bumps(grid)
    pdfs, names = pdf.as_pdfs(labelled["pdfs"], grid), np.arange(N).astype(str)
    return evaluation.draw(pdfs, labelled["z_spec"], names, grid, contract.EvaluateOptions(**options), format)


def test_each_plot_is_another_and_png_by_default_or_svg(post):
    plots = {plot: draw(GRID_90, plot=plot) for plot in get_args(contract.Plot)}
    assert len(set(plots.values())) == len(plots) == 7
    assert draw(GRID_90) == plots["scatter"]
    some = [draw(GRID_90, plot="pdfs", num_images=4, seed=seed) for seed in (1, 2)]
    assert some[0] != some[1]
    assert len(re.findall(rb'id="axes_', some[0])) == 4
    response = post(bumps(GRID_90), "?plot=pdfs&num_images=4&seed=1")
    assert response.headers["content-type"] == formats.PNG.media_type
    assert response.content == draw(GRID_90, "png", plot="pdfs", num_images=4, seed=1)
    response = post(bumps(GRID_90), "?plot=pit", accept=formats.SVG.media_type)
    assert response.headers["content-type"].partition(";")[0] == formats.SVG.media_type
    assert response.content == plots["pit"]


def test_report_is_one_self_contained_page(post):
    magnitudes = np.linspace(15.0, 17.0, N * 4).reshape(N, 4)
    arrays = bumps(GRID_90) | {"magnitudes": magnitudes, "object_id": np.array([f"<galaxy {i}>" for i in range(N)])}
    response = post(arrays, accept=formats.HTML.media_type)
    assert response.headers["content-type"].partition(";")[0] == formats.HTML.media_type
    assert response.text.lstrip().lower().startswith("<!doctype html>")
    assert not [absent for absent in ("<galaxy", 'src="http', "left out") if absent in response.text]
    words = ("Evaluation of photometric redshifts", "40 galaxies, with PDFs as they were sent.", "[mag]")
    assert not [word for word in (*words, "Flags and what they catch") if word not in response.text]
    assert post(arrays | {"magnitudes": magnitudes[:, 1]}, accept=formats.HTML.media_type).text == response.text  # of r


def test_evaluation_that_takes_too_long_is_refused(small_bundle):
    with local_worker(bundle=small_bundle.path, evaluation_timeout=0.01) as post:
        refused = post(evaluate, npz_bytes(bumps(GRID_90)), accept="text/html")
        check_error(refused, 504, "this took longer than 0.01 s")
