import numpy as np
import pytest

from photoz_client import _backends, _inputs
from tests.client.answers import numbered_cutouts, with_card
from tests.client.server import ROWS, asynchronous, blocking, serve


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch):
    for name in ("PHOTOZ_API_KEY", "PHOTOZ_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def small_requests(monkeypatch):
    """Put only a few rows into each request."""
    monkeypatch.setattr(_inputs, "ROWS_PER_REQUEST", ROWS)


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "async"])
def predict(request):
    return request.param


@pytest.fixture
def pauses(monkeypatch):
    """The pauses of clients in seconds, none of which takes any time."""
    pauses = []

    async def sleep(self, seconds, wake=None):
        pauses.append(seconds)

    for backend in (_backends.BlockingBackend, _backends.AsyncBackend):
        monkeypatch.setattr(backend, "sleep", sleep)
    return pauses


@pytest.fixture
def server(card, small_requests):
    """A service for the cutouts of `numbered_cutouts`."""
    with serve(with_card(card)) as server:
        yield server


@pytest.fixture
def run(photoz, server, tmp_path, monkeypatch):
    """Run the command against that service, in a folder with 12 cutouts, which are sent in three requests."""
    monkeypatch.setenv("PHOTOZ_URL", server.url)
    monkeypatch.chdir(tmp_path)
    columns = {"z_spec": np.linspace(0.01, 0.12, 12), "ebv": np.full(12, 0.25)}
    np.savez("cutouts.npz", images=numbered_cutouts(12), split=np.repeat(["train", "test"], 6), **columns)
    return photoz
