import h5py
import numpy as np
import pytest

from photoz_survey.manifest import ScoreOptions
from photoz_survey.run import Run
from photoz_survey.workers import score_here
from tests.toys import GRIZ, galaxies, toy_feature_groups, toy_ood_record, write_toy_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A toy model that takes E(B-V)."""
    return write_toy_bundle(
        tmp_path_factory.mktemp("bundle"),
        takes_ebv=True,
        feature_groups=toy_feature_groups(galaxies(GRIZ, 200, seed=1), with_features=False),
        record=toy_ood_record(),
    )


@pytest.fixture
def write_cutouts(tmp_path):
    """Return a function that writes n cutouts, all different, to an HDF5 file."""

    def write(name, n, seed=0, images=None, **columns):
        images = galaxies(GRIZ, n, seed) if images is None else images
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            file["images"] = images
            for column, values in ({"ebv": np.linspace(0, 0.2, n)} | columns).items():
                file[column] = values
        return path

    return write


@pytest.fixture
def score(bundle, tmp_path):
    """Return a function that scores files into a folder."""

    def score(*paths, output=None, resume=False, **settings):
        output = output or tmp_path / "out"
        run = Run.begin(map(str, paths), bundle.path, ScoreOptions(**settings), str(output), resume=resume)
        list(score_here(run.plan, bundle.path, run.folder, run.missing(), workers=1))
        return run.finish()

    return score
