from pathlib import Path

import numpy as np
import pytest

from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.cutouts import TEST, TRAIN
from photoz.io.reader import open_cutouts
from training.catalogue import Catalogue
from training.sample import make_sample
from training.splits import group_by_galaxy


def test_sample_has_the_columns_of_the_catalogue(sample_file: Path, catalogue: Catalogue) -> None:
    with open_cutouts(sample_file) as cutouts:
        assert cutouts.images.shape == (300, 64, 64, 5)
        assert cutouts.spec == SDSS_IMAGES
        assert cutouts.provenance.startswith("rendered from real photometry")
        assert np.isfinite(cutouts.images[:]).all()
        for name in ("ebv", "z_spec", "magnitudes", "object_id", "ra", "dec", "split"):
            assert np.array_equal(cutouts.column(name), getattr(catalogue, name)[:300]), name


def test_file_does_not_depend_on_the_number_of_workers(tmp_path: Path, catalogue: Catalogue) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        make_sample(catalogue.head(100), tmp_path / name, SDSS_IMAGES, seed=7, workers=workers)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_seeds_give_different_noise(tmp_path: Path, catalogue: Catalogue) -> None:
    files = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for seed, path in enumerate(files):
        make_sample(catalogue.head(2), path, SDSS_IMAGES, seed=seed, workers=1)
    with open_cutouts(files[0]) as first, open_cutouts(files[1]) as second:
        assert not np.array_equal(first.images[:], second.images[:])


def test_bands_without_observing_conditions_are_refused(tmp_path: Path, catalogue: Catalogue) -> None:
    with pytest.raises(InvalidDataset, match="cannot draw y"):
        make_sample(catalogue.head(2), tmp_path / "s.h5", ImageSpec(bands="ugriy"))
    assert not list(tmp_path.iterdir())


def test_renders_add_cutouts_of_galaxies_not_for_testing(tmp_path: Path, catalogue: Catalogue) -> None:
    few = catalogue.head(100)
    make_sample(few, tmp_path / "once.h5", SDSS_IMAGES, workers=1)
    make_sample(few, tmp_path / "thrice.h5", SDSS_IMAGES, renders=3, workers=1)
    again = np.tile(np.flatnonzero(few.split != TEST), 2)
    with open_cutouts(tmp_path / "once.h5") as once, open_cutouts(tmp_path / "thrice.h5") as thrice:
        assert len(thrice) == 100 + len(again)
        assert thrice.provenance == f"{once.provenance}; 3 renders of those not tested on"
        np.testing.assert_array_equal(thrice.images[:100], once.images[:])
        for name in ("object_id", "z_spec", "split", "magnitudes"):
            np.testing.assert_array_equal(thrice.column(name)[100:], once.column(name)[again])
        assert not np.isclose(thrice.column("position_angle")[100:], once.column("position_angle")[again]).any()
        first, galaxy = group_by_galaxy(thrice, thrice.rows(TRAIN))
        np.testing.assert_array_equal(np.sort(first), once.rows(TRAIN))
        assert np.bincount(galaxy).tolist() == [3] * len(first)
