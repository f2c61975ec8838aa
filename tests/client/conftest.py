import h5py
import numpy as np
import pytest
from scipy.special import ndtr

from photoz import pdf
from photoz.grid import SDSS_GRID
from photoz_client import _inputs
from tests.client.answers import card_answer, error, first_row, numbered_cutouts, prediction
from tests.client.both_clients import ROWS, asynchronous, blocking
from tests.client.misbehaving_server import serve


@pytest.fixture(autouse=True)
def _no_api_key_of_the_developer(monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEY", raising=False)


@pytest.fixture
def small_requests(monkeypatch):
    """Put only a few rows into each request."""
    monkeypatch.setattr(_inputs, "ROWS_PER_REQUEST", ROWS)


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "async"])
def predict(request):
    return request.param


@pytest.fixture
def one_part_fails(card, tmp_path, small_requests):
    """Arguments for `photoz predict`: a file of 12 cutouts, and a service that fails for rows 4 to 7."""
    np.save(tmp_path / "cutouts.npy", numbered_cutouts(12))

    def answer(request):
        if request.url.path == "/model":
            return card_answer(card, grid=SDSS_GRID)
        return error(500) if first_row(request) == ROWS else prediction(request)

    with serve(answer) as server:
        yield tmp_path / "cutouts.npy", "--url", server.url


@pytest.fixture(scope="session")
def columns(card):
    """6 galaxies for the real service."""
    return {
        "images": np.random.default_rng(2).normal(0.1, 0.05, (6, *card.image.shape)).astype(np.float32),
        "ebv": np.full(6, 0.03),
        "z_spec": np.linspace(0.05, 0.35, 6),
        "object_id": np.array([f"galaxy-{i}" for i in range(6)]),
        "split": np.array(["train", "test"] * 3),
    }


@pytest.fixture
def folder(columns, tmp_path):
    """A folder with the galaxies in cutouts.npy, cutouts.npz and cutouts.h5."""
    np.save(tmp_path / "cutouts.npy", columns["images"])
    np.savez(tmp_path / "cutouts.npz", **columns)
    with h5py.File(tmp_path / "cutouts.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values.astype(object) if values.dtype.kind == "U" else values
    return tmp_path


@pytest.fixture(scope="session")
def gaussian_pdfs():
    """Return Gaussians integrated over the bins: gaussian_pdfs(mean (n,), sigma, grid) -> (n, n_bins)."""

    def integrate(mean, sigma, grid=SDSS_GRID):
        mean, sigma = np.atleast_1d(mean)[:, np.newaxis], np.reshape(sigma, (-1, 1))
        return pdf.as_pdfs(np.diff(ndtr((grid.edges - mean) / sigma), axis=1), grid)

    return integrate


@pytest.fixture(scope="session")
def calibrated(gaussian_pdfs):
    """PDFs of 2,000 galaxies, and a true redshift drawn from each."""
    rng = np.random.default_rng(7)
    mean = rng.uniform(0.05, 0.3, 2000)
    pdfs = gaussian_pdfs(mean, 0.014 * (1 + mean))
    cdf, u = pdf.cdf(pdfs), rng.random(len(pdfs))
    return pdfs, np.array([np.interp(x, row, SDSS_GRID.edges) for x, row in zip(u, cdf, strict=True)])


@pytest.fixture(scope="session")
def wider(calibrated):
    """The calibrated PDFs with a larger spread: the point estimates stay, the PDFs get worse."""
    powered = calibrated[0] ** 0.5
    return powered / powered.sum(axis=1, keepdims=True)
