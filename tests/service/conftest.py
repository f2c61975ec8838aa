import httpx
import pytest
from toys import GRID_90, GRIZ, galaxies, npy_bytes, openvino, toy_card, toy_network

from photoz import ood as ood
from photoz.io.npz import npz_bytes
from photoz.model.bundle import OOD_NAME, ModelBundle


@pytest.fixture(scope="session")
def make_toy_bundle(tmp_path_factory):
    """Make a bundle around a toy network; by default for 23x23 griz cutouts and 90 bins, without E(B-V)."""

    def make(*, spec=GRIZ, grid=GRID_90, takes_ebv=False, network=None, feature_groups=None, record=None, **fields):
        folder = tmp_path_factory.mktemp("toy")
        (folder / "source").mkdir()
        (folder / "source" / "model.keras").write_bytes(b"not needed here")
        network = network or toy_network(spec.size, len(spec.bands), grid.n_bins, takes_ebv)
        openvino.save_model(network, folder / "source" / "openvino" / "model.xml", compress_to_fp16=False)
        if feature_groups:
            ood.save(feature_groups, folder / "source" / OOD_NAME)
        return ModelBundle.write(
            folder / "bundle", toy_card(spec, grid, takes_ebv, ood=record, **fields), folder / "source"
        )

    return make


@pytest.fixture(scope="session")
def images(card):
    return galaxies(card.image, 6)


@pytest.fixture(scope="session")
def client(service_url):
    with httpx.Client(base_url=service_url, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="session")
def post_npz(client):
    """Post arrays as the bytes of a .npz file."""

    def post(path, arrays, **headers):
        return client.post(path, content=npz_bytes(arrays), headers=headers)

    return post


@pytest.fixture(scope="session")
def post_npy(client):
    """Post one array as the bytes of a .npy file."""

    def post(path, array, **headers):
        return client.post(path, content=npy_bytes(array), headers=headers)

    return post
