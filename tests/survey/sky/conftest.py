import pytest


@pytest.fixture
def archive():
    """An archive with two fields that overlap by 128 rows, as in a scan, each with galaxies in all bands."""
    from tests.survey import loopback_archive as loopback  # needs astropy

    first = loopback.frame_wcs(loopback.RA, loopback.DEC, 0.0, loopback.SHAPE)
    second = first.deepcopy()
    second.wcs.crpix = second.wcs.crpix - [0, loopback.SHAPE[0] - 128]  # the same sky, later
    places = [loopback.around(x, y) for x, y in [(0, 0), (30, 10), (-40, -30), (0, 76)]]
    galaxies = [(ra, dec, 10.0 * (number + 1)) for number, (ra, dec) in enumerate(places)]
    with loopback.running_archive() as archive:
        for field, wcs in ((100, first), (101, second)):
            for number, band in enumerate("ugriz"):
                brighter = [(ra, dec, (number + 1) * flux) for ra, dec, flux in galaxies]
                archive.files[loopback.frame_path(band, field)] = loopback.frame_bytes(
                    loopback.draw(wcs, loopback.SHAPE, brighter), wcs
                )
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
