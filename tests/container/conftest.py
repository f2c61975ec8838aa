"""The image under test: that of PHOTOZ_IMAGE, by docker or podman (CONTAINER_ENGINE)."""

import os
from collections.abc import Iterator

import pytest
from containers import HARDENED, Container, Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(os.environ.get("CONTAINER_ENGINE") or "podman")


@pytest.fixture(scope="session")
def image(engine) -> str:
    name = os.environ.get("PHOTOZ_IMAGE")
    if not name:
        pytest.skip("no image: make image image-check")
    if engine("image", "inspect", name, check=False).returncode:
        pytest.exit(f"no image {name} to check: make image, or IMAGE=...", returncode=1)
    return name


@pytest.fixture(scope="module")
def hardened(engine, image) -> Iterator[Container]:
    with engine.container(image, *HARDENED) as container:
        container.wait_until_ready()
        yield container
