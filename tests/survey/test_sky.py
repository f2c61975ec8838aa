"""`photoz sky`: from positions to cutouts, against an archive on this machine."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from astropy.io import fits
from astropy.table import Table

from photoz import __version__
from photoz.errors import InvalidDataset, InvalidInput
from photoz.images import SDSS_IMAGES, ImageSpec
from photoz.inference.predictor import Predictor
from photoz.io.reader import open_cutouts
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import ArchiveError, FileCache
from photoz_survey.sky.command import sky as sky_command
from photoz_survey.sky.cutout_file import NOT_FOUND, write_cutouts
from photoz_survey.sky.frames import SdssFrames
from photoz_survey.sky.legacy import EXTINCTION, LAYERS, LegacySurveys
from photoz_survey.sky.position import cut_out_position
from photoz_survey.sky.reddening import from_extinction, from_maps
from photoz_survey.sky.source import fitting
from photoz_survey.sky.targets import Targets, read_targets
from tests.running import ROOT
from tests.survey.loopback_archive import FWHM, draw, frame_bytes, frame_path, frame_wcs, running_archive
from tests.toys import toy_batch, write_toy_bundle
from training.imaging_surveys import read_survey

RA, DEC = 150.1, 2.2
SHAPE = (420, 500)


def around(x, y):
    """Return a position so many arcsec east and north of the field's."""
    return RA + x / 3600 / np.cos(np.radians(DEC)), DEC + y / 3600


@pytest.fixture
def archive():
    """An archive with two fields that overlap by 128 rows, as in a scan, each with galaxies in all bands."""
    first = frame_wcs(RA, DEC, 0.0, SHAPE)
    second = first.deepcopy()
    second.wcs.crpix = second.wcs.crpix - [0, SHAPE[0] - 128]  # the same sky, later
    places = [around(x, y) for x, y in [(0, 0), (30, 10), (-40, -30), (0, 76)]]
    galaxies = [(ra, dec, 10.0 * (number + 1)) for number, (ra, dec) in enumerate(places)]
    with running_archive() as archive:
        for field, wcs in ((100, first), (101, second)):
            for number, band in enumerate("ugriz"):
                brighter = [(ra, dec, (number + 1) * flux) for ra, dec, flux in galaxies]
                archive.files[frame_path(band, field)] = frame_bytes(draw(wcs, SHAPE, brighter), wcs)
        # The last reaches beyond the first frame.
        archive.catalogue = [(ra, dec, 100, 0.1 * 3.793, 0.1 * 2.751) for ra, dec, _ in galaxies]
        archive.galaxies = galaxies
        yield archive


@pytest.fixture
def sky(photoz, archive, tmp_path):
    """Return a function that runs the command."""

    def sky(*arguments):
        where = ("--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", str(tmp_path / "frames"))
        return photoz("sky", *map(str, arguments), "-o", str(tmp_path / "cutouts.h5"), *where, "--workers", "2")

    return sky


@pytest.fixture
def positions(archive, tmp_path):
    path = tmp_path / "positions.csv"
    rows = [f"{number},{ra:.7f},{dec:.7f},0.1" for number, (ra, dec, _) in enumerate(archive.galaxies)]
    path.write_text("\n".join(["object_id,RA,Dec,redshift", *rows, "far,10.0,10.0,0.2"]) + "\n")
    return path


def test_a_list_becomes_cutouts(sky, archive, positions, tmp_path):
    status, out, err = sky("--list", positions)
    assert status == 0, err
    assert "some positions have no cutout: see" in err
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        images, columns = cutouts.images[:], dict(cutouts.columns)
        assert cutouts.spec.bands == tuple("ugriz")
    assert images.shape == (4, 64, 64, 5)
    assert columns["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(columns["ebv"], 0.1, rtol=1e-6)
    np.testing.assert_allclose(columns["fwhm"], np.tile(FWHM, (4, 1)))
    assert columns["z_spec"].tolist() == [0.1] * 4
    expected = np.outer([10, 20, 30, 40], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), expected, rtol=0.005)  # the last one from two frames
    failed = (tmp_path / "cutouts.failed.csv").read_text().splitlines()
    assert failed == ["object_id,ra,dec,reason", f'far,10.0,10.0,"{NOT_FOUND}"']
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    assert archive.agents == {f"photoz/{__version__}"}
    assert not list(tmp_path.glob("*.parts"))


def test_faults_of_the_archive_cost_nothing(sky, archive, positions, tmp_path):
    faults = {"u": ["500"], "g": ["reset"], "r": ["cut", "cut"], "i": ["cut", "500", "reset"], "z": ["page", "slow"]}
    for band, found in faults.items():
        archive.faults[frame_path(band, 100)] = found
    archive.faults[frame_path("z", 101)] = ["cut"] * 10
    assert sky("--list", positions)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        images = cutouts.images[:]
    np.testing.assert_allclose(images[:3].sum(axis=(1, 2)), np.outer([10, 20, 30], [1, 2, 3, 4, 5]), rtol=0.005)
    assert np.isnan(images[3, ..., 4]).any()  # beyond the frame, and the next one was never whole
    assert not np.isnan(images[..., :4]).any()
    for path in map(frame_path, "ugriz", [100] * 5):  # it goes on where it broke off
        assert archive.sent[path] == len(archive.files[path])


def test_an_answer_that_stalls_is_given_up(archive, tmp_path):
    path = frame_path("r", 100)
    archive.faults[path] = ["stall"]
    files = FileCache(tmp_path, 10**9, timeout=(1.0, 0.5))
    with files.open(f"{archive.url}{path}", "r.fits") as file:
        assert len(file.read()) > SHAPE[0] * SHAPE[1] * 4
    assert archive.asked[path] == 2


def test_an_answer_that_drips_is_given_up(archive, tmp_path, monkeypatch):
    path = frame_path("r", 100)
    archive.faults[path] = ["slow"] * 4
    monkeypatch.setattr("photoz_survey.sky.archive.SLOWEST", 10**9)
    monkeypatch.setattr("photoz_survey.sky.archive.ATTEMPTS", 2)
    with pytest.raises(ArchiveError, match=r"r-000094-3-0100\.fits\.bz2: it came at less than 1000000000 bytes/s"):
        FileCache(tmp_path, 10**9, timeout=(1.0, 0.2)).open(f"{archive.url}{path}", "r.fits")
    assert not list(tmp_path.glob("[!.]*"))


def test_a_page_in_place_of_a_frame_is_quoted(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("photoz_survey.sky.archive.ATTEMPTS", 1)
    archive.files["/closed.fits"] = b"<html>We are closed.</html>"
    with pytest.raises(ArchiveError, match="expected a FITS file, got 27 bytes that begin with b'<html>We are"):
        FileCache(tmp_path, 10**9).open(f"{archive.url}/closed.fits", "closed.fits")


def test_requests_are_no_more_than_allowed(archive, tmp_path):
    files = FileCache(tmp_path, 10**9, interval=0.2)
    start = time.monotonic()
    for band in "ugriz":
        files.open(f"{archive.url}{frame_path(band, 100)}", f"{band}.fits").close()
    assert time.monotonic() - start >= 0.8


def test_a_frame_that_is_missing_is_the_reason(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    del archive.files[frame_path("i", 100)]
    status, _, err = sky(ra, dec)
    assert status == 1
    assert "no cutout of 1 positions; the first: " in err
    assert "frame-i-000094-3-0100.fits.bz2: 404 Not Found" in err
    assert not (tmp_path / "cutouts.h5").exists()
    archive.files[frame_path("i", 100)] = archive.files[frame_path("r", 100)]
    assert sky(ra, dec)[0] == 0  # it is asked for again


def source_of(archive, folder):
    return SdssFrames(f"{archive.url}/sas", archive.url, FileCache(folder, 10**9))


def test_what_is_left_of_another_list_is_not_used(archive, tmp_path):
    source = source_of(archive, tmp_path / "frames")

    def start(galaxy):
        targets = Targets.of(*archive.galaxies[galaxy][:2])
        return write_cutouts(source.locate(targets), source, tmp_path / "cutouts.h5", workers=1)

    stopped = start(0)
    next(stopped)
    stopped.close()
    list(start(1))
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.images[0, ..., 0].sum() == pytest.approx(20, rel=0.005)


def test_frames_are_used_again_also_offline(sky, archive, positions, tmp_path):
    assert sky("--list", positions)[0] == 0
    asked = archive.asked.total()
    (tmp_path / "positions.csv").write_text(
        "ra,dec,run,rerun,camcol,field\n" + ",".join(map(str, archive.galaxies[1][:2])) + ",94,301,3,100\n"
    )
    status, _, err = sky("--list", positions, "--offline")
    assert status == 0, err
    assert archive.asked.total() == asked
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.images.shape == (1, 64, 64, 5)
        assert np.isnan(cutouts.columns["ebv"]).all()


def command(archive, tmp_path, *arguments):
    where = ["--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", tmp_path / "frames"]
    program = [sys.executable, "-c", "from photoz_client.cli import main; main()", "sky"]
    return [*program, *map(str, [*arguments, "-o", tmp_path / "cutouts.h5", *where, "--workers", 1])]


def content(path):
    """Return the datasets of an HDF5 file, whose own bytes have times in them."""
    with h5py.File(path) as file:
        return {name: file[name][()].tolist() if name == "object_id" else file[name][()].tobytes() for name in file}


@pytest.fixture
def many_fields(archive, tmp_path):
    """Positions in twelve fields, and the environment for the command."""
    for field in range(110, 134, 2):
        for band in "ugriz":
            archive.files[frame_path(band, field)] = archive.files[frame_path(band, 100)]
    rows = [f"{ra},{dec},0.1,94,301,3,{field}" for field in range(110, 134, 2) for ra, dec, _ in archive.galaxies[:3]]
    (tmp_path / "positions.csv").write_text("ra,dec,ebv,run,rerun,camcol,field\n" + "\n".join(rows) + "\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "clients/python")])}


@pytest.mark.slow
def test_a_killed_run_goes_on(archive, many_fields, tmp_path):
    run = command(archive, tmp_path, "--list", tmp_path / "positions.csv")
    rng, kills, ended = np.random.default_rng(0), 0, False
    while not ended:
        process = subprocess.Popen(run, env=many_fields, start_new_session=True, stderr=subprocess.DEVNULL)
        done = archive.asked.total()
        while archive.asked.total() < done + 3 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        if not (ended := kills == 4):
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert process.returncode == 0
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(name for name in left if not name.startswith(("frame-", ".frame-"))) == [
        "cutouts.h5",
        "positions.csv",
    ]
    assert sum(archive.asked.values()) <= 12 * 5 + kills  # one was on its way at each kill
    whole = content(tmp_path / "cutouts.h5")
    subprocess.run(run, env=many_fields, check=True, capture_output=True)
    assert content(tmp_path / "cutouts.h5") == whole
    assert sum(archive.asked.values()) <= 12 * 5 + kills


@pytest.mark.slow
def test_a_full_disk_ends_a_run_that_goes_on(archive, many_fields, tmp_path):
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    alone = ["unshare", "--mount"]
    if subprocess.run([*alone, "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    run = shlex.join(command(archive, disk, "--list", tmp_path / "positions.csv"))
    script = f"""
        mount -t tmpfs -o size=25m tmpfs {disk} || exit 3
        {run} && exit 4
        mount -o remount,size=200m {disk} && {run} && cp {disk}/cutouts.h5 {kept}
    """
    found = subprocess.run([*alone, "sh", "-c", script], env=many_fields, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "Error: [Errno 28] No space left on device" in found.stderr
    assert sum(archive.asked.values()) <= 12 * 5 + 3  # what could not be written, in the job and those queued behind it
    with open_cutouts(kept / "cutouts.h5") as cutouts:
        fluxes = np.tile(np.outer([10, 20, 30], [1, 2, 3, 4, 5]), (12, 1))
        np.testing.assert_allclose(cutouts.images[:].sum(axis=(1, 2)), fluxes, rtol=0.005)


def test_the_oldest_files_are_removed(archive, tmp_path):
    size = len(frame_bytes(np.zeros(SHAPE, np.float32), frame_wcs(RA, DEC, 0, SHAPE)))
    files = FileCache(tmp_path, max_bytes=2_000_000)
    for band in "ugriz":
        with files.open(f"{archive.url}{frame_path(band, 100)}", f"{band}.fits") as file:
            assert len(file.read()) > size
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["i.fits", "z.fits"]
    with pytest.raises(ArchiveError, match=r"u\.fits is not in .*, and nothing is downloaded offline"):
        FileCache(tmp_path, 10**9, offline=True).open("http://127.0.0.1:1/u.fits", "u.fits")


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


# The model's images, and why an archive does not have them.
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (ImageSpec(bands="gry"), "the model takes the band y, and SDSS has u,g,r,i,z"),
        (ImageSpec(pixel_scale=0.262), r"takes pixels of 0\.262 arcsec, and those of SDSS are 0\.396 arcsec"),
        (ImageSpec(unit="Jy"), "takes pixels in Jy, and those of SDSS are in nanomaggy"),
        (
            ImageSpec(bands="g", extinction_coefficients=(3.214,)),
            r"another g band .*: A/E\(B-V\) is 3\.214 there and 3\.793",
        ),
    ],
)
def test_a_source_that_does_not_fit_is_refused(wanted, message):
    with pytest.raises(InvalidInput, match=message):
        fitting("SDSS", SDSS_IMAGES, wanted)


def test_a_source_fits_models_of_some_bands_and_any_size():
    wanted = ImageSpec(size=32, bands="gri", pixel_scale=0.4)
    assert fitting("SDSS", SDSS_IMAGES, wanted) == replace(wanted, pixel_scale=0.396)


@pytest.fixture
def legacy(archive, tmp_path, photoz):
    """Return a function that runs the command with the cutouts of the Legacy Surveys."""
    (tmp_path / "list.csv").write_text(
        "ra,dec,ebv\n" + "\n".join(f"{ra},{dec},0.1" for ra, dec, _ in archive.galaxies) + "\n150.1,70.0,0.1\n"
    )
    archive.north = 60.0

    def legacy(*arguments):
        where = ("--archive", f"{archive.url}/viewer/fits-cutout", "--cache", str(tmp_path / "files"))
        given = (*map(str, arguments), "--list", str(tmp_path / "list.csv"))
        return photoz("sky", *given, "-o", str(tmp_path / "cutouts.h5"), *where, "--workers", "1")

    return legacy


def test_bands_and_extinction_are_those_of_the_survey():
    survey = read_survey("legacy")
    for layer, bands in LAYERS.items():
        image = LegacySurveys.of("", layer, FileCache(Path(), 0)).image
        assert image.pixel_scale == survey.pixel_scale
        assert image.extinction_coefficients == tuple(survey.bands[band].extinction for band in bands)


def test_cutouts_of_the_legacy_surveys(legacy, archive, tmp_path):
    status, _, err = legacy("--source", "ls-dr10")
    assert status == 0, err
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts, h5py.File(tmp_path / "cutouts.h5") as file:
        images, ivar = cutouts.images[:], file["planes/ivar"][:]
        assert (cutouts.spec.bands, cutouts.spec.pixel_scale) == (tuple("griz"), 0.262)
        assert cutouts.provenance.startswith("layer ls-dr10 of the Legacy Surveys, cut by photoz")
        assert "ivar" not in cutouts.columns
    assert images.shape == ivar.shape == (4, 64, 64, 4)
    assert np.isnan(images[:, :, 48:]).all()  # not covered
    np.testing.assert_array_equal(ivar > 0, np.isfinite(images))
    np.testing.assert_allclose(np.nansum(images, axis=(1, 2)), np.outer([10, 20, 30, 40], [1, 2, 3, 4]), rtol=0.01)
    (failed,) = (tmp_path / "cutouts.failed.csv").read_text().splitlines()[1:]
    assert failed.startswith("4,150.1,70.0,")
    assert failed.endswith("&invvar: 404 Not Found")
    asked = archive.asked.total()
    assert legacy("--source", "ls-dr10", "--offline")[0] == 0
    assert archive.asked.total() == asked


def test_answers_with_other_bands_or_a_smaller_size_are_refused(legacy, archive, monkeypatch):
    monkeypatch.setitem(LAYERS, "ls-dr9", ("g", "r", "y"))
    monkeypatch.setitem(EXTINCTION, "y", 1.0)
    status, _, err = legacy("--source", "ls-dr9")
    assert status == 1
    assert "expected the bands g,r,y in shape (3, 64, 64), got the bands grz in an image of shape (3, 64, 64)" in err
    archive.largest = 32
    status, _, err = legacy("--source", "ls-dr10")
    assert status == 1
    assert "got the bands griz in an image of shape (4, 32, 32)" in err


@pytest.fixture(scope="session")
def sdss_bundle(tmp_path_factory):
    return write_toy_bundle(tmp_path_factory.mktemp("sdss"), spec=SDSS_IMAGES, takes_ebv=True)


def test_redshifts_by_a_bundle(sky, archive, positions, sdss_bundle, tmp_path):
    status, out, err = sky("--list", positions, "--score", sdss_bundle.path)
    assert status == 0, err
    assert out.splitlines()[0].split() == ["object_id", "z_mean", "z_lo68", "z_hi68", "odds", "flags"]
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["0", "1", "2", "3"]
    assert sky("--list", positions, "--score", sdss_bundle.path, "--pdf", "--result", tmp_path / "z.fits")[0] == 0
    assert sky("--list", positions, "--score", sdss_bundle.path, "--result", tmp_path / "z.qp.hdf5")[0] == 0
    table = Table.read(tmp_path / "z.fits")
    assert table["pdf"].shape == (4, sdss_bundle.card.grid.n_bins)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    batch = toy_batch(open_images(tmp_path / "cutouts.h5"), sdss_bundle.card, np.full(4, 0.1))
    np.testing.assert_allclose(table["z_mean"], Predictor.load(sdss_bundle).predict(batch).z_mean)


@pytest.mark.e2e
def test_a_list_becomes_a_table_of_redshifts_by_a_service(sky, archive, positions, service_url, card, tmp_path):
    arguments = ("--list", positions, "--score", service_url, "--pdf", "--result", tmp_path / "z.fits")
    status, _, err = sky(*arguments)
    assert status == 0, err
    table = Table.read(tmp_path / "z.fits")
    assert table["object_id"].tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(table["ra"], [ra for ra, _, _ in archive.galaxies], atol=1e-6)
    np.testing.assert_allclose(table["z_spec"], 0.1)
    np.testing.assert_allclose(table["pdf"].sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(table["pdf"] @ card.grid.centres, table["z_mean"], atol=1e-4)


def test_examples_of_the_help_run(sky, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    for example in sky_command.examples:
        status, out, err = sky(*shlex.split(example)[2:])
        assert (status, out) == (0, ""), err
    (line,) = (tmp_path / "redshifts.csv").read_text().splitlines()[1:]
    status, out, _ = sky("150.1", "2.2", "--score", "models/photoz", "--json")
    assert json.loads(out)["z_mean"] == [float(line.split(",")[4])]


def open_images(path):
    with open_cutouts(path) as cutouts:
        return cutouts.images[:]


def test_a_model_of_another_survey_is_refused_before_anything_is_fetched(sky, archive, positions, bundle):
    status, _, err = sky("--list", positions, "--score", bundle.path, "--source", "ls-dr9")
    assert status == 1
    assert "trained on another g band than that of layer ls-dr9 of the Legacy Surveys: A/E(B-V) is 3.793 there" in err
    assert not archive.asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected one of: RA and Dec in degrees, --list FILE, --sql QUERY"),
        (("150", "2", "--sql", "x"), "expected one of"),
        (("150",), "expected one of"),
        (("--lits", "x"), "'--lits' is not a valid float"),
        (
            ("1", "-2", "--catalogue", "http://127.0.0.1:9"),
            "http://127.0.0.1:9 gave no positions: Failed to establish a",
        ),
        (("150", "2", "--pdf"), "--result, --pdf and --json need --score"),
        (("150", "2", "--score", "x", "--size", "32"), "--size is that of the model"),
        (("150", "2", "--score", "x", "--result", "z.txt"), "z.txt should end in .csv"),
        (("400", "-2.5"), "expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 -2.5"),
    ],
)
def test_commands_that_are_refused(photoz, arguments, message):
    status, _, err = photoz("sky", *arguments)
    assert status in (1, 2)
    assert message in err


def test_a_position_is_cut_out_by_a_function_as_by_the_command(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    options = ("--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", str(tmp_path / "frames"))
    found = cut_out_position(ra, dec, options)
    assert sky(ra, dec)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        np.testing.assert_array_equal(found.images, cutouts.images[:])
        assert (found.spec, found.provenance) == (cutouts.spec, cutouts.provenance)
        np.testing.assert_equal(dict(found.columns), dict(cutouts.columns))
    with pytest.raises(InvalidDataset, match="no cutout of 1 positions; the first: no object of the catalogue"):
        cut_out_position(10.0, 10.0, options)
    with pytest.raises(InvalidInput, match="Invalid value for '--size'"):
        cut_out_position(ra, dec, ["--size", "1"])
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="Not a directory"):
        cut_out_position(ra, dec, [*options, "--cache", str(tmp_path / "file" / "cache")])
