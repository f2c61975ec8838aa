"""The shipped bundle, toy bundles, and a running service, shared by the tests that need them."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from photoz.model.bundle import OOD_NAME, ModelBundle
from photoz.model.card import Card
from tests.running import ROOT, RunningService, running_service


@pytest.fixture(scope="session")
def bundle_path() -> Path:
    """Return the bundle under test: the one that ships, or that of PHOTOZ_BUNDLE."""
    return Path(os.environ.get("PHOTOZ_BUNDLE", ROOT / "models" / "photoz"))


@pytest.fixture(scope="session")
def card(bundle_path) -> Card:
    return ModelBundle.load(bundle_path).card


@pytest.fixture(scope="session")
def make_toy_bundle(tmp_path_factory) -> Callable[..., ModelBundle]:
    """Make a bundle around a toy network; by default for 23x23 griz cutouts and 90 bins, without E(B-V)."""
    from photoz import ood
    from tests.toys import GRID_90, GRIZ, openvino, toy_card, toy_network

    def make(*, spec=GRIZ, grid=GRID_90, takes_ebv=False, network=None, feature_groups=None, record=None, **fields):
        folder = tmp_path_factory.mktemp("toy")
        source = folder / "source"
        source.mkdir()
        (source / "model.keras").write_bytes(b"not needed here")
        network = network or toy_network(spec.size, len(spec.bands), grid.n_bins, takes_ebv)
        openvino.save_model(network, source / "openvino" / "model.xml", compress_to_fp16=False)
        if feature_groups:
            ood.save(feature_groups, source / OOD_NAME)
        return ModelBundle.write(folder / "bundle", toy_card(spec, grid, takes_ebv, ood=record, **fields), source)

    return make


@pytest.fixture(scope="session")
def service(tmp_path_factory, bundle_path) -> Iterator[RunningService]:
    """Run the bundle under test with default limits; each request gets a line of JSON in the log."""
    variables = {"PHOTOZ_BUNDLE": bundle_path, "PHOTOZ_ACCESS_LOG": "on", "PHOTOZ_LOG_FORMAT": "json"}
    with running_service(tmp_path_factory.mktemp("service"), **variables) as running:
        yield running


@pytest.fixture(scope="session")
def service_url(service) -> str:
    """Return the address of a running service, such as http://127.0.0.1:41234."""
    return service.url


@pytest.fixture(scope="session")
def start_service() -> Callable[..., AbstractContextManager[RunningService]]:
    """Return a function that runs another service: (home, **environment) -> context manager."""
    return running_service
