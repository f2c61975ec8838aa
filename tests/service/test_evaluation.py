"""`/evaluate`: metrics, plots and reports, and the child process that makes them."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest

from photoz import metrics, pdf
from photoz.io import formats
from photoz.io.npz import npz_bytes
from photoz.protocol import contract
from tests.service.helpers import check_error, wait_for

N = 40


@pytest.fixture(scope="module")
def labelled(card):
    """Return PDFs around the true redshifts, wider than their errors."""
    rng = np.random.default_rng(3)
    z_spec = rng.uniform(0.1, 0.9, N) * card.grid.z_max
    peak = z_spec + rng.normal(0.0, 0.03 * card.grid.z_max, N)
    pdfs = np.exp(-0.5 * ((card.grid.centres - peak[:, None]) / (0.05 * card.grid.z_max)) ** 2)
    return {"pdfs": pdfs, "z_spec": z_spec}


def test_metrics_are_those_of_the_library(client, post_npz, card, labelled):
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
    message = {name: values.tolist() for name, values in labelled.items()} | {"magnitudes": [None] * N}
    assert client.post("/evaluate", json=message).json() == response.json()


def test_cutouts_are_predicted_first(client, post_npz, images, card):
    z_spec = np.linspace(0.1, 0.9, len(images)) * card.grid.z_max
    pdfs = client.post("/predict", json={"images": images.tolist(), "ebv": 0.02, "pdf": True}).json()["pdf"]
    by_images = post_npz("/evaluate", {"images": images, "ebv": np.full(len(images), 0.02), "z_spec": z_spec}).json()
    by_pdfs = post_npz("/evaluate", {"pdfs": np.array(pdfs), "z_spec": z_spec}).json()
    for name, score in by_images["scores"].items():
        assert score["value"] == pytest.approx(by_pdfs["scores"][name]["value"], abs=1e-6)


def test_galaxies_off_the_grid_are_dropped(post_npz, card, images):
    n = len(images)
    z_spec = np.full(n, 0.5 * card.grid.z_max)
    z_spec[[1, 3]] = np.nan, 2.0 * card.grid.z_max
    cutouts = images.copy()
    cutouts[3] = np.nan  # no error: the galaxy is dropped first
    arrays = {"images": cutouts, "z_spec": z_spec, "object_id": np.array([f"g{i}" for i in range(n)])}
    answer = post_npz("/evaluate", arrays).json()
    assert answer["dropped"] == ["g1", "g3"]
    assert answer["n_galaxies"] == n - 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((N, 4))}, "either images or pdfs"),
        ({"z_spec": None}, "z_spec"),
        ({"z_spec": np.zeros(3)}, "got shape (3,)"),
        ({"z_spec": np.full(N, 9.0)}, "no z_spec lies on the grid: expected 0 <= z_spec <= "),
        ({"z_spec": np.array(["0.1"] * N)}, "z_spec as real numbers"),
        ({"pdfs": np.zeros((N, 7))}, "expected pdfs of shape"),
        ({"magnitudes": np.zeros(3)}, "magnitudes"),
        ({"magnitudes": np.full(N, 1e308)}, "expected magnitudes from -50 to 50, or NaN, got 1e+308"),
        ({"object_id": np.array(["a"])}, "names"),
    ],
)
def test_unusable_evaluations(post_npz, labelled, change, words):
    arrays = {name: values for name, values in (labelled | change).items() if values is not None}
    check_error(post_npz("/evaluate", arrays), 422, words)


@pytest.mark.parametrize("plot", ["scatter", "pdfs", "pit", "qq", "coverage", "residuals", "stacked"])
def test_plots(post_npz, labelled, plot):
    response = post_npz(f"/evaluate?plot={plot}", labelled)
    assert response.headers["content-type"] == formats.PNG.media_type
    assert response.content.startswith(b"\x89PNG\r\n\x1a\n")
    response = post_npz(f"/evaluate?plot={plot}&num_images=4&seed=1", labelled, accept=formats.SVG.media_type)
    assert response.headers["content-type"].partition(";")[0] == formats.SVG.media_type
    assert ElementTree.fromstring(response.content).tag.endswith("svg")


def test_report_is_one_self_contained_page(post_npz, card, labelled):
    magnitudes = np.linspace(15.0, 17.0, N * len(card.image.bands)).reshape(N, -1)
    names = np.array([f"<galaxy {i}>" for i in range(N)])
    response = post_npz(
        "/evaluate", labelled | {"magnitudes": magnitudes, "object_id": names}, accept=formats.HTML.media_type
    )
    assert response.headers["content-type"].partition(";")[0] == formats.HTML.media_type
    assert response.text.lstrip().lower().startswith("<!doctype html>")
    assert "<galaxy" not in response.text
    assert 'src="http' not in response.text
    assert "[mag]" in response.text
    assert "Flags and what they catch" in response.text


PDFS = npz_bytes({"pdfs": np.ones((200, 90)), "z_spec": np.linspace(0.01, 0.5, 200)})


def test_evaluation_that_takes_too_long_is_refused(start_service, small_bundle, tmp_path):
    with start_service(tmp_path, PHOTOZ_BUNDLE=small_bundle.path, PHOTOZ_EVALUATION_TIMEOUT=0.01) as running:
        for _ in range(2):  # the child is replaced
            report = {"content": PDFS, "headers": {"accept": "text/html"}, "timeout": 60.0}
            response = httpx.post(f"{running.url}/evaluate", **report)
            check_error(response, 504, "this took longer than 0.01 s")


def test_error_of_the_child_is_an_error_of_the_service(start_service, small_bundle, tmp_path):
    with start_service(tmp_path, PHOTOZ_BUNDLE=small_bundle.path) as running:
        post = partial(httpx.post, f"{running.url}/evaluate", content=PDFS, timeout=60.0)
        assert post().status_code == 200
        (worker,) = running.workers
        (child,) = worker.children()
        idle = child.cpu_times().user
        with ThreadPoolExecutor(1) as thread:
            evaluation = thread.submit(post, headers={"accept": "text/html"})
            wait_for(lambda: child.cpu_times().user > idle + 0.1)
            child.kill()
            check_error(evaluation.result(), 500, "please check the server log")
        assert post().status_code == 200
        assert running.workers == [worker]
