"""The shipped model on real pixels, where the frames are: five bands of one field with a globular cluster."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness.environment import SHIPPED
from benchmarks.science.real_field import FOLDER, GALAXY, GALAXY_EBV, Sources, catalogue_method, predict, read_sources
from photoz.flags import Flag
from photoz.images import SDSS_IMAGES
from photoz.io.reader import open_cutouts
from photoz.model.bundle import ModelBundle
from training.catalogue import Catalogue
from training.sample import make_sample

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files"),
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return read_sources(FOLDER)


def test_stars_are_out_of_distribution_and_an_elliptical_galaxy_is_not(sources: Sources) -> None:
    estimates = predict(ModelBundle.load(SHIPPED), sources.cutouts)
    is_flagged = (estimates.flags & Flag.OUT_OF_DISTRIBUTION) > 0
    assert len(sources.x) > 100
    galaxy = sources.nearest(*GALAXY)
    assert np.flatnonzero(~is_flagged).tolist() == [galaxy]
    assert abs(estimates.z_mean[galaxy] - 0.19) < 2 * estimates.z_std[galaxy]


@pytest.mark.slow
def test_redshift_of_the_galaxy_agrees_with_that_from_its_fluxes(
    sources: Sources, catalogue: Catalogue, tmp_path: Path
) -> None:
    make_sample(catalogue.head(3000), tmp_path / "sample.h5", SDSS_IMAGES)
    cutouts, ebv = sources.cutouts[[sources.nearest(*GALAXY)]], np.array([GALAXY_EBV])
    estimates = predict(ModelBundle.load(SHIPPED), cutouts, ebv)
    with open_cutouts(tmp_path / "sample.h5") as sample:
        z, error = catalogue_method(cutouts, ebv, sample)
    assert error[0] < 0.03
    assert abs(estimates.z_mean[0] - z[0]) < np.hypot(estimates.z_std[0], error[0])
