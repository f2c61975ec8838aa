import json
from xml.etree import ElementTree

import numpy as np
import pytest

from photoz import metrics, pdf
from photoz.protocol import contract

N = 40


@pytest.fixture(scope="module")
def labelled(card):
    """PDFs around their true redshifts, wider than they are off."""
    rng = np.random.default_rng(3)
    z_spec = rng.uniform(0.1, 0.9, N) * card.grid.z_max
    peak = z_spec + rng.normal(0.0, 0.03 * card.grid.z_max, N)
    pdfs = np.exp(-0.5 * ((card.grid.centres - peak[:, None]) / (0.05 * card.grid.z_max)) ** 2)
    return {"pdfs": pdfs, "z_spec": z_spec}


def test_scores_of_pdfs_are_those_of_the_core(post_npz, card, labelled):
    response = post_npz("/evaluate", labelled)
    answer = contract.EvaluateResponse.model_validate_json(response.content)
    pdfs = pdf.as_pdfs(labelled["pdfs"], card.grid)
    expected = metrics.summarise(metrics.galaxy_scores(pdfs, labelled["z_spec"], card.grid))
    assert answer.n_galaxies == N
    assert answer.dropped == []
    assert answer.model == response.headers[contract.MODEL_HEADER] == f"{card.name} {card.version}"
    assert answer.scores.keys() == expected.keys()
    for name, score in expected.items():
        assert answer.scores[name].value == pytest.approx(score.value, abs=1e-12)
        assert answer.scores[name].error == pytest.approx(score.error, abs=1e-12)


def test_json_and_npz_give_the_same_scores(client, post_npz, labelled):
    message = {name: values.tolist() for name, values in labelled.items()}
    assert client.post("/evaluate", json=message).json() == post_npz("/evaluate", labelled).json()


def test_cutouts_are_predicted_first(client, post_npz, images, card):
    z_spec = np.linspace(0.1, 0.9, len(images)) * card.grid.z_max
    pdfs = client.post("/predict", json={"images": images.tolist(), "ebv": 0.02, "pdf": True}).json()["pdf"]
    by_images = post_npz("/evaluate", {"images": images, "ebv": np.full(len(images), 0.02), "z_spec": z_spec}).json()
    by_pdfs = post_npz("/evaluate", {"pdfs": np.array(pdfs), "z_spec": z_spec}).json()
    for name, score in by_images["scores"].items():
        assert score["value"] == pytest.approx(by_pdfs["scores"][name]["value"], abs=1e-6)


def test_galaxies_off_the_grid_are_dropped_by_name(post_npz, card, images):
    n = len(images)
    z_spec = np.full(n, 0.5 * card.grid.z_max)
    z_spec[[1, 3]] = np.nan, 2.0 * card.grid.z_max
    cutouts = images.copy()
    cutouts[3] = np.nan  # of no consequence: it is dropped before it is looked at
    arrays = {"images": cutouts, "z_spec": z_spec, "object_id": np.array([f"g{i}" for i in range(n)])}
    answer = post_npz("/evaluate", arrays).json()
    assert answer["dropped"] == ["g1", "g3"]
    assert answer["n_galaxies"] == n - 2


def test_nothing_on_the_grid_is_refused(post_npz, card, labelled):
    beyond = labelled | {"z_spec": np.full(N, 2.0 * card.grid.z_max)}
    response = post_npz("/evaluate", beyond)
    assert response.status_code == 422
    assert f"0 <= z_spec <= {card.grid.z_max:g}" in response.json()["error"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((N, 4))}, "either images or pdfs"),
        ({"pdfs": None}, "either images or pdfs"),
        ({"z_spec": None}, "z_spec"),
        ({"z_spec": np.zeros(3)}, "got shape (3,)"),
        ({"z_spec": np.array(["0.1"] * N)}, "z_spec as real numbers"),
        ({"pdfs": np.zeros((N, 7))}, "expected pdfs of shape"),
        ({"pdfs": np.float64(1.0), "z_spec": np.zeros(1)}, "expected pdfs of shape"),
        ({"magnitudes": np.zeros(3)}, "magnitudes"),
        ({"object_id": np.array(["a"])}, "names"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(post_npz, labelled, change, words):
    arrays = {name: values for name, values in (labelled | change).items() if values is not None}
    response = post_npz("/evaluate", arrays)
    assert response.status_code == 422, response.text
    assert words in response.json()["error"]


@pytest.mark.parametrize("plot", ["scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked"])
def test_every_plot_is_drawn_as_png(post_npz, labelled, plot):
    response = post_npz(f"/evaluate?plot={plot}", labelled)
    assert response.headers["content-type"] == contract.PNG
    assert response.content.startswith(b"\x89PNG\r\n\x1a\n")


def test_a_plot_is_drawn_as_svg_where_that_is_accepted(post_npz, labelled):
    response = post_npz("/evaluate?plot=pdfs&num_images=4&seed=1", labelled, accept=contract.SVG)
    assert response.headers["content-type"].partition(";")[0] == contract.SVG
    assert ElementTree.fromstring(response.content).tag.endswith("svg")


def test_the_report_is_one_page_that_needs_nothing_else(post_npz, card, labelled):
    magnitudes = np.linspace(15.0, 17.0, N * len(card.image.bands)).reshape(N, -1)
    names = np.array([f"<galaxy {i}>" for i in range(N)])
    response = post_npz("/evaluate", labelled | {"magnitudes": magnitudes, "object_id": names}, accept=contract.HTML)
    assert response.headers["content-type"].partition(";")[0] == contract.HTML
    assert response.text.lstrip().lower().startswith("<!doctype html>")
    assert "<galaxy" not in response.text
    assert 'src="http' not in response.text
    assert "[mag]" in response.text
    assert "Flags and what they catch" in response.text


def test_an_unknown_magnitude_travels_as_null(client, labelled):
    message = {name: values.tolist() for name, values in labelled.items()} | {"magnitudes": [None] * N}
    assert client.post("/evaluate", content=json.dumps(message)).status_code == 200
