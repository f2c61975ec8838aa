"""A service with a toy network and low limits, and nginx in front of it."""

import pytest

from photoz.grid import RedshiftGrid
from tests.deploy.nginx import MIB, running_nginx
from tests.running import running_service

LIMITS = {
    "PHOTOZ_MAX_BODY_BYTES": 8 * MIB,
    "PHOTOZ_HEADER_TIMEOUT": 2,
    "PHOTOZ_REQUEST_TIMEOUT": 20,
}


@pytest.fixture(scope="session")
def bare(make_toy_bundle, tmp_path_factory):
    """Run the service, with 300 bins for long answers."""
    bundle = make_toy_bundle(grid=RedshiftGrid(0.6, 300)).path
    limits = LIMITS | {"PHOTOZ_MAX_MEMORY_BYTES": 64 * MIB, "PHOTOZ_BUNDLE": bundle}
    with running_service(tmp_path_factory.mktemp("service"), **limits) as running:
        yield running
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="session")
def nginx(bare, tmp_path_factory):
    with running_nginx(tmp_path_factory.mktemp("nginx"), bare.port, NGINX_IDLE_TIMEOUT=3, **LIMITS) as nginx:
        yield nginx
    log = nginx.log.read_text()
    assert "[alert]" not in log
    assert "[crit]" not in log
