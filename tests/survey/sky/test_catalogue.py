"""Lists of galaxies, the catalogue of SDSS, and maps of E(B-V)."""

import re
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")

from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet

from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput, PhotozError
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.io.reader import open_cutouts
from photoz_survey.sky import sdss
from photoz_survey.sky.catalogue import Catalogue
from photoz_survey.sky.cut_out import locate, open_catalogue
from photoz_survey.sky.legacy import LegacySurveys
from photoz_survey.sky.session import ArchiveError
from photoz_survey.sky.source import fitting
from photoz_survey.sky.targets import Targets, read_targets
from tests.survey.loopback_archive import COLUMNS, FWHM


def test_extinction_of_either_release():
    ebv = np.array([0.02, 0.1, 0.5])
    for in_g, in_r in ((3.793, 2.751), (3.303, 2.285)):
        np.testing.assert_allclose(sdss.from_extinction(ebv * in_g, ebv * in_r), ebv)
        np.testing.assert_allclose(sdss.from_extinction([1.004 * in_g, 1.006 * in_g], [in_r, in_r]), [1.0, np.nan])
    assert np.isnan(sdss.from_extinction([0.3], [0.3])).all()


def test_lists_that_cannot_be_used(tmp_path):
    for text, message in [
        ("name,dec\na,1", "lacks ra in degrees; it has name, dec"),
        ("ra,dec\n0,-90\n360,90\n-0.1,2", "got -0.1 2 in row 3"),
        ("ra,dec\n360.1,90", "got 360.1 90 in row 1"),
        ("ra,dec\n0,-90.5", "got 0 -90.5 in row 1"),
        ("ra,dec,object_id\n1,2,a\n1,3,a", "has the object_id 'a' more than once"),
        ("ra,dec,ebv\n1,2,\n1,3,-99", "expected 0 <= ebv <= 10 mag, got -99 for cutout 1; leave it empty where"),
        ("ra,dec,images\n1,2,3", "has a column 'images', as the file of cutouts has: rename it"),
        ("RAB1950,DEB1950\n1,2", "lacks ra and dec in degrees"),
    ]:
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(InvalidDataset, match=message):
            read_targets(tmp_path / "list.csv")


def test_units_and_names_of_the_list_are_read(tmp_path):
    columns = {"TARGETID": [2**62 + 1, 2**62 + 3], "ra": [1.0, 2.0], "dec": [0.5, -0.5], "z": [17.1, 18.2]}
    table = Table(columns, units={"ra": "rad", "dec": "rad", "z": "mag"})
    table.write(tmp_path / "list.fits")
    targets = read_targets(tmp_path / "list.fits")
    assert targets.object_id.tolist() == ["4611686018427387905", "4611686018427387907"]
    np.testing.assert_allclose([targets.ra, targets.dec], np.degrees([columns["ra"], columns["dec"]]))
    assert np.isnan(targets.z_spec).all()
    assert targets.others["z"].tolist() == columns["z"]
    assert targets.notes == ("the column TARGETID is object_id", "converted from rad: ra,dec")
    table["ra"].unit = "km"
    table.write(tmp_path / "list.fits", overwrite=True)
    with pytest.raises(InvalidDataset, match="column 'ra' has the unit km; expected deg, rad or h"):
        read_targets(tmp_path / "list.fits")


def test_a_hats_catalogue_is_read(tmp_path):
    ids = [2**62 + 1, 2**62 + 3]
    for pixel, (object_id, ra) in enumerate(zip(ids, (1.0, 2.0), strict=True)):
        columns = {"_healpix_29": [pixel], "objID": [object_id], "raMean": [ra], "decMean": [-ra], "r": [17.5]}
        folder = tmp_path / "main" / "dataset" / "Norder=0" / "Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(columns), folder / f"Npix={pixel}.parquet")
    (tmp_path / "main" / "hats.properties").write_text("#HATS\nhats_col_ra=raMean\nhats_col_dec = decMean\n")
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=main\n")
    for path in (tmp_path, tmp_path / "main"):
        targets = read_targets(path)
        assert targets.object_id.tolist() == list(map(str, ids))
        assert (targets.ra.tolist(), targets.dec.tolist()) == ([1.0, 2.0], [-1.0, -2.0])
        assert list(targets.others) == ["r"]
    with pytest.raises(InvalidDataset, match=r"dataset has no hats.properties: expected a file, or the folder of a"):
        read_targets(tmp_path / "main" / "dataset")


VOTABLE = """<VOTABLE version="1.3"><RESOURCE><COOSYS ID="old" system="eq_FK4" equinox="B1950"/><COOSYS ID="new"
system="eq_FK5" equinox="J2000"/><TABLE><FIELD name="ra" datatype="double" unit="deg" ref="{}"/><FIELD name="dec"
datatype="double" unit="deg"/><DATA><TABLEDATA><TR><TD>1</TD><TD>2</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE>
</VOTABLE>"""


def test_frames_of_positions_are_icrs(tmp_path):
    for ref, refusal in (("new", nullcontext()), ("old", pytest.raises(InvalidDataset, match="frame eq_FK4 B1950"))):
        (tmp_path / "list.vot").write_text(VOTABLE.format(ref))
        with refusal:
            assert read_targets(tmp_path / "list.vot").ra.tolist() == [1.0]
    for meta, is_old in (({"RADESYS": "FK4"}, True), ({"EQUINOX": 1950.0}, True), ({"EQUINOX": 2000.0}, False)):
        Table({"ra": [1.0], "dec": [2.0]}, meta=meta).write(tmp_path / "list.fits", overwrite=True)
        with pytest.raises(InvalidDataset, match="positions in the frame") if is_old else nullcontext():
            read_targets(tmp_path / "list.fits")


def test_positions_as_vizier_writes_them(tmp_path):
    (tmp_path / "list.csv").write_text(
        "#VizieR\nName;_RAJ2000;_DEJ2000\nM 51;13 29 52.7;+47 11 43\nM 83;13:37:00.9;-29:51:57"
    )
    targets = read_targets(tmp_path / "list.csv")
    assert targets.object_id.tolist() == ["M 51", "M 83"]
    np.testing.assert_allclose([targets.ra, targets.dec], [[202.469583, 204.25375], [47.195278, -29.865833]], atol=1e-6)


def test_columns_of_the_list_are_kept(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    (tmp_path / "list.csv").write_text(f"ra,dec,split,petro_r,field,fwhm\n{ra},{dec},test,17.5,,1.5\n")
    assert sky("--list", tmp_path / "list.csv")[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        found = {name: cutouts.column(name)[0] for name in ("object_id", "split", "petro_r", "run", "field", "fwhm")}
        assert cutouts.provenance.startswith(f"frames of SDSS DR17, cut by photoz {__version__}, astropy ")
    assert found == {"object_id": "0", "split": "test", "petro_r": 17.5, "run": 94, "field": 100, "fwhm": 1.5}


@pytest.mark.parametrize("sql", ["SELECT TOP 1 ra", "main-sample"])
def test_galaxies_of_a_query(sky, archive, tmp_path, sql):
    columns = ("object_id", "ra", "dec", "z_spec", *sdss.EXTINCTION, *sdss.FWHM, *sdss.FIELD_COLUMNS)
    row = (1237663784734621888, *archive.galaxies[1][:2], 0.12, 0.3793, 0.2751, *FWHM, 94, 301, 3, 100)
    archive.sql = f"#Table1\n{','.join(columns)}\n{','.join(map(str, row))}\n".encode()
    assert sky("--sql", sql)[0] == 0
    sent = {"main-sample": sdss.MAIN_SAMPLE_SQL}.get(sql, sql).split()
    assert ([query.split() for query in archive.queries], archive.asked["crossid"]) == ([sent], 0)
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        found = [cutouts.column(name)[0] for name in ("object_id", "z_spec", "fwhm")]
        np.testing.assert_equal(found, ["1237663784734621888", 0.12, FWHM])
        np.testing.assert_allclose(cutouts.column("ebv"), 0.1, rtol=1e-6)
        assert not {*sdss.FWHM} & cutouts.columns.keys()
        assert cutouts.images[0, ..., 0].sum() == pytest.approx(20, rel=0.005)
    for archive.sql, message in [
        (b"#Table1\nra,dec\n", "the query found no galaxies"),
        (b"No entries have been found", "the query found no galaxies"),
        (b"Maximum 60 queries per minute", "gave no table; it said 'Maximum 60 queries per minute'"),
        (b"<html><h1>We are\n closed</h1></html>", "gave no table; it said 'We are closed'"),
        (b'[{"error": "x"}]', 'gave no table; it said \'\\[{"error": "x"}\\]\''),
        (b"#Table1\nra,dec\n1,2\n1", "line 4 has 1 fields"),
    ]:
        for _ in range(2):  # what is no table is not kept
            with pytest.raises(PhotozError, match=message):
                sdss.query(sql, Catalogue(archive.url, tmp_path / "none", time.time()))
    archive.faults["/dr17/en/tools/search/x_results.aspx"] = [
        lambda handler: handler.answer(500, b"Incorrect syntax near 'FORM'") or True
    ] * 3
    with pytest.raises(ArchiveError, match="it said 500 'Internal Server Error': \"Incorrect syntax near 'FORM'\""):
        sdss.query(sql, Catalogue(archive.url, tmp_path / "none"))


@pytest.mark.parametrize("column", ["object_id", "objID", "bestObjID"])
def test_identifiers_keep_all_digits_beside_unknown_ones(sky, archive, tmp_path, column):
    ids = ["1237648720693755901", "", "1237648720693755902"]
    rows = [
        f"{ra},{dec},{name},{n}" for (ra, dec, _), name, n in zip(archive.galaxies, ids, ["1", "2", ""], strict=False)
    ]
    (tmp_path / "list.csv").write_text("\n".join([f"ra,dec,{column},n", *rows]))
    archive.sql = b"#Table1\n" + (tmp_path / "list.csv").read_bytes()
    for given in (("--list", tmp_path / "list.csv"), ("--sql", "SELECT")):
        assert sky(*given)[0] == 0
        with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
            assert cutouts.column("bestObjID" if column == "bestObjID" else "object_id").tolist() == ids
            np.testing.assert_equal(cutouts.column("n"), [1, 2, np.nan])


def test_a_large_answer_is_divided_and_counted(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("photoz_survey.sky.catalogue.MAX_ROWS", 4)
    rows = [(ra, 2.0, number) for number, ra in enumerate((0, 1, 90, 100, 101, 102, 179.9, 180, 359.9))]
    counted = len(rows)

    def answer(sql):
        if "COUNT(*)" in sql:
            return b"#Table1\nn\n%d\n" % counted
        low, high = map(float, re.findall(r"q\.ra (?:>=|<) ([\d.]+)", sql) or (0, 361))
        found = [row for row in rows if low <= row[0] < high][:4]
        return "\n".join(["#Table1", "ra,dec,object_id", *(",".join(map(str, row)) for row in found), ""]).encode()

    archive.sql, catalogue = answer, Catalogue(archive.url, tmp_path)
    assert sdss.query("SELECT 1;", catalogue).object_id.tolist() == [str(number) for number in range(9)]
    assert archive.queries[1].strip().startswith("SELECT * FROM (SELECT 1) AS q WHERE q.ra >= 0.0 AND q.ra < 180.0")
    n_asked = len(archive.queries)
    sdss.query("SELECT 1", replace(catalogue, offline=True))
    assert len(archive.queries) == n_asked
    counted = 10
    with pytest.raises(ArchiveError, match=r"the catalogue counts 10 rows, and gave 9 in \d parts"):
        sdss.query("SELECT 2", catalogue)


def test_answers_are_kept_by_address_and_query_for_a_while(archive, tmp_path, monkeypatch):
    archive.sql = b"#Table1\nra,dec\n1,2\n"
    targets = Targets.of(10.0, 10.0)
    for number, (address, newest, offline) in enumerate(
        [(archive.url, 0, False), (archive.url, 0, True), (f"{archive.url}/", time.time() + 9, False)], 1
    ):
        catalogue = Catalogue(address, tmp_path, newest, offline)
        for _ in range(2):
            sdss.query("SELECT 1", catalogue)
            sdss.locate(targets, catalogue)
        assert (len(archive.queries), archive.asked["crossid"]) == ((1, 1) if number < 3 else (3, 3))
    sdss.query("SELECT 2", catalogue)
    assert len(archive.queries) == 4
    with pytest.raises(ArchiveError, match="not known, and nothing is asked offline"):
        sdss.query("SELECT 3", Catalogue(archive.url, tmp_path, offline=True))
    given = {"catalogue": archive.url, "cache": tmp_path, "offline": False}
    ages = [time.time() - open_catalogue(**given, refresh=refresh).newest for refresh in (True, False)]
    assert np.round(ages) == pytest.approx([0, 30 * 86_400], abs=60)


@pytest.mark.parametrize("answer", [(200, b"Please wait"), (500, b"Please wait"), (200, b"")])
def test_an_answer_about_positions_that_is_no_table_is_quoted(sky, archive, positions, answer):
    archive.crossid = answer
    status, _, err = sky("--list", positions)
    assert (status, "gave no table; it said " in err, repr(answer[1].decode()) in err) == (1, True, True)
    archive.crossid = (200, b"No objects have been found")
    assert "1 of 5" not in sky("--list", positions)[2]


@pytest.mark.parametrize("content", ["busy", COLUMNS[:30], "name,ra\nrow0,1", COLUMNS, "No objects found"])
def test_an_answer_about_positions_that_lacks_columns_is_not_kept(sky, archive, positions, content):
    is_large = content.endswith((COLUMNS, "found"))
    archive.crossid = (200, content.encode() + b"\n" * (2**16 if is_large else 1))
    status, _, err = sky("--list", positions)
    assert (status, "gave no such table: " in err) == (1, True)
    archive.crossid = None
    assert "4 of 5 have cutouts" in sky("--list", positions)[2]


def test_a_redirect_keeps_the_positions(sky, archive, positions, tmp_path):
    archive.faults["crossid"] = ["302 Location: /dr17/elsewhere"]
    assert "4 of 5 have cutouts" in sky("--list", positions)[2]
    assert archive.asked["crossid"] == 2


def test_stars_are_counted_aloud(sky, archive, positions, tmp_path):
    archive.catalogue[0] = (*archive.catalogue[0], "STAR")
    status, _, err = sky("--list", positions)
    assert (status, "1 of 5 galaxies are stars in the catalogue\n" in err) == (0, True)
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.column("type").tolist() == ["STAR", *["GALAXY"] * 3]


def test_positions_are_found_in_blocks_and_once(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(sdss, "AT_ONCE", 2)
    catalogue, offline = Catalogue(archive.url, tmp_path), Catalogue(archive.url, tmp_path / "none", offline=True)
    ra, dec, _ = np.transpose(archive.galaxies)
    ra, dec, unknown = np.append(ra, 10.0), np.append(dec, 4.9 / 3600), np.full(5, np.nan)
    archive.catalogue.append((10.0, 0.0, 7, 0.3793, 0.2751))  # 4.9 arcsec from the last
    targets = Targets(np.arange(5).astype(str), ra, dec, unknown, unknown)
    for _ in range(2):
        found = sdss.locate(targets, catalogue)
        assert sdss.fields(found).tolist() == [[94, 301, 3, 100]] * 4 + [[94, 301, 3, 7]]
        np.testing.assert_allclose(found.ebv, 0.1)
        assert archive.asked["crossid"] == 3
    without = replace(found.take(np.arange(1)), ebv=np.full(1, np.nan))  # the field is known
    np.testing.assert_allclose(sdss.locate(without, catalogue).ebv, 0.1)
    known = sdss.locate(found.take(np.arange(2)), offline)
    np.testing.assert_allclose(known.others["fwhm"], [FWHM] * 2)
    assert np.isnan(sdss.locate(targets, offline).ebv).all()
    beyond = Targets.of(10.0, 5.1 / 3600)
    assert sdss.fields(sdss.locate(beyond, catalogue)).tolist() == [[-1] * 4]


def test_maps_give_the_reddening_that_is_unknown(tmp_path):
    targets = Targets.of(192.86, 27.13), Targets.of(12.86, -27.13)  # the Galactic poles
    for name, sign, ebv in (("ngp", 1, 0.02), ("sgp", -1, 0.03)):  # as those of Schlegel, Finkbeiner and Davis
        hdu = fits.PrimaryHDU(np.full((64, 64), ebv, np.float32))
        hdu.header.update({"CRPIX1": 32.5, "CRPIX2": 32.5, "LAM_SCAL": 32, "LAM_NSGP": sign})
        hdu.writeto(tmp_path / f"SFD_dust_4096_{name}.fits")
    source = LegacySurveys.of("", "ls-dr9", None)
    found = [locate(target, tmp_path, source).ebv for target in targets]
    np.testing.assert_allclose(np.ravel(found), [0.02, 0.03], rtol=1e-6)  # not 0.86 of it
    known = targets[0].with_ebv(np.array([0.05]))
    assert locate(known, tmp_path, source).ebv.tolist() == [0.05]
    assert np.isnan(locate(targets[0], None, source).ebv)
    with pytest.raises(InvalidInput, match=r"expected the maps .*; missing: SFD_dust_4096_ngp\.fits, SFD"):
        locate(known, tmp_path / "none", source)


def test_a_source_fits_models_of_some_bands_and_any_size():
    wanted = ImageSpec(size=32, bands="g", pixel_scale=0.4, extinction_coefficients=(3.793 * 1.009,))
    unlike = replace(wanted, extinction_coefficients=(3.834,))
    assert fitting("SDSS", SDSS_IMAGES, wanted) == replace(wanted, pixel_scale=0.396)
    for other, message in [
        (ImageSpec(bands="gry"), "the model takes the band y, and SDSS has u,g,r,i,z"),
        (ImageSpec(pixel_scale=0.262), "takes pixels of 0.262 arcsec, and those of SDSS are 0.396 arcsec"),
        (ImageSpec(unit="Jy"), "takes pixels in Jy, and those of SDSS are in nanomaggy"),
        (unlike, "another g band than that of SDSS: A/E(B-V) is 3.834 there"),
    ]:
        with pytest.raises(InvalidInput, match=re.escape(message)):
            fitting("SDSS", SDSS_IMAGES, other)
