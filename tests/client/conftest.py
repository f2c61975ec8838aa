import io

import httpx
import numpy as np
import pytest

from photoz import estimates
from photoz.contract import JSON, MODEL_HEADER, NPZ
from photoz.datasets import npz_bytes, read_npz
from photoz.grid import SDSS_GRID


@pytest.fixture
def answer():
    """Make the answer of a service that gives every cutout the same PDF."""

    def make(request: httpx.Request, model: str = "photoz 1") -> httpx.Response:
        cutouts = read_npz(io.BytesIO(request.content))
        pdfs = np.tile(np.eye(SDSS_GRID.n_bins)[40], (len(cutouts), 1))
        pdf = request.url.params.get("pdf") == "true"
        rows = estimates.from_pdfs(pdfs, SDSS_GRID, object_id=cutouts.columns["object_id"], include_pdf=pdf)
        headers = {"content-type": NPZ, MODEL_HEADER: model}
        return httpx.Response(200, content=npz_bytes(dict(rows.columns())), headers=headers)

    return make


@pytest.fixture
def refusal():
    """Make a refusal in the service's own shape."""

    def make(status: int, sentence: str = "the reason", headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.Response(status, json={"error": sentence}, headers={"content-type": JSON, **(headers or {})})

    return make
