from collections.abc import Iterator

import httpx
import pytest

from photoz.io.npz import npz_bytes
from photoz.model.bundle import ModelBundle
from tests.running import RunningService, running_service
from tests.toys import galaxies, npy_bytes

# Limits of `small_service`; a body holds 47 of the toy's cutouts.
MAX_BODY_BYTES, MAX_ROWS, MAX_HEADER_BYTES = 400_000, 45, 4096


@pytest.fixture(scope="session")
def images(card):
    return galaxies(card.image, 6)


@pytest.fixture(scope="session")
def client(service_url) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service_url, timeout=120.0) as client:
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
    return make_toy_bundle()


@pytest.fixture(scope="session")
def small_service(small_bundle, tmp_path_factory) -> Iterator[RunningService]:
    """Run a toy network with low limits on sizes, but not on times; its worker and its log have to stay clean."""
    limits = {
        "PHOTOZ_MAX_ROWS": MAX_ROWS,
        "PHOTOZ_MAX_BODY_BYTES": MAX_BODY_BYTES,
        "PHOTOZ_MAX_MEMORY_BYTES": 10 * MAX_BODY_BYTES,
        "PHOTOZ_HEADER_TIMEOUT": 600,
        "PHOTOZ_MAX_HEADER_BYTES": MAX_HEADER_BYTES,
    }
    with running_service(tmp_path_factory.mktemp("small"), PHOTOZ_BUNDLE=small_bundle.path, **limits) as running:
        (worker,) = running.workers
        yield running
        assert running.workers == [worker]
        assert "Traceback" not in running.log.read_text()
