from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from photoz.errors import InvalidDataset, UnsupportedType
from photoz.images import ImageSpec
from training.catalogue import Catalogue, read_kcorrect
from training.catalogue_reader import read_catalogue

MAGNITUDES = pd.DataFrame(
    {"mag_g": [18.0, 19.0, np.nan], "r": [17.5, 18.0, 17.0], "i": [17.0, 17.4, 16.0], "specz": [0.1, 0.2, 0.3]}
)
COLUMNS = {"g": "mag_g", "z_spec": "specz"}


def test_kcorrect_has_9986_galaxies_with_a_fixed_split(catalogue: Catalogue) -> None:
    order = np.random.default_rng(0).permutation(9986)
    assert len(catalogue) == 9986
    assert np.array_equal(np.sort(order[8000:]), np.flatnonzero(catalogue.split == "test"))
    assert {name: int((catalogue.split == name).sum()) for name in ("train", "validation", "test")} == {
        "train": 7200,
        "validation": 800,
        "test": 1986,
    }


def test_reddening_is_on_the_sfd_scale(catalogue: Catalogue) -> None:
    # EXTINCTION_r of the first row is 0.14023; Schlafly and Finkbeiner's 2.285 would give 0.0614.
    assert catalogue.ebv[0] == pytest.approx(0.14023204 / 2.751)


def test_kcorrect_returns_bands_in_the_requested_order(catalogue: Catalogue) -> None:
    swapped = read_kcorrect(("z", "g"))
    assert np.array_equal(swapped.fluxes, catalogue.fluxes[:, [4, 1]])
    with pytest.raises(InvalidDataset, match="ugriz|u,g,r,i,z"):
        read_kcorrect(("g", "y"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_all_formats_give_the_same_galaxies(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"galaxies{suffix}"
    match suffix:
        case ".csv":
            MAGNITUDES.to_csv(path, index=False)
        case ".parquet":
            MAGNITUDES.to_parquet(path)
        case ".fits":
            Table({name: MAGNITUDES[name].to_numpy() for name in MAGNITUDES}).write(path)
    galaxies = read_catalogue(path, COLUMNS, ImageSpec(bands=("g", "r", "i")), are_magnitudes=True)
    assert len(galaxies) == 2  # not the row without a g magnitude
    np.testing.assert_allclose(galaxies.magnitudes, [[18.0, 17.5, 17.0], [19.0, 18.0, 17.4]])
    np.testing.assert_allclose(galaxies.fluxes[0], 10 ** (0.4 * (22.5 - np.array([18.0, 17.5, 17.0]))))
    np.testing.assert_allclose(galaxies.z_spec, [0.1, 0.2])
    assert galaxies.object_id.tolist() == ["0", "1"]


def test_fluxes_are_not_converted(tmp_path: Path) -> None:
    path = tmp_path / "fluxes.csv"
    pd.DataFrame({"g": [10.0, -1.0], "r": [20.0, 5.0]}).to_csv(path, index=False)
    galaxies = read_catalogue(path, {}, ImageSpec(bands=("g", "r")), are_magnitudes=False)
    np.testing.assert_allclose(galaxies.fluxes, [[10.0, 20.0]])
    assert np.isnan(galaxies.z_spec).all()


def test_missing_band_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "galaxies.csv"
    MAGNITUDES.to_csv(path, index=False)
    with pytest.raises(InvalidDataset, match=r"lacks the columns u=u; it has mag_g, r, i, specz"):
        read_catalogue(path, COLUMNS, ImageSpec(bands=("u", "g")), are_magnitudes=True)


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match=r"'\.xlsx': expected \.csv, \.ecsv, \.fits, \.parquet, \.vot or \.xml"):
        read_catalogue(tmp_path / "galaxies.xlsx", {}, ImageSpec(bands=("g",)), are_magnitudes=True)
