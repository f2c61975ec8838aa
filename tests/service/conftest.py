from collections.abc import Iterator

import httpx
import pytest

from photoz.io.npz import npz_bytes
from photoz.model.bundle import ModelBundle
from tests.running import RunningService, running_service
from tests.toys import GRIZ, galaxies, npy_bytes, toy_calibration, toy_feature_groups, toy_ood_record

# Limits of `small_service`; a body holds 47 of the toy's cutouts.
MAX_BODY_BYTES, MAX_ROWS, MAX_HEADER_BYTES, MAX_IN_FLIGHT = 400_000, 45, 4096, 2


@pytest.fixture(scope="session")
def images(card):
    return galaxies(card.image, 6)


@pytest.fixture(scope="session")
def client(service_url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="session")
def post_npz(client):
    """Post arrays as the bytes of a .npz file."""
    return lambda path, arrays, **headers: client.post(path, content=npz_bytes(arrays), headers=headers)


@pytest.fixture(scope="session")
def post_npy(client):
    """Post one array as the bytes of a .npy file."""
    return lambda path, array, **headers: client.post(path, content=npy_bytes(array), headers=headers)


@pytest.fixture(scope="session")
def small_bundle(make_toy_bundle) -> ModelBundle:
    """Return a toy bundle that recalibrates its PDFs and scores how unusual a cutout is."""
    feature_groups = toy_feature_groups(galaxies(GRIZ, 400, seed=1), with_features=False)
    calibration = toy_calibration(temperature=2.0)
    return make_toy_bundle(calibration=calibration, feature_groups=feature_groups, record=toy_ood_record())


@pytest.fixture(scope="session")
def small_service(small_bundle, tmp_path_factory) -> Iterator[RunningService]:
    """Run a toy network with low limits."""
    limits = {
        "PHOTOZ_MAX_ROWS": MAX_ROWS,
        "PHOTOZ_MAX_BODY_BYTES": MAX_BODY_BYTES,
        "PHOTOZ_MAX_MEMORY_BYTES": 10 * MAX_BODY_BYTES,
        "PHOTOZ_TRANSFER_TIMEOUT": 2,
        "PHOTOZ_HEADER_TIMEOUT": 1,
        "PHOTOZ_MAX_HEADER_BYTES": MAX_HEADER_BYTES,
        "PHOTOZ_MAX_IN_FLIGHT": MAX_IN_FLIGHT,
    }
    with running_service(tmp_path_factory.mktemp("small"), PHOTOZ_BUNDLE=small_bundle.path, **limits) as running:
        yield running
