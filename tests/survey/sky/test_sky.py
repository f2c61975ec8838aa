"""`photoz sky`: from positions to cutouts and redshifts, against an archive on this machine."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]: pip install 'photoz[sky]'")

from astropy.table import Table
from astroquery.sdss import conf

from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput
from photoz.images import SDSS_IMAGES
from photoz.inference.predictor import Predictor
from photoz.io.reader import open_cutouts
from photoz_survey.sky.archive import FileCache
from photoz_survey.sky.catalogue import Catalogue
from photoz_survey.sky.cut_out import open_source
from photoz_survey.sky.cutout_file import NOT_FOUND
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import TIMEOUT, LegacySurveys
from photoz_survey.sky.position import cut_out_position
from photoz_survey.sky.session import ArchiveError
from tests.survey.loopback_archive import DEC, FWHM, RA, SHAPE, around, frame_bytes, frame_path, frame_wcs
from tests.toys import toy_batch, write_toy_bundle


def images_of(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:]


def test_a_list_becomes_cutouts(photoz, where, archive, positions, tmp_path, monkeypatch):
    output, ledger = tmp_path / "cutouts.h5", tmp_path / "cutouts.ledger.csv"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    archive.catalogue[1] = (*archive.galaxies[1][:2], 101, 0.3793, 0.2751)  # its cutout begins in the frame before
    command = ("sky", "--list", positions, *where, "-o", output, "--workers", 1, "--rate", 1000)
    unknown = "the column redshift is z_spec\nE(B-V) of 1 of 5 galaxies is unknown\n"
    summary = f"{output}: 4 of 5 have cutouts; 1 failed: {NOT_FOUND}; see {ledger}\n"
    assert photoz(*command) == (0, "", unknown + summary)
    with open_cutouts(output) as cutouts:
        images, columns = cutouts.images[:], dict(cutouts.columns)
        assert cutouts.spec.bands == tuple("ugriz")
    assert images.shape == (4, 64, 64, 5)
    assert columns["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(columns["ebv"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(columns["fwhm"], np.tile(FWHM, (4, 1)))
    assert columns["z_spec"].tolist() == [0.1] * 4
    fluxes = np.outer([10, 20, 30, 40], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), fluxes, rtol=0.005)  # the second and last from two frames
    header, *done, failed = ledger.read_text().splitlines()[1:]
    assert (header, failed) == (
        "object_id,ra,dec,status,reason,when,tries",
        f'far,10.0,10.0,failed,"{NOT_FOUND}",1970-01-01T00:00:00Z,1',
    )
    assert [line.split(",", 3)[3] for line in done] == ["done,,1970-01-01T00:00:00Z,1"] * 4
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    assert archive.agents == {f"photoz/{__version__}"}
    assert not list(tmp_path.glob("*.parts"))
    asked = archive.asked.total()
    assert photoz(*command) == (0, "", unknown + summary)  # again: it asks for the rest only
    np.testing.assert_array_equal(images_of(output), images)
    assert archive.asked.total() == asked
    assert ledger.read_text().endswith("Z,2\n")
    content = output.read_bytes()
    positions.write_text("ra,dec\n10,10\n")
    status, _, err = photoz(*command)
    message = f"Error: {output} exists: choose another name, or replace it with --overwrite"
    assert (status, err.splitlines()[-1], output.read_bytes()) == (2, message, content)


def test_a_frame_that_is_missing_is_the_reason_unless_it_is_a_neighbour(
    photoz, where, sky, archive, positions, tmp_path
):
    del archive.files[frame_path("i", 100)], archive.files[frame_path("z", 101)]
    status, _, err = sky("--list", positions)
    assert (status, (tmp_path / "cutouts.h5").exists()) == (1, False)
    assert "Error: 0 of 5 have cutouts; 4 failed: 404, not found; 1 failed: no object of the catalogue is near" in err
    assert "frame-i-000094-3-0100.fits.bz2: 404, not found" in (tmp_path / "cutouts.ledger.csv").read_text()
    archive.files[frame_path("i", 100)] = frame_bytes(np.ones(SHAPE), frame_wcs(RA, DEC, 0.0, SHAPE), "i")
    assert sky("--list", positions)[0] == 0  # it is asked for again
    beyond = np.isnan(images_of(tmp_path / "cutouts.h5")).any(axis=(1, 2))
    np.testing.assert_array_equal(beyond, [[False] * 5] * 3 + [[False] * 4 + [True]])
    asked, (ra, dec, _) = archive.asked.total(), archive.galaxies[1]
    positions.write_text(f"ra,dec,run,rerun,camcol,field\n{ra},{dec},94,301,3,100\n")
    status, _, err = sky("--list", positions, "--offline")
    assert (status, "E(B-V) of 1 of 1 galaxy is unknown\n" in err, "1 of 1 have cutouts" in err) == (0, True, True)
    assert (archive.asked.total(), len(images_of(tmp_path / "cutouts.h5"))) == (asked, 1)


@pytest.mark.parametrize("fault", ["503", "500", "403", "page"])
def test_a_neighbour_that_cannot_be_had_is_a_failure(sky, archive, positions, tmp_path, fault):
    path = frame_path("r", 101)
    archive.faults[path] = [fault if fault != "page" else lambda handler: handler.answer(200, b"<p>log in") or True] * 9
    status, _, err = sky("--list", positions)
    said = {"page": "expected an image in a FITS file, got 9 bytes: 'log in'"}.get(fault, f"1 failed: {fault} '")
    assert (status, "3 of 5 have cutouts; 1 failed: " in err, said in err) == (0, True, True)
    first = images_of(tmp_path / "cutouts.h5")
    archive.faults.clear()
    archive.asked.clear()
    assert "4 of 5 have cutouts" in sky("--list", positions)[2]
    assert set(archive.asked) == {frame_path(band, 101) for band in "riz"}
    images = images_of(tmp_path / "cutouts.h5")
    np.testing.assert_array_equal(images[:3], first)
    assert images[3].sum(axis=(0, 1)) == pytest.approx(40 * np.arange(1, 6), rel=0.005)
    ledger = (tmp_path / "cutouts.ledger.csv").read_text().splitlines()[2:]
    assert [line[-1] for line in ledger] == ["1", "1", "1", "2", "2"]


def test_a_redirect_to_another_host_is_said_in_the_summary(sky, archive, positions):
    archive.faults[frame_path("u", 100)] = ["302 Location: http://127.0.0.1:9/secret"]
    said = "4 failed: it redirects to another host, 'http://127.0.0.1:9/secret': give that as the address"
    assert said in sky("--list", positions)[2]


@pytest.mark.parametrize("name", ["RUN", "CAMCOL", "FRAME", "FILTER", "RERUN"])
def test_a_frame_of_another_field_is_refused(sky, archive, positions, tmp_path, name):
    wrong = {name: "g" if name == "FILTER" else 105}
    right, wcs = archive.files[frame_path("r", 100)], frame_wcs(RA, DEC, 0.0, SHAPE)
    archive.files[frame_path("r", 100)] = frame_bytes(np.ones(SHAPE), wcs, "r", 100, **wrong)
    status, _, err = sky("--list", positions)
    assert (status, f"4 failed: frame-r-000094-3-0100.fits: its header has {name} = " in err) == (1, True)
    archive.files[frame_path("r", 100)] = right
    assert sky("--list", positions)[0] == 0


def test_only_the_frames_that_a_cutout_needs_are_fetched(sky, archive, tmp_path):
    for east, n_frames in ((62.0, 5), (0.0, 5)):  # the first is at the edge beyond which there is no frame
        archive.asked.clear()
        (tmp_path / "list.csv").write_text("ra,dec,run,rerun,camcol,field\n{},{},94,301,3,100".format(*around(east, 0)))
        assert sky("--list", tmp_path / "list.csv", "--cache", tmp_path / f"{east}")[0] == 0
        assert sum(n for path, n in archive.asked.items() if "frame-" in path) == n_frames
        assert np.isnan(images_of(tmp_path / "cutouts.h5")).any() == (east > 0)
    archive.asked.clear()
    rows = [f"{ra},{dec},94,301,3,101" for ra, dec in (around(0, 43.5), around(1, 43.5))]
    (tmp_path / "list.csv").write_text("\n".join(["ra,dec,run,rerun,camcol,field", *rows]))
    archive.files = {path: content for path, content in archive.files.items() if "-0101.fits" in path}
    assert sky("--list", tmp_path / "list.csv", "--size", 256, "--cache", tmp_path / "large")[0] == 0
    assert [archive.asked[frame_path("r", field)] for field in (100, 101, 102)] == [1, 1, 1]  # for two galaxies


def test_options_describe_the_archive():
    given = {"archive": None, "catalogue": None, "size": None, "cache": Path("c"), "cache_gb": 0.5, "rate": 10.0}
    open_ = partial(open_source, workers=2, **{"offline": False, "refresh": False, **given})
    files, image = FileCache(Path("c"), 500_000_000, interval=0.2), replace(SDSS_IMAGES, size=32)
    assert open_("sdss") == SdssFrames(conf.sas_baseurl, Catalogue(conf.skyserver_baseurl, Path("c")), files)
    offline = Catalogue("http://b", Path("c"), offline=True)
    expected = SdssFrames("http://a", offline, replace(files, offline=True), image)
    assert open_("sdss", offline=True, archive="http://a", catalogue="http://b", size=32) == expected
    address = "https://www.legacysurvey.org/viewer/fits-cutout"
    assert open_("ls-dr9") == LegacySurveys.of(address, "ls-dr9", replace(files, timeout=TIMEOUT))


def test_a_position_is_cut_out_by_a_function_as_by_the_command(sky, archive, where, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    found = cut_out_position(f"{ra} {dec}", where)
    assert sky(ra, dec)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        expected = (cutouts.images[:], cutouts.spec, cutouts.provenance, dict(cutouts.columns))
    np.testing.assert_equal((found.images, found.spec, found.provenance, dict(found.columns)), expected)
    for at, options, error, message in [
        (10.0, (), InvalidDataset, "no cutout of 1 position: no object of the catalogue"),
        (ra, ("--archive", archive.url, "--cache", str(tmp_path)), ArchiveError, "position: .*: 404, not found"),
        (ra, ("1", "2"), InvalidInput, "expected options of photoz sky, got 1 2"),
        (ra, ("--size", "1"), InvalidInput, "Invalid value for '--size'"),
        (ra, ("--cache", str(tmp_path / "cutouts.h5/cache")), ArchiveError, "Not a directory"),
    ]:
        with pytest.raises(error, match=message):
            cut_out_position(f"{at} {dec}", (*where, *options))


def test_commands_that_are_refused(photoz):
    for arguments, message in [
        ("", "expected one of: a position, --list FILE, --sql QUERY"),
        ("--sql x --list y", "expected one of"),
        ("150", "expected RA and Dec in degrees, sexagesimal RA in hours and Dec, or the name of an object, got '150'"),
        ("--lits x", "No such option '--lits'"),
        ("150 2 --pdf", "--result, --pdf and --json need --score"),
        ("150 2 --score x --size 32", "--size is that of the model"),
        ("150 2 --score x --result z.txt", "z.txt should end in .csv"),
        ("150 2 -o x.fits", "cutouts are written as HDF5: expected a name that ends in .h5, got x.fits"),
        ("400 -2.5", "expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 -2.5"),
        ("1 -2 --catalogue http://127.0.0.1:9", "127.0.0.1:9 cannot be reached: Failed to establish a new connection"),
    ]:
        status, _, err = photoz("sky", *arguments.split())
        assert (status in (1, 2), message in err) == (True, True), arguments


def test_redshifts_by_a_bundle(sky, positions, tmp_path):
    bundle = write_toy_bundle(tmp_path, spec=SDSS_IMAGES, takes_ebv=True)
    options = ("--list", positions, "--score", bundle.path)
    status, out, _ = sky(*options)
    assert (status, [line.split()[0] for line in out.splitlines()]) == (0, ["object_id", "0", "1", "2", "3"])
    assert sky(*options, "--pdf", "--result", tmp_path / "z.fits")[:2] == (0, "")
    assert sky(*options, "--result", tmp_path / "z.qp.hdf5")[0] == 0
    record = json.loads(sky(*options, "--json")[1])
    table = Table.read(tmp_path / "z.fits")
    batch = toy_batch(images_of(tmp_path / "cutouts.h5"), bundle.card, np.full(4, 0.1))
    expected = Predictor.load(bundle).predict(batch)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    np.testing.assert_allclose(table["pdf"], expected.pdf, rtol=1e-5)
    np.testing.assert_allclose(table["z_mean"], expected.z_mean)
    np.testing.assert_allclose(record["z_mean"], expected.z_mean)
    assert "pdf" not in record


def test_redshifts_by_a_service(sky, archive, positions, service_url, card, tmp_path):
    assert sky("--list", positions, "--score", service_url, "--pdf", "--result", tmp_path / "z.fits")[0] == 0
    table = Table.read(tmp_path / "z.fits")
    np.testing.assert_allclose(table["ra"], [ra for ra, _, _ in archive.galaxies], atol=1e-6)
    np.testing.assert_allclose(table["pdf"] @ card.grid.centres, table["z_mean"], atol=1e-4)


def test_a_model_of_another_survey_is_refused_before_anything_is_fetched(sky, archive, positions, bundle):
    error = sky("--list", positions, "--score", bundle.path, "--source", "ls-dr9")[2]
    assert "trained on another g band than that of layer ls-dr9 of the Legacy Surveys: A/E(B-V) is 3.793 there" in error
    assert not archive.asked


@pytest.mark.parametrize(
    ("shape", "cards"),
    [
        ((3, 8, 8), {}),
        (SHAPE, {"CTYPE1": "FOO", "CTYPE2": "BAR"}),
        (SHAPE, {"CDELT1": 1e-300, "CDELT2": 1e-300}),
        (SHAPE, {"CDELT1": 0.5}),
        (SHAPE, {"CDELT1": 4.0, "CDELT2": 0.25}),
        (SHAPE, {"A_ORDER": 10}),
        (SHAPE, {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e30}),
    ],
)
def test_a_frame_that_is_no_image_of_the_sky_is_not_kept(sky, archive, positions, shape, cards):
    path = frame_path("u", 100)
    archive.files[path], good = (
        frame_bytes(np.ones(shape), frame_wcs(RA, DEC, 0, SHAPE), "u", **cards),
        archive.files[path],
    )
    status, _, err = sky("--list", positions)
    assert (status, "failed: frame-u-000094-3-0100.fits: " in err) == (1, True)
    archive.files[path] = good
    assert "4 of 5 have cutouts" in sky("--list", positions)[2]
