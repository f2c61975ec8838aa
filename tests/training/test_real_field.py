"""The shipped model on real pixels, where the frames are: five bands of one field with a globular cluster."""

import numpy as np
import pytest

from benchmarks.harness.environment import SHIPPED
from benchmarks.science.real_field import FOLDER, predict, read_sources
from photoz.flags import Flag
from photoz.model.bundle import ModelBundle

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files"),
    pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning"),
]

GALAXY = (1848.7, 1439.4)  # an elliptical galaxy: x, y in the r frame


def test_stars_are_out_of_distribution_and_an_elliptical_galaxy_is_not() -> None:
    sources = read_sources(FOLDER)
    found = predict(ModelBundle.load(SHIPPED), sources)
    galaxy = np.argmin(np.hypot(sources.x - GALAXY[0], sources.y - GALAXY[1]))
    is_flagged = (found.flags & Flag.OUT_OF_DISTRIBUTION) > 0
    assert len(sources.x) > 100
    assert np.flatnonzero(~is_flagged).tolist() == [galaxy]
    assert abs(found.z_mean[galaxy] - 0.19) < 2 * found.z_std[galaxy]
