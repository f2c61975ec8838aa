"""Names of galaxies that numpy takes and nobody else does."""

import httpx
import numpy as np
import pytest

from photoz.io.npz import npz_bytes

NO_NAMES = {
    "half a pair": np.array(["\ud800"]),
    "beyond Unicode": np.frombuffer(b"\xff\xff\xff\x7f", "<U1"),
    "beyond it, the other way round": np.frombuffer(b"\x7f\xff\xff\xff", ">U1"),
    "no ASCII": np.array([b"\xfa\xff"]),
    "too long": np.array(["x" * 257]),
}


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-npz"])
@pytest.mark.parametrize("names", NO_NAMES.values(), ids=NO_NAMES)
def test_they_are_refused(service_url, card, names, accept):
    body = npz_bytes({"images": np.ones((1, *card.image.shape), np.float32), "object_id": names})
    refused = httpx.post(f"{service_url}/predict_file", content=body, headers={"accept": accept}, timeout=30)
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("expected object_id")


@pytest.mark.parametrize("name", ["é", "\U0001f30c", "", "a,b\n\"c'", "=1+1", "x" * 256])
def test_all_others_come_back(service_url, card, name):
    body = npz_bytes({"images": np.ones((1, *card.image.shape), np.float32), "object_id": np.array([name])})
    answer = httpx.post(f"{service_url}/predict_file", content=body, timeout=30)
    assert answer.json()["object_id"] == [name]
