import os
import signal
import sys

import h5py
import numpy as np
import pytest
from pyarrow import parquet

from photoz.model.card import Histogram, ReferenceRecord
from photoz_survey.manifest import ScoreOptions
from photoz_survey.run import Run
from photoz_survey.workers import ONE_THREAD, score_here
from tests.running import ROOT
from tests.toys import GRIZ, galaxies, toy_feature_groups, toy_ood_record, write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A toy model that takes E(B-V)."""
    histogram = Histogram(edges=(0.3044, 0.4), fractions=(0.5, 1.0))
    return write_toy_bundle(
        tmp_path_factory.mktemp("bundle"),
        takes_ebv=True,
        feature_groups=toy_feature_groups(galaxies(GRIZ, 200, seed=1), with_features=False),
        record=toy_ood_record(),
        reference=ReferenceRecord(data="", n_galaxies=2, histograms={"z_mean": histogram}),
    )


@pytest.fixture
def write_cutouts(tmp_path):
    """Return a function that writes n cutouts, all different, to an HDF5 file."""

    def write(name, n, seed=0, images=None, **columns):
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["images"] = galaxies(GRIZ, n, seed) if images is None else images
            for column, values in ({"ebv": np.linspace(0, 0.2, n)} | columns).items():
                file[column] = values
        return path

    return write


@pytest.fixture(autouse=True)
def _process_is_restored(monkeypatch):
    """Undo what commands do to their process, handle SIGTERM and compute on one thread; and show no progress."""
    monkeypatch.setattr("photoz_survey.terminal.LINE_EVERY", 1e9)
    for name in ONE_THREAD:
        monkeypatch.setenv(name, "8")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def here(monkeypatch):
    """Let commands work in this process instead of in children, which take seconds to start."""

    def run_here(function, items, n_processes, initializer=lambda: None, initargs=()):
        initializer(*initargs)
        yield from (item for item in items if function(item) is None)

    monkeypatch.setattr("photoz_survey.workers.run_in_processes", run_here)
    monkeypatch.setattr("photoz_survey.sky.cutout_file.run_in_processes", run_here)


@pytest.fixture
def score(bundle, tmp_path, here):
    """Return a function that scores files into a folder, in this process."""

    def score(*paths, output=None, resume=False, **settings):
        output = output or tmp_path / "out"
        run = Run.begin(map(str, paths), bundle.path, ScoreOptions(**settings), str(output), resume=resume)
        list(score_here(run.plan, bundle.path, run.folder, run.missing(), workers=1))
        return run.finish()

    return score


def rows(folder, kind="done"):
    """Return all rows of a run, in the order of their parts."""
    parts = sorted((folder / kind).glob("part-*.parquet"))
    return [row for part in parts for row in parquet.read_table(part).to_pylist()]


def files(folder):
    """Return the bytes of all files in `done` and `rejected`, by their names."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob("*/*")}


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients/python")])}


def program(*arguments):
    """Return the arguments that run `photoz` in a process of its own."""
    return [sys.executable, "-c", "from photoz_client.cli import main; main()", *map(str, arguments)]
