"""`/evaluate`: metrics, plots and reports, and the child process that makes them."""

import asyncio
from contextlib import suppress
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
from service.children import ChildFailed
from service.evaluation import Evaluator

from photoz import metrics, pdf
from photoz.estimates import from_pdfs
from photoz.grid import RedshiftGrid
from photoz.protocol import contract
from service import evaluation
from service.errors import EvaluationTimeout, TooManyRequests
from service.validation import LabelledGalaxies
from tests.service.helpers import check_error

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
    assert response.headers["content-type"] == contract.PNG
    assert response.content.startswith(b"\x89PNG\r\n\x1a\n")
    response = post_npz(f"/evaluate?plot={plot}&num_images=4&seed=1", labelled, accept=contract.SVG)
    assert response.headers["content-type"].partition(";")[0] == contract.SVG
    assert ElementTree.fromstring(response.content).tag.endswith("svg")


def test_report_is_one_self_contained_page(post_npz, card, labelled):
    magnitudes = np.linspace(15.0, 17.0, N * len(card.image.bands)).reshape(N, -1)
    names = np.array([f"<galaxy {i}>" for i in range(N)])
    response = post_npz("/evaluate", labelled | {"magnitudes": magnitudes, "object_id": names}, accept=contract.HTML)
    assert response.headers["content-type"].partition(";")[0] == contract.HTML
    assert response.text.lstrip().lower().startswith("<!doctype html>")
    assert "<galaxy" not in response.text
    assert 'src="http' not in response.text
    assert "[mag]" in response.text
    assert "Flags and what they catch" in response.text


GRID = RedshiftGrid(0.4, 20)


def evaluate(evaluator, n_bins=GRID.n_bins, client="alice"):
    """Evaluate three galaxies with flat PDFs; returns a coroutine."""
    pdfs, z_spec = np.full((3, n_bins), 1.0 / n_bins), np.array([0.1, 0.2, 0.3])
    galaxies = LabelledGalaxies(z_spec, np.array(["a", "b", "c"]), (), pdfs, None)
    table = from_pdfs(pdfs, RedshiftGrid(0.4, n_bins), include_pdf=True)
    return evaluator.evaluate(galaxies, table, contract.EvaluateOptions(), contract.JSON, client)


def n_children():
    n = 0
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at; ZombieProcess is one of these
            n += "service.evaluation_worker" in child.cmdline()
    return n


def test_evaluation_that_takes_too_long_is_killed():
    with pytest.raises(EvaluationTimeout, match=r"took longer than 0.01 s"):
        asyncio.run(evaluate(Evaluator(GRID, "model 1", timeout=0.01)))
    assert n_children() == 0


def test_error_of_the_child_process_is_reported():
    with pytest.raises(ChildFailed, match="(?s)evaluation_worker ended with 1: .*mismatch"):
        asyncio.run(evaluate(Evaluator(GRID, "model 1", timeout=60.0), n_bins=7))


def test_evaluations_run_one_at_a_time(monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_QUEUED", 2)

    async def together():
        evaluator, most = Evaluator(GRID, "model 1", timeout=60.0), 0
        tasks = [asyncio.create_task(evaluate(evaluator)) for _ in range(3)]
        while not all(task.done() for task in tasks):
            most = max(most, n_children())
            await asyncio.sleep(0.01)
        return most, await asyncio.gather(*tasks, return_exceptions=True)

    most, (first, second, third) = asyncio.run(together())
    assert most == 1
    assert first.body == second.body
    assert isinstance(third, TooManyRequests)


def test_one_client_cannot_take_all_places(monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_OF_CLIENT", 1)

    async def together():
        evaluator = Evaluator(GRID, "model 1", timeout=60.0)
        calls = [evaluate(evaluator, client=client) for client in ("alice", "alice", "bob")]
        return await asyncio.gather(*calls, return_exceptions=True), await evaluate(evaluator)

    (first, second, third), again = asyncio.run(together())
    assert isinstance(second, TooManyRequests)
    assert first.body == third.body == again.body
