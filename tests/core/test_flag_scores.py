import numpy as np

from photoz.flags import Flag
from photoz.metrics import GalaxyScores, outlier_fraction, sigma_mad, summarise_flags


def test_each_flag_is_scored_on_its_galaxies(rng):
    dz = rng.normal(0.0, 0.01, 100)
    dz[:20] = 0.2
    flags = np.zeros(100, np.int32)
    flags[:30] = Flag.LOW_SNR
    flags[25:40] |= Flag.EDGE_MASS
    rows = {row.flag: row for row in summarise_flags(GalaxyScores(dz=dz), flags)}
    assert list(rows) == ["none", *(flag.name for flag in Flag), "any"]
    counts = {name: row.n_galaxies for name, row in rows.items() if row.n_galaxies}
    assert counts == {"none": 60, "LOW_SNR": 30, "EDGE_MASS": 15, "any": 40}
    assert (rows["LOW_SNR"].n_outliers, rows["EDGE_MASS"].n_outliers, rows["none"].n_outliers) == (20, 0, 0)
    assert rows["LOW_SNR"].scores["outlier_fraction"].value == outlier_fraction(dz[:30])
    assert rows["none"].scores["sigma_mad"].value == sigma_mad(dz[40:])
    assert rows["MULTIMODAL"].scores == {}


def test_few_galaxies_are_counted_but_not_scored():
    flags = np.where(np.arange(50) < 9, int(Flag.BROAD_PDF), 0)
    rows = {row.flag: row for row in summarise_flags(GalaxyScores(dz=np.full(50, 0.1)), flags)}
    assert (rows["BROAD_PDF"].n_galaxies, rows["BROAD_PDF"].n_outliers) == (9, 9)
    assert rows["BROAD_PDF"].scores == {}
    assert rows["none"].scores
