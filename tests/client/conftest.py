import httpx
import numpy as np
import pytest
import v2_answers
from predicting import ROWS, asynchronous, blocking

from photoz.protocol.contract import JSON
from photoz_client import _galaxies


@pytest.fixture(autouse=True)
def _no_key_of_the_developers_own(monkeypatch):
    monkeypatch.delenv("PHOTOZ_API_KEY", raising=False)


@pytest.fixture
def few_rows(monkeypatch):
    """Let a prediction travel in parts that are small."""
    monkeypatch.setattr(_galaxies, "ROWS_PER_REQUEST", ROWS)


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "async"])
def predict(request):
    """Predict with one client, then with the other."""
    return request.param


@pytest.fixture
def answer():
    """Make the answer of a service that gives every cutout the same PDF."""

    def make(request: httpx.Request, model: str = "photoz 1") -> httpx.Response:
        if request.url.path == v2_answers.NAMES_PATH:
            return httpx.Response(200, json=v2_answers.names())
        asked = v2_answers.asked(request.content, request.headers)
        content, headers = v2_answers.answer(asked, np.full(len(asked.inputs["images"].array), 40), model)
        return httpx.Response(200, content=content, headers=headers)

    return make


@pytest.fixture
def refusal():
    """Make a refusal in the service's own shape."""

    def make(status: int, sentence: str = "the reason", headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.Response(status, json={"error": sentence}, headers={"content-type": JSON, **(headers or {})})

    return make
