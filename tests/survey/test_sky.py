"""`photoz sky`: from positions to cutouts, against an archive on this machine."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, maximum_filter

pytest.importorskip("astroquery", reason="needs the packages of photoz[sky]")

from benchmarks.science.real_field import FOLDER
from photoz import __version__
from photoz.errors import InvalidDataset
from photoz.images import SDSS_IMAGES
from photoz.io.reader import open_cutouts
from photoz_survey.sky import sdss
from photoz_survey.sky.archive import ArchiveError, FrameCache
from photoz_survey.sky.cutting import Frame, cut, read_frame
from photoz_survey.sky.fetch import fetch
from photoz_survey.sky.sdss import reddening
from photoz_survey.sky.targets import Targets, read_targets
from tests.survey.loopback_archive import FRAMES, draw, frame_bytes, frame_path, frame_wcs, running_archive

RA, DEC = 150.1, 2.2
SHAPE = (420, 500)
Y, X = np.indices((64, 64))


def around(x, y):
    """Return a position so many arcsec east and north of the field's."""
    return RA + x / 3600 / np.cos(np.radians(DEC)), DEC + y / 3600


def centroid(image):
    return (image * X).sum() / image.sum(), (image * Y).sum() / image.sum()


@pytest.mark.parametrize("angle", range(0, 360, 36))
def test_flux_and_position_are_kept(angle):
    ra, dec = around(13.1 + 0.01 * angle, -21.3)
    wcs = frame_wcs(RA, DEC, angle + 0.3, SHAPE, pixel_scale=0.3961)
    found = cut(Frame(draw(wcs, SHAPE, [(ra, dec, 100.0)]), wcs), ra, dec, 64, 0.396)
    assert found.sum() == pytest.approx(100.0, rel=0.005)
    assert centroid(found) == pytest.approx((31.5, 31.5), abs=0.1)


def test_north_is_up_and_east_is_left():
    wcs = frame_wcs(RA, DEC, 130.0, SHAPE)
    for galaxy, (x, y) in ((around(3.96, 0.0), (21.5, 31.5)), (around(0.0, 3.96), (31.5, 41.5))):
        found = cut(Frame(draw(wcs, SHAPE, [(*galaxy, 50.0)]), wcs), RA, DEC, 64, 0.396)
        assert centroid(found) == pytest.approx((x, y), abs=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the shared SDSS files")
def test_apertures_of_real_frames_keep_their_fluxes():
    frames = {band: read_frame(FOLDER / f"frame-{band}-002583-2-0136.fits.bz2") for band in "ugriz"}
    smooth = gaussian_filter(frames["r"].pixels, 1.5)
    peaks = np.argwhere((smooth == maximum_filter(smooth, 41)) & (smooth > 1) & (smooth < 30))
    inside = ((peaks > 60) & (peaks < np.array(smooth.shape) - 60)).all(axis=1)
    for y, x in np.random.default_rng(1).permutation(peaks[inside])[:20]:
        ra, dec = (float(value) for value in frames["r"].wcs.wcs_pix2world(x, y, 0))
        for band, frame in frames.items():
            at = frame.wcs.wcs_world2pix(ra, dec, 0)
            flux = aperture_flux(cut(frame, ra, dec, 64, 0.396), 31.5, 31.5)
            assert flux == pytest.approx(aperture_flux(frame.pixels, *map(float, at)), rel=0.02), (band, ra, dec)


def aperture_flux(pixels, x, y, radius=8.0):
    """Return the flux within a radius, in pixels; those on its edge count in part."""
    box = tuple(slice(int(at) - 12, int(at) + 14) for at in (y, x))
    rows, columns = np.indices(pixels.shape, sparse=True)
    distance = np.hypot(rows[box[0]] - y, columns[:, box[1]] - x)
    return float((pixels[box] * np.clip(radius + 0.5 - distance, 0, 1)).sum())


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
    assert columns["z_spec"].tolist() == [0.1] * 4
    expected = np.outer([10, 20, 30, 40], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(images.sum(axis=(1, 2)), expected, rtol=0.005)  # the last one from two frames
    failed = (tmp_path / "cutouts.failed.csv").read_text().splitlines()
    assert failed == ["object_id,ra,dec,reason", "far,10.0,10.0,no object of the catalogue is near"]
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    assert archive.agents == {f"photoz/{__version__}"}
    assert not list(tmp_path.glob("*.parts"))


def test_faults_of_the_archive_cost_nothing(sky, archive, positions, tmp_path):
    for band, faults in {"u": ["500"], "g": ["reset"], "r": ["cut"], "i": ["cut", "500", "reset"]}.items():
        archive.faults[frame_path(band, 100)] = faults
    archive.faults[frame_path("z", 101)] = ["cut"] * 10
    assert sky("--list", positions)[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        images = cutouts.images[:]
    np.testing.assert_allclose(images[:3].sum(axis=(1, 2)), np.outer([10, 20, 30], [1, 2, 3, 4, 5]), rtol=0.005)
    assert np.isnan(images[3, ..., 4]).any()  # beyond the frame, and the next one was never whole
    assert not np.isnan(images[..., :4]).any()


def test_a_frame_that_is_missing_is_the_reason(sky, archive, tmp_path):
    ra, dec, _ = archive.galaxies[0]
    del archive.files[frame_path("i", 100)]
    status, _, err = sky(ra, dec)
    assert status == 1
    assert "no cutout of 1 positions; the first: " in err
    assert "frame-i-000094-3-0100.fits.bz2: 404 Client Error" in err
    assert not (tmp_path / "cutouts.h5").exists()
    archive.files[frame_path("i", 100)] = archive.files[frame_path("r", 100)]
    assert sky(ra, dec)[0] == 0  # it is asked for again


def test_what_is_left_of_another_list_is_not_used(archive, tmp_path):
    frames = FrameCache(tmp_path / "frames", f"{archive.url}{FRAMES}", 10**9)

    def start(galaxy):
        where = np.array([[94, 301, 3, 100]])
        targets = replace(Targets.of(*archive.galaxies[galaxy][:2]), fields=where)
        return fetch(targets, frames, SDSS_IMAGES, tmp_path / "cutouts.h5", workers=1)

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


def test_a_stopped_run_goes_on(archive, positions, tmp_path):
    targets = sdss.locate(replace(read_targets(positions), fields=np.full((5, 4), -1)), archive.url)
    targets.fields[1, 3] = 101  # a second field, of which it is at the edge
    frames = FrameCache(tmp_path / "frames", f"{archive.url}{FRAMES}", 10**9)
    run = fetch(targets, frames, SDSS_IMAGES, tmp_path / "cutouts.h5", workers=1)
    next(run)
    run.close()
    parts = tmp_path / "cutouts.h5.parts"
    for waiting in parts.glob("94-301-3-101-*"):  # it may have been done
        waiting.unlink()
    (part,) = parts.glob("94-301-3-100-*")
    written = part.stat().st_mtime_ns
    progress = fetch(targets, frames, SDSS_IMAGES, tmp_path / "cutouts.h5", workers=1)
    assert next(progress) == 3
    assert part.stat().st_mtime_ns == written
    assert list(progress) == [1]
    assert {n for path, n in archive.asked.items() if path in archive.files} == {1}
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.columns["field"].tolist() == [100, 101, 100, 100]


def test_the_oldest_frames_are_removed(archive, tmp_path):
    size = len(frame_bytes(np.zeros(SHAPE, np.float32), frame_wcs(RA, DEC, 0, SHAPE)))
    frames = FrameCache(tmp_path, f"{archive.url}{FRAMES}", max_bytes=2_000_000)
    for band in "ugriz":
        assert frames.get(frame_path(band, 100).split("frames/")[1]).stat().st_size > size
    assert [path.name[6] for path in sorted(tmp_path.glob("frame-*"))] == ["i", "z"]
    with pytest.raises(
        ArchiveError, match=r"frame-u-000094-3-0100\.fits is not in .*, and nothing is downloaded offline"
    ):
        FrameCache(tmp_path, "http://127.0.0.1:1", 10**9, offline=True).get(frame_path("u", 100))


def test_reddening_of_either_release():
    ebv = np.array([0.02, 0.1, 0.5])
    for in_g, in_r in ((3.793, 2.751), (3.303, 2.285)):
        np.testing.assert_allclose(reddening(ebv * in_g, ebv * in_r), ebv)
    assert np.isnan(reddening([0.3], [0.3])).all()


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
