"""A small sample, a small network trained on it, and the command line."""

import os
import warnings
from functools import partial, partialmethod

import keras
import pytest
from click.testing import CliRunner
from filelock import FileLock

from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from tests.training.small import SPEC, TRAIN, N, linear_network
from training import architectures
from training.catalogue import read_kcorrect
from training.cli import main

with warnings.catch_warnings():  # its docstrings have invalid escapes, which Python reports when it compiles them
    warnings.simplefilter("ignore")
    import properscoring  # noqa: F401


@pytest.fixture(scope="session")
def catalogue():
    return read_kcorrect()


@pytest.fixture(scope="session")
def run_cli():
    """Return a function that runs `python -m training ARGUMENTS` in this process and returns its output."""

    def run(*arguments, exit_codes=(0,)):
        done = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
        assert done.exit_code in exit_codes, done.output
        return done.output

    return run


@pytest.fixture(scope="session")
def refused(run_cli):
    return partial(run_cli, exit_codes=(1, 2))


@pytest.fixture(scope="session")
def sample_file(tmp_path_factory, run_cli):
    """Return the file of the sample of `tests.training.small`, with the split of the catalogue."""
    path = tmp_path_factory.mktemp("sample") / "sample.h5"
    run_cli("sample", path, "--limit", N, "--size", SPEC.size, "--bands", "griz", "--workers", 1)
    return path


@pytest.fixture
def cutouts(sample_file):
    with open_cutouts(sample_file) as opened:
        yield opened


@pytest.fixture(scope="session")
def trained(tmp_path_factory, sample_file, run_cli):
    """Return the folder of the bundle `toy` and its `run`, which no test may change; all test processes share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            scratch = tmp_path_factory.mktemp("training")
            run_cli("train", "--data", sample_file, "--bundle", scratch / "toy", "--run", scratch / "run", *TRAIN)
            scratch.rename(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(trained):
    return ModelBundle.load(trained / "toy")


@pytest.fixture
def linear(monkeypatch):
    """Let all fits build the small network of `tests.training.small`, and train it without compiling it."""
    monkeypatch.setattr(architectures, "build", linear_network)
    monkeypatch.setattr(keras.Model, "compile", partialmethod(keras.Model.compile, run_eagerly=True))
    monkeypatch.setattr(keras.callbacks, "TensorBoard", lambda _: keras.callbacks.Callback())
