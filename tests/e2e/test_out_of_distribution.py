"""The shipped model says when it should not be believed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from photoz.estimates import Flag
from photoz_client import PhotozClient

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "g and i swapped": lambda images: images[..., [0, 3, 2, 1, 4]],
    "u and z swapped": lambda images: images[..., [4, 1, 2, 3, 0]],
    "bands reversed": lambda images: images[..., ::-1],
    "ten times the unit": lambda images: images * 10,
    "a tenth of the unit": lambda images: images / 10,
    "blank sky": lambda images: np.concatenate([images[:, :16], images[:, :16, ::-1]] * 2, axis=1),
}


@pytest.fixture(scope="module")
def cutouts() -> dict[str, np.ndarray]:
    with np.load(ROOT / "examples" / "cutouts.npz") as archive:
        return dict(archive)


def is_flagged(url: str, images: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    with PhotozClient(url) as client:
        return np.asarray(client.predict(images, ebv=ebv).flags) & Flag.OUT_OF_DISTRIBUTION > 0


def test_the_examples_are_believed(service_url: str, cutouts: dict[str, np.ndarray]) -> None:
    assert not is_flagged(service_url, cutouts["images"], cutouts["ebv"]).any()


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_examples_are_not(service_url: str, cutouts: dict[str, np.ndarray], name: str) -> None:
    assert is_flagged(service_url, SPOILT[name](cutouts["images"]), cutouts["ebv"]).all()
