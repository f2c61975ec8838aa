import warnings
from pathlib import Path

import pytest

from photoz.images import SDSS_IMAGES
from training.catalogue import Catalogue, read_kcorrect
from training.sample import make_sample

with warnings.catch_warnings():  # its docstrings hold invalid escapes, of which Python warns when it compiles them
    warnings.simplefilter("ignore")
    import properscoring  # noqa: F401


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return read_kcorrect()


@pytest.fixture(scope="session")
def sample_file(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 galaxies of the sample that ships, with their own split."""
    path = tmp_path_factory.mktemp("sample") / "sample.h5"
    make_sample(catalogue.head(300), path, SDSS_IMAGES, workers=1)
    return path
