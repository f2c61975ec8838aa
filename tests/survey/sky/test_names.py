"""Positions in degrees, sexagesimal, and as names of objects."""

import numpy as np
import pytest
from astropy.coordinates.name_resolve import sesame_url

from photoz.errors import InvalidInput
from photoz.io.reader import open_cutouts
from photoz_survey.sky.names import find_position
from photoz_survey.sky.position import cut_out_position
from photoz_survey.sky.session import ArchiveError, Unreachable


@pytest.fixture
def sesame(archive):
    """An archive that is also Sesame, and knows the first galaxy by a name."""
    ra, dec, _ = archive.galaxies[0]
    archive.files["/SNV"] = f"# M 87\n%J {ra} {dec:+} = \n".encode()
    with sesame_url.set([f"{archive.url}/"]):
        yield archive


@pytest.mark.parametrize(
    "text",
    [
        "187.70583 -12.39111",
        "+187.70583, -12.39111",
        "12 30 49.4 -12 23 28",
        "12:30:49.4 -12:23:28",
        "12h30m49.4s -12d23m28s",
        "12h 30m 49.4s, -12d 23m 28s",
        "187.70583d -12.39111d",
    ],
)
def test_positions_as_astronomers_write_them(text):
    found = find_position(text, offline=True)
    assert (found.ra[0], found.dec[0]) == pytest.approx((187.70583, -12.39111), abs=1e-5)
    assert found.object_id.tolist() == ["187.70583-12.39111"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "400 -2.5",
            "the position: expected 0 <= ra <= 360 and -90 <= dec <= 90 degrees, got 400 -2.5",
        ),
        ("150", "expected RA and Dec in degrees, sexagesimal RA in hours and Dec, or .*, got '150'"),
        ("12:30:49 95:00:00", "got '12:30:49 95:00:00': "),
        ("12 30 49.4 -12", "got '12 30 49.4 -12'$"),
        ("M 87", "got 'M 87'; names are not looked up offline"),
        ("", "got ''"),
    ],
)
def test_what_is_no_position(text, message):
    with pytest.raises(InvalidInput, match=message):
        find_position(text, offline=True)


def test_a_galaxy_by_its_name(sky, sesame, where, tmp_path):
    assert sky("M", "87")[0] == 0
    with open_cutouts(tmp_path / "cutouts.h5") as cutouts:
        assert cutouts.columns["object_id"].tolist() == ["M 87"]
        np.testing.assert_array_equal(cut_out_position("M 87", where).images, cutouts.images[:])
    assert "'M 87'; names are not looked up offline" in sky("M", "87", "--offline")[2]
    sesame.files["/SNV"] = b"#!SIMBAD: No known catalog found\n"
    with pytest.raises(InvalidInput, match="got 'M 87', which Sesame does not know"):
        cut_out_position("M 87", where)
    with (
        sesame_url.set(["http://127.0.0.1:9/"]),
        pytest.raises(Unreachable, match="127.0.0.1:9 cannot be reached: .*refused"),
    ):
        cut_out_position("M 87", where)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("302 Location: http://localhost:9/", "it redirects to another host, 'http://localhost:9/'"),
        (b"#" * 2**17, "the answer has more than 65,536 bytes"),
        (b"# M 87\n%J 12 -12345.678 = \n", "Sesame's position of 'M 87' is none: .* got 12 -12345.7"),
        (b"\xd3\x00", "Sesame cannot say where 'M 87' is: 200, "),
        ("404", "Sesame cannot say where 'M 87' is: 404, 'not now'"),
    ],
)
def test_what_sesame_says_is_not_trusted(sesame, answer, message):
    if isinstance(answer, bytes):
        sesame.files["/SNV"] = answer
    else:
        sesame.faults["/SNV"] = [answer]
    with pytest.raises(ArchiveError, match=message):
        find_position("M 87")
