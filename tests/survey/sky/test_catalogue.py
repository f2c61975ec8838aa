"""Lists of galaxies, SDSS's catalogue, and E(B-V) from either or from maps."""

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from astropy.io import fits

from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput
from photoz.io.reader import open_cutouts
from photoz_survey.sky import sdss
from photoz_survey.sky.cut_out import from_maps
from photoz_survey.sky.sdss import from_extinction
from photoz_survey.sky.targets import Targets, read_targets
from tests.survey.loopback_archive import (
    FWHM,
)


def test_extinction_of_either_release():
    ebv = np.array([0.02, 0.1, 0.5])
    for in_g, in_r in ((3.793, 2.751), (3.303, 2.285)):
        np.testing.assert_allclose(from_extinction(ebv * in_g, ebv * in_r), ebv)
    assert np.isnan(from_extinction([0.3], [0.3])).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,dec\na,1\n", "lacks ra in degrees; it has name, dec"),
        ("ra,dec\n10,1\n361,2\n", "got 361 2 in row 2"),
        ("ra,dec,object_id\n1,2,a\n1,3,a\n", "has the object_id 'a' more than once"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InvalidDataset, match=message):
        read_targets(tmp_path / "list.csv")


def test_columns_of_the_list_are_kept(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    (tmp_path / "list.csv").write_text(f"ra,dec,split,petro_r,field\n{ra},{dec},test,17.5,\n")
    assert sky("--list", tmp_path / "list.csv")[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        found = {name: cutouts.column(name)[0] for name in ("split", "petro_r", "run", "field")}
        assert cutouts.provenance.startswith(f"frames of SDSS DR17, cut by photoz {__version__}, astropy ")
    assert found == {"split": "test", "petro_r": 17.5, "run": 94, "field": 100}


@pytest.mark.parametrize(("sql", "sent"), [("SELECT TOP 1 ra FROM x", "SELECT TOP 1 ra FROM x"), ("main-sample", None)])
def test_galaxies_of_a_query(sky, archive, tmp_path, sql, sent):
    columns = ("object_id", "ra", "dec", "z_spec", *sdss.EXTINCTION, *sdss.FWHM, *sdss.FIELD_COLUMNS)
    row = (1237663784734621888, *archive.galaxies[1][:2], 0.12, 0.3793, 0.2751, *FWHM, 94, 301, 3, 100)
    archive.sql = f"#Table1\n{','.join(columns)}\n{','.join(map(str, row))}\n".encode()
    status, _, err = sky("--sql", sql)
    assert status == 0, err
    assert [query.split() for query in archive.queries] == [(sent or sdss.MAIN_SAMPLE_SQL).split()]
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.column("object_id").tolist() == ["1237663784734621888"]
        assert cutouts.column("z_spec").tolist() == [0.12]
        np.testing.assert_allclose(cutouts.column("ebv"), 0.1, rtol=1e-6)
        np.testing.assert_allclose(cutouts.column("fwhm"), [FWHM])
        assert cutouts.images[0, ..., 0].sum() == pytest.approx(20, rel=0.005)


def test_a_query_that_is_refused(sky, archive):
    archive.sql = b"<html>Your query has a mistake</html>"
    status, _, err = sky("--sql", "SELECT")
    assert status == 1
    assert f"Error: the catalogue at {archive.url} gave no positions: " in err


def write_maps(folder, ebv):
    """Write small maps in the form of those of Schlegel, Finkbeiner and Davis, with a value for each hemisphere."""
    folder.mkdir()
    for name, sign, value in (("ngp", 1, ebv[0]), ("sgp", -1, ebv[1])):
        hdu = fits.PrimaryHDU(np.full((64, 64), value, np.float32))
        hdu.header.update({"CRPIX1": 32.5, "CRPIX2": 32.5, "LAM_SCAL": 32, "LAM_NSGP": sign})
        hdu.writeto(folder / f"SFD_dust_4096_{name}.fits")
    return folder


def test_reddening_of_maps(tmp_path):
    north, south = (192.86, 27.13), (12.86, -27.13)  # the Galactic poles
    unknown = np.full(2, np.nan)
    targets = Targets(np.array(["a", "b"]), *np.array([north, south]).T, unknown, unknown)
    found = from_maps(targets, write_maps(tmp_path / "maps", (0.02, 0.03)))
    np.testing.assert_allclose(found, [0.02, 0.03], rtol=1e-6)  # not 0.86 of it
    with pytest.raises(InvalidInput, match=r"expected the maps .*SFD_dust_4096_ngp\.fits"):
        from_maps(targets, tmp_path)


def test_what_is_known_comes_before_the_maps(sky, archive, positions, tmp_path):
    maps = write_maps(tmp_path / "maps", (0.7, 0.7))
    (tmp_path / "list.csv").write_text(
        "ra,dec,ebv\n"
        + "\n".join(f"{ra},{dec},{ebv}" for (ra, dec, _), ebv in zip(archive.galaxies, (0.05, ""), strict=False))
    )
    assert sky("--list", tmp_path / "list.csv", "--sfd", maps)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        np.testing.assert_allclose(cutouts.column("ebv"), [0.05, 0.7], rtol=1e-6)
