import time
from types import SimpleNamespace

import pytest


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The time of downloads, which passes only while something sleeps, at once; `slept` are the seconds of each."""

    def sleep(seconds):
        clock.slept.append(seconds)
        clock.now += seconds

    clock = SimpleNamespace(now=1000.0, slept=[], sleep=sleep, monotonic=lambda: clock.now, time=time.time)
    modules = ("archive", "session", "cutout_file")
    for module in (*(f"photoz_survey.sky.{name}" for name in modules), "urllib3.util.retry"):
        monkeypatch.setattr(f"{module}.time", clock)
    return clock


@pytest.fixture(scope="session")
def survey():
    """The galaxies and files of two fields that overlap by 128 rows, as in a scan; all galaxies are in all bands."""
    from tests.survey import loopback_archive as loopback  # needs astropy

    first = loopback.frame_wcs(loopback.RA, loopback.DEC, 0.0, loopback.SHAPE)
    second = first.deepcopy()
    second.wcs.crpix = second.wcs.crpix - [0, loopback.SHAPE[0] - 128]  # the same sky, later
    places = [(0, 0), (30, 10), (-40, -30), (0, 43.5)]  # the last reaches beyond the first frame
    galaxies = [(*loopback.around(*place), 10.0 * number) for number, place in enumerate(places, 1)]
    files = {}
    for field, wcs in ((100, first), (101, second)):
        drawn = loopback.draw(wcs, loopback.SHAPE, galaxies)
        for number, band in enumerate("ugriz", 1):
            files[loopback.frame_path(band, field)] = loopback.frame_bytes(number * drawn, wcs, band, field)
    return galaxies, files


@pytest.fixture
def archive(survey):
    from tests.survey.loopback_archive import running_archive

    with running_archive() as archive:
        archive.galaxies, archive.files = survey[0], survey[1].copy()
        archive.catalogue = [(ra, dec, 100, 0.1 * 3.793, 0.1 * 2.751) for ra, dec, _ in archive.galaxies]
        yield archive


@pytest.fixture
def where(archive, tmp_path):
    """The options that say where images and the catalogue are."""
    return ("--archive", f"{archive.url}/sas", "--catalogue", archive.url, "--cache", str(tmp_path / "frames"))


@pytest.fixture
def sky(photoz, where, tmp_path, here):
    """Return a function that runs the command, which cuts in this process."""
    given = ("--overwrite", "-o", tmp_path / "cutouts.h5", *where, "--workers", 1)
    return lambda *arguments: photoz("sky", *given, *arguments)


@pytest.fixture
def positions(archive, tmp_path):
    path = tmp_path / "positions.csv"
    rows = [f"{number},{ra:.7f},{dec:.7f},0.1" for number, (ra, dec, _) in enumerate(archive.galaxies)]
    path.write_text("\n".join(["object_id,RA,Dec,redshift", *rows, "far,10.0,10.0,0.2"]) + "\n")
    return path
