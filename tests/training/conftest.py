"""A small sample, and the command line."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from photoz.images import SDSS_IMAGES
from training.catalogue import Catalogue, read_kcorrect
from training.cli import main
from training.sample import make_sample

with warnings.catch_warnings():  # its docstrings have invalid escapes, which Python reports when it compiles them
    warnings.simplefilter("ignore")
    import properscoring  # noqa: F401


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return read_kcorrect()


@pytest.fixture(scope="session")
def sample_file(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 galaxies of the shipped sample, with their split."""
    path = tmp_path_factory.mktemp("sample") / "sample.h5"
    make_sample(catalogue.head(300), path, SDSS_IMAGES, workers=1)
    return path


@pytest.fixture(scope="session")
def run_cli() -> Callable[..., str]:
    """Return a function that runs `python -m training ARGUMENTS` in this process and returns its output."""

    def run(*arguments: object) -> str:
        done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return run
